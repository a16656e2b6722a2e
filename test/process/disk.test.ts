/** A real server whose disk has no room left: every route that would write says so, and nothing is lost by it. */

import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningServer } from "../../src/cli/serve.ts";
import type { Lease, Problem } from "../../src/protocol.ts";
import { startServer } from "../support/server.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { Caller } from "./support.ts";

const FULL = /\bdisk\b.*\bfull\b/;

let folder: TemporaryFolder;
let server: RunningServer;
let caller: Caller;
let lease: Lease;

beforeAll(async () => {
	folder = await temporaryFolder();
	execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", folder.path]);
	server = await startServer({ port: 0, data: folder.path });
	caller = new Caller(server.url);
	await caller.limit("known", 2);
	lease = await caller.take({ names: "known", leaseSeconds: 3_600 });
	expect(() => writeFileSync(filler(), Buffer.alloc(16_000_000))).toThrow(/ENOSPC/);
});

afterAll(async () => {
	caller?.close();
	await server?.stop();
	execFileSync("umount", [folder.path]);
	await folder[Symbol.asyncDispose]();
});

const filler = (): string => path.join(folder.path, "filler");

test.each<[string, string, object?]>([
	["POST", "/v1/acquire", { names: "known" }],
	["POST", "/v1/acquire", { names: "new-1" }],
	["POST", "/v1/acquire", { names: ["known", "new-2"] }],
	["POST", "/v1/acquire", { names: "known", waitSeconds: 1 }],
	["POST", "/v1/renew", { id: "LEASE", names: ["known"] }],
	["POST", "/v1/release", { id: "LEASE", names: ["known"] }],
	["PUT", "/v1/limits/new-3", { limit: 1 }],
	["PUT", "/v1/limits/known", { limit: 3 }],
	["PATCH", "/v1/limits/known", { limit: 3 }],
	["DELETE", "/v1/limits/known/leases/LEASE"],
	["PUT", "/v1/policies/new:*", { limit: 1 }],
	["GET", "/metrics"],
])("a full disk is 503 and said: %s %s %j", async (method, route, body) => {
	const asked = body && "id" in body ? { ...body, id: lease.id } : body;
	const answer = await caller.call<Problem>(method, route.replace("LEASE", lease.id), asked);
	expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 503, body: { code: "storage_failed" } });
	expect(answer.body.detail).toMatch(FULL);
});

test.each<[string, string, object]>([
	["POST", "/api/v2/concurrency_limits/", { name: "new-5", limit: 1 }],
	["POST", "/api/v2/concurrency_limits/increment", { names: ["new-6"], slots: 1 }],
	["POST", "/api/v2/concurrency_limits/increment-with-lease", { names: ["known"], slots: 1, mode: "concurrency" }],
	["PATCH", "/api/v2/concurrency_limits/known", { limit: 4 }],
])("a full disk is 503 and said on Prefect's wire: %s %s", async (method, route, body) => {
	const answer = await caller.call<{ exception_detail: string }>(method, route, body);
	expect(answer.status, JSON.stringify(answer.body)).toBe(503);
	expect(answer.body.exception_detail).toMatch(FULL);
});

test("a stream that cannot be begun is 503, and one of several names says so in its line", async () => {
	const begun = async (names: string[]): Promise<{ status: number; text: string }> => {
		const headers = { "content-type": "application/json", accept: "application/x-ndjson" };
		const body = JSON.stringify({ names });
		const answer = await fetch(`${server.url}/v1/acquire`, { method: "POST", headers, body });
		return { status: answer.status, text: await answer.text() };
	};
	expect(await begun(["new-7"])).toMatchObject({ status: 503, text: expect.stringMatching(FULL) });
	expect((await begun(["known", "new-8"])).text).toMatch(FULL);
});

test("what needs no room is answered", async () => {
	expect((await caller.inspect("known")).leases.map(({ id }) => id)).toEqual([lease.id]);
	expect((await caller.call("GET", "/v1/limits")).status).toBe(200);
	expect((await caller.call("GET", "/v1/limits/new-4")).status).toBe(404);
	expect((await caller.call("GET", "/health")).status).toBe(200);
});

test("once there is room again, everything is as it was, without a restart", async () => {
	rmSync(filler());
	expect(await caller.inspect("known")).toMatchObject({ limit: 2, activeSlots: 1 });
	expect(await caller.release({ id: lease.id, names: ["known"] })).toBe(1);
	await caller.limit("new-3", 1);
	expect((await caller.call("GET", "/v1/limits/new-4")).status).toBe(404);
});
