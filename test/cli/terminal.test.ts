/** The command in a real pseudo-terminal: keys, widths, colours, questions. */

import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { stripVTControlCharacters } from "node:util";
import stringWidth from "string-width";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Headgate } from "../../src/client/index.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { CTRL_C, newName, standing, terminal, until } from "./support.ts";

let server: FreshServer;
let gate: Headgate;
let env: Record<string, string>;

beforeAll(async () => {
	server = await freshServer();
	gate = new Headgate({ url: server.url });
	env = { HEADGATE_URL: server.url };
});
afterAll(() => server[Symbol.asyncDispose]());

const lines = (output: string): string[] => stripVTControlCharacters(output).split(/\r?\n/);

/** A file with one limit in it, which does not exist yet. */
function planned(): { file: string; name: string } {
	const name = newName();
	const file = path.join(mkdtempSync(path.join(tmpdir(), "headgate-")), "limits.toml");
	writeFileSync(file, `[limits.${name}]\nlimit = 20\n`);
	return { file, name };
}

const exists = async (name: string): Promise<boolean> => {
	for await (const limit of gate.limits({ prefix: name })) if (limit.name === name) return true;
	return false;
};

test("Ctrl-C in the middle of run reaches the command once, and the slots come back", async () => {
	const name = newName();
	await gate.configure(name, { limit: 1 });
	// A second one would be another line.
	const script = "trap 'echo interrupted' INT; echo there; read line; echo \"read $line\"; exit 3";
	const run = terminal(["run", "-l", name, "--", "bash", "-c", script], env);
	await run.shows("there");
	run.send(CTRL_C);
	await run.shows("interrupted");
	// The command still has the keyboard.
	run.send("typed\r");
	expect(await run.ended).toEqual({ code: 3 });
	expect(run.output().split("interrupted").length - 1).toBe(1);
	expect(run.output()).toContain("read typed");
	expect((await standing(server.url, name)).held).toBe(0);
});

test("Ctrl-C twice at a command that does not mind the first ends it, and the slots come back", async () => {
	const name = newName();
	await gate.configure(name, { limit: 1 });
	const script =
		"n=0; trap 'n=$((n+1)); echo int $n; [ $n = 2 ] && exit 5' INT; echo there; while :; do sleep 0.05; done";
	const run = terminal(["run", "-l", name, "--", "bash", "-c", script], env);
	await run.shows("there");
	run.send(CTRL_C);
	await run.shows("int 1");
	expect((await standing(server.url, name)).held).toBe(1);
	run.send(CTRL_C);
	expect(await run.ended).toEqual({ code: 5 });
	expect((await standing(server.url, name)).held).toBe(0);
});

test("while run waits it shows the place in line, and Ctrl-C leaves the line", async () => {
	const name = newName();
	await gate.configure(name, { limit: 1 });
	await using _ = await gate.acquire(name);
	const run = terminal(["run", "-l", name, "--", "echo", "ran"], env, 40);
	await run.shows("next in line");
	for (const line of run.output().split("\r")) expect(stringWidth(line)).toBeLessThanOrEqual(40);
	run.send(CTRL_C);
	expect(await run.ended).toEqual({ signal: 2 });
	expect(run.output()).not.toContain("ran");
	await until(server.url, name, { waiting: 0, held: 1 });
});

test("the line of the wait is gone when the command begins", async () => {
	const name = newName();
	await gate.configure(name, { limit: 1 });
	const lease = await gate.acquire(name);
	const run = terminal(["run", "-l", name, "--", "echo", "ran"], env);
	await run.shows("next in line");
	await lease.release();
	expect(await run.ended).toEqual({ code: 0 });
	expect(run.output().endsWith("\r\x1b[Kran\r\n")).toBe(true);
});

test("a terminal of 40 columns has no longer lines, and still says what matters", async () => {
	const prefix = newName();
	const long = `${prefix}:${"a-very-long-name-of-a-limit-".repeat(3)}`;
	await gate.configure(long, { limit: 20, slotDecayPerSecond: 100 / 60 });
	await gate.configure(`${prefix}:日本語の名前`, { limit: 3 });
	await using _ = await gate.acquire(`${prefix}:日本語の名前`, { holder: "\x1b[31mred\x07" });
	const ls = terminal(["ls", prefix], env, 40);
	expect(await ls.ended).toEqual({ code: 0 });
	for (const line of lines(ls.output())) expect(stringWidth(line), line).toBeLessThanOrEqual(40);
	expect(ls.output()).toContain("1/3");
	expect(ls.output()).toContain("…");
	const leases = terminal(["leases", `${prefix}:日本語の名前`], env, 40);
	expect(await leases.ended).toEqual({ code: 0 });
	for (const line of lines(leases.output())) expect(stringWidth(line), line).toBeLessThanOrEqual(40);
	// What a holder calls itself has no power over the terminal.
	expect(leases.output()).toContain("\\x1b");
	expect(leases.output()).not.toContain("\x1b[31mred");
});

