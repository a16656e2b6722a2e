/** `npm start` on this machine: how it begins, how it refuses, how it ends, and what is left behind. */

import { createHash } from "node:crypto";
import { globSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { lockFolder } from "../../src/cli/lock.ts";
import { isLoopback } from "../../src/cli/serve.ts";
import { Headgate } from "../../src/client/index.ts";
import { BOUNDS } from "../../src/protocol.ts";
import { terminal } from "../cli/support.ts";
import { freshServer, startServer } from "../support/server.ts";
import { isRunning, type Program, processesOf, run, runtimePid } from "../support/start.ts";
import { temporaryFolder } from "../support/temporary.ts";

/** How long an end may take; the aim is a second, and the machine may be busy. */
const SOON_MS = 45_000;

function start(
	data: string,
	args: string[] = [],
	env: Record<string, string> = {},
	launcher: string[] = [],
): Program & AsyncDisposable {
	return run("start", ["--port", "0", "--data", data, ...args], env, launcher);
}

const entryOf = (token: string): string =>
	JSON.stringify([{ name: "ci", sha256: createHash("sha256").update(token).digest("hex"), scope: "use" }]);

async function call(url: string, method: string, route: string, body?: unknown, headers: Record<string, string> = {}) {
	const answer = await fetch(url + route, {
		method,
		headers: { "content-type": "application/json", ...headers },
		...(body === undefined ? {} : { body: JSON.stringify(body) }),
	});
	const text = await answer.text();
	// biome-ignore lint/suspicious/noExplicitAny: the answers of every route, read by tests that know which.
	return { status: answer.status, body: (text === "" ? null : JSON.parse(text)) as any };
}

/** A limit with one slot that is taken, and two callers who wait for it, held and streamed; all of them connected. */
async function withWaiters(url: string): Promise<Promise<unknown>[]> {
	await call(url, "PUT", "/v1/limits/one", { limit: 1 });
	const lease = await call(url, "POST", "/v1/acquire", { names: "one", leaseSeconds: 600 });
	expect(lease.status).toBe(200);
	const cutOff = () => "cut off";
	const held = call(url, "POST", "/v1/acquire", { names: "one", waitSeconds: 60 }).catch(cutOff);
	const streamed = fetch(`${url}/v1/acquire`, {
		method: "POST",
		headers: { "content-type": "application/json", accept: "application/x-ndjson" },
		body: JSON.stringify({ names: "one" }),
	})
		.then((answer) => answer.text())
		.catch(cutOff);
	await vi.waitFor(async () => {
		expect((await call(url, "GET", "/v1/limits/one")).body.waitingCount).toBe(2);
	}, SOON_MS);
	return [held, streamed];
}

/** What a server says beside what it was asked for: one line of the one change that was made. */
const CHANGED = /^\{"event":"changed","action":"configure","limit":"(one|open)",.*\}\n$/;

test("says where it listens once it answers, and is open on loopback only", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path);
	const url = await program.url;
	expect((await fetch(`${url}/health`)).status).toBe(200);
	expect((await call(url, "PUT", "/v1/limits/open", { limit: 1 })).status).toBe(201);
	program.process.kill("SIGTERM");
	const end = await program.ended;
	expect(end).toMatchObject({ code: 0, stderr: expect.stringMatching(CHANGED) });
	const [ready, room, ...more] = end.stdout.split("\n");
	expect(ready).toBe(`Headgate is ready on ${url} (data in ${folder.path}, open: loopback only)`);
	expect(room).toMatch(/^Room for about [\d,]+ callers or [\d,]+ names at once \(ulimit -n: \d+\)$/);
	expect(more).toEqual([""]);
});

test.each(["SIGTERM", "SIGINT"] as const)("%s ends it with 0, and nobody who waits holds it up", async (signal) => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path);
	const waiters = await withWaiters(await program.url);
	const runtime = runtimePid(folder.path);
	program.process.kill(signal);
	expect(await program.ended).toMatchObject({ code: 0, stderr: expect.stringMatching(CHANGED) });
	expect(isRunning(runtime)).toBe(false);
	await Promise.all(waiters);
});

