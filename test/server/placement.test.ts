/**
 * Where objects are asked to live. The runtime of these tests lets every hint pass and has no jurisdictions, so a recorder stands
 * before the real objects and notes how they are called; each is a Worker of its own that has heard of nothing yet.
 */

import { afterEach, describe, expect, test } from "vitest";
import { type LimitInfo, type LimitSummary, type Policy, type Problem, REGIONS } from "../../src/protocol.ts";
import type { Env } from "../../src/server/contract/env.ts";
import { directoryObject, limitObject, PlacementError } from "../../src/server/contract/placement.ts";
import { service } from "../../src/server/front/routes.ts";
import type { Identity } from "../../src/server/limit/store.ts";
import * as prefect from "./prefect-support.ts";
import {
	acquire,
	alter,
	bindings,
	call,
	crash,
	expectProblem,
	granted,
	inspect,
	newLimit,
	newName,
	newNames,
	patch,
	path,
	read,
	removePolicy,
	setPolicy,
} from "./support.ts";

interface Found {
	name: string;
	region: string | undefined;
	jurisdiction: string | undefined;
}

/** Objects as they are, and how they were found. */
function recorded<T extends Rpc.DurableObjectBranded>(namespace: DurableObjectNamespace<T>) {
	const found: Found[] = [];
	const within = (jurisdiction: string | undefined) => ({
		jurisdiction: within,
		getByName(name: string, options?: DurableObjectNamespaceGetDurableObjectOptions) {
			found.push({ name, region: options?.locationHint, jurisdiction });
			return namespace.getByName(name, options);
		},
	});
	return { found, namespace: within(undefined) as unknown as DurableObjectNamespace<T> };
}

/** A Worker that has heard of nothing yet. */
function newWorker(variables: Partial<Env> = {}) {
	const limits = recorded(bindings.LIMITS);
	const directory = recorded(bindings.DIRECTORY);
	const env: Env = {
		...{ LIMITS: limits.namespace, DIRECTORY: directory.namespace, HEADGATE_OPEN: "true", ...variables },
	};
	const background: Promise<unknown>[] = [];
	const context = { waitUntil: (work: Promise<unknown>) => background.push(work) } as unknown as ExecutionContext;
	const ask = async <Body = LimitSummary & Problem>(method: string, route: string, body?: unknown) => {
		const headers = { "Content-Type": "application/json" };
		const init = { method, ...(body !== undefined && { headers, body: JSON.stringify(body) }) };
		const answer = await read<Body>(await service.fetch(new Request(`http://localhost${route}`, init), env, context));
		await Promise.all(background.splice(0));
		return answer;
	};
	return { ask, env, limits: limits.found, directory: directory.found };
}

const made: string[] = [];
const policy = async (pattern: string, settings: Record<string, unknown>): Promise<Policy> => {
	made.push(pattern);
	return (await setPolicy(pattern, settings)).body;
};
afterEach(async () => {
	for (const pattern of made.splice(0)) await removePolicy(pattern);
});

