/**
 * A rate limiter's library as its users put it before their routes: Express, the library, and Redis behind it. Started with the name of
 * a library, a port of Redis, and what may be taken in which time, as JSON; writes its own port when it listens.
 */

import { createHash } from "node:crypto";
import { Ratelimit } from "@upstash/ratelimit";
import express from "express";
import { ipKeyGenerator, rateLimit } from "express-rate-limit";
import { Redis } from "ioredis";
import { RedisStore } from "rate-limit-redis";
import { RateLimiterRedis } from "rate-limiter-flexible";

const [library, port, json] = process.argv.slice(2);
const profiles = JSON.parse(json);
const redis = new Redis({ host: "127.0.0.1", port: Number(port) });
// Redis is killed on purpose; what comes of it is told by the answers.
redis.on("error", () => undefined);

/**
 * The part of `@upstash/redis` that the library calls, on a plain Redis: theirs speaks REST to a service. Their scripts begin
 * with a flag that only that service knows; without the line they run anywhere, by another digest.
 */
const digests = new Map();
const plain = {
	evalsha: (digest, keys, args) => {
		if (!digests.has(digest)) throw new Error("NOSCRIPT");
		return redis.evalsha(digests.get(digest), keys.length, ...keys, ...args.map(String));
	},
	eval: async (script, keys, args) => {
		const runs = script.replace(/^\s*#!.*\n/, "");
		digests.set(createHash("sha1").update(script).digest("hex"), await redis.script("LOAD", runs));
		return redis.eval(runs, keys.length, ...keys, ...args.map(String));
	},
};

const upstash =
	(limiterOf) =>
	(profile, { limit, windowMs }) => {
		const limiter = new Ratelimit({ redis: plain, limiter: limiterOf(limit, `${windowMs} ms`), prefix: profile });
		return async (request, response, next) => {
			const { success } = await limiter.limit(request.params.key, { rate: request.body.cost });
			if (success) next();
			else response.status(429).json({ denied: true });
		};
	};

/** Each answers with a middleware. */
const LIBRARIES = {
	"rate-limiter-flexible": (profile, { limit, windowMs }) => {
		const limiter = new RateLimiterRedis({
			...{ storeClient: redis, keyPrefix: profile, points: limit, duration: windowMs / 1_000 },
		});
		return async (request, response, next) => {
			try {
				await limiter.consume(request.params.key, request.body.cost);
			} catch (denied) {
				if (denied instanceof Error) throw denied;
				response.status(429).json({ denied: true });
				return;
			}
			next();
		};
	},
	"upstash, sliding": upstash(Ratelimit.slidingWindow),
	"upstash, fixed": upstash(Ratelimit.fixedWindow),
	"upstash, bucket": upstash((limit, window) => Ratelimit.tokenBucket(limit, window, limit)),
	"express-rate-limit": (profile, { limit, windowMs }) =>
		rateLimit({
			...{ windowMs, limit, standardHeaders: "draft-8", legacyHeaders: false, message: { denied: true } },
			keyGenerator: ({ params, ip }) => params.key ?? ipKeyGenerator(ip),
			store: new RedisStore({ prefix: profile, sendCommand: (command, ...args) => redis.call(command, ...args) }),
		}),
};

const app = express();
app.use(express.json());
for (const [profile, settings] of Object.entries(profiles)) {
	const middleware = LIBRARIES[library](profile, settings);
	app.post(`/take/${profile}/:key`, middleware, (_request, response) => response.json({ granted: true }));
}
app.get("/health", async (_request, response) => response.json({ redis: await redis.ping() }));
// Four parameters are how Express knows that it handles errors.
app.use((error, _request, response, _next) => response.status(500).json({ error: String(error) }));
const server = app.listen(0, "127.0.0.1", () => process.stdout.write(`ready on ${server.address().port}\n`));