test("kill -9 of the program leaves no runtime behind, and the next one has its data", async () => {
	await using folder = await temporaryFolder();
	await using first = start(folder.path);
	const waiters = await withWaiters(await first.url);
	const runtime = runtimePid(folder.path);
	first.process.kill("SIGKILL");
	await vi.waitFor(() => expect(isRunning(runtime)).toBe(false), SOON_MS);
	await Promise.all(waiters);

	await using second = start(folder.path);
	const { body } = await call(await second.url, "GET", "/v1/limits/one");
	expect(body).toMatchObject({ limit: 1, activeSlots: 1, leaseCount: 1 });
});

test("data survives an orderly restart as well", async () => {
	await using folder = await temporaryFolder();
	await using first = start(folder.path);
	const url = await first.url;
	await call(url, "PUT", "/v1/limits/kept", { limit: 3 });
	const lease = await call(url, "POST", "/v1/acquire", { names: "kept", occupy: 2, leaseSeconds: 600 });
	first.process.kill("SIGTERM");
	await first.ended;

	await using second = start(folder.path);
	const again = await second.url;
	expect((await call(again, "GET", "/v1/limits/kept")).body).toMatchObject({ limit: 3, activeSlots: 2, leaseCount: 1 });
	expect((await call(again, "POST", "/v1/release", lease.body)).body).toMatchObject({ released: 2 });
});

test("a runtime that dies is started again on the same data and port, and a waiter keeps its place", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path);
	const url = await program.url;
	await call(url, "PUT", "/v1/limits/one", { limit: 1 });
	const held = await call(url, "POST", "/v1/acquire", { names: "one", leaseSeconds: 600 });
	const gate = new Headgate({ url });
	const queued = Promise.withResolvers<number>();
	const waiting = gate.acquire("one", { onQueued: queued.resolve });
	expect(await queued.promise).toBe(1);

	const runtime = runtimePid(folder.path);
	process.kill(runtime, "SIGKILL");
	await vi.waitFor(() => expect(program.stderr()).toContain(`ready again on ${url}`), SOON_MS);
	expect(program.stderr()).toContain("the runtime (workerd) ended by SIGKILL, and is started again");
	expect(runtimePid(folder.path)).not.toBe(runtime);
	expect((await call(url, "GET", "/v1/limits/one")).body).toMatchObject({ limit: 1, activeSlots: 1, leaseCount: 1 });
	expect((await call(url, "POST", "/v1/release", held.body)).body).toMatchObject({ released: 1 });
	await (await waiting).release();

	program.process.kill("SIGTERM");
	expect(await program.ended).toMatchObject({ code: 0 });
});

test("a runtime that dies a sixth time within a minute ends the program with 1, which says so and leaves nothing", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path);
	const url = await program.url;
	for (let death = 1; death <= BOUNDS.restartsPerMinute; death += 1) {
		process.kill(runtimePid(folder.path), "SIGKILL");
		await vi.waitFor(() => expect(program.stderr().match(/ready again/g)).toHaveLength(death), SOON_MS);
	}
	expect((await fetch(`${url}/health`)).status).toBe(200);
	process.kill(runtimePid(folder.path), "SIGKILL");
	const end = await program.ended;
	expect(end.code).toBe(1);
	expect(end.stderr).toContain(
		"The runtime under Headgate (workerd) ended by SIGKILL, more than 5 times within a minute, so it is not started again.",
	);
	expect(globSync("server-*", { cwd: folder.path })).toEqual([]);
});

test("a server that is stopped while its runtime is started again leaves none", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path);
	await program.url;
	process.kill(runtimePid(folder.path), "SIGKILL");
	await vi.waitFor(() => expect(program.stderr()).toContain("is started again"), SOON_MS);
	program.process.kill("SIGTERM");
	expect(await program.ended).toMatchObject({ code: 0 });
	expect(processesOf(folder.path)).toEqual([]);
	expect(globSync("server-*", { cwd: folder.path })).toEqual([]);
});

test.each([
	["nohup", ["nohup"]],
	["a shell that ignores SIGHUP", ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]],
])("under %s a hang-up ends neither the server nor its runtime", async (_, launcher) => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path, [], {}, launcher);
	const url = await program.url;
	const runtime = runtimePid(folder.path);
	process.kill(runtime, "SIGHUP");
	program.process.kill("SIGHUP");
	// Signals are handled in the order of their numbers, so the one that ends it would come too late to hide a first end.
	expect((await fetch(`${url}/health`)).status).toBe(200);
	expect(isRunning(runtime)).toBe(true);
	expect(program.process.exitCode).toBe(null);
	program.process.kill("SIGTERM");
	expect(await program.ended).toMatchObject({ code: 0 });
});

