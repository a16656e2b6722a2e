/** The commands in a pipe: what they do, what they print, and what they say when it cannot be done. */

import { existsSync } from "node:fs";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXIT } from "../../src/cli/exit.ts";
import { createProgram } from "../../src/cli/program.ts";
import { newToken, type TokenEntry } from "../../src/cli/tokens.ts";
import { Headgate } from "../../src/client/index.ts";
import { type Scope, VERSION } from "../../src/protocol.ts";
import { type FreshServer, freshServer, startServer } from "../support/server.ts";
import { read } from "../support/sources.ts";
import { temporaryFolder } from "../support/temporary.ts";
import { begin, headgate, newName, shell } from "./support.ts";

let server: FreshServer;
let gate: Headgate;
let env: Record<string, string>;

beforeAll(async () => {
	server = await freshServer();
	gate = new Headgate({ url: server.url });
	env = { HEADGATE_URL: server.url };
});
afterAll(() => server[Symbol.asyncDispose]());

const json = async (...args: string[]): Promise<unknown> => {
	const end = await headgate([...args, "--json"], env);
	expect(end, args.join(" ")).toMatchObject({ code: 0, stderr: "" });
	return JSON.parse(end.stdout);
};

describe("limits", () => {
	test("configure creates a limit, then changes what it is given and leaves the rest", async () => {
		const name = newName();
		const made = await headgate(["configure", name, "--limit", "20", "--decay", "100/min"], env);
		expect(made).toMatchObject({ code: 0, stdout: `Created ${name}: 20 slots, decay 100/min\n`, stderr: "" });
		const changed = await headgate(["configure", name, "--off", "--used", "3"], env);
		expect(changed.stdout).toBe(`Changed ${name}: 20 slots, decay 100/min, switched off\n`);
		expect(await gate.inspect(name)).toMatchObject({ limit: 20, slotDecayPerSecond: 100 / 60, active: false });
		expect(await json("configure", name, "--on", "-l", "5", "-d", "0")).toMatchObject({
			...{ name, limit: 5, slotDecayPerSecond: 0, active: true },
		});
	});

	test("configure without --limit does not create, and without anything does nothing", async () => {
		const name = newName();
		const missing = await headgate(["configure", name, "--on"], env);
		expect(missing).toMatchObject({ code: 1, stdout: "" });
		expect(missing.stderr).toBe(
			`headgate: There is no limit "${name}".\nGive --limit to create it; \`headgate ls\` shows those there are.\n`,
		);
		expect(await headgate(["configure", name], env)).toMatchObject({ code: 2, stdout: "" });
		expect(await json("ls", name)).toEqual([]);
	});

	test("ls prints a line for each limit with tabs between, and --json the whole of it", async () => {
		const prefix = newName();
		await gate.configure(`${prefix}-b`, { limit: 2 });
		await gate.configure(`${prefix}-a`, { limit: 3, slotDecayPerSecond: 0.5, active: false });
		await using _ = await gate.acquire(`${prefix}-b`);
		const end = await headgate(["ls", prefix], env);
		expect(end).toMatchObject({ code: 0, stderr: "" });
		const [a = "", b = "", rest] = end.stdout.split("\n");
		expect(a.split("\t").slice(0, 4)).toEqual([`${prefix}-a`, "0/3", "0", "30/min"]);
		expect(b.split("\t").slice(0, 3)).toEqual([`${prefix}-b`, "1/2", "0"]);
		expect(rest).toBe("");
		expect(await json("ls", prefix)).toMatchObject([{ name: `${prefix}-a` }, { name: `${prefix}-b`, activeSlots: 1 }]);
	});

	test("pause lets a limit grant nothing for a while, and --end ends it", async () => {
		const name = newName();
		await gate.configure(name, { limit: 1 });
		expect(await headgate(["pause", name, "--for", "5min"], env)).toMatchObject({
			code: 0,
			stdout: expect.stringMatching(new RegExp(`^Paused ${name} for (5 min|4 min 59 s)\n$`)),
		});
		expect((await headgate(["inspect", name], env)).stdout).toContain("paused: grants nothing for ");
		expect((await headgate(["ls", name], env)).stdout).toMatch(/\tpaused (5 min|4 min \d+ s)\n$/);
		expect(await headgate(["check", name], env)).toMatchObject({ code: 1 });
		expect((await headgate(["pause", name, "--end"], env)).stdout).toBe(`${name} grants again\n`);
		for (const wrong of [[], ["--for", "1d"], ["--for", "0"], ["--for", "5", "--end"]]) {
			expect(await headgate(["pause", name, ...wrong], env)).toMatchObject({ code: 2, stdout: "" });
		}
	});

	test("check says whether slots would be granted, by its exit code too, and takes none", async () => {
		const name = newName();
		await gate.configure(name, { limit: 2 });
		expect(await headgate(["check", name, "--occupy", "2"], env)).toMatchObject({
			code: 0,
			stdout: `${name}: 2 of 2 slots free\nWould be granted\n`,
		});
		const never = await headgate(["check", name, "--occupy", "3"], env);
		expect(never).toMatchObject({ code: 1, stdout: expect.stringContaining("can never fit") });
		expect(await json("check", name)).toMatchObject({ allowed: true, limits: [{ remaining: 2 }] });
		expect(await headgate(["check", newName(), "--strict"], env)).toMatchObject({ code: 1, stdout: "" });
		expect((await gate.inspect(name)).totals).toMatchObject({ grantedAtOnce: 0, denied: 0 });
	});

	test("configure --enforce no makes a limit that only watches", async () => {
		const name = newName();
		const made = await headgate(["configure", name, "--limit", "1", "--enforce", "no"], env);
		expect(made.stdout).toBe(`Created ${name}: 1 slot, not enforced\n`);
		for (let time = 0; time < 2; time += 1) await gate.tryAcquire(name);
		const { stdout } = await headgate(["inspect", name], env);
		expect(stdout).toMatch(/state +on, but not enforced/);
		expect(stdout).toMatch(/would deny +1\n/);
		await headgate(["configure", name, "--limit", "2"], env);
		expect(await gate.inspect(name)).toMatchObject({ limit: 2, enforce: false });
		await headgate(["configure", name, "--enforce", "yes"], env);
		expect(await gate.inspect(name)).toMatchObject({ enforce: true });
		expect(await headgate(["configure", name, "--enforce", "maybe"], env)).toMatchObject({ code: 2 });
	});

	test("ls --order attention shows what needs a look first, and says how many it leaves out", async () => {
		const prefix = newName();
		const names = Array.from({ length: 102 }, (_, index) => `${prefix}-${String(index).padStart(3, "0")}`);
		await Promise.all(names.map((name) => gate.configure(name, { limit: 1 })));
		const last = names.at(-1) as string;
		await using _ = await gate.acquire(last);
		const cancel = new AbortController();
		const waits = gate.acquire(last, { signal: cancel.signal }).catch(() => undefined);
		await expect
			.poll(async () => (await headgate(["ls", prefix, "--order", "attention"], env)).stdout.split("\t")[0], {
				timeout: 30_000,
			})
			.toBe(last);
		const end = await headgate(["ls", prefix, "--order", "attention"], env);
		expect(end.stdout.trim().split("\n")).toHaveLength(100);
		expect(end.stderr).toContain("and 2 more");
		const watch = begin(["watch", prefix], env);
		await expect.poll(watch.stdout).toContain(`${last}\t1/1\t1 waiting`);
		await expect.poll(watch.stderr).toContain("and 2 more");
		watch.process.kill("SIGINT");
		await watch.ended;
		await expect
			.poll(() => json("ls", prefix, "--order", "attention"), { timeout: 30_000 })
			.toMatchObject({ totals: { limits: 102, full: 1, waiting: 1 } });
		cancel.abort();
		await waits;
	});

	test("the keys of a policy that are denied most: none yet, and a policy that is not there", async () => {
		const pattern = `${newName()}:*`;
		await gate.configurePolicy(pattern, { limit: 1 });
		expect(await json("policies", "denied", pattern)).toEqual([]);
		expect(await headgate(["policies", "denied", `${pattern.slice(0, -1)}x*`], env)).toMatchObject({ code: 1 });
		await gate.deletePolicy(pattern);
	});

	test("enable and disable take several names", async () => {
		const names = [newName(), newName()];
		for (const name of names) await gate.configure(name, { limit: 1 });
		expect(await headgate(["disable", ...names], env)).toMatchObject({ code: 0 });
		expect(await json("enable", ...names)).toMatchObject([{ active: true }, { active: true }]);
	});

	test("delete: a name that is misspelt deletes nothing, and one in use needs a yes", async () => {
		const name = newName();
		await gate.configure(name, { limit: 1 });
		const misspelt = await headgate(["delete", name, `${name}x`], env);
		expect(misspelt).toMatchObject({ code: 1, stdout: "" });
		expect(misspelt.stderr).toContain("`headgate ls` shows the limits there are");
		await using _ = await gate.acquire(name, { onLeaseLost: "continue" });
		const busy = await headgate(["delete", name], env);
		expect(busy).toMatchObject({ code: 2, stdout: "" });
		expect(busy.stderr).toContain(`${name} is in use: 1 of 1 slot, 0 waiting.`);
		expect(busy.stderr).toContain("--yes");
		expect(await json("delete", name, "--yes")).toEqual({ deleted: [name] });
	});

	test("leases shows who holds, release takes away, once", async () => {
		const name = newName();
		await gate.configure(name, { limit: 5 });
		await using one = await gate.acquire(name, { holder: "nightly\x1b[2J", onLeaseLost: "continue" });
		await using _ = await gate.acquire(name, { occupy: 2, onLeaseLost: "continue" });
		const end = await headgate(["leases", name], env);
		expect(end.stdout.split("\n")[0]?.split("\t").slice(0, 3)).toEqual([one.id, "1", "nightly\\x1b[2J"]);
		expect(await json("leases", name)).toMatchObject([{ id: one.id, holder: "nightly\x1b[2J" }, { slots: 2 }]);
		expect(await json("release", name, one.id)).toEqual({ released: { [one.id]: 1 } });
		expect(await headgate(["release", name, one.id], env)).toMatchObject({ code: 1 });
		expect(await headgate(["release", name], env)).toMatchObject({ code: 2 });
		expect(await headgate(["release", name, "--all"], env)).toMatchObject({ code: 2 });
		expect(await headgate(["release", name, "--all", "--yes"], env)).toMatchObject({ code: 0 });
		expect((await gate.inspect(name)).leaseCount).toBe(0);
	});

	test("inspect tells who holds and who waits", async () => {
		const name = newName();
		await gate.configure(name, { limit: 1 });
		await using lease = await gate.acquire(name, { holder: "first" });
		const cancel = new AbortController();
		const waits = gate.acquire(name, { holder: "second", signal: cancel.signal }).catch(() => undefined);
		await expect.poll(async () => (await gate.inspect(name)).waitingCount).toBe(1);
		const { stdout } = await headgate(["inspect", name], env);
		expect(stdout).toContain("1 of 1 slot");
		expect(stdout).toContain(`${lease.id}\t1\tfirst`);
		expect(stdout).toMatch(/^1\t1\tsecond\t/m);
		cancel.abort();
		await waits;
	});

	test("policies are set, listed and deleted", async () => {
		const pattern = `${newName()}:*`;
		const set = await headgate(["policies", "set", pattern, "-l", "5", "-d", "5/min", "--idle", "1h"], env);
		expect(set).toMatchObject({ code: 0, stdout: `Set ${pattern}: 5 slots, decay 5/min\n` });
		expect(await json("policies")).toMatchObject([
			{ pattern, limit: 5, slotDecayPerSecond: 5 / 60, idleSeconds: 3600 },
		]);
		expect((await headgate(["policies"], env)).stdout).toContain(`${pattern}\t5\t5/min`);
		expect(await headgate(["policies", "delete", pattern], env)).toMatchObject({ code: 0 });
		expect(await headgate(["policies", "delete", pattern], env)).toMatchObject({ code: 1 });
		const bad = await headgate(["policies", "set", "a*b*", "-l", "5"], env);
		expect(bad.code).toBe(1);
		expect(bad.stderr).toContain("a pattern has one `*`");
	});

	test("watch in a pipe prints a line for each change, and lines of JSON for programs", async () => {
		const name = newName();
		await gate.configure(name, { limit: 2 });
		const [plain, lines] = [begin(["watch", name], env), begin(["watch", name, "--json"], env)];
		await expect.poll(() => plain.stdout()).toContain(`${name}\t0/2\t0 waiting\n`);
		await expect.poll(() => lines.stdout()).toContain('"event":"limits"');
		await using _ = await gate.acquire(name);
		await expect.poll(() => plain.stdout()).toContain(`${name}\t1/2\t0 waiting\n`);
		for (const one of [plain, lines]) one.process.kill("SIGINT");
		expect(await plain.ended).toMatchObject({ code: 0, stderr: "" });
		const end = await lines.ended;
		for (const line of end.stdout.trim().split("\n")) expect(JSON.parse(line)).toHaveProperty("event");
	});
});

