/** `headgate run` and signals: each reaches the command once, and nothing of it outlives its slots. */

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { buildCli } from "../../scripts/build.ts";
import { Headgate } from "../../src/client/index.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary.ts";
import { beginApart, CTRL_C, inTerminal, main, newName, SOON_MS, standing, terminal } from "./support.ts";

let server: FreshServer;
let gate: Headgate;
let env: Record<string, string>;

beforeAll(async () => {
	server = await freshServer();
	gate = new Headgate({ url: server.url });
	env = { HEADGATE_URL: server.url };
});
afterAll(() => server[Symbol.asyncDispose]());

async function limit(): Promise<string> {
	const name = newName();
	await gate.configure(name, { limit: 1 });
	return name;
}

/** Says who it is and who started it, and counts what it gets; SIGALRM ends it. */
const COUNTER = [
	process.execPath,
	"-e",
	`const counts = {};
	for (const name of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR2", "SIGCONT"])
		process.on(name, () => console.log(\`got \${name} \${(counts[name] = (counts[name] ?? 0) + 1)}\`));
	process.on("SIGALRM", () => process.exit(42));
	setInterval(() => {}, 1000);
	console.log(\`pid \${process.pid} of \${process.ppid} .\`);`,
];

interface Shown {
	output(): string;
}

const shows = (run: Shown, text: string | RegExp): Promise<void> =>
	vi.waitFor(() => {
		if (!(typeof text === "string" ? run.output().includes(text) : text.test(run.output())))
			throw new Error(`${text} is not in: ${run.output()}`);
	}, SOON_MS);

async function counter(run: Shown): Promise<{ command: number; run: number }> {
	await shows(run, /pid \d+ of \d+ \./);
	const [, command = "", parent = ""] = /pid (\d+) of (\d+) \./.exec(run.output()) ?? [];
	return { command: Number(command), run: Number(parent) };
}

/** Every signal that the counter has told of, once all that were on the way to it are there. */
async function counted(shown: Shown, run: number): Promise<string[]> {
	// It is passed on behind all the others.
	process.kill(run, "SIGUSR2");
	await shows(shown, "got SIGUSR2");
	return [...shown.output().matchAll(/got (SIG\w+) (\d+)/g)]
		.map(([, name, count]) => `${name} ${count}`)
		.filter((told) => told !== "SIGUSR2 1");
}

const apart = (args: string[], more: Record<string, string> = {}) => {
	const run = beginApart(process.execPath, [main, ...args], { ...env, ...more });
	return { ...run, output: run.stdout, pid: run.process.pid ?? 0 };
};

const childrenOf = (pid: number): number[] =>
	execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" })
		.split("\n")
		.map((line) => line.trim().split(/\s+/).map(Number))
		.filter(([, parent]) => parent === pid)
		.map(([child = 0]) => child);

/** Whether it runs; what only waits for somebody to read its exit code does not. */
function alive(pid: number): boolean {
	try {
		return !/^Z?$/.test(
			execFileSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" })
				.trim()
				.slice(0, 1),
		);
	} catch {
		return false;
	}
}

