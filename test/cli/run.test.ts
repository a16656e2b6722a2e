/** `headgate run`: what goes through, what it ends with, and that the slots come back whatever happens. */

import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Headgate } from "../../src/client/index.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { begin, headgate, newName, SOON_MS, shell, standing, until } from "./support.ts";

let server: FreshServer;
let gate: Headgate;
let env: Record<string, string>;

beforeAll(async () => {
	server = await freshServer();
	gate = new Headgate({ url: server.url });
	env = { HEADGATE_URL: server.url };
});
afterAll(() => server[Symbol.asyncDispose]());

async function limit(slots = 1): Promise<string> {
	const name = newName();
	await gate.configure(name, { limit: slots });
	return name;
}

/** A command that says when it is there, and then sleeps until it is ended. */
const SLEEPER = ["sh", "-c", "echo there; exec sleep 60"];

test("output, input and the exit code go through, and the slots come back", async () => {
	const name = await limit(3);
	const command = ["sh", "-c", "cat; echo err >&2; exit 7"];
	const end = await headgate(["run", "-l", name, "-o", "2", "--", ...command], env, "typed");
	expect(end).toMatchObject({ code: 7, stdout: "typed", stderr: "err\n" });
	expect(await standing(server.url, name)).toEqual({ held: 0, waiting: 0 });
	expect((await gate.inspect(name)).totals).toMatchObject({ grantedAtOnce: 1, released: 1 });
});

test("the command's own options need no dashes before them, and it finds its lease", async () => {
	const name = await limit();
	const script =
		"const { id, names } = JSON.parse(process.env.HEADGATE_LEASE); console.log(id.length, Object.keys(names)[0])";
	const end = await headgate(["run", "-l", name, process.execPath, "-e", script], env);
	expect(end).toMatchObject({ code: 0, stdout: `36 ${name}\n`, stderr: "" });
});

test("several limits are held, each with its slots", async () => {
	const [one, two] = [await limit(2), await limit(8)];
	const run = begin(
		["run", "-l", one, "-l", two, "-o", "2", "-o", `${two}=5`, "--holder", "me", "--", ...SLEEPER],
		env,
	);
	await until(server.url, two, { held: 5 });
	expect((await gate.inspect(one)).leases).toMatchObject([{ slots: 2, holder: "me" }]);
	run.process.kill("SIGTERM");
	expect(await run.ended).toMatchObject({ code: 143 });
	expect((await standing(server.url, one)).held + (await standing(server.url, two)).held).toBe(0);
});

test.each(["SIGTERM", "SIGHUP", "SIGUSR2"] as const)("%s is passed on, and the slots come back", async (signal) => {
	const name = await limit();
	const script = `trap 'echo got; exit 9' ${signal.slice(3)}; echo there; while :; do sleep 0.05; done`;
	const run = begin(["run", "-l", name, "--", "bash", "-c", script], env);
	await vi.waitFor(() => expect(run.stdout()).toContain("there"), SOON_MS);
	run.process.kill(signal);
	expect(await run.ended).toMatchObject({ code: 9, stdout: "there\ngot\n" });
	expect((await standing(server.url, name)).held).toBe(0);
});

test("SIGINT twice is passed on twice, and the slots come back when the command has ended", async () => {
	const name = await limit();
	const script =
		"n=0; trap 'n=$((n+1)); echo int $n; [ $n = 2 ] && exit 5' INT; echo there; while :; do sleep 0.05; done";
	const run = begin(["run", "-l", name, "--", "bash", "-c", script], env);
	await vi.waitFor(() => expect(run.stdout()).toContain("there"), SOON_MS);
	run.process.kill("SIGINT");
	await vi.waitFor(() => expect(run.stdout()).toContain("int 1"), SOON_MS);
	expect((await standing(server.url, name)).held).toBe(1);
	run.process.kill("SIGINT");
	expect(await run.ended).toMatchObject({ code: 5 });
	expect((await standing(server.url, name)).held).toBe(0);
});