test("a terminal that is closed ends the server in it, and its runtime", async () => {
	await using folder = await temporaryFolder();
	const screen = terminal(["start", "--port", "0", "--data", folder.path]);
	await screen.shows("Headgate is ready on");
	expect(processesOf(folder.path).length).toBeGreaterThan(1);
	screen.hangUp();
	await vi.waitFor(() => expect(processesOf(folder.path)).toEqual([]), SOON_MS);
	expect(globSync("server-*", { cwd: folder.path })).toEqual([]);
});

test("a port in use is named, with what to try", async () => {
	await using folder = await temporaryFolder();
	const other = createServer().listen(0, "127.0.0.1");
	await vi.waitFor(() => expect(other.listening).toBe(true), SOON_MS);
	const address = other.address();
	const port = typeof address === "object" && address !== null ? address.port : 0;
	try {
		await using program = run("start", ["--port", String(port), "--data", folder.path]);
		const end = await program.ended;
		expect(end).toMatchObject({ code: 1, stdout: "" });
		expect(end.stderr).toMatch(/^headgate: Port \d+ on 127\.0\.0\.1 is in use by another process\. .*--port/m);
		expect(end.stderr).toContain(`Port ${port}`);
		expect(end.stderr).not.toContain(".ts:");
	} finally {
		other.close();
	}
});

test("a second server on the same folder is refused, and let in once the first has gone", async () => {
	await using folder = await temporaryFolder();
	await using first = start(folder.path);
	await first.url;
	await using second = start(folder.path);
	const end = await second.ended;
	expect(end).toMatchObject({ code: 1, stdout: "" });
	expect(end.stderr).toContain(`in use by another Headgate server (process ${first.process.pid})`);
	first.process.kill("SIGINT");
	await first.ended;
	await using third = start(folder.path);
	await third.url;
});

test("of five that start on one folder at once, at most one runs", async () => {
	await using folder = await temporaryFolder();
	const locks = await Promise.allSettled(Array.from({ length: 5 }, () => lockFolder(folder.path)));
	const held = locks.filter((lock) => lock.status === "fulfilled");
	expect(held.length).toBeLessThanOrEqual(1);
	for (const lock of held) lock.value.release();
	(await lockFolder(folder.path)).release();
});

test.each([
	["of a process that is gone", { pid: 2 ** 22 + 1, began: "1" }],
	["of a process whose number went to another", { pid: process.pid, began: "1" }],
])("a lock %s is cleared", async (_, server) => {
	await using folder = await temporaryFolder();
	writeFileSync(path.join(folder.path, "server-1-left.lock"), JSON.stringify({ server, runtime: server }));
	const lock = await lockFolder(folder.path);
	lock.release();
});

test("a lock cut short by a loss of power is cleared", async () => {
	await using folder = await temporaryFolder();
	writeFileSync(path.join(folder.path, "server-1-left.lock"), "");
	(await lockFolder(folder.path)).release();
});

test.each(["0.0.0.0", "::", "192.0.2.1", "example.com"])("without tokens it does not listen on %s", async (host) => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path, ["--host", host]);
	const end = await program.ended;
	expect(end).toMatchObject({ code: 2, stdout: "" });
	expect(end.stderr).toContain(`Headgate does not listen on ${host} without tokens`);
	expect(end.stderr).toContain("npm run token");
});

test.each([
	["127.0.0.1", true],
	["127.8.8.8", true],
	["localhost", true],
	["::1", true],
	["0.0.0.0", false],
	["::", false],
	["127.0.0.1.example.com", false],
	["localhost.example.com", false],
	["10.0.0.1", false],
	["", false],
])("loopback: %j is %s", (host, expected) => {
	expect(isLoopback(host)).toBe(expected);
});

test.each([
	[["--nonsense"], "--nonsense"],
	[["extra"], "too many arguments"],
	[["--port"], "--port"],
	[["--port", "http"], "--port takes a number from 0 to 65535"],
	[["--port", "65536"], "--port takes a number from 0 to 65535"],
	[["--data", ""], "It needs a value"],
])("%j is refused with 2", async (args, message) => {
	await using program = run("start", args);
	const end = await program.ended;
	expect(end).toMatchObject({ code: 2, stdout: "" });
	expect(end.stderr).toContain(message);
	expect(end.stderr).not.toContain(".ts:");
});