test("docs/cli.md has every command, every option of run and apply, and every exit code", () => {
	const docs = read("docs/cli.md");
	const program = createProgram({ exitCode: 0 });
	const visible = program.createHelp().visibleCommands(program);
	expect(visible.length).toBeGreaterThan(15);
	for (const command of visible) {
		if (command.name() === "help") continue;
		expect(docs, command.name()).toMatch(new RegExp(`\`${command.name()}[ \`]`));
		if (!["run", "apply", "start", "configure"].includes(command.name())) continue;
		for (const { long } of command.options) if (long !== "--quiet" && long !== "--output") expect(docs).toContain(long);
	}
	for (const code of Object.values(EXIT)) expect(docs).toMatch(new RegExp(`\\| .*\\b${code}\\b.* \\|`));
});

describe("wrong calls", () => {
	test.each([
		[["lss"], "(Did you mean ls?)"],
		[["configur", "x"], "(Did you mean configure?)"],
		[["ls", "--jsn"], "(Did you mean --json?)"],
		[["policies", "st", "x"], "Try: headgate policies --help"],
		[["policies", "set", "x"], "Try: headgate policies set --help"],
		[["inspect"], "missing required argument 'name'"],
		...[".", ".."].map((name): [string[], string] => [["inspect", name], `Nothing can be called "${name}"`]),
		...[".", ".."].map((id): [string[], string] => [["release", "x", id], `Nothing can be called "${id}"`]),
		[["configure", "x", "--limit", "-1"], "--limit"],
		[["configure", "x", "--limit", "1.5"], "a whole number from 0"],
		[["configure", "x", "--decay", "fast"], "slots a second, or by s, min, h or d"],
		[["configure", "x", "--on", "--off"], "--off"],
		[["completion", "tcsh"], "only for bash, zsh, fish"],
		[["ls", "--url", "ftp://x"], "needs a url such as"],
		[["ls", "--url", ""], "needs a url such as"],
		[["ls", "--url", "http://user:pass@x"], "no user or password"],
		[["token", "new", "--scope", "root"], "Allowed choices are read, use, admin"],
	])("%j is refused with 2, and says what to try", async (args, message) => {
		const end = await headgate(args, env);
		expect(end).toMatchObject({ code: 2, stdout: "" });
		expect(end.stderr).toContain(message);
		expect(end.stderr).toMatch(/^headgate: /);
		expect(end.stderr).not.toContain("    at ");
	});

	test("without a command it shows what there is, with 2; --help and --version are 0", async () => {
		const none = await headgate([], env);
		expect(none.code).toBe(2);
		const help = await headgate(["--help"], env);
		expect(help).toMatchObject({ code: 0, stderr: "", stdout: none.stdout });
		for (const word of ["start", "apply", "doctor", "completion", "HEADGATE_URL"]) expect(help.stdout).toContain(word);
		expect(await headgate(["--version"], env)).toMatchObject({ code: 0, stdout: `${VERSION}\n` });
		for (const line of help.stdout.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80);
	});

	test("names that the service refuses are refused with its reason", async () => {
		const end = await headgate(["configure", "a/b", "-l", "1"], env);
		expect(end).toMatchObject({ code: 1, stdout: "" });
		expect(end.stderr).toContain("a name has none of");
	});
});

