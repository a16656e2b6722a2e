/** Text from elsewhere has no power over the terminal, and is what it seems: names, holders, errors, files. */

import { mkdtempSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { stripVTControlCharacters } from "node:util";
import { parse as parseToml } from "smol-toml";
import stringWidth from "string-width";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { draw, write } from "../../src/cli/output.ts";
import { Headgate } from "../../src/client/index.ts";
import { VERSION } from "../../src/protocol.ts";
import { safe, safeSource } from "../../src/visible.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { codeOnly, files, read } from "../support/sources.ts";
import { headgate, newName, shell, terminal } from "./support.ts";

let server: FreshServer;
let gate: Headgate;
let env: Record<string, string>;

beforeAll(async () => {
	server = await freshServer();
	gate = new Headgate({ url: server.url });
	env = { HEADGATE_URL: server.url };
});
afterAll(() => server[Symbol.asyncDispose]());

/** Clears the screen, rings, sets the title, the same by C1, turns around what follows, is not to be seen. */
const EVIL = "\x1b[2J\x07\x1b]0;title\x07\x9b2J\x85\u202eevil\u2066\u200b\u061c\ufeff\x1b[31mred";
/** Whatever is not a line of text in our own colours. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
const POWER = /\x1b(?!\[[\d;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x7f-\x9f\u200b\u061c\u202e\u2066\ufeff]|\x1b\[31mred/;

describe("what is made visible", () => {
	test.each([
		["\x1b[31m", "\\x1b[31m"],
		["\x9b2J", "\\x9b2J"],
		["a\nb\tc", "a\\x0ab\\x09c"],
		["\u202egnp.exe", "\\u202egnp.exe"],
		["a\u200bb\ufeff\u00ad", "a\\u200bb\\ufeff\\xad"],
		["\ud800", "\\ud800"],
		["tag\u{e0041}", "tag\\u{e0041}"],
		["日本語 é שלום 👩‍👩‍👧 🏳️‍🌈", "日本語 é שלום 👩‍👩‍👧 🏳️‍🌈"],
	])("%j is shown as %s", (text, shown) => {
		expect(safe(text)).toBe(shown);
	});

	test("JSON and TOML stay the same value", () => {
		const text = `${EVIL}\u{e0041}`;
		expect(JSON.parse(safeSource(JSON.stringify({ text }, null, "\t")))).toEqual({ text });
		expect(safeSource(JSON.stringify({ text }, null, "\t"))).not.toMatch(POWER);
		expect(parseToml(safeSource(`text = ${JSON.stringify(text)}`, "toml"))).toEqual({ text });
	});

	test("what was forgotten on its way loses its power when it is written", () => {
		const written: string[] = [];
		const stream = { write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
		write(stream, "\x1b[1mours\x1b[22m\ta\nb \x1b[2J \r \u202e\n");
		draw(stream, "\r\x1b[K\x1b[H \x1b]0;title\x07\x1b[?25h");
		expect(written).toEqual([
			"\x1b[1mours\x1b[22m\ta\nb \\x1b[2J \\x0d \\u202e\n",
			"\r\x1b[K\x1b[H \\x1b]0;title\\x07\x1b[?25h",
		]);
	});

	test("there is one way out to a terminal", () => {
		for (const file of files("src/cli/**/*.ts")) {
			if (file.endsWith("cli/output.ts")) continue;
			expect(codeOnly(read(file)), file).not.toMatch(/\b(?:stdout|stderr)\s*\.write\(|\bconsole\./);
		}
	});
});

