/** A program on Node behind the middleware: Hono and plain handlers, on its own HTTP server. Says its port when it is ready. */

import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import { type Context, Hono } from "hono";
import { timeout } from "hono/timeout";
import { Headgate } from "../../src/client/index.ts";
import { withConcurrency } from "../../src/middleware/fetch.ts";
import { concurrency, type LeaseVariables, rateLimit } from "../../src/middleware/hono.ts";

const gate = new Headgate({ url: process.argv[2] ?? "" });
const app = new Hono<{ Variables: LeaseVariables }>();
const asked = (c: Context): string => c.req.query("name") ?? "";
const held = concurrency({ gate, name: asked, unreadSeconds: 1 });

const encoder = new TextEncoder();
/** The last of them is sent after `last`. */
function parts(count: number, last?: Promise<void>): ReadableStream<Uint8Array> {
	let sent = 0;
	return new ReadableStream({
		async pull(controller) {
			await new Promise((resolve) => setTimeout(resolve, 20));
			if (sent === count - 1) await last;
			controller.enqueue(encoder.encode(`part ${sent}\n`));
			sent += 1;
			if (sent === count) controller.close();
		},
	});
}
const silent = (): ReadableStream<Uint8Array> => new ReadableStream({ pull: () => new Promise(() => undefined) });
// biome-ignore lint/suspicious/noExplicitAny: What a program without types gives.
const gives = (what: any) => () => what;
function readAlready(): Response {
	const response = new Response("read already");
	response.body?.getReader();
	return response;
}
const constant = new Response("one for all");
const replaced = async (c: Context, next: () => Promise<void>): Promise<void> => {
	await next();
	c.res = new Response("another", { status: 203 });
};

app.onError((error, c) => c.text(`${error.name}: ${error.message}`, 500));
app.get("/alive", (c) => c.text("alive"));
app.get("/report", held, (c) => c.body(parts(3)));
app.get("/long", held, (c) => c.body(parts(Number.POSITIVE_INFINITY)));
const brief = concurrency({ gate, name: asked, maxBodySeconds: 1 });
app.get("/huge", brief, (c) =>
	c.body(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1e6)) })),
);
const toldOn = Promise.withResolvers<void>();
app.get("/told", held, (c) => c.body(parts(3, toldOn.promise), 200, { "Content-Length": "21" }));
app.get("/tell-on", (c) => {
	toldOn.resolve();
	return c.text("told on");
});
/** As long as any answer may go unread. */
const patient = concurrency({ gate, name: asked, unreadSeconds: 600 });
app.get("/replaced-long", replaced, patient, (c) => c.body(parts(Number.POSITIVE_INFINITY)));
app.get("/replaced-silent", replaced, patient, (c) => c.body(silent()));
/** Middleware outside of it has begun to read the answer, and sends another one. */
const peeking = async (c: Context, next: () => Promise<void>): Promise<void> => {
	await next();
	await c.res.body?.getReader().read();
	c.res = new Response("another", { status: 203 });
};
const cloning = async (c: Context, next: () => Promise<void>): Promise<void> => {
	await next();
	c.res.clone();
	c.res = new Response("another", { status: 203 });
};
const hasty = concurrency({ gate, name: asked, stalledSeconds: 0.6 });
app.get("/peeked-long", peeking, hasty, (c) => c.body(parts(Number.POSITIVE_INFINITY)));
app.get("/cloned-long", cloning, hasty, (c) => c.body(parts(Number.POSITIVE_INFINITY)));
/** Another answer that is made of it, by a reader that takes its time. */
const slowly = async (c: Context, next: () => Promise<void>): Promise<void> => {
	await next();
	const slow = new TransformStream({
		async transform(part, controller) {
			await new Promise((resolve) => setTimeout(resolve, 300));
			controller.enqueue(part);
		},
	});
	c.res = new Response(c.res.body?.pipeThrough(slow));
};
app.get("/slowly", slowly, hasty, (c) => c.body(parts(6)));
const copied = async (c: Context, next: () => Promise<void>): Promise<void> => {
	await next();
	c.res = new Response(c.res.body, c.res);
};
const other = rateLimit({ gate, name: (c) => `${asked(c)}-b` });
app.get("/copied", copied, other, held, concurrency({ gate, name: (c) => `${asked(c)}-c` }), (c) => c.body(parts(9)));
app.get("/nothing", held, gives(undefined));
app.get("/no-response", held, gives({ hello: "world" }));
app.get("/locked", held, readAlready);
app.get("/error-response", held, () => Response.error());
app.get("/constant", held, () => constant);
app.get("/rate-nothing", rateLimit({ gate, name: asked }), gives(undefined));
app.get("/rate-locked", rateLimit({ gate, name: asked }), readAlready);
app.get("/too-late", timeout(50), held, async (c) => {
	await new Promise((resolve) => setTimeout(resolve, 300));
	return c.body(parts(3));
});
app.get("/breaks", held, (c) => {
	let first = true;
	const body = new ReadableStream({
		async pull(controller) {
			if (!first) await new Promise((resolve) => setTimeout(resolve, 200));
			if (first) controller.enqueue(encoder.encode("part 0\n"));
			else controller.error(new Error("the body broke"));
			first = false;
		},
	});
	return c.body(body);
});
app.get("/bad-label", concurrency({ gate, name: asked, label: gives(Symbol("no text")) }), (c) => c.text("hello"));
app.get("/no-header", concurrency({ gate, name: asked }), () => {
	const response = new Response("fixed");
	Object.freeze(response.headers);
	return response;
});

