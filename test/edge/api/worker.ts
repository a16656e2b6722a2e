/** A Worker that embeds Headgate, and puts it before its own routes: Hono's and a plain handler's. */

import { exports } from "cloudflare:workers";
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { timeout } from "hono/timeout";
import { Headgate, type HeadgateBinding, type Names } from "../../../src/client/index.ts";
import { type HoldingHandler, withConcurrency, withRateLimit } from "../../../src/middleware/fetch.ts";
import { clientAddress, concurrency, type LeaseVariables, namePart, rateLimit } from "../../../src/middleware/hono.ts";
import { app, type HeadgateEnv, type HeadgateService, LimitObject as Limit } from "../../../src/worker/index.ts";

export { DirectoryObject, HeadgateService } from "../../../src/worker/index.ts";

/** Counts how often it is asked for slots. */
export class LimitObject extends Limit {
	asked = 0;

	override acquire(...ask: Parameters<Limit["acquire"]>): ReturnType<Limit["acquire"]> {
		this.asked += 1;
		return super.acquire(...ask);
	}

	async countAsked(): Promise<number> {
		return this.asked;
	}
}

type Loopback = { HeadgateService: HeadgateBinding & Service<HeadgateService> };

const gate = (): Headgate => new Headgate({ binding: (exports as unknown as Loopback).HeadgateService });
/** Nobody listens there. */
const nowhere = new Headgate({ url: "http://127.0.0.1:9" });
const asked = (c: Context): string => c.req.query("name") ?? "";

type App = { Bindings: HeadgateEnv; Variables: LeaseVariables };
const api = new Hono<App>();
api.onError((error, c) => c.json({ name: error.name, message: error.message }, 500));

// ------------------------------------------------------------------------------------------------ rate limits
const hello = (c: Context) => c.text("hello");
api.get("/rate", rateLimit({ gate, name: asked }), hello);
api.get("/rate-06", rateLimit({ gate, name: asked, headers: "draft-6" }), hello);
api.get("/rate-quiet", rateLimit({ gate, name: asked, headers: false }), hello);
api.get("/label", rateLimit({ gate, name: asked, label: () => "your quota" }), hello);
api.get("/cost", rateLimit({ gate, name: asked, occupy: (c) => Number(c.req.query("cost")) }), hello);
api.get("/skip", rateLimit({ gate, name: asked, skip: (c) => c.req.query("free") === "yes" }), hello);
api.get("/two", rateLimit({ gate, name: (c) => [asked(c), `${asked(c)}-all`] }), hello);
api.get("/twice", rateLimit({ gate, name: asked }), rateLimit({ gate, name: (c) => `${asked(c)}-all` }), hello);
api.get("/waits", rateLimit({ gate, name: asked, waitSeconds: 5 }), hello);
api.get("/own-answer", rateLimit({ gate, name: asked, onDenied: (c, problem) => c.json(problem.code, 418) }), hello);
api.get("/address", (c) => c.text(clientAddress(c.req.raw)));
api.get("/address-trusted", (c) => c.text(clientAddress(c.req.raw, { trustCloudflare: true })));
api.get("/lenient", rateLimit({ gate, name: asked, strict: false }), hello);
api.get("/open-asked", rateLimit({ gate, name: asked, onError: "open" }), hello);
api.get("/error-asked", rateLimit({ gate, name: asked, onError: (c, error) => c.text(String(error), 502) }), hello);
api.get("/label-asked", rateLimit({ gate, name: asked, label: () => "your quota" }), hello);
api.get("/part", (c) => c.text(namePart(c.req.query("text") ?? "")));

const names: Record<string, (c: Context) => unknown> = {
	throws: () => {
		throw new Error("no key in this request");
	},
	nothing: () => undefined,
	empty: () => [],
	blank: () => "",
	many: () => Array.from({ length: 10_000 }, (_, index) => `n${index}`),
	illegal: () => "a/b",
};
for (const [how, name] of Object.entries(names)) {
	api.get(`/name-${how}`, rateLimit({ gate, name: name as (c: Context) => Names }), hello);
}