test("a command that is killed gives 137, and the slots come back", async () => {
	const name = await limit();
	const run = begin(["run", "-l", name, "--", "sh", "-c", "kill -9 $$"], env);
	expect(await run.ended).toMatchObject({ code: 137 });
	expect((await standing(server.url, name)).held).toBe(0);
});

test("a command that ends by SIGINT ends this program by SIGINT, so that a loop around it stops", async () => {
	const name = await limit();
	const run = begin(["run", "-l", name, "--", "sh", "-c", "kill -INT $$"], env);
	expect(await run.ended).toMatchObject({ code: null, signal: "SIGINT" });
	expect((await standing(server.url, name)).held).toBe(0);
});

test("no slot in time is 75, and the command does not run", async () => {
	const name = await limit();
	await using _ = await gate.acquire(name);
	for (const wait of ["0", "200ms"]) {
		const end = await headgate(["run", "-l", name, "--wait", wait, "--", "echo", "ran"], env);
		expect(end).toMatchObject({ code: 75, stdout: "" });
		expect(end.stderr).toContain(`No slots of "${name}" within ${wait === "0" ? "0" : "0.2"} s`);
	}
	expect(await standing(server.url, name)).toEqual({ held: 1, waiting: 0 });
});

test("it waits its turn, and then runs", async () => {
	const name = await limit();
	const lease = await gate.acquire(name);
	const run = begin(["run", "-l", name, "--", "echo", "ran"], env);
	await until(server.url, name, { waiting: 1 });
	expect(run.stdout()).toBe("");
	await lease.release();
	// Not on a terminal, so it says nothing of the wait.
	expect(await run.ended).toMatchObject({ code: 0, stdout: "ran\n", stderr: "" });
});

test.each(["SIGTERM", "SIGINT"] as const)("%s while it waits: it leaves the line, and nothing runs", async (signal) => {
	const name = await limit();
	await using _ = await gate.acquire(name);
	const run = begin(["run", "-l", name, "--", "echo", "ran"], env);
	await until(server.url, name, { waiting: 1 });
	run.process.kill(signal);
	const end = await run.ended;
	expect(end.stdout).toBe("");
	expect(signal === "SIGINT" ? end.signal : end.code).toBe(signal === "SIGINT" ? "SIGINT" : 143);
	await until(server.url, name, { waiting: 0, held: 1 });
});

test("a lease that is taken away ends the command: 79", async () => {
	const name = await limit();
	const run = begin(["run", "-l", name, "--lease", "2", "--", ...SLEEPER], env);
	await vi.waitFor(() => expect(run.stdout()).toContain("there"), SOON_MS);
	const { leases } = await gate.inspect(name);
	await gate.forceRelease(name, leases[0]?.id ?? "");
	const end = await run.ended;
	expect(end.code).toBe(79);
	expect(end.stderr).toContain("was lost");
	expect(end.stderr).toContain("The command is ended.");
});

test("a command that does not mind SIGTERM is killed after the grace", async () => {
	const name = await limit();
	const script = "trap '' TERM; echo there; while :; do sleep 0.05; done";
	const run = begin(["run", "-l", name, "--lease", "2", "--grace", "100ms", "--", "bash", "-c", script], env);
	await vi.waitFor(() => expect(run.stdout()).toContain("there"), SOON_MS);
	await gate.forceRelease(name, (await gate.inspect(name)).leases[0]?.id ?? "");
	expect((await run.ended).code).toBe(79);
});

test("--on-lease-lost continue: the command goes on, and that is said", async () => {
	const name = await limit();
	const run = begin(["run", "-l", name, "--lease", "2", "--on-lease-lost", "continue", "--", ...SLEEPER], env);
	await vi.waitFor(() => expect(run.stdout()).toContain("there"), SOON_MS);
	await gate.forceRelease(name, (await gate.inspect(name)).leases[0]?.id ?? "");
	await vi.waitFor(() => expect(run.stderr()).toContain("work goes on without its slots"), SOON_MS);
	expect(run.process.exitCode).toBe(null);
	run.process.kill("SIGTERM");
	expect((await run.ended).code).toBe(143);
});