const nameOf = ({ request }: { request: Request }): string => new URL(request.url).searchParams.get("name") ?? "";
const options = { gate, name: nameOf, unreadSeconds: 1, stalledSeconds: 1 };
/** A caller in this process, which reads a part or two of an answer and forgets the rest. */
async function reads(answer: Promise<Response>): Promise<Response> {
	const reader = (await answer).body?.getReader();
	const part = await reader?.read();
	await reader?.read();
	return new Response(String(part?.value?.byteLength));
}
/** Parts of bodies that were made. */
let made = 0;
const plain: Record<string, (request: Request, env: unknown) => Promise<Response>> = {
	"/plain/report": withConcurrency(options, () => new Response(parts(3))),
	"/plain/counted": withConcurrency(options, () => {
		const body = parts(Number.POSITIVE_INFINITY);
		const counting = new TransformStream({
			transform(part, controller) {
				made += 1;
				controller.enqueue(part);
			},
		});
		return new Response(body.pipeThrough(counting));
	}),
	"/plain/made": async () => new Response(String(made)),
	"/plain/nothing": withConcurrency(options, gives(undefined)),
	"/plain/locked": withConcurrency(options, readAlready),
	"/plain/long": withConcurrency(options, () => new Response(parts(Number.POSITIVE_INFINITY))),
	"/plain/bulk": withConcurrency(options, () => new Response(new Uint8Array(1_000_000))),
	"/plain/text": withConcurrency(options, () => {
		const body = new ReadableStream({
			start(controller) {
				for (const part of ["a text", " in parts"]) controller.enqueue(part);
				controller.close();
			},
		});
		return new Response(body);
	}),
	"/plain/silent": withConcurrency(options, () => new Response(silent())),
};

function fetch(request: Request): Response | Promise<Response> {
	const { pathname } = new URL(request.url);
	const dropped = plain[pathname.replace("/dropped", "/plain")];
	if (dropped && pathname.startsWith("/dropped")) return dropped(request, {}).then(() => new Response("another"));
	const begun = plain[pathname.replace("/begun", "/plain")];
	if (begun && pathname.startsWith("/begun")) return reads(begun(request, {}));
	return plain[pathname]?.(request, {}) ?? app.fetch(request);
}
serve({ fetch, port: 0, hostname: "127.0.0.1" }, (address: AddressInfo) => console.log(`port ${address.port}`));
