/** Small stories of a few callers, each at a limit of its own, with an end that must come. Some callers are programs. */

import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { Hung, type Json, Lines, notForEver, pause, until } from "./http.ts";
import type { World } from "./load.ts";

/** All of these have an end within seconds; a machine that does other things may take longer. */
const SOON_MS = 60_000;

export interface Scene {
	title: string;
	play(world: World, name: string): Promise<void>;
}

/** A caller that is a process of its own. */
class Program {
	readonly lines: Json[] = [];
	readonly process: ChildProcess;
	onLine: () => void = () => undefined;

	constructor(port: number, what: "hold" | "renew", body: object) {
		const file = path.join(import.meta.dirname, "caller.ts");
		this.process = spawn(process.execPath, [file, String(port), what, JSON.stringify(body)], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		let rest = "";
		this.process.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
			const lines = (rest + chunk).split("\n");
			rest = lines.pop() ?? "";
			for (const line of lines) if (line !== "") this.lines.push(JSON.parse(line));
		});
	}

	has(what: string): Promise<Json> {
		return until(`a caller that says ${what}`, async () => this.lines.find(({ event }) => event === what), SOON_MS);
	}

	/** Resolves when it is no more. */
	async end(): Promise<void> {
		const { process } = this;
		if (process.exitCode !== null || process.signalCode !== null) return;
		const ended = new Promise<void>((resolve) => process.once("exit", () => resolve()));
		process.kill("SIGKILL");
		await ended;
	}
}

async function granted(stream: Lines): Promise<Json> {
	const line = await notForEver(stream.first("granted"), "a grant", () => {}, SOON_MS);
	if (line) return line;
	throw new Hung(`a stream ends without a grant: ${JSON.stringify(stream.heard.at(-1)?.line ?? stream.refusal)}`);
}
const LONG = { leaseSeconds: 600 };

async function inLine(world: World, name: string): Promise<string[]> {
	const { waiting } = await world.expect([200], "GET", `/v1/limits/${name}`);
	return waiting.map(({ id }: { id: string }) => id);
}

async function take(world: World, names: string, id: string, more: object = LONG): Promise<Json> {
	return world.expect([200], "POST", "/v1/acquire", { names, id, ...more });
}

