/** What is done to the server and to its callers while they are at work. Each comes to its end, and then the server answers. */

import { call, pause, until } from "./http.ts";
import type { World } from "./load.ts";

export interface Fault {
	/** What a report calls it. */
	title: string;
	/** What this machine must allow. */
	needs?: "disk" | "clock";
	/** `further`: so many operations more. */
	inject(world: World): Promise<void>;
}

/** What is done is felt from before it begins until the server answers. */
async function felt(world: World, what: string, work: () => Promise<void>): Promise<void> {
	const over = world.disturb(what);
	world.heldMayEnd();
	await work();
	await world.server.answers();
	over();
}

const HOUR_SECONDS = 3_600;
/** The keeper of a runtime starts it again five times a minute; here it is let do so four times, and then is started anew. */
const RESTARTS = 4;
let deaths: number[] = [];

async function killRuntime(world: World): Promise<void> {
	const now = performance.now();
	deaths = deaths.filter((at) => now - at < 61_000);
	if (deaths.length >= RESTARTS) {
		await killProgram(world);
		return;
	}
	deaths.push(now);
	const pid = world.server.runtime();
	world.heldMayEnd();
	world.server.killRuntime();
	await until("another runtime", async () => ![0, pid].includes(world.server.runtime()));
}

async function killProgram(world: World): Promise<void> {
	world.heldMayEnd();
	await world.server.killProgram();
	deaths = [];
	await world.server.startAgain();
}

/** Callers go on asking a disk that is full until so many were told so. */
async function askUntilRefused(world: World, refusals: number): Promise<void> {
	const said = (): number => world.counts.get("503 storage_failed in a fault") ?? 0;
	const from = said();
	await until("callers that are told that the disk is full", async () => said() >= from + refusals);
}

export const FAULTS: Record<string, Fault> = {
	"kill-runtime": {
		title: "`kill -9` of the runtime (workerd)",
		inject: (world) => felt(world, "kill -9 of the runtime", () => killRuntime(world)),
	},
	"kill-program": {
		title: "`kill -9` of `headgate start`",
		inject: (world) => felt(world, "kill -9 of the program", () => killProgram(world)),
	},
	deploy: {
		title: "an orderly stop and a new start, as of a new version: all objects are made anew",
		inject: (world) =>
			felt(world, "a stop and a start", async () => {
				await stopped(world);
				await world.server.startAgain();
			}),
	},
	storm: {
		title: "a storm of three restarts, each as soon as the server answers",
		inject: (world) =>
			felt(world, "a storm of restarts", async () => {
				for (let at = 0; at < 3; at += 1) {
					await (at === 1 ? killProgram(world) : killRuntime(world));
					await world.server.answers();
					await pause(world.random.int(0, 150));
				}
			}),
	},
	"stop-runtime": {
		title: "`SIGSTOP` of the runtime for longer than short leases",
		inject: (world) =>
			felt(world, "SIGSTOP of the runtime", async () => {
				world.server.signalRuntime("SIGSTOP");
				try {
					await pause(world.random.int(2_100, 2_800));
				} finally {
					world.server.signalRuntime("SIGCONT");
				}
			}),
	},
	"full-disk": {
		title: "a full disk, and room again",
		needs: "disk",
		inject: (world) =>
			felt(world, "a full disk", async () => {
				world.server.fillDisk();
				try {
					await askUntilRefused(world, world.random.int(5, 25));
				} finally {
					world.server.emptyDisk();
				}
			}),
	},
	"full-disk-killed": {
		title: "a full disk under a server that is killed, and room again before the next start",
		needs: "disk",
		inject: (world) =>
			felt(world, "a full disk under kill -9", async () => {
				world.server.fillDisk();
				try {
					await askUntilRefused(world, world.random.int(2, 10));
					world.heldMayEnd();
					await world.server.killProgram();
				} finally {
					world.server.emptyDisk();
				}
				deaths = [];
				await world.server.startAgain();
			}),
	},
	"read-only": {
		title: "a read-only disk: the server is not started on it, and says so",
		needs: "disk",
		inject: (world) =>
			felt(world, "a read-only disk", async () => {
				await stopped(world);
				world.server.remount("ro");
				try {
					const said = await world.server.start();
					if (said === null || !/cannot be (written|made)/.test(said)) {
						world.broke({ promise: 6, what: `on a read-only disk the server says: ${said}`, history: [] });
					}
				} finally {
					world.server.remount("rw");
				}
				await world.server.startAgain();
			}),
	},
	truncated: {
		title: "a limit's file cut off, or emptied: that limit is refused until a copy of it is restored",
		inject: (world) => felt(world, "a truncated file", () => truncated(world)),
	},
	"two-servers": {
		title: "a second server on the same folder",
		inject: async (world) => {
			const { code, output, gotReady } = await world.server.second();
			if (code === 1 && !gotReady && /in use/.test(output)) return;
			world.broke({
				promise: 1,
				what: `a second server on one folder ends with ${code}${gotReady ? ", and was ready" : ""}: ${output}`,
				history: [],
			});
		},
	},
	"clock-on": {
		title: "a clock that leaps an hour on",
		needs: "clock",
		inject: (world) => felt(world, "a clock that leaps on", async () => world.jump(HOUR_SECONDS)),
	},
	"clock-back": {
		title: "a clock that is set back an hour",
		needs: "clock",
		inject: (world) =>
			felt(world, "a clock that is set back", async () => {
				world.jump(-HOUR_SECONDS);
				await world.further(world.random.int(20, 60));
				// An object notices it once a minute; callers do not wait for that in each of these.
				await killProgram(world);
			}),
	},
	"clock-back-down": {
		title: "a clock that is set back while the server is down",
		needs: "clock",
		inject: (world) =>
			felt(world, "a clock that is set back under kill -9", async () => {
				world.heldMayEnd();
				await world.server.killProgram();
				world.jump(-HOUR_SECONDS);
				deaths = [];
				await world.server.startAgain();
			}),
	},
};