test("--help tells every option", async () => {
	await using program = run("start", ["--help"]);
	const end = await program.ended;
	expect(end).toMatchObject({ code: 0, stderr: "" });
	for (const word of [
		"--port",
		"--host",
		"--data",
		"HEADGATE_TOKENS",
		"HEADGATE_CORS_ORIGINS",
		"HEADGATE_DENIAL_MEMORY",
		"HEADGATE_REGION",
	]) {
		expect(end.stdout).toContain(word);
	}
});

test("HEADGATE_DENIAL_MEMORY off: the limit counts each denial when it happens", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path, [], { HEADGATE_DENIAL_MEMORY: "off" });
	const url = await program.url;
	await call(url, "PUT", "/v1/limits/empty", { limit: 1, slotDecayPerSecond: 0.001 });
	const ask = () => call(url, "POST", "/v1/acquire", { names: "empty", mode: "rate_limit" });
	expect((await ask()).status).toBe(200);
	for (let times = 1; times <= 10; times += 1) expect((await ask()).status).toBe(429);
	expect((await call(url, "GET", "/v1/limits/empty")).body.totals.denied).toBe(10);
});

test("HEADGATE_DENIAL_MEMORY is off or absent", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path, [], { HEADGATE_DENIAL_MEMORY: "no" });
	const end = await program.ended;
	expect(end).toMatchObject({ code: 2, stdout: "" });
	expect(end.stderr).toContain('HEADGATE_DENIAL_MEMORY is "off" or is not set, and was "no".');
});

test("HEADGATE_REGION is asked for by every limit that is made, and by no other than a region that there is", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path, [], { HEADGATE_REGION: "weur" });
	const url = await program.url;
	await call(url, "POST", "/v1/acquire", { names: "used" });
	await call(url, "PUT", "/v1/limits/own", { limit: 1, region: "sam" });
	expect((await call(url, "GET", "/v1/limits/used")).body.region).toBe("weur");
	expect((await call(url, "GET", "/v1/limits/own")).body.region).toBe("sam");
});

test.each([
	[{ HEADGATE_REGION: "europe" }, 'HEADGATE_REGION is "europe", which is none of wnam, enam,'],
	[{ HEADGATE_JURISDICTION: "de" }, 'HEADGATE_JURISDICTION is "de", which is none of eu, us,'],
	[{ HEADGATE_JURISDICTION: "eu" }, "HEADGATE_JURISDICTION is for Cloudflare"],
	[{ HEADGATE_ADMIN_TOKEN: "                        " }, "HEADGATE_ADMIN_TOKEN has 0 characters"],
])("a server on this machine does not start with %o", async (variables, why) => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path, [], variables);
	const end = await program.ended;
	expect(end).toMatchObject({ code: 2, stdout: "" });
	expect(end.stderr).toContain(why);
});

test("a data folder that is a file is named", async () => {
	await using folder = await temporaryFolder();
	const file = path.join(folder.path, "file");
	writeFileSync(file, "");
	await using program = start(file);
	const end = await program.ended;
	expect(end.code).toBe(1);
	expect(end.stderr).toBe(
		`headgate: The data folder ${file} cannot be made: it is a file and not a folder. ` +
			"Move that away, or choose another folder with --data.\n",
	);
});

test("a token lets its holder in and nobody else", async () => {
	await using folder = await temporaryFolder();
	await using maker = run("token", ["--name", "ci", "--scope", "use", "--prefix", "team-a:"]);
	const made = await maker.ended;
	expect(made.code).toBe(0);
	const [token = "", , , , tokens = ""] = made.stdout.split("\n");
	expect(JSON.parse(tokens)).toEqual([
		{ name: "ci", sha256: expect.stringMatching(/^[0-9a-f]{64}$/), scope: "use", prefix: "team-a:" },
	]);
	expect(tokens).not.toContain(token);

	await using program = start(folder.path, [], { HEADGATE_TOKENS: tokens });
	const url = await program.url;
	const acquire = (names: string, headers: Record<string, string>) =>
		call(url, "POST", "/v1/acquire", { names }, headers).then((answer) => answer.status);
	expect(await acquire("team-a:x", {})).toBe(401);
	expect(await acquire("team-a:x", { authorization: `Bearer ${token}x` })).toBe(401);
	expect(await acquire("team-a:x", { authorization: `Bearer ${token}` })).toBe(200);
	expect(await acquire("team-b:x", { authorization: `Bearer ${token}` })).toBe(403);
	program.process.kill("SIGTERM");
	expect((await program.ended).stdout).toContain("1 token, loopback only");
});