export const SCENES: Record<string, Scene> = {
	"killed holder": {
		title: "a program that holds a lease by its stream is killed: the next in line has the slot",
		play: async (world, names) => {
			const { port } = world.server;
			const holder = new Program(port, "hold", { names, hold: true, id: `${names}-holder`, ...LONG });
			await holder.has("granted");
			const next = new Lines(port, { names, id: `${names}-next`, ...LONG });
			await next.first("queued");
			await holder.end();
			await granted(next);
			next.exchange.reset();
		},
	},
	"killed waiter": {
		title: "a program that waits is killed: it leaves the line, and the slot goes past it",
		play: async (world, names) => {
			const { port } = world.server;
			const lease = await take(world, names, `${names}-holder`);
			const dead = new Program(port, "hold", { names, id: `${names}-dead`, ...LONG });
			await dead.has("queued");
			const next = new Lines(port, { names, id: `${names}-next`, ...LONG });
			await next.first("queued");
			await dead.end();
			await world.expect([200], "POST", "/v1/release", lease);
			await granted(next);
			next.exchange.reset();
		},
	},
	"gone waiters": {
		title: "of a line of waiters some go, by FIN and by RST: the others are served in their order",
		play: async (world, names) => {
			const { port } = world.server;
			const lease = await take(world, names, `${names}-holder`);
			const line: Lines[] = [];
			for (let at = 0; at < 6; at += 1) {
				const stream = new Lines(port, { names, id: `${names}-${at}`, ...LONG });
				await stream.first("queued");
				line.push(stream);
			}
			const going = world.random.shuffled([0, 1, 2, 3, 4, 5]).slice(0, 3);
			for (const at of going) {
				if (at % 2 === 0) line[at]?.exchange.close();
				else line[at]?.exchange.reset();
			}
			const left = line.flatMap((_, at) => (going.includes(at) ? [] : [`${names}-${at}`]));
			await until(
				"those that went have left the line",
				async () => (await inLine(world, names)).join() === left.join(),
				SOON_MS,
			);
			await world.expect([200], "POST", "/v1/release", lease);
			let fence = 0;
			for (const [at, stream] of line.entries()) {
				if (going.includes(at)) continue;
				const { lease: own } = await granted(stream);
				if (own.fence[names] <= fence) {
					world.broke({ promise: 3, what: `${names} serves its line out of order`, history: [JSON.stringify(own)] });
				}
				fence = own.fence[names];
				await world.expect([200], "POST", "/v1/release", own);
			}
		},
	},
	"stopped holder": {
		title: "a program that renews its lease is stopped for longer than that: it has lost it, and hears so",
		play: async (world, names) => {
			const { port } = world.server;
			const holder = new Program(port, "renew", { names, id: `${names}-holder`, leaseSeconds: 1 });
			await holder.has("renewed");
			holder.process.kill("SIGSTOP");
			const next = new Lines(port, { names, id: `${names}-next`, ...LONG });
			await granted(next);
			holder.process.kill("SIGCONT");
			const { status } = await holder.has("ended");
			if (status !== 410) {
				world.broke({ promise: 7, what: `a lease that is another's by now is renewed with ${status}`, history: [] });
			}
			await holder.end();
			next.exchange.reset();
		},
	},
	"stalled reader": {
		title: "a waiter reads nothing for a while: it keeps its place, and hears of its grant",
		play: async (world, names) => {
			const { port } = world.server;
			const lease = await take(world, names, `${names}-holder`);
			const stalled = new Lines(port, { names, id: `${names}-stalled`, ...LONG });
			await stalled.first("queued");
			stalled.exchange.stall();
			await pause(world.random.int(1_000, 2_500));
			await world.expect([200], "POST", "/v1/release", lease);
			await pause(world.random.int(0, 500));
			stalled.exchange.resume();
			const { lease: own } = await granted(stalled);
			await world.expect([200], "POST", "/v1/release", own);
		},
	},
	"keys take turns": {
		title:
			"six waiters of one key, then two of another, then one of priority: it is served first, and the other key is not kept for last",
		play: async (world, names) => {
			const { port } = world.server;
			const lease = await take(world, names, `${names}-holder`);
			const line: { who: string; stream: Lines }[] = [];
			for (const who of [..."aaaaaabb", "urgent"]) {
				const turn = who === "urgent" ? { key: "a", priority: 9 } : { key: who };
				const stream = new Lines(port, { names, id: `${names}-${line.length}`, ...turn, ...LONG });
				await stream.first("queued");
				line.push({ who, stream });
			}
			await world.expect([200], "POST", "/v1/release", lease);
			const served = await Promise.all(
				line.map(async ({ who, stream }) => {
					const { lease: own } = await granted(stream);
					await world.expect([200], "POST", "/v1/release", own);
					return { who, fence: own.fence[names] as number };
				}),
			);
			const order = served.sort((a, b) => a.fence - b.fence).map(({ who }) => who);
			// The first one of a key waits for at most one request of each other key. How long the second waits depends on how long
			// that one held the slot, for keys share time.
			if (order[0] === "urgent" && order.indexOf("b") <= 2) return;
			world.broke({ promise: 15, what: `${names} serves its keys as ${order.join(", ")}`, history: [] });
		},
	},
	"two in two orders": {
		title: "many that want two limits, in either order: none waits for ever, and each gets both",
		play: async (world, first) => {
			const second = `${first}-other`;
			await world.expect([201], "PUT", `/v1/limits/${second}`, { limit: 1 });
			await Promise.all(
				Array.from({ length: 8 }, async (_, at) => {
					const names = at % 2 === 0 ? [first, second] : [second, first];
					const stream = new Lines(world.server.port, { names, id: `${first}-${at}`, ...LONG });
					const { lease } = await granted(stream);
					if (Object.keys(lease.names).length !== 2) {
						world.broke({ promise: 2, what: `of two names it got ${JSON.stringify(lease.names)}`, history: [] });
					}
					await world.expect([200], "POST", "/v1/release", lease);
				}),
			);
			await world.expect([204], "DELETE", `/v1/limits/${second}`);
		},
	},
	"denied takes nothing": {
		title: "a request of two names of which one is taken: nothing of the other is in use",
		play: async (world, first) => {
			const second = `${first}-other`;
			await world.expect([201], "PUT", `/v1/limits/${second}`, { limit: 3, slotDecayPerSecond: 0.001 });
			const lease = await take(world, first, `${first}-holder`);
			for (let at = 0; at < 5; at += 1) {
				const body = { names: first, rate: { [second]: 2 }, id: `${first}-${at}` };
				await world.expect([429], "POST", "/v1/acquire", body);
			}
			const { activeSlots, waitingCount } = await world.expect([200], "GET", `/v1/limits/${second}`);
			if (activeSlots !== 0 || waitingCount !== 0) {
				world.broke({ promise: 2, what: `denied requests left ${activeSlots} slots in use`, history: [] });
			}
			await world.expect([200], "POST", "/v1/release", lease);
			await world.expect([204], "DELETE", `/v1/limits/${second}`);
		},
	},
};

/** What does not come in time is a violation of the scene's promise. */
export async function play(world: World, scene: Scene, name: string): Promise<void> {
	await world.expect([201], "PUT", `/v1/limits/${name}`, { limit: 1 });
	try {
		await scene.play(world, name);
	} catch (error) {
		if (!(error instanceof Hung)) throw error;
		const seen = await world.expect([200], "GET", `/v1/limits/${name}`);
		world.broke({
			promise: "5 and 10",
			what: `${scene.title}. But: ${error.message}`,
			history: [JSON.stringify(seen)],
		});
	}
	await world.expect([204], "DELETE", `/v1/limits/${name}`);
}
