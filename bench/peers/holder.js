/**
 * One of several processes that hold slots, in the way that its orders name. Reads an order a line, as JSON, and answers each with a line.
 * Moments are milliseconds since 1970, so that those of several processes can be compared.
 */

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const GIVING_UP_MS = 100;
const now = () => performance.timeOrigin + performance.now();

/** Made once for each, like those of a program that lives for long. */
const made = new Map();
function once(key, make) {
	if (!made.has(key)) made.set(key, make());
	return made.get(key);
}

/** Each runs work while it holds a slot, and throws where it got none in time. */
const KINDS = {
	headgate: async (url, { name }, timeoutMs, work) => {
		const { Headgate } = await import("../../src/client/index.ts");
		const gate = once(url, () => new Headgate({ url }));
		return gate.concurrency(name, { timeoutSeconds: timeoutMs / 1_000 }, work);
	},
	/** Plain HTTP: the lease lives as long as the stream does. */
	stream: async (url, { name }, timeoutMs, work) => {
		const end = new AbortController();
		const answer = await fetch(`${url}/v1/acquire`, {
			...{ method: "POST", signal: end.signal },
			headers: { "Content-Type": "application/json", Accept: "application/x-ndjson" },
			body: JSON.stringify({ names: name, hold: true, waitSeconds: timeoutMs / 1_000 }),
		});
		const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
		let text = "";
		while (!text.includes('"granted"')) {
			const { done, value } = await reader.read();
			if (done) throw new Error(`not granted: ${text}`);
			text += value;
		}
		try {
			return await work();
		} finally {
			end.abort();
		}
	},
	bottleneck: async (port, { name, limit }, timeoutMs, work) => {
		const [{ default: Bottleneck }, { Redis }] = await Promise.all([import("bottleneck"), import("ioredis")]);
		const limiter = once(`${port} ${name}`, () => {
			const made = new Bottleneck({
				...{ id: name, maxConcurrent: limit, datastore: "ioredis", Redis, clearDatastore: false },
				clientOptions: { host: "127.0.0.1", port: Number(port) },
			});
			made.on("error", () => undefined);
			return made;
		});
		// It has no bound on a wait; who gave up lets the place go when it comes.
		let late = false;
		const job = limiter.schedule(async () => (late ? undefined : work()));
		return Promise.race([
			job,
			sleep(timeoutMs, undefined, { ref: false }).then(() => {
				late = true;
				throw new Error("too late");
			}),
		]);
	},
	/** A semaphore as one is written on a plain Redis: so many tokens in a list, and a pop that waits for one. */
	list: async (port, { name }, timeoutMs, work) => {
		const { Redis } = await import("ioredis");
		const connect = () => {
			const redis = new Redis({ host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null });
			redis.on("error", () => undefined);
			return redis;
		};
		// A pop that waits has its connection for itself.
		const idle = once(`${port} idle`, () => []);
		const own = idle.pop() ?? connect();
		const token = await own.blpop(name, timeoutMs / 1_000);
		idle.push(own);
		if (token === null) throw new Error("too late");
		try {
			return await work();
		} finally {
			await once(`${port} giving`, connect).rpush(name, token[1]);
		}
	},
};

/** Of slots that are held until they are let go. */
let letGo = () => undefined;

const ORDERS = {
	/** Jobs one after the other in so many tasks, from a moment on. */
	loop: async ({ kind, address, limit, tasks, startAt, ms, workMs }) => {
		const rows = [];
		let failed = 0;
		const task = async () => {
			await sleep(Math.max(0, startAt - now()));
			for (const until = startAt + ms; now() < until; ) {
				try {
					await KINDS[kind](address, limit, Math.max(100, until - now()), async () => {
						const began = now();
						// A fifth more or less, so that not all of them end at once.
						await sleep(workMs * (0.8 + 0.4 * Math.random()));
						rows.push([began, now()]);
					});
				} catch {
					// Who gave up as the time was over did not fail.
					if (now() < until - GIVING_UP_MS) failed += 1;
				}
			}
		};
		await Promise.all(Array.from({ length: tasks }, task));
		return { rows, failed };
	},
	/** Each joins at its moment and holds for so long; answers with who began when. */
	join: async ({ kind, address, limit, plan, timeoutMs }) => {
		const rows = [];
		await Promise.all(
			plan.map(async ({ index, at, holdMs }) => {
				await sleep(Math.max(0, at - now()));
				await KINDS[kind](address, limit, timeoutMs, async () => {
					rows.push([index, now()]);
					await sleep(holdMs);
				}).catch(() => undefined);
			}),
		);
		return { rows };
	},
	/** Holds so many until they are let go. */
	hold: async ({ kind, address, limit, count }) => {
		const end = new Promise((resolve) => {
			letGo = resolve;
		});
		await Promise.all(
			Array.from(
				{ length: count },
				() =>
					new Promise((resolve, reject) => {
						KINDS[kind](address, limit, 30_000, async () => {
							resolve();
							await end;
						}).catch(reject);
					}),
			),
		);
		return { held: count };
	},
	letGo: async () => {
		letGo();
		return {};
	},
	/** Takes so many at once and gives them back; answers when each began, for those that did in time. */
	take: async ({ kind, address, limit, count, timeoutMs }) => {
		const rows = [];
		const one = () => KINDS[kind](address, limit, timeoutMs, async () => rows.push(now())).catch(() => undefined);
		await Promise.all(Array.from({ length: count }, one));
		return { rows };
	},
};

process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
	const order = JSON.parse(line);
	void ORDERS[order.do](order)
		.catch((error) => ({ error: String(error) }))
		.then((answer) => process.stdout.write(`${JSON.stringify({ order: order.order, ...answer })}\n`));
}
process.exit();