async function stopped(world: World): Promise<void> {
	world.heldMayEnd();
	await world.server.stop();
	deaths = [];
	await until("the end of the runtime", async () => world.server.runtime() === 0);
}

/** Of a victim that no other caller uses. What is lost is refused, all other limits go on, and a copy brings it back. */
async function truncated(world: World): Promise<void> {
	const { server, random } = world;
	const names = world.name("pool-a").replace("pool-a", `victim-${world.done}`);
	await world.expect([201], "PUT", `/v1/limits/${names}`, { limit: 1 });
	const lease = await world.expect([200], "POST", "/v1/acquire", { names, leaseSeconds: 86_400, id: world.id() });
	// The directory hears of a limit beside its answer; what it does not know it cannot miss.
	await until("it is listed", async () => {
		const { limits } = await world.expect([200], "GET", `/v1/limits?prefix=${names}`);
		return limits.length === 1;
	});
	await stopped(world);
	const undo = server.truncate(names, random.pick([0, 0.3, 0.6]));
	await startWithout(world, names);
	await stopped(world);
	undo();
	await server.startAgain();
	const { leases } = await world.expect([200], "GET", `/v1/limits/${names}`);
	if (leases.length !== 1 || leases[0].id !== lease.id) {
		world.broke({
			promise: 6,
			what: `a restored copy lacks the lease of ${names}: ${JSON.stringify(leases)}`,
			history: [],
		});
	}
	await world.expect([204], "DELETE", `/v1/limits/${names}`);
}

/** Started for a moment, in which nothing may be granted of the limit whose file is broken. */
async function startWithout(world: World, names: string): Promise<void> {
	const said = await world.server.start();
	if (said !== null)
		world.broke({ promise: 6, what: `with a file cut off the server does not start: ${said}`, history: [] });
	const { status, body } = await call(world.server.port, "POST", "/v1/acquire", { names });
	if (status === 503 && ["damaged_data", "storage_failed"].includes(body.code)) return;
	const what = `of a limit whose file is cut off an acquire is answered ${status} ${JSON.stringify(body)}`;
	world.broke({ promise: 6, what, history: [] });
}
