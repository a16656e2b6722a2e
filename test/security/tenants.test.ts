/** Ids of leases are keys to them: who may not take slots back by force does not see them, wherever they are shown. */

import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { LeasesPage, LimitInfo, Released } from "../../src/protocol.ts";
import { linesOf, tenants } from "./tenant.ts";

const setUp = () =>
	tenants({
		admin: { scope: "admin" },
		a: { scope: "use", prefix: "team-" },
		b: { scope: "use", prefix: "team-" },
		looks: { scope: "read" },
	});
let house: Awaited<ReturnType<typeof setUp>>;
beforeAll(async () => {
	house = await setUp();
});
afterAll(() => house.server[Symbol.asyncDispose]());

const digest = (id: string): string => `sha256~${createHash("sha256").update(id).digest("hex").slice(0, 16)}`;

/** A limit of one slot, which `a` holds and for which `a` waits. */
async function held(name: string) {
	const { admin, a } = house.of;
	await admin.call("PUT", `/v1/limits/${name}`, { limit: 1 });
	const { body: lease } = await a.call<{ id: string }>("POST", "/v1/acquire", { names: name });
	const over = new AbortController();
	const id = `waits-${name}`;
	const waiting = await a.open("/v1/acquire", over.signal, { names: name, id });
	for await (const line of linesOf(waiting)) if (line.event === "queued") break;
	return { lease, waiter: id, leave: () => over.abort() };
}

test.each(["b", "looks"] as const)("%s sees digests in place of ids, of leases and of waiters", async (who) => {
	const name = `team-seen-by-${who}`;
	const { lease, waiter, leave } = await held(name);
	const { [who]: tenant, admin } = house.of;
	const seen = await tenant.call<LimitInfo>("GET", `/v1/limits/${name}`);
	expect(seen.body.leases[0]?.id).toBe(digest(lease.id));
	expect(seen.body.waiting[0]?.id).toBe(digest(waiter));
	const page = await tenant.call<LeasesPage>("GET", `/v1/limits/${name}/leases`);
	expect(page.body.leases[0]?.id).toBe(digest(lease.id));
	const over = new AbortController();
	const texts: string[] = [];
	const watched = await tenant.open(`/v1/watch?name=${name}`, over.signal);
	for await (const line of linesOf(watched)) {
		texts.push(JSON.stringify(line));
		if (texts.length === 1) await admin.call("PATCH", `/v1/limits/${name}`, { limit: 0 });
		if (line.event === "limit" && (line.limit as LimitInfo).limit === 0) break;
	}
	over.abort();
	const metrics = await tenant.call<string>("GET", "/metrics");
	const all = JSON.stringify([seen.body, page.body, texts, metrics.body]);
	expect(all).toContain(digest(lease.id));
	expect(all).not.toContain(lease.id);
	expect(all).not.toContain(waiter);
	leave();
});

test("admin sees the ids", async () => {
	const name = "team-plain";
	const { lease, waiter, leave } = await held(name);
	const { body } = await house.of.admin.call<LimitInfo>("GET", `/v1/limits/${name}`);
	expect([body.leases[0]?.id, body.waiting[0]?.id]).toEqual([lease.id, waiter]);
	leave();
});

test("what is seen renews and releases nothing, and takes back by force what it is of", async () => {
	const name = "team-force";
	const { lease, waiter, leave } = await held(name);
	const { admin, b } = house.of;
	for (const path of ["/v1/renew", "/v1/release"]) {
		expect((await b.call("POST", path, { id: digest(lease.id), names: name })).body.code).toBe("invalid");
	}
	const force = (id: string) => admin.call<Released>("DELETE", `/v1/limits/${name}/leases/${encodeURIComponent(id)}`);
	expect((await b.call("DELETE", `/v1/limits/${name}/leases/${digest(lease.id)}`)).status).toBe(403);
	expect((await force(digest("another"))).status).toBe(410);
	expect((await force(digest(waiter))).status).toBe(200);
	expect((await force(digest(lease.id))).body).toEqual({ released: 1 });
	expect((await force(lease.id)).status).toBe(410);
	leave();
});

test("a name outside of the prefix is refused alike, whether it exists or not", async () => {
	const { admin, a } = house.of;
	await admin.call("PUT", "/v1/limits/other-there", { limit: 1 });
	for (const path of ["/v1/limits/NAME", "/v1/limits/NAME/leases", "/v1/limits/NAME/history", "/v1/watch?name=NAME"]) {
		const [there, gone] = await Promise.all(
			["other-there", "other-gone1"].map((name) => a.call("GET", path.replace("NAME", name))),
		);
		expect(there?.status).toBe(403);
		expect(JSON.stringify(there?.body)).toBe(JSON.stringify(gone?.body).replaceAll("other-gone1", "other-there"));
	}
});