describe("the deployment", () => {
	test("places every object that a Worker calls", async () => {
		const { ask, limits, directory } = newWorker({ HEADGATE_REGION: "weur", HEADGATE_JURISDICTION: "eu" });
		const [a, b] = newNames(2) as [string, string];
		await ask("PUT", path(a), { limit: 2 });
		const lease = (await ask<{ id: string }>("POST", "/v1/acquire", { names: [a, b] })).body;
		for (const route of ["/v1/renew", "/v1/release"]) await ask("POST", route, lease);
		await ask("POST", "/v1/acquire/batch", { requests: [{ names: a }] });
		await ask("GET", "/v1/limits");
		await ask("GET", "/metrics");
		await ask("GET", "/v1/policies");
		await ask("GET", `/api/v2/concurrency_limits/${a}`);
		await ask("PATCH", path(a), { limit: 3 });
		for (const name of [a, b]) expect((await ask("DELETE", path(name))).status).toBe(204);
		expect(new Set(limits.map(({ name }) => name))).toEqual(new Set([a, b]));
		expect(new Set(directory.map(({ name }) => name.split(":")[0]))).toEqual(new Set(["directory", "totals"]));
		for (const each of [...limits, ...directory]) {
			expect(each).toMatchObject({ region: "weur", jurisdiction: "eu" });
		}
	});

	test("without variables says nothing", async () => {
		const { ask, limits, directory } = newWorker({ HEADGATE_REGION: "", HEADGATE_JURISDICTION: "" });
		await ask("POST", "/v1/acquire", { names: newName() });
		expect([...limits, ...directory].length).toBeGreaterThan(1);
		for (const each of [...limits, ...directory]) {
			expect(each).toMatchObject({ region: undefined, jurisdiction: undefined });
		}
	});

	test.each([
		[{ HEADGATE_REGION: "west-europe" }, 'HEADGATE_REGION is "west-europe", which is none of wnam, enam,'],
		[{ HEADGATE_REGION: "WEUR" }, 'HEADGATE_REGION is "WEUR"'],
		[{ HEADGATE_JURISDICTION: "de" }, 'HEADGATE_JURISDICTION is "de", which is none of eu, us, fedramp, fedramp-high'],
	])("with the variables %o answers nothing but what is wrong", async (variables, why) => {
		const { ask, env, limits, directory } = newWorker(variables);
		const routes = ["/health", "/v1/limits", `${path(newName())}`, "/docs", "/v1/token"];
		for (const route of routes) {
			const problem = expectProblem(await ask("GET", route), 500, "misconfigured");
			expect(problem.detail).toContain(why);
		}
		const ofPrefect = await ask<{ detail: string }>("GET", "/api/health");
		expect(ofPrefect.status).toBe(500);
		expect([...limits, ...directory]).toEqual([]);
		// By a binding there is no such gate.
		expect(() => limitObject(env, "x", "weur")).toThrow(PlacementError);
		expect(() => directoryObject(env)).toThrow(PlacementError);
	});

	test("is not kept elsewhere by a runtime that has no jurisdictions", async () => {
		const { LIMITS, DIRECTORY } = bindings;
		const { ask } = newWorker({ LIMITS, DIRECTORY, HEADGATE_JURISDICTION: "eu" });
		const answer = await ask("POST", "/v1/acquire", { names: newName() });
		const { detail } = expectProblem(answer, 500, "misconfigured");
		expect(detail).toContain('HEADGATE_JURISDICTION is "eu", and this runtime cannot keep to it');
	});
});

describe("a limit", () => {
	test("is made where its PUT says, from the very first call on, and says so", async () => {
		const { ask, limits } = newWorker({ HEADGATE_REGION: "weur" });
		const name = newName();
		const created = await ask("PUT", path(name), { limit: 1, region: "apac-ne" });
		expect({ status: created.status, region: created.body.region }).toEqual({ status: 201, region: "apac-ne" });
		expect(limits.length).toBeGreaterThan(0);
		for (const each of limits) expect(each).toMatchObject({ name, region: "apac-ne" });
		await crash(name);
		expect(await inspect(name)).toMatchObject({ region: "apac-ne" });
	});

	test.each([
		["PUT", { limit: 5, region: "enam" }],
		["PATCH", { limit: 5, region: "enam" }],
	])("never moves: %s with another region is refused and changes nothing", async (method, body) => {
		const name = newName();
		await call("PUT", path(name), { limit: 1, region: "weur" });
		const problem = expectProblem(await call(method, path(name), body), 422, "invalid");
		expect(problem.errors).toMatchObject([{ field: "region" }]);
		expect(problem.detail).toContain('was made for "weur", and a limit never moves');
		expect(await inspect(name)).toMatchObject({ limit: 1, region: "weur" });
	});

	test.each(["PUT", "PATCH"])("is changed by %s with the region that it has, or none", async (method) => {
		const name = newName();
		await call("PUT", path(name), { limit: 1, region: "weur" });
		for (const [limit, region] of [
			[2, { region: "weur" }],
			[3, {}],
		] as const) {
			const changed = await call<LimitSummary>(method, path(name), { limit, ...region });
			expect(changed).toMatchObject({ status: 200, body: { limit, region: "weur" } });
		}
		expect((await call("PUT", path(name), { limit: 4, region: null })).status).toBe(200);
	});

	test("that was made without a region cannot be given one", async () => {
		const name = await newLimit();
		const { detail } = expectProblem(await patch(name, { region: "weur" }), 422, "invalid");
		expect(detail).toContain("was made without a region");
	});

	test.each(["PUT", "PATCH"])(
		"with a region that there is none is refused with those there are: %s",
		async (method) => {
			const problem = expectProblem(await call(method, path(newName()), { limit: 1, region: "mars" }), 422, "invalid");
			for (const region of REGIONS) expect(problem.errors?.[0]?.message).toContain(`"${region}"`);
			expect((await setPolicy(`${newName()}*`, { limit: 1, region: "mars" })).status).toBe(422);
		},
	);

	test("that was stored before regions came has none", async () => {
		const name = newName();
		// Of a key the directory is told nothing, so nothing but this writes its identity anew.
		await policy(name, { limit: 1, region: "weur" });
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({ region: "weur" });
		await alter(name, ({ identity: { region: _, ...earlier } }) => ({ identity: earlier as Identity }));
		expect(await inspect(name)).toMatchObject({ region: null });
	});

	test("with another name is asked to live where it was, or where the policy of that name says", async () => {
		const [a, b, c] = newNames(3) as [string, string, string];
		await call("PUT", path(a), { limit: 1, region: "weur" });
		expect(await prefect.update(a, { name: b })).toMatchObject({ status: 204 });
		expect(await inspect(b)).toMatchObject({ region: "weur" });
		await policy(c, { limit: 1, region: "sam" });
		expect(await prefect.update(b, { name: c })).toMatchObject({ status: 204 });
		expect(await inspect(c)).toMatchObject({ region: "sam", origin: "configured" });
	});
});