describe("a server that is not there, or not ours", () => {
	const others: Server[] = [];
	afterAll(() => {
		for (const other of others) other.close();
	});

	async function other(status: number, type: string, body: string): Promise<string> {
		const made = createServer((_, response) => response.writeHead(status, { "content-type": type }).end(body));
		others.push(made);
		await new Promise<void>((resolve) => made.listen(0, "127.0.0.1", resolve));
		const address = made.address();
		return `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
	}

	test("a server that is down is 69, and says how to start one", async () => {
		for (const args of [["ls"], ["doctor"], ["watch"], ["apply", "-"], ["export"]]) {
			const end = await headgate(args, { HEADGATE_URL: "http://127.0.0.1:9" });
			expect(end.code, args[0]).toBe(69);
			expect(end.stdout + end.stderr).toContain("could not be reached");
			expect(end.stdout + end.stderr).toContain("headgate start");
			expect(end.stderr).not.toContain("    at ");
		}
	});

	test.each([
		["a page that is not found", 404, "text/html", "<html>nothing here</html>"],
		["a page", 200, "text/html", "<html>welcome</html>"],
		["other JSON", 404, "application/json", '{"message":"no"}'],
	])("an address that answers with %s is 69, and says to check it", async (_, status, type, body) => {
		const url = await other(status, type, body);
		for (const command of ["ls", "doctor"]) {
			const end = await headgate([command, "--url", url]);
			expect(end.code, command).toBe(69);
			expect(end.stdout + end.stderr).toMatch(/--url or HEADGATE_URL/);
		}
	});

	test("doctor tells a clock and a version that differ, and still ends with 0", async () => {
		const health = { status: "ok", version: "9.9.9", time: "2020-01-01T00:00:00.000Z" };
		const made = createServer((request, response) => {
			const body = request.url === "/health" ? health : { name: "ci", scope: "use", prefix: "a:" };
			response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
		});
		others.push(made);
		await new Promise<void>((resolve) => made.listen(0, "127.0.0.1", resolve));
		const address = made.address();
		const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
		const end = await headgate(["doctor", "--url", url, "--json"]);
		expect(end.code).toBe(0);
		const { ok, checks } = JSON.parse(end.stdout);
		expect(ok).toBe(true);
		expect(checks).toMatchObject([
			{ name: "address", state: "ok" },
			{ name: "version", state: "warning", detail: expect.stringContaining("9.9.9") },
			{ name: "clock", state: "warning", detail: expect.stringMatching(/ahead$/) },
			{ name: "token", state: "ok", detail: '"ci", scope "use", for names that start with "a:"' },
		]);
	});

	test("doctor finds nothing wrong with a server that is well", async () => {
		const end = await headgate(["doctor"], env);
		expect(end).toMatchObject({ code: 0, stderr: "" });
		expect(end.stdout.match(/^ok /gm)).toHaveLength(4);
	});
});

describe("tokens", () => {
	let closed: FreshServer;
	const tokens = new Map<string, string>();

	beforeAll(async () => {
		const entries: TokenEntry[] = [];
		const make = (name: string, scope: Scope, prefix?: string): void => {
			const { token, entry } = newToken(name, scope, prefix);
			tokens.set(name, token);
			entries.push(entry);
		};
		make("all", "admin");
		make("reader", "read");
		make("team", "admin", "team-a:");
		closed = await freshServer({ tokens: entries });
	});
	afterAll(() => closed[Symbol.asyncDispose]());

	const as = (name: string): Record<string, string> => ({
		HEADGATE_URL: closed.url,
		HEADGATE_TOKEN: tokens.get(name) ?? name,
	});

	test("a token that is missing, unknown, of too small a scope or of another prefix is 77, and says which", async () => {
		const cases: [Record<string, string>, string[], string][] = [
			[{ HEADGATE_URL: closed.url }, ["ls"], "Send a token"],
			[as("hg_expired"), ["ls"], "The token is not known here"],
			[as("reader"), ["configure", "x", "-l", "1"], 'scope "admin"'],
			[as("reader"), ["run", "-l", "x", "--", "echo", "ran"], 'scope "use"'],
			[as("team"), ["configure", "team-b:x", "-l", "1"], '"team-a:"'],
		];
		for (const [given, args, message] of cases) {
			const end = await headgate(args, given);
			expect(end, args.join(" ")).toMatchObject({ code: 77, stdout: "" });
			expect(end.stderr).toContain(message);
		}
		expect((await headgate(["doctor"], as("hg_expired"))).code).toBe(77);
	});

	test("doctor tells what the token allows; --token counts before the environment", async () => {
		const { stdout } = await headgate(["doctor", "--token", tokens.get("team") ?? ""], as("reader"));
		expect(stdout).toContain('"team", scope "admin", for names that start with "team-a:"');
	});

	test("apply is refused as a whole before anything is changed when one name is not the token's", async () => {
		const file = '[limits."team-a:x"]\nlimit = 1\n[limits."team-b:x"]\nlimit = 1\n';
		const end = await headgate(["apply", "-", "--yes"], as("team"), file);
		expect(end).toMatchObject({ code: 77, stdout: "" });
		expect(end.stderr).toContain('"team-b:x"');
		expect((await headgate(["ls"], as("all"))).stdout).toBe("");
		const reader = await headgate(["apply", "-", "--yes"], as("reader"), "[limits.a]\nlimit = 1\n");
		expect(reader.code).toBe(77);
	});

	test("token new adds to the tokens of the environment, and refuses a name that is taken", async () => {
		const first = await headgate(["token", "new", "--scope", "use", "--name", "ci", "--json"]);
		const { token, entry, tokens: list } = JSON.parse(first.stdout);
		expect(token).toMatch(/^hg_/);
		expect(list).toEqual([entry]);
		const kept = { HEADGATE_TOKENS: JSON.stringify(list) };
		const second = await headgate(["token", "new", "--scope", "read", "--json"], kept);
		expect(JSON.parse(second.stdout).tokens).toMatchObject([
			{ name: "ci" },
			{ name: expect.stringMatching(/^read-[0-9a-f]{6}$/) },
		]);
		const taken = await headgate(["token", "new", "--scope", "read", "--name", "ci"], kept);
		expect(taken).toMatchObject({ code: 2, stdout: "" });
	});
});

describe("shells", () => {
	test("output into a closed pipe ends quietly", async () => {
		const prefix = newName();
		await Promise.all(Array.from({ length: 40 }, (_, at) => gate.configure(`${prefix}-${at}`, { limit: 1 })));
		for (const command of [`ls ${prefix}`, `ls ${prefix} --json`, "--help", `watch ${prefix} --json`]) {
			const end = await shell(`headgate ${command} | head -c 1; echo " \${PIPESTATUS[0]}"`, env);
			expect(end, command).toMatchObject({ stdout: expect.stringMatching(/^. 0\n$/s), stderr: "" });
		}
	});

	test.each(["bash", "zsh", "fish"])("completion prints a script for %s", async (name) => {
		const end = await headgate(["completion", name]);
		expect(end).toMatchObject({ code: 0, stderr: "" });
		expect(end.stdout).toContain("headgate complete --");
	});

	test("bash completes commands, options, limits and files, and evaluates nothing of the line", async () => {
		const name = `${newName()}:key*`;
		await gate.configure(name, { limit: 1 });
		const complete = async (line: string): Promise<string[]> => {
			const script = `source <(headgate completion bash)
				compopt() { echo "compopt $*"; }
				COMP_LINE=$LINE COMP_POINT=\${#LINE}
				_headgate; printf '%s\\n' "\${COMPREPLY[@]}"`;
			const end = await shell(script, { ...env, LINE: line });
			expect(end.stderr).toBe("");
			return end.stdout.trim().split("\n");
		};
		expect(await complete("headgate ins")).toEqual(["inspect"]);
		expect(await complete("headgate ls --j")).toEqual(["--json"]);
		// Names are the server's, and a completion that it does not answer soon is silent: a busy machine has to ask again.
		const anew = { timeout: 250_000 };
		await expect
			.poll(() => complete(`headgate run --limit ${name.slice(0, 6)}`), anew)
			.toContain(name.replace("*", "\\*"));
		// bash replaces what comes after the colon.
		await expect.poll(() => complete(`headgate inspect ${name.slice(0, -3)}`), anew).toEqual(["key\\*"]);
		expect(await complete("headgate policies se")).toEqual(["set"]);
		expect(await complete("headgate run -l x --on-lease-lost ")).toEqual(["end", "continue"]);
		expect(await complete("headgate apply ")).toEqual(["compopt -o bashdefault -o default"]);
		await using folder = await temporaryFolder();
		const file = path.join(folder.path, "made");
		expect(await complete(`headgate ls $(touch ${file}) \`touch ${file}\` > ${file} --js`)).toEqual(["--json"]);
		expect(existsSync(file)).toBe(false);
	});

	test("completion without a server is silent", async () => {
		const end = await headgate(["complete", "--", "inspect", ""], { HEADGATE_URL: "http://127.0.0.1:9" });
		expect(end).toMatchObject({ code: 0, stdout: ":4\n", stderr: "" });
	});
});

test("watch outlives a restart of its server, and says that it was away", async () => {
	await using folder = await temporaryFolder();
	const first = await startServer({ port: 0, data: folder.path });
	await new Headgate({ url: first.url }).configure("kept", { limit: 2 });
	const watch = begin(["watch"], { HEADGATE_URL: first.url });
	await expect.poll(() => watch.stdout()).toContain("kept\t0/2");
	await first.stop();
	await expect.poll(() => watch.stderr()).toContain("could not be reached");
	const second = await startServer({ port: Number(new URL(first.url).port), data: folder.path });
	try {
		await expect.poll(() => watch.stdout().split("kept\t0/2").length).toBeGreaterThan(2);
		await new Headgate({ url: second.url }).update("kept", { limit: 3 });
		await expect.poll(() => watch.stdout()).toContain("kept\t0/3");
		watch.process.kill("SIGINT");
		expect((await watch.ended).code).toBe(0);
	} finally {
		await second.stop();
	}
});