api.get("/closed", rateLimit({ gate: nowhere, name: asked }), hello);
api.get("/open", rateLimit({ gate: nowhere, name: asked, onError: "open" }), hello);
api.get("/error", rateLimit({ gate: nowhere, name: asked, onError: (c) => c.text("own", 502) }), hello);
api.get("/closed-held", concurrency({ gate: nowhere, name: asked }), hello);

// ------------------------------------------------------------------------------------------------- concurrency
const held = concurrency<App>({ gate, name: asked, leaseSeconds: 1, maxBodySeconds: 4 });
const encoder = new TextEncoder();
/** A body in parts, each after its pause. */
function parts(count: number, pauseMs: number): ReadableStream<Uint8Array> {
	let sent = 0;
	return new ReadableStream({
		async pull(controller) {
			await scheduler.wait(pauseMs);
			controller.enqueue(encoder.encode(`part ${sent}\n`));
			sent += 1;
			if (sent === count) controller.close();
		},
	});
}
const streaming = (count: number, pauseMs: number) => (c: Context) => c.body(parts(count, pauseMs));
api.get("/held", held, (c) => c.json({ lease: c.get("lease")?.names }));
api.get("/held-empty", held, (c) => c.body(null, 204));
api.get("/held-stream", held, streaming(3, 200));
/** Never ends, and speaks all the time. */
api.get("/held-endless", held, streaming(Number.POSITIVE_INFINITY, 100));
/** Never ends, and says nothing after its first word. */
api.get("/held-silent", held, (c) => {
	const body = new ReadableStream({
		start: (controller) => controller.enqueue(encoder.encode("word\n")),
		pull: () => new Promise(() => undefined),
	});
	return c.body(body);
});
api.get("/held-throws", held, () => {
	throw new Error("the handler's own");
});
api.get("/held-breaks", held, (c) => {
	let sent = false;
	const body = new ReadableStream({
		pull(controller) {
			if (sent) return controller.error(new Error("the body broke"));
			sent = true;
			controller.enqueue(encoder.encode("word\n"));
		},
	});
	return c.body(body);
});
api.get(
	"/held-long",
	concurrency<App>({ gate, name: asked, leaseSeconds: 60 }),
	streaming(Number.POSITIVE_INFINITY, 100),
);
/** Does what middleware outside of `concurrency` does, such as a cache, and then answers as `held` would have. */
const outside = (work: (c: Context, next: () => Promise<void>) => unknown): MiddlewareHandler => {
	return async (c, next) => void (await work(c, next));
};
const long = concurrency<App>({ gate, name: asked, leaseSeconds: 60, maxBodySeconds: 60, unreadSeconds: 1 });
/** As long as any answer may go unread. */
const patient = concurrency<App>({ gate, name: asked, leaseSeconds: 60, unreadSeconds: 600 });
const silent = (c: Context) => c.body(new ReadableStream({ pull: () => new Promise(() => undefined) }));
const endless = streaming(Number.POSITIVE_INFINITY, 20);
const replaces = outside(async (c, next) => {
	await next();
	c.res = new Response("another", { status: 203 });
});
api.on(["GET", "HEAD"], "/long", long, endless);
api.get("/replaced-endless", replaces, patient, endless);
api.get("/replaced-silent", replaces, patient, silent);
api.get("/replaced-twice", replaces, long, concurrency<App>({ gate, name: (c) => `${asked(c)}-b` }), endless);
const throws = outside(async (_, next) => {
	await next();
	throw new Error("outside");
});
api.get("/outer-throws", throws, patient, endless);
api.get(
	"/copies",
	outside(async (c, next) => {
		await next();
		c.res = new Response(c.res.body, { status: 203, headers: c.res.headers });
	}),
	long,
	streaming(3, 200),
);
api.get(
	"/changes",
	outside(async (c, next) => {
		await next();
		c.res = new Response(c.res.body?.pipeThrough(new TransformStream()), c.res);
	}),
	long,
	streaming(3, 200),
);
// biome-ignore lint/suspicious/noExplicitAny: What a program without types gives.
const gives = (what: any) => () => what;
api.get("/nothing", long, gives(undefined));
api.get("/no-response", long, gives({ hello: "world" }));
api.get("/rate-nothing", rateLimit({ gate, name: asked }), gives(undefined));
const readAlready = (): Response => {
	const response = new Response("read already");
	response.body?.getReader();
	return response;
};
api.get("/locked", long, readAlready);
api.get("/rate-locked", rateLimit({ gate, name: asked }), readAlready);
api.get("/too-late", timeout(50), long, async (c) => {
	await scheduler.wait(300);
	return c.text("late");
});
api.get("/not-modified", long, (c) => c.body(null, 304));
const told =
	(length: string, headers: Record<string, string> = {}) =>
	(c: Context) =>
		c.body(parts(3, 10), 200, { "Content-Length": length, ...headers });