test("one plain secret closes a server on this machine, and a short one starts none", async () => {
	await using folder = await temporaryFolder();
	await using short = start(folder.path, [], { HEADGATE_ADMIN_TOKEN: "guess-me" });
	const refused = await short.ended;
	expect(refused.code).toBe(2);
	expect(refused.stderr).toContain("HEADGATE_ADMIN_TOKEN has 8 characters, which can be guessed; at least 20");
	const secret = "a-secret-of-this-test-alone";
	await using program = start(folder.path, [], { HEADGATE_ADMIN_TOKEN: secret });
	const url = await program.url;
	const scope = (headers: Record<string, string>) => call(url, "GET", "/v1/token", undefined, headers);
	expect((await scope({})).status).toBe(401);
	expect((await scope({ authorization: `Bearer ${secret}` })).body).toMatchObject({ scope: "admin", prefix: "" });
	program.process.kill("SIGTERM");
	expect((await program.ended).stdout).toContain("1 token, loopback only");
});

test.each([
	["not JSON", "ci:secret", "is not JSON"],
	["no list", "{}", "is not a list"],
	["a digest of the wrong length", '[{"name":"ci","sha256":"abc","scope":"use"}]', "no sha256 of 64"],
	["the digest of an empty token", entryOf(""), "has the digest of an empty token, which anybody has"],
	["the digest of an empty line", entryOf("\n"), "has the digest of an empty token, which anybody has"],
	["an unknown scope", `[{"name":"ci","sha256":"${"0".repeat(64)}","scope":"root"}]`, "scope other than"],
])("HEADGATE_TOKENS with %s is refused", async (_, tokens, message) => {
	await using folder = await temporaryFolder();
	await using program = start(folder.path, [], { HEADGATE_TOKENS: tokens });
	const end = await program.ended;
	expect(end).toMatchObject({ code: 2, stdout: "" });
	expect(end.stderr).toContain(message);
	// What was meant to be a digest may be the token itself.
	expect(end.stderr).not.toContain("secret");
});

test.each([
	[["--name", "ci"], "--scope"],
	[["--name", "ci", "--scope", "root"], "Allowed choices are read, use, admin"],
	[["--name", "", "--scope", "use"], "It needs a value"],
	[["--scope", "use", "--nonsense"], "--nonsense"],
])("npm run token with %j is refused", async (args, message) => {
	await using program = run("token", args);
	const end = await program.ended;
	expect(end).toMatchObject({ code: 2, stdout: "" });
	expect(end.stderr).toContain(message);
});

test("startServer: stop and kill end it, and only an end that nobody asked for is unexpected", async () => {
	await using folder = await temporaryFolder();
	const first = await startServer({ port: 0, data: folder.path });
	await expect(startServer({ port: 0, data: folder.path })).rejects.toThrow("in use by another Headgate server");
	await first.stop();
	expect(await first.exited).toMatchObject({ expected: true });
	const second = await startServer({ port: 0, data: folder.path });
	await second.kill();
	expect(await second.exited).toMatchObject({ expected: true, signal: "SIGKILL" });
	const third = await startServer({ port: 0, data: folder.path });
	for (let death = 0; death <= BOUNDS.restartsPerMinute; death += 1) {
		const { pid } = third;
		process.kill(pid, "SIGKILL");
		const gone = death === BOUNDS.restartsPerMinute ? third.exited : undefined;
		await (gone ?? vi.waitFor(() => expect([pid, 0]).not.toContain(third.pid), SOON_MS));
	}
	expect(await third.exited).toMatchObject({ expected: false, signal: "SIGKILL" });
	await third.stop();
});

test("two servers in one process have their own data", async () => {
	await using one = await freshServer();
	await using two = await freshServer();
	await call(one.url, "PUT", "/v1/limits/here", { limit: 1 });
	expect((await call(one.url, "GET", "/v1/limits/here")).status).toBe(200);
	expect((await call(two.url, "GET", "/v1/limits/here")).status).toBe(404);
	// Stopping one leaves the other alone.
	await one.stop();
	await sleep(100);
	expect((await fetch(`${two.url}/health`)).status).toBe(200);
});