test("colours on a terminal, and none with NO_COLOR or --no-color", async () => {
	const name = newName();
	await gate.configure(name, { limit: 1 });
	const coloured = terminal(["ls", name], env);
	await coloured.ended;
	expect(coloured.output()).toContain("\x1b[1m");
	expect(coloured.output()).toContain("NAME");
	for (const [args, more] of [
		[["ls", name], { NO_COLOR: "1" }],
		[["ls", name, "--no-color"], {}],
		[["ls", name], { TERM: "dumb" }],
	] as [string[], Record<string, string>][]) {
		const plain = terminal(args, { ...env, ...more });
		await plain.ended;
		expect(plain.output()).toContain("NAME");
		expect(plain.output()).not.toContain("\x1b");
	}
});

test("apply shows its plan and asks: Ctrl-C changes nothing", async () => {
	const { file, name } = planned();
	const run = terminal(["apply", file], env);
	await run.shows("[y/N]");
	expect(stripVTControlCharacters(run.output())).toContain(`+ ${name}  limit 20`);
	run.send(CTRL_C);
	expect(await run.ended).toEqual({ signal: 2 });
	expect(run.output()).toContain("nothing was changed");
	expect(await exists(name)).toBe(false);
});

test.each([
	["n\r", 1, "Nothing was applied.", false],
	["\r", 1, "Nothing was applied.", false],
	["\x04", undefined, "nothing was changed", false],
	["y\r", 0, "Applied 1 change.", true],
])("apply: %j at its question", async (keys, code, message, applied) => {
	const { file, name } = planned();
	const run = terminal(["apply", file], env);
	await run.shows("[y/N]");
	run.send(keys);
	expect(await run.ended).toEqual(code === undefined ? { signal: 2 } : { code });
	expect(run.output()).toContain(message);
	expect(await exists(name)).toBe(applied);
});

test("delete asks when the limit is in use: Ctrl-C deletes nothing, y deletes it", async () => {
	const name = newName();
	await gate.configure(name, { limit: 1 });
	await using _ = await gate.acquire(name, { onLeaseLost: "continue" });
	const first = terminal(["delete", name], env);
	await first.shows("Delete it, with leases and lines? [y/N]");
	first.send(CTRL_C);
	expect(await first.ended).toEqual({ signal: 2 });
	expect(await exists(name)).toBe(true);
	const second = terminal(["delete", name], env);
	await second.shows("[y/N]");
	second.send("y\r");
	expect(await second.ended).toEqual({ code: 0 });
	expect(await exists(name)).toBe(false);
});

test("release --all asks: Ctrl-C releases nothing, y releases all", async () => {
	const name = newName();
	await gate.configure(name, { limit: 3 });
	await using _ = await gate.acquire(name, { onLeaseLost: "continue", occupy: 2 });
	const first = terminal(["release", name, "--all"], env);
	await first.shows("[y/N]");
	first.send(CTRL_C);
	expect(await first.ended).toEqual({ signal: 2 });
	expect((await standing(server.url, name)).held).toBe(2);
	const run = terminal(["release", name, "--all"], env);
	await run.shows(`Release 1 lease of ${name}? [y/N]`);
	run.send("y\r");
	expect(await run.ended).toEqual({ code: 0 });
	expect((await standing(server.url, name)).held).toBe(0);
});

test("watch draws what changes, follows the terminal's width, and leaves the terminal as it was", async () => {
	const name = newName();
	await gate.configure(name, { limit: 4 });
	const watch = terminal(["watch", name], env, 80);
	await watch.shows("0/4");
	const lease = await gate.acquire(name, { occupy: 3 });
	await watch.shows("3/4");
	watch.resize(30, 6);
	await lease.release();
	await gate.configure(`${name}-more`, { limit: 7 });
	await watch.shows("0/7");
	await gate.delete(`${name}-more`);
	await gate.update(name, { limit: 5 });
	await watch.shows("0/5");
	watch.send(CTRL_C);
	expect(await watch.ended).toEqual({ code: 0 });
	expect(watch.output()).toContain("\x1b[?1049h");
	expect(watch.output().endsWith("\x1b[?25h\x1b[?1049l")).toBe(true);
});