api.on(["GET", "HEAD"], "/told", long, told("21"));
api.get("/told-twice", long, concurrency<App>({ gate, name: (c) => `${asked(c)}-b` }), told("21"));
api.get("/told-too-much", long, told("99"));
api.get("/told-encoded", long, told("5", { "Content-Encoding": "gzip" }));
api.get("/bad-label", concurrency<App>({ gate, name: asked, label: gives(Symbol("no text")) }), hello);
api.get("/held-over-rate", long, rateLimit({ gate, name: (c) => `${asked(c)}-b` }), streaming(3, 200));
api.get("/rate-over-held", rateLimit({ gate, name: (c) => `${asked(c)}-b` }), long, streaming(3, 200));
api.get("/held-twice", long, concurrency<App>({ gate, name: (c) => `${asked(c)}-b` }), streaming(3, 200));
api.get("/sixteen", rateLimit({ gate, name: (c) => c.req.queries("name") ?? [] }), hello);
api.get("/held-waits-briefly", concurrency<App>({ gate, name: asked, waitSeconds: 0.3 }), hello);

/** What an upstream says of being too busy; and a guard of one caller before it, whose denial is no such word. */
const busy = (c: Context): Response => {
	const said = c.req.query("said");
	return new Response("busy", { status: 429, ...(said !== undefined && { headers: { "Retry-After": said } }) });
};
const pauseOn429 = (c: Context): string[] => [asked(c)];
api.get("/busy", concurrency<App>({ gate, name: asked, pauseOn429 }), busy);
api.get("/busy-rate", rateLimit({ gate, name: asked, pauseOn429 }), busy);
api.get("/busy-nowhere", concurrency<App>({ gate, name: asked, pauseOn429: () => "nowhere" }), busy);
api.get("/not-busy", concurrency<App>({ gate, name: asked, pauseOn429 }), (c) => c.text("ill", 503));
api.get(
	"/busy-own",
	concurrency<App>({ gate, name: asked, pauseOn429 }),
	outside(async (c, next) => {
		await next();
		c.res = new Response(c.res.body, c.res);
	}),
	rateLimit({ gate, name: (c) => `${asked(c)}-own` }),
	hello,
);

api.get("/held-waits", concurrency<App>({ gate, name: asked, waitSeconds: 10 }), hello);
api.get("/held-and-rate", concurrency<App>({ gate, name: asked, rate: (c) => `${asked(c)}-rate` }), hello);
/** Those who are at work right now under a name, the most since that was asked for, and the most that ever were. */
interface Work {
	now: number;
	most: number;
	mostEver: number;
}
/** Of each run of a name: who was cut off ends in the middle, counted for ever, and belongs to no later run. */
const works = new Map<string, Work>();
function workOf(c: Context<App>): Work {
	const run = `${asked(c)} ${c.req.query("run")}`;
	const work = works.get(run) ?? { now: 0, most: 0, mostEver: 0 };
	works.set(run, work);
	return work;
}
/** The first who come stay until as many are inside as the query says. */
api.get("/held-work", held, async (c) => {
	const work = workOf(c);
	work.now += 1;
	work.most = Math.max(work.most, work.now);
	work.mostEver = Math.max(work.mostEver, work.now);
	do await scheduler.wait(20);
	while (work.mostEver < Number(c.req.query("full") ?? 0));
	work.now -= 1;
	return c.text("done");
});
api.get("/work-most", (c) => {
	const work = workOf(c);
	const { most } = work;
	work.most = 0;
	return c.json({ most });
});
api.get("/asked", async (c) => {
	const { LIMITS } = c.env as unknown as { LIMITS: DurableObjectNamespace<LimitObject> };
	return c.json({ asked: await LIMITS.getByName(asked(c)).countAsked() });
});