describe("a key of a policy", () => {
	test("lives where the policy says, also by the first call of a Worker that has heard of nothing", async () => {
		const prefix = newName();
		expect(await policy(`${prefix}*`, { limit: 1, region: "oc" })).toMatchObject({ region: "oc" });
		const { ask, limits } = newWorker({ HEADGATE_REGION: "weur" });
		const key = `${prefix}:key`;
		await ask("POST", "/v1/acquire", { names: key });
		const beside = newName();
		await ask("POST", "/v1/acquire", { names: beside });
		const own = `${prefix}:own`;
		await ask("PUT", path(own), { limit: 1, region: "me" });
		const regions = (name: string) => new Set(limits.flatMap((each) => (each.name === name ? [each.region] : [])));
		expect(regions(key)).toEqual(new Set(["oc"]));
		expect(regions(beside)).toEqual(new Set(["weur"]));
		expect(regions(own)).toContain("me");
		expect(limits.find(({ name }) => name === own)).toMatchObject({ region: "me" });
		expect((await ask<LimitInfo>("GET", path(key))).body).toMatchObject({ region: "oc", origin: "policy" });
	});

	test("stays where it is when the policy changes", async () => {
		const prefix = newName();
		await policy(`${prefix}*`, { limit: 1, region: "oc" });
		await granted({ names: `${prefix}:key` });
		await policy(`${prefix}*`, { limit: 2, region: "enam" });
		expect(await inspect(`${prefix}:key`)).toMatchObject({ limit: 2, region: "oc" });
		await granted({ names: `${prefix}:next` });
		expect(await inspect(`${prefix}:next`)).toMatchObject({ limit: 2, region: "enam" });
	});

	test("asks no second time where it is to live", async () => {
		const { ask, directory } = newWorker();
		await ask("POST", "/v1/acquire", { names: newName() });
		directory.length = 0;
		for (const name of newNames(3)) await ask("POST", "/v1/acquire", { names: name });
		expect(directory).toEqual([]);
	});
});

test("a directory that does not answer holds no limit back", async () => {
	const name = await newLimit({ limit: 2 });
	let asked = 0;
	const silent = {
		getByName: () => {
			asked += 1;
			throw new Error("unreachable");
		},
	} as unknown as Env["DIRECTORY"];
	const { ask } = newWorker({ DIRECTORY: silent });
	expect((await ask("POST", "/v1/acquire", { names: name })).status).toBe(200);
	const first = asked;
	expect((await ask("POST", "/v1/acquire", { names: newName() })).status).toBe(200);
	expect(first).toBeGreaterThan(0);
	expect((await acquire({ names: name })).status).toBe(200);
});
