/** Limits as a file: what is read, what is planned, what is applied, and that of a file that is half wrong nothing is. */

import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { type Desired, readDesired, writeDesired } from "../../src/cli/desired.ts";
import { plan } from "../../src/cli/plan.ts";
import { Headgate } from "../../src/client/index.ts";
import type { LimitSummary } from "../../src/protocol.ts";
import { freshServer } from "../support/server.ts";
import { headgate } from "./support.ts";

const faultsOf = (text: string, format: "toml" | "json" = "toml"): string => {
	try {
		readDesired(text, format, "the file");
	} catch (error) {
		return (error as Error).message;
	}
	throw new Error("it was read");
};

describe("a file", () => {
	test("has limits and policies, and what it leaves out is as usual", () => {
		const text =
			'[limits.database]\nlimit = 20\n[policies."login:*"]\nlimit = 5\nslotDecayPerSecond = 0.1\nidleSeconds = 60\n';
		const { limits, policies } = readDesired(text, "toml", "the file");
		expect([...limits]).toEqual([
			[
				"database",
				{
					...{
						limit: 20,
						slotDecayPerSecond: 0,
						window: null,
						active: true,
						enforce: true,
						lendSeconds: 0,
						region: null,
					},
					...{ weights: {}, starveAfterSeconds: 60 },
				},
			],
		]);
		const login = {
			limit: 5,
			slotDecayPerSecond: 0.1,
			active: true,
			enforce: true,
			lendSeconds: 0,
			region: null,
			idleSeconds: 60,
		};
		expect([...policies]).toEqual([["login:*", login]]);
		const json = '{ "limits": { "database": { "limit": 20 } }, "policies": { "login:*": { "limit": 5 } } }';
		expect(readDesired(json, "json", "the file").limits.get("database")).toEqual(limits.get("database"));
	});

	test.each([
		["an unknown key", "[limits.a]\nlimit = 1\nslots = 2\n", 'limits."a".slots: there is no such field'],
		["an unknown section", "[limit.a]\nlimit = 1\n", "limit: there is no such section; there are limits and policies"],
		["a key outside of a section", "limit = 1\n", "limit: there is no such section"],
		["a limit without its capacity", "[limits.a]\nactive = true\n", 'limits."a".limit'],
		["a text for a number", '[limits.a]\nlimit = "20"\n', 'limits."a".limit'],
		["a fraction of a slot", "[limits.a]\nlimit = 1.5\n", 'limits."a".limit'],
		["a name that cannot be", '[limits."a/b"]\nlimit = 1\n', 'limits."a/b": a name has none of'],
		["a pattern with two stars", '[policies."a*b*"]\nlimit = 1\n', 'policies."a*b*": a pattern'],
		["a limit that is no table", "[limits]\na = 3\n", 'limits."a"'],
		["a list of limits", "[[limits]]\nlimit = 3\n", "limits: not a table"],
		["two entries for one name", "[limits.a]\nlimit = 1\n[limits.a]\nlimit = 2\n", "line 3"],
		["two entries, one of them quoted", '[limits.a]\nlimit = 1\n[limits."a"]\nlimit = 2\n', "line 3"],
		["no TOML", "limits = [\n", "line"],
		["a moment for a limit", "[limits]\na = 2020-01-01\n", 'limits."a"'],
	])("with %s is refused", (_, text, fault) => {
		expect(faultsOf(text)).toContain(fault);
		expect(faultsOf(text)).toContain("so nothing was applied");
	});

	test.each([
		["two entries for one name", '{ "limits": {\n"a": {"limit": 1},\n"a": {"limit": 2} } }', "twice, on lines 2 and 3"],
		["a field twice", '{ "limits": { "a": {"limit": 1, "limit": 2} } }', "twice"],
		["a list", "[]", "not a table"],
		["null", "null", "not a table"],
		["no JSON", '{ "limits": ', "fault"],
		["nothing", "", "fault"],
	])("as JSON with %s is refused", (_, text, fault) => {
		expect(faultsOf(text, "json")).toContain(fault);
	});

	test("tells all its faults at once", () => {
		const text = '[limits.good]\nlimit = 1\n[limits.a]\nlimit = -1\nslots = 2\n[policies.""]\nlimit = 1\n';
		expect(faultsOf(text)).toContain("has 3 faults");
	});

	test.each(["toml", "json"] as const)(
		"is the same after it was written and read, as %s, whatever the names",
		(format) => {
			const settings = {
				limit: 3,
				slotDecayPerSecond: 1 / 60,
				active: false,
				enforce: false,
				lendSeconds: 0.5,
				weights: { "a=b": 2, gold: 3, 日本: 1_000 },
				starveAfterSeconds: 0,
				region: "apac-ne" as const,
			};
			const desired: Desired = {
				limits: new Map(
					["a", "a b", "日本", '"q"', "a.b", "__proto__", "#x", "'"].map((name) => [
						name,
						{ ...settings, window: null },
					]),
				),
				policies: new Map([["login:*", { ...settings, slotDecayPerSecond: 1e-9, idleSeconds: 60 }]]),
			};
			const again = readDesired(writeDesired(desired, format), format, "the file");
			expect(again).toEqual(desired);
		},
	);

	test.each(["toml", "json"] as const)("has windows, of which what is as usual is left out, as %s", (format) => {
		const window = { every: "month", timeZone: "Europe/Berlin", at: "00:00", startsOn: 15, sliding: false } as const;
		const rest = {
			...{ slotDecayPerSecond: 0, active: true, enforce: true, lendSeconds: 0, region: null },
			...{ weights: {}, starveAfterSeconds: 60 },
		};
		const limits: Desired["limits"] = new Map([
			["quota", { limit: 3, window, ...rest }],
			[
				"burst",
				{
					limit: 3,
					window: { ...{ every: 60, timeZone: "UTC", at: "00:00", startsOn: null, sliding: true } },
					...rest,
				},
			],
		]);
		const text = writeDesired({ limits, policies: new Map() }, format);
		expect(text).not.toContain("00:00");
		expect(readDesired(text, format, "the file").limits).toEqual(limits);
	});
});

