/** What every route has in common, and those that belong to none. */

import { describe, expect, test } from "vitest";
import { type BatchOutcome, type Problem, VERSION } from "../../src/protocol.ts";
import { call, expectProblem, granted, newLimit, newName, open, path } from "./support.ts";

describe("health and the front page", () => {
	test("GET /health is ok", async () => {
		const { status, body } = await call("GET", "/health");
		const health = { status: "ok", version: VERSION, time: expect.stringMatching(/^\d{4}-.*Z$/) };
		expect({ status, body }).toEqual({ status: 200, body: health });
	});

	test("GET / says where to go", async () => {
		const { status } = await call("GET", "/");
		expect(status).toBe(200);
	});
});

describe("routes and methods", () => {
	test.each(["/nothing", "/v1", "/v1/", "/v1/nothing", "/v1/limits/a/b", "/v1/acquire/", "/v2/acquire", "/v1/limits/"])(
		"%s is not found",
		async (route) => {
			for (const method of ["GET", "POST"]) expectProblem(await call(method, route), 404, "not_found");
		},
	);

	test.each([
		["/v1/acquire", ["POST"]],
		["/v1/renew", ["POST"]],
		["/v1/release", ["POST"]],
		["/v1/limits", ["GET", "HEAD"]],
		["/v1/limits/a", ["GET", "HEAD", "PUT", "PATCH", "DELETE"]],
		["/v1/limits/a/leases", ["GET", "HEAD"]],
		["/v1/limits/a/leases/b", ["DELETE"]],
		["/v1/policies", ["GET", "HEAD"]],
		["/v1/policies/a*", ["GET", "HEAD", "PUT", "DELETE"]],
		["/v1/token", ["GET", "HEAD"]],
		["/health", ["GET", "HEAD"]],
	])("%s allows %j, and says so to any other method", async (route, allowed) => {
		const others = ["GET", "POST", "PUT", "PATCH", "DELETE"].filter((method) => !allowed.includes(method));
		for (const method of others) {
			const answer = await call(method, route, method === "GET" ? undefined : {});
			expectProblem(answer, 405, "method_not_allowed");
			expect(answer.headers.get("Allow")?.split(", ").sort()).toEqual([...allowed].sort());
		}
	});

	test("HEAD answers like GET, without a body", async () => {
		const name = await newLimit();
		expect((await call("HEAD", "/health")).status).toBe(200);
		expect((await call("HEAD", path(name))).status).toBe(200);
		expect((await call("HEAD", path(newName()))).status).toBe(404);
	});
});

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const parent = (trace: string) => `00-${trace}-00f067aa0ba902b7-01`;

test.each<[string, Record<string, string>, string | undefined]>([
	["the trace of its caller", { traceparent: parent(TRACE), "cf-ray": "230b030023ae2822-SJC" }, TRACE],
	["a trace of a later version", { traceparent: `cc${parent(TRACE).slice(2)}-more` }, TRACE],
	["the Ray ID", { "cf-ray": "230b030023ae2822-SJC" }, "230b030023ae2822-SJC"],
	[
		"the Ray ID, in place of a trace of zeros",
		{ traceparent: parent("0".repeat(32)), "cf-ray": "230b030023ae2822" },
		"230b030023ae2822",
	],
	["nothing", {}, undefined],
	["nothing of a trace that is none", { traceparent: `${parent(TRACE)}x` }, undefined],
	["nothing of a version that must not be", { traceparent: `ff${parent(TRACE).slice(2)}` }, undefined],
	["nothing of what is no Ray ID", { "cf-ray": "<script>" }, undefined],
])("a problem tells %s", async (_, headers, traceId) => {
	const problems = [
		await call<Problem>("GET", `/v1/limits/${newName()}`, undefined, headers),
		await call<Problem>("GET", "/nowhere", undefined, headers),
		await call<Problem>("PUT", "/v1/acquire", {}, headers),
		await call<Problem>(
			"POST",
			"/v1/acquire",
			{ names: await newLimit({ limit: 0, slotDecayPerSecond: 1 }), mode: "rate_limit" },
			headers,
		),
		await call<Problem>("GET", "/health?%ff", undefined, headers),
	];
	for (const { status, body } of problems) {
		expect(status).toBeGreaterThanOrEqual(400);
		expect(body.traceId).toBe(traceId);
	}
	const full = await newLimit({ limit: 1 });
	await granted({ names: full });
	const batch = { requests: [{ names: full }, { names: "" }] };
	const { body } = await call<{ answers: BatchOutcome[] }>("POST", "/v1/acquire/batch", batch, headers);
	expect(body.answers.map((answer) => "problem" in answer && answer.problem.traceId)).toEqual([traceId, traceId]);
	for (const names of [full, [full, await newLimit({ limit: 1 })]]) {
		const denied = await (await open({ names, waitSeconds: 0 }, headers)).denied();
		expect(denied.traceId).toBe(traceId);
	}
});
