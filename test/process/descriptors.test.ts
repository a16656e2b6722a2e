/** A local server with few file descriptors: callers are refused before its runtime ends, and a runtime that ended is back. */

import { connect, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { Headgate } from "../../src/client/index.ts";
import { type Program, run, runtimePid } from "../support/start.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { Caller, type Stream, until } from "./support.ts";

const ANSWER_MS = 45_000;
const FEW = 400;

const limited = (limit: number | string): string[] => ["sh", "-c", `ulimit ${limit}; exec "$@"`, "sh"];
const start = (folder: TemporaryFolder, launcher: string[]): Program & AsyncDisposable =>
	run("start", ["--port", "0", "--data", folder.path], {}, launcher);

let caller: Caller | undefined;
afterEach(() => caller?.close());

test.each(["one name", "many names"])(
	"streams held over %s are refused with 503 when descriptors run out, and the runtime lives",
	async (which) => {
		await using folder = await temporaryFolder();
		await using program = start(folder, limited(`-n ${FEW}`));
		caller = new Caller(await program.url);
		const runtime = runtimePid(folder.path);
		await caller.limit("one", 10_000);
		const held: Stream[] = [];
		let refused = 0;
		let count = 0;
		const hold = async (): Promise<void> => {
			const names = which === "one name" ? "one" : `name-${count++}`;
			const stream = (caller as Caller).stream({ names, hold: true });
			await Promise.race([stream.granted, stream.ended]).catch(() => undefined);
			if (stream.decided) held.push(stream);
			else refused += 1;
		};
		for (let times = 0; times < FEW; times += 1) await hold();
		console.log(`${FEW} descriptors, ${which}: ${held.length} held, ${refused} refused`);
		expect(held.length).toBeGreaterThan(FEW / 8);
		expect(refused).toBeGreaterThan(0);
		// Whoever holds may still give back, on a connection of its own.
		expect((await caller.call("GET", "/health")).status).toBe(200);
		expect((await caller.call("POST", "/v1/release", { id: "unknown", names: "one" })).status).toBe(200);
		// A descriptor that the runtime had for a moment only may have been free again since.
		let answer = await caller.call("GET", "/v1/limits/one");
		for (let times = 0; answer.status === 200 && times < FEW; times += 1) {
			await hold();
			answer = await caller.call("GET", "/v1/limits/one");
		}
		expect(answer).toMatchObject({ status: 503, body: { code: "overloaded", retryAfterSeconds: 1 } });
		// With some of them gone there is room again.
		for (const stream of held.splice(0, held.length / 2)) stream.close();
		await until("room for a caller", ANSWER_MS, async () => (await caller?.call("GET", "/v1/limits"))?.status === 200);
		expect(runtimePid(folder.path)).toBe(runtime);
		expect(program.stderr()).not.toContain("Too many open files");
	},
);

test("connections that ask for nothing may end the runtime, and it is back with its data", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder, limited(`-n ${FEW}`));
	const url = await program.url;
	caller = new Caller(url);
	await caller.limit("one", 2);
	await using lease = await new Headgate({ url }).acquire("one");
	const runtime = runtimePid(folder.path);
	const { hostname, port } = new URL(url);
	const ended = () => program.stderr().includes("ready again on");
	const sockets: Socket[] = [];
	try {
		// Each takes one and then another, and it ends only where none is left for the first: a name more changes which.
		for (let names = 0; !ended() && names < 20; names += 1) {
			await caller.acquire({ names: `odd-${names}`, createIfMissing: false }).catch(() => undefined);
			const crowd = Array.from({ length: FEW }, () => connect(Number(port), hostname));
			sockets.push(...crowd);
			await Promise.all(
				crowd.map((socket) => {
					const settled = Promise.withResolvers<void>();
					socket.once("connect", settled.resolve).once("error", settled.resolve);
					return settled.promise;
				}),
			);
			const refused = () => /is started again|HTTP connection failed/.test(program.stderr());
			await until("too many connections", ANSWER_MS, refused);
			for (const socket of sockets.splice(0)) socket.destroy();
			if (program.stderr().includes("is started again")) await until("a new runtime", ANSWER_MS, ended);
		}
	} finally {
		for (const socket of sockets) socket.destroy();
	}
	expect(program.stderr()).toContain("out of file descriptors (`ulimit -n`), and is started again");
	expect(runtimePid(folder.path)).not.toBe(runtime);
	const again = new Caller(url);
	expect(await again.inspect("one")).toMatchObject({ activeSlots: 1, leaseCount: 1 });
	again.close();
	expect(lease.signal.aborted).toBe(false);
});

test("the soft limit is raised to the hard one, and the ready line says what that carries", async () => {
	await using folder = await temporaryFolder();
	await using program = start(folder, limited("-S -n 256; ulimit -H -n 4096"));
	await program.url;
	await until("the second line", ANSWER_MS, () => program.stdout().includes("Room"));
	expect(program.stdout()).toContain("Room for about 1,700 callers or 1,200 names at once (ulimit -n: 4096)");
});