describe("a plan", () => {
	const summary = (name: string, more: Partial<LimitSummary> = {}): [string, LimitSummary] => [
		name,
		{
			...({
				name,
				limit: 1,
				slotDecayPerSecond: 0,
				active: true,
				enforce: true,
				region: null,
				origin: "configured",
			} as LimitSummary),
			...{ activeSlots: 0, waitingCount: 0, ...more },
		},
	];
	const wanted = (text: string): Desired => readDesired(text, "toml", "the file");

	test("creates, changes what differs, and leaves the rest", () => {
		const desired = wanted(
			"[limits.new]\nlimit = 1\n[limits.same]\nlimit = 1\n[limits.other]\nlimit = 2\nactive = false\n",
		);
		const actual = { limits: new Map([summary("same"), summary("other"), summary("beside")]), policies: new Map() };
		expect(plan(desired, actual, false)).toEqual({
			steps: [
				{ kind: "limit", name: "new", action: "create", changes: [{ field: "limit", from: undefined, to: 1 }] },
				{
					...{ kind: "limit", name: "other", action: "change" },
					changes: [
						{ field: "limit", from: 1, to: 2 },
						{ field: "active", from: true, to: false },
					],
				},
			],
			unchanged: 1,
		});
	});

	test("with prune deletes what was configured by hand, and says what is in use; names of policies stay", () => {
		const limits = new Map([
			summary("idle"),
			summary("busy", { activeSlots: 2, waitingCount: 1 }),
			summary("by-policy", { origin: "policy" }),
			summary("unknown", { origin: "default" }),
		]);
		const { steps } = plan(wanted(""), { limits, policies: new Map() }, true);
		expect(steps).toEqual([
			{ kind: "limit", name: "idle", action: "delete", changes: [] },
			{ kind: "limit", name: "busy", action: "delete", changes: [], note: "in use: 2 taken, 1 waiting" },
		]);
	});

	test("configures a name that a policy or nobody made, even when nothing else changes", () => {
		const actual = { limits: new Map([summary("a", { origin: "policy" })]), policies: new Map() };
		expect(plan(wanted("[limits.a]\nlimit = 1\n"), actual, false).steps).toMatchObject([
			{ action: "change", changes: [] },
		]);
	});
});

