/** `/metrics` of a real server, read by the parser of Prometheus; and what docs say of it. */

import { execFileSync } from "node:child_process";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { pythonWith } from "../../scripts/python.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { read } from "../support/sources.ts";

interface Family {
	name: string;
	type: string;
	unit: string;
	help: string;
	samples: { name: string; labels: Record<string, string>; value: number }[];
}

/** Making the environment takes longer than any test. */
const INSTALL_MS = 600_000;
const STRANGE = 'a "quoted" \\ name, ünïcode {le="1"} 🎈';

let server: FreshServer;
let families: Family[];

const call = async (method: string, route: string, body?: unknown): Promise<{ id: string; names: object }> => {
	const headers = { "Content-Type": "application/json" };
	const answer = await fetch(server.url + route, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
	return (await answer.json()) as { id: string; names: object };
};

beforeAll(async () => {
	const python = pythonWith("test/house/requirements.txt");
	server = await freshServer();
	for (const name of ["database", STRANGE]) {
		await call("PUT", `/v1/limits/${encodeURIComponent(name)}`, { limit: 2 });
		const lease = await call("POST", "/v1/acquire", { names: name });
		await call("POST", "/v1/acquire", { names: name });
		await call("POST", "/v1/acquire", { names: name });
		await call("POST", "/v1/release", lease);
	}
	await call("PUT", "/v1/policies/key:*", { limit: 7 });
	await call("POST", "/v1/acquire", { names: "key:1" });
	const text = await (await fetch(`${server.url}/metrics`)).text();
	const parsed = execFileSync(python, [path.join(import.meta.dirname, "parse_openmetrics.py")], { input: text });
	families = JSON.parse(parsed.toString()) as Family[];
}, INSTALL_MS);

afterAll(() => server[Symbol.asyncDispose]());

const family = (name: string): Family => {
	const found = families.find((each) => each.name === `headgate_${name}`);
	if (!found) throw new Error(`No ${name} among ${families.map((each) => each.name)}`);
	return found;
};
const value = (name: string, sample: string, limit: string, labels: Record<string, string> = {}) =>
	family(name).samples.find(
		(one) =>
			one.name === `headgate_${sample}` &&
			Object.entries({ limit, ...labels }).every(([label, wanted]) => one.labels[label] === wanted),
	)?.value;

test.each(["database", STRANGE])("the parser reads what %s did", (limit) => {
	expect({
		capacity: value("capacity_slots", "capacity_slots", limit),
		inUse: value("in_use_slots", "in_use_slots", limit),
		granted: value("granted_at_once", "granted_at_once_total", limit),
		denied: value("denied", "denied_total", limit),
		released: value("released", "released_total", limit),
		waits: value("wait_seconds", "wait_seconds_count", limit),
		waitsAtOnce: value("wait_seconds", "wait_seconds_bucket", limit, { le: "0.01" }),
		holds: value("hold_seconds", "hold_seconds_bucket", limit, { le: "+Inf" }),
	}).toEqual({ capacity: 2, inUse: 1, granted: 2, denied: 1, released: 1, waits: 2, waitsAtOnce: 2, holds: 1 });
});

test("counters, gauges and histograms are what they are called", () => {
	const types = Object.fromEntries(families.map(({ name, type }) => [name.slice("headgate_".length), type]));
	expect(types).toMatchObject({
		...{ build: "info", in_use_slots: "gauge", granted_at_once: "counter", wait_seconds: "histogram" },
	});
	expect(families.filter(({ help }) => help === "")).toEqual([]);
	expect(family("hold_seconds").unit).toBe("seconds");
});

test("docs/metrics.md has every metric, and no other", () => {
	const documented = [...read("docs/metrics.md").matchAll(/`(headgate_\w+)`/g)].map(([, name]) => name);
	const served = families.map(({ name, type }) =>
		type === "counter" ? `${name}_total` : type === "info" ? `${name}_info` : name,
	);
	expect([...new Set(documented)].sort()).toEqual([...served].sort());
});

test("the Grafana dashboard asks for metrics and labels that there are", () => {
	const dashboard = JSON.parse(read("docs/grafana.json"));
	const expressions: string[] = dashboard.panels.flatMap((panel: { targets: { expr: string }[] }) =>
		panel.targets.map(({ expr }) => expr),
	);
	expect(expressions.length).toBeGreaterThan(8);
	const samples = new Set([
		...families.flatMap((each) => each.samples.map(({ name }) => name)),
		"headgate_policy_keys",
	]);
	for (const expression of expressions) {
		for (const [name] of expression.matchAll(/headgate_\w+/g)) expect(samples, expression).toContain(name);
	}
});

test("a key of a policy has no sample of its own", () => {
	const limits = new Set(families.flatMap((each) => each.samples.map(({ labels }) => labels.limit)));
	expect(limits).not.toContain("key:1");
});