test("its own exit codes: 127 not found, 126 not executable, 125 refused, 69 out of reach", async () => {
	const name = await limit();
	const cases: [number, string, string[], Record<string, string>?][] = [
		[127, "There is no command", ["-l", name, "--", "no-such-command"]],
		[126, "cannot be executed", ["-l", name, "--", "/etc/passwd"]],
		[125, "can never fit", ["-l", name, "-o", "2", "--", "echo", "ran"]],
		[125, "Nobody has configured", ["-l", newName(), "--strict", "--", "echo", "ran"]],
		[69, "could not be reached", ["-l", name, "--", "echo", "ran"], { HEADGATE_URL: "http://127.0.0.1:9" }],
		[2, "--occupy takes", ["-l", name, "-o", "x", "--", "echo", "ran"]],
		[2, "not among the limits", ["-l", name, "-o", "other=2", "--", "echo", "ran"]],
		[2, "--limit", ["--", "echo", "ran"]],
		[2, "missing required argument", ["-l", name]],
		[2, "seconds, or a number with a unit", ["-l", name, "--wait", "soon", "--", "echo"]],
	];
	for (const [code, message, args, more] of cases) {
		const end = await headgate(["run", ...args], { ...env, ...more });
		expect(end, args.join(" ")).toMatchObject({ code, stdout: "" });
		expect(end.stderr, args.join(" ")).toContain(message);
		expect(end.stderr).not.toContain("    at ");
	}
	expect(await standing(server.url, name)).toEqual({ held: 0, waiting: 0 });
});

test("--on-error run: a server out of reach does not stop the command, and that is said", async () => {
	const end = await headgate(["run", "-l", "x", "--on-error", "run", "--", "echo", "ran"], {
		HEADGATE_URL: "http://127.0.0.1:9",
	});
	expect(end).toMatchObject({ code: 0, stdout: "ran\n" });
	expect(end.stderr).toContain("without a limit");
});

test("a limit that nobody has configured is named, and is an error by --strict: 125", async () => {
	const name = newName();
	const end = await headgate(["run", "-l", name, "--", "true"], env);
	expect(end.code).toBe(0);
	expect(end.stderr).toContain(`"${name}" was configured by nobody, so it holds nothing back`);
	expect(end.stderr).toContain(`headgate configure ${name} --limit N`);
	// By now the name is there, of nobody still.
	for (const one of [name, newName()]) {
		const strict = await headgate(["run", "-l", one, "--strict", "--", "echo", "ran"], env);
		expect(strict).toMatchObject({ code: 125, stdout: "" });
		expect(strict.stderr).toContain(`headgate configure ${one} --limit N`);
		expect(strict.stderr).not.toMatch(/PUT|\/v1\//);
	}
});

test("a limit that an operator has switched off is named, and --strict lets it pass", async () => {
	const name = newName();
	await gate.configure(name, { limit: 1, active: false });
	const end = await headgate(["run", "-l", name, "--strict", "--", "echo", "ran"], env);
	expect(end).toMatchObject({ code: 0, stdout: "ran\n" });
	expect(end.stderr).toContain(`"${name}" is switched off`);
});

test("with its input closed and its output read no further it still gives back", async () => {
	const name = await limit();
	const line = `headgate run -l ${name} -- sh -c 'echo one; sleep 0.2; exit 6' <&- | head -c 1; echo "code \${PIPESTATUS[0]}"`;
	expect(await shell(line, env)).toMatchObject({ stdout: "ocode 6\n", stderr: "" });
	expect((await standing(server.url, name)).held).toBe(0);
});
