/** hono-rate-limiter with its store of Durable Objects, as its page shows it. */

import { DurableObjectRateLimiter, DurableObjectStore } from "@hono-rate-limiter/cloudflare";
import { Hono } from "hono";
import { rateLimiter } from "hono-rate-limiter";

export { DurableObjectRateLimiter };

const app = new Hono();
app.get("/health", (context) => context.json({ status: "ok" }));
app.post(
	"/take/:limit/:windowMs/:key",
	(context, next) => {
		const { limit, windowMs } = context.req.param();
		return rateLimiter({
			...{ windowMs: Number(windowMs), limit: Number(limit), standardHeaders: "draft-6", message: { denied: true } },
			keyGenerator: ({ req }) => req.param("key"),
			store: new DurableObjectStore({ namespace: context.env.CACHE }),
		})(context, next);
	},
	(context) => context.json({ granted: true }),
);

export default app;