/** A server that answers everything with such texts. */
async function evil(status = 200): Promise<string> {
	const settings = { limit: 1, slotDecayPerSecond: 0, active: true, activeSlots: 1, remaining: 0, origin: EVIL };
	const figures = { waitingCount: 1, leaseCount: 1, lastMinute: { granted: 0, denied: 0 }, policy: EVIL };
	const times = { since: EVIL, expiresAt: EVIL, updatedAt: EVIL, updatedBy: EVIL };
	const one = { name: EVIL, id: EVIL, pattern: EVIL, holder: EVIL, slots: 1, position: 1, idleSeconds: 60, ...times };
	const totals = { grantedAtOnce: 0, grantedAfterWait: 0, denied: 0, timedOut: 0, released: 0, expired: 0 };
	const limit = { ...settings, ...figures, ...one, totals };
	const all = { ...limit, leases: [one], waiting: [one], limits: [limit], policies: [limit], next: null };
	const problem = { type: "about:blank", title: EVIL, status, code: "forbidden", detail: EVIL };
	const made = createServer((request, response) => {
		const health = { status: "ok", time: new Date().toISOString(), version: `${VERSION}${EVIL}` };
		const body =
			request.url === "/health" ? health : status === 200 ? { ...all, scope: "admin", prefix: EVIL } : problem;
		const type = status === 200 ? "application/json" : "application/problem+json";
		response.writeHead(request.url === "/health" ? 200 : status, { "content-type": type }).end(JSON.stringify(body));
	});
	onTestFinished(() => void made.close());
	await new Promise<void>((resolve) => made.listen(0, "127.0.0.1", resolve));
	const address = made.address();
	return `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
}

describe("a server and holders that mean harm", () => {
	const commands = [
		["ls"],
		["inspect", "x"],
		["leases", "x"],
		["policies"],
		["doctor"],
		["release", "x", EVIL],
		["export"],
	];

	test.each([
		...commands,
		...commands.slice(0, 5).map((words) => [...words, "--json"]),
		["configure", EVIL, "--limit", "3"],
		["delete", "x", "--yes"],
	])("%j shows their text on a terminal, without its power", async (...words) => {
		const url = await evil();
		const run = terminal(words, { HEADGATE_URL: url }, 200);
		await run.ended;
		expect(run.output()).toContain("evil");
		expect(run.output()).not.toMatch(POWER);
	});

	test.each(commands.filter(([name]) => name !== "export"))("%j: their errors, too", async (...words) => {
		const url = await evil(403);
		const run = terminal(words, { HEADGATE_URL: url }, 200);
		await run.ended;
		expect(run.output()).toContain("evil");
		expect(run.output()).not.toMatch(POWER);
	});

	test.each([
		[[EVIL]],
		[["ls", `--${EVIL}`]],
		[["ls", "--url", EVIL]],
		[["run", "-l", "x", "--wait", EVIL, "--", "true"]],
	])("a wrong call %j is complained of without its power", async (words) => {
		const run = terminal(words, env, 200);
		expect((await run.ended).code).toBe(2);
		expect(run.output()).not.toMatch(POWER);
	});

	test("in a pipe JSON is the same value, and shows nothing by itself either", async () => {
		const { stdout } = await headgate(["leases", "x", "--json"], { HEADGATE_URL: await evil() });
		expect(stdout).not.toMatch(POWER);
		expect(JSON.parse(stdout)).toMatchObject([{ holder: EVIL }]);
	});
});

function file(name: string, content: string | Buffer): string {
	const made = path.join(mkdtempSync(path.join(tmpdir(), "headgate-")), name);
	writeFileSync(made, content);
	return made;
}

describe("bytes", () => {
	test.each([
		["a Latin-1 letter", Buffer.from('[limits."caf\xe9"]\nlimit = 1\n', "latin1"), "line 1"],
		[
			"half a character at its end",
			Buffer.concat([Buffer.from("[limits.a]\nlimit = 1\n# "), Buffer.from([0xc3])]),
			"line 3",
		],
		["UTF-16", Buffer.from("\ufeff[limits.a]\nlimit = 1\n", "utf16le"), "line 1"],
		["half of a pair", Buffer.concat([Buffer.from("# "), Buffer.from([0xed, 0xa0, 0x80, 0x0a])]), "line 1"],
	])("a file with %s is refused with 65", async (_, content, where) => {
		for (const end of [
			await headgate(["apply", file("limits.toml", content), "--yes"], env),
			await shell(`headgate apply - --yes < "${file("limits.toml", content)}"`, env),
		]) {
			expect(end).toMatchObject({ code: 65, stdout: "" });
			expect(end.stderr).toContain(`is not UTF-8 (${where}), so nothing was applied`);
		}
	});

	test("a mark of UTF-8 at the beginning is no fault, in JSON, in TOML and on standard input", async () => {
		const [json, toml, typed] = [newName(), newName(), newName()];
		const text = (name: string) => `\ufeff{ "limits": { "${name}": { "limit": 3 } } }`;
		const ends = [
			await headgate(["apply", file("limits.json", text(json)), "--yes"], env),
			await headgate(["apply", file("limits.toml", `\ufeff[limits.${toml}]\nlimit = 3\n`), "--yes"], env),
			await headgate(["apply", "-", "--yes"], env, text(typed)),
		];
		for (const end of ends) expect(end).toMatchObject({ code: 0, stderr: "" });
		for (const name of [json, toml, typed]) expect((await gate.inspect(name)).limit).toBe(3);
	});

	test.each(["inspect $'caf\\xe9'", "configure x$'\\xff' --limit 3", "run -l $'\\xe9' -- echo ran", "ls $'\\xe9'"])(
		"an argument that is no UTF-8 is refused with 65: %s",
		async (words) => {
			const end = await shell(`headgate ${words}`, env);
			expect(end).toMatchObject({ code: 65, stdout: "" });
			expect(end.stderr).toContain("not UTF-8");
		},
	);

	test("a plan tells names apart that look the same", async () => {
		const prefix = newName();
		const [composed, decomposed] = [`${prefix}-caf\u00e9s`, `${prefix}-cafe\u0301s`];
		await gate.configure(composed, { limit: 1 });
		const plan = await headgate(
			["apply", file("limits.toml", `[limits."${decomposed}"]\nlimit = 2\n`), "--dry-run"],
			env,
		);
		expect(plan.stdout).toContain("not the name that looks the same: U+0065 U+0301 here, U+00E9 there");
		const both = file("limits.toml", `[limits."${decomposed}"]\nlimit = 2\n[limits."${composed}"]\nlimit = 3\n`);
		const { steps } = JSON.parse((await headgate(["apply", both, "--dry-run", "--json"], env)).stdout);
		expect(steps).toMatchObject([
			{ name: decomposed, action: "create", note: expect.stringContaining("U+0065 U+0301 here") },
			{ name: composed, action: "change", note: expect.stringContaining("U+00E9 here") },
		]);
	});
});

describe("long and many", () => {
	test("a name of 255 characters is cut on a terminal and takes no column away; in a pipe it is whole", async () => {
		const prefix = newName();
		const long = `${prefix}${"x".repeat(255 - prefix.length)}`;
		await gate.configure(long, { limit: 20, slotDecayPerSecond: 100 / 60 });
		await gate.configure(`${prefix}-short`, { limit: 3 });
		const ls = terminal(["ls", prefix], env, 100);
		await ls.ended;
		const lines = stripVTControlCharacters(ls.output()).trimEnd().split(/\r?\n/);
		for (const title of ["NAME", "USED", "WAITING", "COMES BACK", "DENIED/MIN", "GRANTED/MIN"]) {
			expect(lines[0]).toContain(title);
		}
		for (const line of lines) expect(stringWidth(line), line).toBeLessThanOrEqual(100);
		expect(ls.output()).toContain("…");
		expect(lines.find((line) => line.includes("-short"))).toContain("0/3");
		expect((await headgate(["ls", prefix], env)).stdout).toContain(`${long}\t0/20\t0\t100/min`);
		expect(JSON.parse((await headgate(["ls", prefix, "--json"], env)).stdout)[1].name).toBe(long);
	});

	test("inspect leaves no lease out in a pipe, and says on a terminal what it leaves out", async () => {
		const name = newName();
		await gate.configure(name, { limit: 200 });
		const ask = { method: "POST", headers: { "Content-Type": "application/json" } };
		const body = (holder: string) => JSON.stringify({ names: name, leaseSeconds: 600, holder });
		for (let at = 0; at < 130; at++) await fetch(`${server.url}/v1/acquire`, { ...ask, body: body(`holder-${at}.`) });
		const { stdout } = await headgate(["inspect", name], env);
		for (let at = 0; at < 130; at++) expect(stdout).toContain(`\tholder-${at}.\t`);
		expect(stdout).toContain("Held by:");
		expect(JSON.parse((await headgate(["inspect", name, "--json"], env)).stdout).leases).toHaveLength(130);
		const shown = terminal(["inspect", name], env, 100);
		await shown.ended;
		expect(shown.output()).toContain(`Held by (the first 100 of 130; all: headgate leases ${name}):`);
		expect(shown.output()).not.toContain("holder-100.");
	});
});