describe("without a terminal", () => {
	test("the command leads a group of its own", async () => {
		const run = apart(["run", "-l", await limit(), "--", ...COUNTER]);
		const { command } = await counter(run);
		const group = execFileSync("ps", ["-o", "pgid=", "-p", String(command)], { encoding: "utf8" });
		expect(Number(group)).toBe(command);
		process.kill(run.pid, "SIGALRM");
		expect((await run.ended).code).toBe(42);
	});

	test.each<[string, (run: number, command: number) => void]>([
		["to run alone", (run) => process.kill(run, "SIGTERM")],
		["to the group of run", (run) => process.kill(-run, "SIGTERM")],
		[
			"to run and to its group, as by `timeout`",
			(run) => {
				process.kill(run, "SIGTERM");
				process.kill(-run, "SIGTERM");
			},
		],
		[
			"to every process, as by a service manager",
			(run) => {
				for (const pid of [run, ...childrenOf(run)]) process.kill(pid, "SIGTERM");
			},
		],
	])("SIGTERM %s reaches the command once", async (_, send) => {
		const run = apart(["run", "-l", await limit(), "--", ...COUNTER]);
		const { command } = await counter(run);
		send(run.pid, command);
		await shows(run, "got SIGTERM");
		expect(await counted(run, run.pid)).toEqual(["SIGTERM 1"]);
		process.kill(run.pid, "SIGALRM");
		expect((await run.ended).code).toBe(42);
	});

	test("a signal to the group of a run in a run reaches the command once", async () => {
		const inner = [process.execPath, main, "run", "-l", await limit(), "--", ...COUNTER];
		const run = apart(["run", "-l", await limit(), "--", ...inner]);
		await counter(run);
		process.kill(-run.pid, "SIGTERM");
		await shows(run, "got SIGTERM");
		expect(await counted(run, run.pid)).toEqual(["SIGTERM 1"]);
		process.kill(run.pid, "SIGALRM");
		expect((await run.ended).code).toBe(42);
	});

	test("SIGTSTP stops the command and run, SIGCONT lets both go on", async () => {
		const run = apart(["run", "-l", await limit(), "--", ...COUNTER]);
		const { command } = await counter(run);
		const state = (pid: number) => execFileSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" })[0];
		process.kill(run.pid, "SIGTSTP");
		await vi.waitFor(() => expect([state(command), state(run.pid)]).toEqual(["T", "T"]), SOON_MS);
		process.kill(run.pid, "SIGCONT");
		await shows(run, "got SIGCONT");
		expect(await counted(run, run.pid)).toEqual(["SIGCONT 1"]);
		process.kill(run.pid, "SIGALRM");
		expect((await run.ended).code).toBe(42);
	});

	test("under nohup SIGHUP is ignored, by the command as well", async () => {
		// As it is installed: only there something runs before Node.
		await using temporary = await temporaryFolder();
		const folder = temporary.path;
		await buildCli(folder);
		writeFileSync(path.join(folder, "package.json"), '{ "type": "module" }');
		const script = "kill -HUP $$; echo alive $$; trap 'echo term; exit 9' TERM; while :; do sleep 0.05; done";
		const words = ["run", "-l", await limit(), "--", "bash", "-c", script];
		const run = beginApart("nohup", ["sh", path.join(folder, "cli/main.js"), ...words], {
			...env,
			PATH: `${path.dirname(process.execPath)}:${process.env.PATH}`,
		});
		await vi.waitFor(() => expect(run.stdout()).toContain("alive"), SOON_MS);
		run.process.kill("SIGHUP");
		run.process.kill("SIGTERM");
		expect(await run.ended).toMatchObject({ code: 9, stdout: expect.stringMatching(/^alive \d+\nterm\n$/) });
	});

	test("nohup is known without the launcher where a shell has left its name", async () => {
		const script = "kill -HUP $$; echo alive";
		const run = apart(["run", "-l", await limit(), "--", "sh", "-c", script], { _: "/usr/bin/nohup" });
		expect(await run.ended).toMatchObject({ code: 0, stdout: "alive\n" });
	});

	test("kill -9 of run takes the command with it", async () => {
		const script = "sleep 600 & echo pids $! $$ .; wait";
		const run = apart(["run", "-l", await limit(), "--", "bash", "-c", script]);
		await shows(run, /pids \d+ \d+ \./);
		const pids = [...(/pids (\d+) (\d+)/.exec(run.output()) ?? [])].slice(1).map(Number);
		expect(pids.map(alive)).toEqual([true, true]);
		process.kill(run.pid, "SIGKILL");
		await vi.waitFor(() => expect(pids.map(alive)).toEqual([false, false]), SOON_MS);
	});

	test("what the command leaves behind when it ends by itself is let go", async () => {
		const run = apart(["run", "-l", await limit(), "--", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo pid $!"]);
		const { code, stdout } = await run.ended;
		const pid = Number(stdout.split(" ")[1]);
		onTestFinished(() => void process.kill(pid, "SIGKILL"));
		expect([code, alive(pid)]).toEqual([0, true]);
	});

	test("a token of the environment is not passed on, unless it is asked for", async () => {
		const words = ["--", "sh", "-c", 'echo "token $HEADGATE_TOKEN"'];
		const given = { HEADGATE_TOKEN: "secret" };
		expect((await apart(["run", "-l", await limit(), ...words], given).ended).stdout).toBe("token \n");
		expect((await apart(["run", "-l", await limit(), "--pass-token", ...words], given).ended).stdout).toBe(
			"token secret\n",
		);
	});
});

/** A child that minds no SIGTERM, one that has left session and parent behind, and the command that started them. */
const FAMILY = `
	(trap '' TERM; echo deaf $BASHPID .; while :; do sleep 0.05; done) &
	(python3 -c 'import os, time
os.setsid() if os.fork() == 0 else os._exit(0)
os.write(1, b"daemon %d .\\n" % os.getpid())
for fd in 0, 1, 2: os.close(fd)
time.sleep(600)')
	echo first $$ .
	while :; do sleep 0.05; done`;

describe.each(["without a terminal", "in a terminal"])("the lease is lost, %s", (where) => {
	test("nothing of the command is left after 79", async () => {
		const name = await limit();
		const args = ["run", "-l", name, "--lease", "2", "--grace", "200ms", "--", "bash", "-c", FAMILY];
		const run = where === "in a terminal" ? terminal(args, env) : apart(args);
		for (const who of ["deaf", "daemon", "first"]) await shows(run, new RegExp(`${who} \\d+ \\.`));
		const pids = [...run.output().matchAll(/(?:deaf|daemon|first) (\d+) \./g)].map(([, pid]) => Number(pid));
		expect(pids.map(alive)).toEqual([true, true, true]);
		onTestFinished(() => {
			for (const pid of pids.filter(alive)) process.kill(pid, "SIGKILL");
		});
		await gate.forceRelease(name, (await gate.inspect(name)).leases[0]?.id ?? "");
		expect((await run.ended).code).toBe(79);
		// The environment marks those who have left, where the system shows it.
		const left = process.platform === "linux" ? [false, false, false] : [false, expect.anything(), false];
		const order = [...run.output().matchAll(/(deaf|daemon|first) \d+ \./g)].map(([, who]) => who);
		expect(pids.map(alive)).toEqual(order.map((who) => left[["deaf", "daemon", "first"].indexOf(who ?? "")]));
	});
});

describe("in a terminal", () => {
	test.each([
		["Ctrl-C", CTRL_C, "SIGINT"],
		["Ctrl-\\", "\x1c", "SIGQUIT"],
	])("%s reaches the command once", async (_, key, signal) => {
		const run = terminal(["run", "-l", await limit(), "--", ...COUNTER], env);
		const { run: pid } = await counter(run);
		run.send(key);
		await run.shows(`got ${signal}`);
		expect(await counted(run, pid)).toEqual([`${signal} 1`]);
		process.kill(pid, "SIGALRM");
		expect(await run.ended).toEqual({ code: 42 });
	});

	test.each<[string, (run: number) => void]>([
		["to run alone", (run) => process.kill(run, "SIGINT")],
		["to the group of run", (run) => process.kill(-run, "SIGINT")],
		[
			"to run and to its group",
			(run) => {
				process.kill(run, "SIGINT");
				process.kill(-run, "SIGINT");
			},
		],
	])("SIGINT %s reaches the command once", async (_, send) => {
		const run = terminal(["run", "-l", await limit(), "--", ...COUNTER], env);
		const { run: pid } = await counter(run);
		send(pid);
		await run.shows("got SIGINT");
		expect(await counted(run, pid)).toEqual(["SIGINT 1"]);
		process.kill(pid, "SIGALRM");
		expect(await run.ended).toEqual({ code: 42 });
	});

	test("Ctrl-C reaches the command of a run in a run once", async () => {
		const inner = [process.execPath, main, "run", "-l", await limit(), "--", ...COUNTER];
		const run = terminal(["run", "-l", await limit(), "--", ...inner], env);
		const { run: pid } = await counter(run);
		run.send(CTRL_C);
		await run.shows("got SIGINT");
		expect(await counted(run, pid)).toEqual(["SIGINT 1"]);
		process.kill(pid, "SIGALRM");
		expect(await run.ended).toEqual({ code: 42 });
	});

	test("kill -9 of run takes the command with it", async () => {
		const script = "sleep 600 & echo pids $! $$ $PPID .; wait";
		const run = terminal(["run", "-l", await limit(), "--", "bash", "-c", script], env);
		await run.shows(/pids \d+ \d+ \d+ \./);
		const [, child, command, pid] = (/pids (\d+) (\d+) (\d+)/.exec(run.output()) ?? []).map(Number);
		process.kill(pid ?? 0, "SIGKILL");
		await vi.waitFor(() => expect([child ?? 0, command ?? 0].map(alive)).toEqual([false, false]), SOON_MS);
	});

	test("Ctrl-Z gives the terminal back to the shell, and `fg` lets the command go on with its slots", async () => {
		const name = await limit();
		const shell = inTerminal(["bash", "--norc", "--noediting", "-i"], env);
		await shell.shows(/[#$] $/);
		const script = 'echo there; read line; echo "read $line"';
		shell.send(`"${process.execPath}" "${main}" run -l ${name} -- bash -c '${script}'; echo "code $?"\n`);
		await shell.shows(/there\r?\n/);
		shell.send("\x1a");
		await shell.shows("Stopped");
		shell.send("jobs -s | grep -c Stopped; fg\n");
		await shell.shows(/\n1\r?\n/);
		expect((await standing(server.url, name)).held).toBe(1);
		shell.send("typed\n");
		await shell.shows("read typed");
		await vi.waitFor(async () => expect((await standing(server.url, name)).held).toBe(0), SOON_MS);
		shell.send("exit\n");
		await shell.ended;
	});

	test("the other commands of its pipeline keep the keyboard", async () => {
		const shell = inTerminal(["bash", "--norc", "--noediting", "-i"], env);
		await shell.shows(/[#$] $/);
		const reader = 'read line </dev/tty; echo "tty $line"; cat';
		shell.send(`"${process.execPath}" "${main}" run -l ${await limit()} -- echo through | (echo wa""its; ${reader})\n`);
		await shell.shows(/waits\r?\n/);
		shell.send("typed\n");
		await shell.shows("tty typed");
		await shell.shows(/through\r?\n/);
		shell.send("exit\n");
		await shell.ended;
	});
});