// --------------------------------------------------------------------------------------------- a plain handler
const nameOf = (request: Request): string => new URL(request.url).searchParams.get("name") ?? "";
/** A lease of it is tied to no request: only its release gives it back. */
const untied = ({ env }: { env: unknown }): Headgate => {
	const context = { waitUntil: () => undefined, passThroughOnException: () => undefined };
	const answer = async (request: Request) =>
		app.fetch(request, env as HeadgateEnv, context as unknown as ExecutionContext);
	return new Headgate({ url: "http://localhost", binding: { fetch: answer } });
};
const holds: HoldingHandler<unknown> = (_, __, ___, lease) => Response.json({ lease: lease?.names, more: "x" });
/** A caller in this Worker, which reads a part or two of an answer and forgets the rest. */
async function reads(answer: Promise<Response>): Promise<Response> {
	const reader = (await answer).body?.getReader();
	const part = await reader?.read();
	await reader?.read();
	return new Response(`${part?.value?.byteLength}`);
}
const plain: Record<string, ReturnType<typeof withRateLimit>> = {
	"/plain/rate": withRateLimit({ gate, name: ({ request }) => nameOf(request) }, () => new Response("hello")),
	"/plain/held": withConcurrency({ gate, name: ({ request }) => nameOf(request) }, holds),
	"/plain/stream": withConcurrency({ gate, name: ({ request }) => nameOf(request) }, () => new Response(parts(3, 200))),
	"/plain/long": withConcurrency(
		{ gate, name: ({ request }) => nameOf(request), unreadSeconds: 1, stalledSeconds: 1 },
		() => new Response(parts(Number.POSITIVE_INFINITY, 20)),
	),
	"/plain/bulk": withConcurrency(
		{ gate, name: ({ request }) => nameOf(request), stalledSeconds: 1 },
		() => new Response(new Uint8Array(1_000_000)),
	),
	"/plain/silent": withConcurrency(
		{ gate, name: ({ request }) => nameOf(request), unreadSeconds: 1 },
		() => new Response(new ReadableStream({ pull: () => new Promise(() => undefined) })),
	),
	"/plain/untied": withConcurrency(
		{ gate: untied, name: ({ request }) => nameOf(request) },
		() => new Response(parts(3, 20)),
	),
	"/plain/told": withConcurrency(
		{ gate, name: ({ request }) => nameOf(request) },
		() => new Response(parts(3, 10), { headers: { "Content-Length": "21" } }),
	),
	"/plain/busy": withConcurrency(
		{ gate, name: ({ request }) => nameOf(request), pauseOn429: ({ request }) => nameOf(request) },
		() => new Response("busy", { status: 429, headers: { "Retry-After": "30" } }),
	),
	"/plain/busy-rate": withRateLimit(
		{ gate, name: ({ request }) => nameOf(request), pauseOn429: ({ request }) => nameOf(request) },
		() => new Response("busy", { status: 429, headers: { "Retry-After": "30" } }),
	),
	"/plain/nothing": withConcurrency({ gate, name: ({ request }) => nameOf(request) }, gives(undefined)),
	"/plain/locked": withConcurrency({ gate, name: ({ request }) => nameOf(request) }, readAlready),
};

export default {
	fetch(request: Request, env: HeadgateEnv, ctx: ExecutionContext): Response | Promise<Response> {
		const { pathname } = new URL(request.url);
		if (pathname.startsWith("/v1/") || pathname === "/health") return app.fetch(request, env, ctx);
		// A program may throw away what its handler gave, or forget to pass its context on.
		const dropped = plain[pathname.replace("/dropped", "/plain")];
		if (dropped && pathname.startsWith("/dropped")) {
			return dropped(request, env, ctx).then(() => new Response("another"));
		}
		const begun = plain[pathname.replace("/begun", "/plain")];
		if (begun && pathname.startsWith("/begun")) return reads(begun(request, env, ctx));
		const alone = plain[pathname.replace("/no-context", "/plain")];
		if (alone && pathname.startsWith("/no-context")) return alone(request, env);
		return plain[pathname]?.(request, env, ctx) ?? api.fetch(request, env, ctx);
	},
};
