/** The programs of `examples/`, each started as a user starts it, but for the port. */

import { expect, test } from "vitest";
import { type Edge, startEdge } from "./harness.ts";

interface Answer<T> {
	status: number;
	headers: Headers;
	body: T;
}

async function call<T = never>(edge: Edge, path: string, init: RequestInit = {}): Promise<Answer<T>> {
	const response = await fetch(new URL(path, edge.url), init);
	const text = await response.text();
	const isJson = response.headers.get("Content-Type")?.includes("json") ?? false;
	return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

test("binding: no more than two query at once, and all of them are answered", async () => {
	await using edge = await startEdge(["examples/binding/wrangler.toml", "wrangler.toml"]);
	expect((await call(edge, "/setup")).status).toBe(200);
	const answers = await Promise.all(Array.from({ length: 10 }, () => call<{ rows: string }>(edge, "/")));
	for (const { status, body } of answers) expect({ status, rows: body.rows }).toEqual({ status: 200, rows: "42 rows" });
	await expect.poll(async () => (await edge.inspect("database")).activeSlots).toBe(0);
	const { totals } = await edge.inspect("database");
	expect(totals.grantedAtOnce + totals.grantedAfterWait).toBe(10);
	expect(totals.grantedAfterWait).toBeGreaterThan(0);
	expect(totals).toMatchObject({ released: 10, expired: 0 });
});

test("embedded: one import at a time, and three mails a minute", async () => {
	await using edge = await startEdge(["examples/embedded/wrangler.toml"], "import");
	expect((await call<string>(edge, "/setup")).body).toBe("ready\n");
	const answers = await Promise.all(
		Array.from({ length: 5 }, () => call<{ imported: boolean; mailed: boolean }>(edge, "/")),
	);
	expect(answers.every(({ body }) => body.imported)).toBe(true);
	expect(answers.filter(({ body }) => body.mailed)).toHaveLength(3);
});

test("quotas: each key has its own, and all have one together", async () => {
	await using edge = await startEdge(["examples/quotas/wrangler.toml"], "api");
	await call(edge, "/setup", { method: "POST" });
	const as = (key: string, path = "/v2/hello") =>
		call<Record<string, unknown>>(edge, path, { headers: { "X-Api-Key": key } });
	expect((await call(edge, "/v2/hello")).status).toBe(401);
	const search = await as("alice", "/v2/search");
	expect(search.status).toBe(200);
	expect(search.headers.get("RateLimit")).toMatch(/^"all";r=5;t=1, "key";r=2;t=10$/);
	expect(await as("alice")).toMatchObject({ status: 200, body: { hello: "world" } });
	expect((await as("alice")).status).toBe(200);
	const denied = await as("alice");
	expect(denied.status).toBe(429);
	expect(denied.body).toMatchObject({ code: "denied", "violated-policies": ["key"] });
	expect(Number(denied.headers.get("Retry-After"))).toBeGreaterThan(5);
	// What is alice's own is used up; what belongs to all is not.
	expect((await as("bob")).status).toBe(200);
	const answers = await Promise.all(["carol", "dan", "eve", "frank", "grace", "heidi", "ivan"].map((key) => as(key)));
	const refused = answers.filter(({ status }) => status === 429);
	expect(refused.length).toBeGreaterThan(0);
	for (const { body } of refused) expect(body["violated-policies"]).toEqual(["all"]);
});

test("llm-gateway: three answers at once to their last word, and ten calls a minute", async () => {
	await using edge = await startEdge(["examples/llm-gateway/wrangler.toml"], "llm-gateway");
	await call(edge, "/setup", { method: "POST" });
	const ask = (words: number) => {
		const body = JSON.stringify({ words });
		return call<string>(edge, "/chat", { method: "POST", body, headers: { "Content-Type": "application/json" } });
	};
	const startedAt = performance.now();
	const answers = await Promise.all([5, 5, 5, 5].map(ask));
	for (const { status, body } of answers) {
		expect(status).toBe(200);
		expect(body.trim().split("\n\n")).toHaveLength(6); // Its words, and what they came to.
	}
	// The fourth began when the first had ended, and not when its headers were sent.
	expect(performance.now() - startedAt).toBeGreaterThan(950);
	expect(answers[0]?.headers.get("RateLimit-Policy")).toBe(
		'"model";q=3;qu="concurrent-requests", "model:calls";q=10;w=60, "model:tokens";q=6000;w=3600',
	);
	const more = await Promise.all([1, 1, 1, 1, 1, 1].map(ask));
	expect(more.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
	// Ten calls were short, and still count: the eleventh waits for the first to come back, six seconds after it began.
	expect((await ask(1)).status).toBe(200);
	expect(performance.now() - startedAt).toBeGreaterThanOrEqual(6_000);
});

test("llm-gateway: tokens are what the answer says they were, and a model that is too busy is left alone by everyone", async () => {
	await using edge = await startEdge(["examples/llm-gateway/wrangler.toml"], "llm-gateway");
	await call(edge, "/setup", { method: "POST" });
	const headers = { "Content-Type": "application/json" };
	const init = (chat: object) => ({ method: "POST", body: JSON.stringify(chat), headers });
	const ask = (chat: object) => call<string>(edge, "/chat", init(chat));
	/** Tokens that are left beside the estimate of the answer itself. */
	const tokensLeft = ({ headers }: Answer<unknown>): number =>
		Number(/"model:tokens";r=(\d+)/.exec(headers.get("RateLimit") ?? "")?.[1]) + 400;

	// Seven were asked, three answered; said at the end, or step by step.
	expect(tokensLeft(await ask({ words: 3, shape: "total" }))).toBe(6_000);
	await expect.poll(async () => tokensLeft(await ask({ words: 3, shape: "steps" }))).toBeGreaterThanOrEqual(5_980);
	await expect.poll(async () => tokensLeft(await ask({ words: 1 }))).toBeGreaterThanOrEqual(5_960);

	// A caller that breaks off has used what it saw, and not what it might have.
	const leaving = new AbortController();
	const response = await fetch(new URL("/chat", edge.url), { ...init({ words: 300 }), signal: leaving.signal });
	await response.body?.getReader().read();
	leaving.abort();
	await expect.poll(async () => tokensLeft(await ask({ words: 1 })), { timeout: 10_000 }).toBeGreaterThan(5_800);

	const busy = await ask({ busy: true });
	expect([busy.status, busy.headers.get("Retry-After")]).toEqual([429, "2"]);
	const askedAt = performance.now();
	expect((await ask({ words: 1 })).status).toBe(200);
	expect(performance.now() - askedAt).toBeGreaterThan(1_500);
});