describe("apply and export", () => {
	let folder: string;
	beforeEach(() => {
		folder = mkdtempSync(path.join(tmpdir(), "headgate-"));
	});
	const written = (text: string, name = "limits.toml"): string => {
		const file = path.join(folder, name);
		writeFileSync(file, text);
		return file;
	};

	test("from an empty server to the file, again without a change, and back by export", async () => {
		await using server = await freshServer();
		const gate = new Headgate({ url: server.url });
		const env = { HEADGATE_URL: server.url };
		const file = written(
			'[limits.database]\nlimit = 20\n\n[limits.openai]\nlimit = 100\nslotDecayPerSecond = 1.5\n\n[policies."login:*"]\nlimit = 5\n',
		);
		const dry = await headgate(["apply", file, "--dry-run"], env);
		expect(dry).toMatchObject({ code: 0, stderr: "" });
		expect(dry.stdout).toContain("3 to create, 0 to change, 0 to delete, 0 as they should be");
		expect((await headgate(["ls"], env)).stdout).toBe("");

		const unasked = await headgate(["apply", file], env);
		expect(unasked.code).toBe(2);
		expect(unasked.stderr).toContain("Say it with --yes.");

		expect((await headgate(["apply", file, "--yes"], env)).stdout).toContain("Applied 3 changes.");
		const again = await headgate(["apply", file], env);
		expect(again).toMatchObject({ code: 0, stdout: "Nothing to do: 3 entries are as they should be.\n", stderr: "" });

		const exported = await headgate(["export"], env);
		expect(exported).toMatchObject({ code: 0, stderr: "", stdout: readFileSync(file, "utf8") });
		const json = path.join(folder, "out.json");
		expect(await headgate(["export", "--output", json], env)).toMatchObject({ code: 0, stdout: "" });
		expect((await headgate(["apply", json], env)).stdout).toContain("Nothing to do: 3 entries");

		// By hand in the meantime: apply brings back what the file says, and with --prune takes away the rest.
		await gate.update("database", { limit: 7 });
		await gate.configure("by-hand", { limit: 1 });
		await gate.acquire("login:key");
		const plain = await headgate(["apply", file, "--json", "--yes"], env);
		const change = {
			kind: "limit",
			name: "database",
			action: "change",
			changes: [{ field: "limit", from: 7, to: 20 }],
		};
		expect(JSON.parse(plain.stdout)).toEqual({ steps: [change], unchanged: 2, applied: 1 });
		const pruned = await headgate(["apply", "-", "--prune", "--yes"], env, readFileSync(file, "utf8"));
		expect(pruned.stdout).toContain("- by-hand");
		expect(pruned.stdout).toContain("0 to create, 0 to change, 1 to delete, 3 as they should be");
		const names = (await headgate(["ls"], env)).stdout.split("\n").map((line) => line.split("\t")[0]);
		expect(names).not.toContain("by-hand");
		expect(names).toEqual(expect.arrayContaining(["database", "openai"]));
	});

	test("a region is carried out and back; a limit that would have to move is told before anything is applied", async () => {
		await using server = await freshServer();
		const env = { HEADGATE_URL: server.url };
		const text = '[limits.near]\nlimit = 1\nregion = "weur"\n\n[policies."eu:*"]\nlimit = 5\nregion = "eeur"\n';
		const file = written(text);
		expect((await headgate(["apply", file, "--yes"], env)).stdout).toContain("region weur");
		expect((await headgate(["export"], env)).stdout).toBe(text);
		// What says nothing of a place leaves a limit where it is, and takes a policy's away.
		const silent = written('[limits.near]\nlimit = 2\n\n[policies."eu:*"]\nlimit = 5\n');
		const { stdout } = await headgate(["apply", silent, "--yes"], env);
		expect(stdout).toContain("~ near  limit 1 -> 2\n");
		expect(stdout).toContain("~ policy eu:*  region eeur -> null\n");
		const moved = written('[limits.new]\nlimit = 1\n\n[limits.near]\nlimit = 1\nregion = "enam"\n');
		for (const options of [["--yes"], ["--dry-run"]]) {
			const end = await headgate(["apply", moved, ...options], env);
			expect(end).toMatchObject({ code: 1, stdout: "" });
			expect(end.stderr).toContain('"near" (weur). Nothing was applied.');
		}
		expect((await headgate(["ls"], env)).stdout).not.toContain("new");
		expect((await headgate(["inspect", "near"], env)).stdout).toMatch(/^region +weur$/m);
		const refused = await headgate(["configure", "near", "--region", "oc"], env);
		expect(refused.code).toBe(1);
		expect(refused.stderr).toContain("a limit never moves");
		expect((await headgate(["configure", "far", "-l", "1", "--region", "oc"], env)).code).toBe(0);
		expect((await headgate(["inspect", "far"], env)).stdout).toMatch(/^region +oc$/m);
		const set = ["policies", "set", "me:*", "-l", "1", "--region", "me"];
		expect((await headgate(set, env)).code).toBe(0);
		expect((await headgate(["policies"], env)).stdout).toMatch(/^me:\*\t1\t.*\tme(\t|$)/m);
		expect((await headgate(["configure", "x", "-l", "1", "--region", "mars"], env)).code).toBe(2);
	});

	test("limits as code: what a program exports by default, which the library shares", async () => {
		await using server = await freshServer();
		const env = { HEADGATE_URL: server.url };
		const library = path.resolve(import.meta.dirname, "../../src/client/index.ts");
		const file = path.join(folder, "limits.ts");
		const write = (code: string) =>
			writeFileSync(file, `import { defineLimits } from ${JSON.stringify(library)};\n${code}`);
		write(
			'export default defineLimits({ limits: { database: { limit: 20 } }, policies: { "login:*": { limit: 5 } } });',
		);
		const end = await headgate(["apply", file, "--yes"], env);
		expect(end).toMatchObject({ code: 0 });
		expect((await headgate(["ls"], env)).stdout).toMatch(/^database\t0\/20\t/);
		expect((await headgate(["policies"], env)).stdout).toMatch(/^login:\*\t5\t/);
		write("export default defineLimits({ limits: { database: { limit: -1 } } });");
		expect((await headgate(["apply", file, "--yes"], env)).stderr).toContain('limits."database".limit');
		write("export const limits = defineLimits({});");
		expect((await headgate(["apply", file, "--yes"], env)).stderr).toContain("has no default export");
		write("throw new Error('halfway');");
		expect((await headgate(["apply", file, "--yes"], env)).stderr).toContain("cannot be run: halfway");
		expect((await headgate(["apply", path.join(folder, "none.ts"), "--yes"], env)).stderr).toContain(
			"There is no file",
		);
		expect((await headgate(["ls"], env)).stdout).toMatch(/^database\t0\/20\t/);
	});

	test("of a file that is half wrong nothing is applied; one that is not there is said so", async () => {
		await using server = await freshServer();
		const env = { HEADGATE_URL: server.url };
		const half = written("[limits.good]\nlimit = 1\n[limits.bad]\nlimit = -1\n");
		const end = await headgate(["apply", half, "--yes"], env);
		expect(end).toMatchObject({ code: 2, stdout: "" });
		expect(end.stderr).toContain('limits."bad".limit');
		expect((await headgate(["ls"], env)).stdout).toBe("");
		const missing = await headgate(["apply", path.join(folder, "none.toml"), "--yes"], env);
		expect(missing.code).toBe(2);
		expect(missing.stderr).toContain("There is no file");
	});
});
