/** Promises 6, 3 and 11 under `kill -9`: what a caller was told is still true after the restart, and no more than that. */

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningServer } from "../../src/cli/serve.ts";
import type { AcquireRequest, Lease, LimitInfo, Slots } from "../../src/protocol.ts";
import { Random } from "../core/random.ts";
import { startServer } from "../support/server.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { Caller, newSeed, report, type Stream, until, within } from "./support.ts";

let folder: TemporaryFolder;
let server: RunningServer;
let caller: Caller;

beforeAll(async () => {
	folder = await temporaryFolder();
	server = await startServer({ port: 0, data: folder.path });
	caller = new Caller(server.url);
});

afterAll(async () => {
	caller?.close();
	await server?.stop();
	await folder?.[Symbol.asyncDispose]();
});

/** Ends the server as a power button would, and starts it again on the same data and port. */
async function killAndRestart(): Promise<void> {
	const port = Number(new URL(server.url).port);
	await server.kill();
	caller.close();
	server = await startServer({ port, data: folder.path });
	caller = new Caller(server.url);
}

const ROUNDS = 7;
const CLIENTS = 16;
/** Of the clients, those that wait in streams. */
const STREAMING = 5;
const ANSWER_MS = 45_000;
/** Slots set aside by a coordinator that died are back after this. */
const LAPSED_MS = 45_000;

interface Settings {
	limit: number;
	slotDecayPerSecond: number;
}

const POOLS: Record<string, Settings> = {
	"kill-a": { limit: 90, slotDecayPerSecond: 0 },
	"kill-b": { limit: 60, slotDecayPerSecond: 0 },
	"kill-c": { limit: 9, slotDecayPerSecond: 0 },
};
const RATES: Record<string, Settings> = {
	"kill-quota": { limit: 200, slotDecayPerSecond: 20 },
	"kill-burst": { limit: 100, slotDecayPerSecond: 10 },
};

/** A request, and the last that its caller was told of it. */
interface Ask {
	readonly body: AcquireRequest & { id: string; names: Slots };
	readonly sentAt: number;
	answeredAt: number;
	/** `releasing`: a release was sent, or the holding connection closed, and nobody has answered yet. */
	fate: "asked" | "granted" | "denied" | "releasing" | "released";
	expiresAt: string;
	/** Renewals that nobody has answered yet. */
	renewing: number;
	stream: Stream | null;
}

/** The callers of one round: they ask, renew and release until the server is gone. */
class Load {
	readonly asks: Ask[] = [];
	/** From here on broken connections are what is to be expected. */
	ending = false;
	/** What all clients have done together. */
	steps = 0;
	readonly #seed: number;
	/** Leases that survived earlier rounds; the clients renew them. */
	readonly #kept: Ask[];

	constructor(seed: number, kept: Ask[]) {
		this.#seed = seed;
		this.#kept = kept;
	}

	async run(): Promise<void> {
		await Promise.all(
			Array.from({ length: CLIENTS }, async (_, client) => {
				const random = new Random(this.#seed * CLIENTS + client);
				const step = client < STREAMING ? this.#streamingStep : this.#plainStep;
				const own: Ask[] = [];
				for (let count = 0; !this.ending; count += 1) {
					try {
						await step.call(this, random, `${this.#seed}-${client}-${count}`, own);
						this.steps += 1;
					} catch (error) {
						if (!this.ending) throw error;
					}
				}
			}),
		);
	}

	async #plainStep(random: Random, id: string, own: Ask[]): Promise<void> {
		const action = random.weighted({
			acquire: own.length < 3 ? 4 : 0,
			renew: 2,
			release: own.length > 0 ? 3 : 0,
			rate: 2,
		});
		if (action === "acquire") {
			const ask = this.#ask({
				id,
				names: someOf(random, POOLS, 3),
				leaseSeconds: 600,
				waitSeconds: random.pick([0, 0.1]),
			});
			if (await answered(ask)) own.push(ask);
		} else if (action === "rate") {
			await answered(this.#ask({ id, names: someOf(random, RATES, 3), mode: "rate_limit" }));
		} else if (action === "renew") {
			const all = [...own, ...this.#kept].filter(({ fate }) => fate === "granted");
			if (all.length > 0) await renew(random.pick(all));
		} else {
			const [ask] = own.splice(random.int(0, own.length - 1), 1);
			if (ask) await release(ask);
		}
	}

	async #streamingStep(random: Random, id: string): Promise<void> {
		const ask = this.#ask({
			id,
			names: someOf(random, POOLS, 3, "kill-c"),
			leaseSeconds: 600,
			hold: random.chance(0.3),
		});
		ask.stream = caller.stream(ask.body);
		await streamed(ask);
		await sleep(random.int(0, 30));
		if (ask.body.hold && random.chance(0.2)) {
			ask.fate = "releasing";
			ask.stream.close();
		} else {
			await release(ask);
		}
	}

	#ask(body: Ask["body"]): Ask {
		const sentAt = performance.now();
		const ask: Ask = {
			...{ body, sentAt, answeredAt: Number.NaN, fate: "asked", expiresAt: "", renewing: 0, stream: null },
		};
		this.asks.push(ask);
		return ask;
	}
}

/** One name or two, in any order, each with slots of its own. */
function someOf(random: Random, limits: Record<string, Settings>, most: number, always?: string): Slots {
	const names = Object.keys(limits);
	const first = always ?? random.pick(names);
	const chosen = random.chance(0.4) ? [random.pick(names.filter((name) => name !== first)), first] : [first];
	return Object.fromEntries(chosen.map((name) => [name, random.int(1, most)]));
}

/** Asks once, or again, and keeps what was answered. */
async function answered(ask: Ask): Promise<boolean> {
	const { status, body } = await caller.acquire(ask.body);
	if (status !== 200 && status !== 429) throw new Error(`${status} ${JSON.stringify(body)}`);
	ask.answeredAt = performance.now();
	ask.fate = status === 200 ? "granted" : "denied";
	if ("expiresAt" in body) ask.expiresAt = body.expiresAt;
	return status === 200;
}

async function streamed(ask: Ask): Promise<void> {
	const lease = (await ask.stream?.granted) as Lease;
	ask.fate = "granted";
	ask.expiresAt = lease.expiresAt;
}

/** Waits for the grant of a request that was in line, and gives it back. */
async function resumed(ask: Ask): Promise<void> {
	try {
		await within(`a verdict for ${ask.body.id}, which was in line`, ANSWER_MS, streamed(ask));
	} catch (error) {
		// It was granted as the server died, and the lease ended with the connection that held it.
		if (ask.body.hold && ask.stream?.denied?.code === "id_in_use") return;
		throw error;
	}
	await release(ask);
}

async function renew(ask: Ask): Promise<void> {
	const { id, names } = ask.body;
	ask.renewing += 1;
	const { status, body } = await caller.call<{ expiresAt: string }>("POST", "/v1/renew", { id, names });
	// Another client may have released it meanwhile.
	if (status === 410 && ask.fate !== "granted") return;
	if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`);
	// Two renewals of one lease may be answered in either order.
	if (body.expiresAt > ask.expiresAt) ask.expiresAt = body.expiresAt;
	ask.renewing -= 1;
}

async function release(ask: Ask): Promise<void> {
	ask.fate = "releasing";
	const released = await caller.release(ask.body);
	ask.fate = "released";
	// The end of one part of a held lease ends the others too, whoever is first to see to them.
	const possible = ask.body.hold ? partSums(ask.body.names) : [total(ask.body.names)];
	if (!possible.includes(released)) throw new Error(`${released} slots released of ${JSON.stringify(ask.body)}`);
}

const total = (slots: Slots): number => Object.values(slots).reduce((sum, each) => sum + each, 0);

/** What any of the names may hold together. */
function partSums(slots: Slots): number[] {
	const sums = [0];
	for (const each of Object.values(slots)) sums.push(...sums.map((sum) => sum + each));
	return sums;
}

/** What is stored of each pool is what was acknowledged, and at most what was in flight besides. */
async function checkPools(asks: Ask[]): Promise<void> {
	const lives = asks.filter(({ fate, body }) => fate === "granted" && !body.hold);
	const may = asks.filter(
		({ fate, body }) => fate === "asked" || fate === "releasing" || (fate === "granted" && body.hold),
	);
	for (const name of Object.keys(POOLS)) {
		const leases = await caller.leases(name);
		const { leaseCount, activeSlots } = await caller.inspect(name);
		const stored = new Map(leases.map(({ id, slots }) => [id, slots]));
		const here = (some: Ask[]) =>
			new Map(some.flatMap(({ body }) => (body.names[name] ? [[body.id, body.names[name]]] : [])));
		const must = here(lives);
		const most = new Map([...must, ...here(may)]);
		expect(stored.size, "no lease twice").toBe(leases.length);
		expect(leaseCount).toBe(leases.length);
		for (const [id, slots] of must) expect([id, stored.get(id)]).toEqual([id, slots]);
		for (const [id, slots] of stored) expect([id, most.get(id)]).toEqual([id, slots]);
		expect(activeSlots).toBeGreaterThanOrEqual(total(Object.fromEntries(stored)));
		expect(activeSlots).toBeLessThanOrEqual(total(Object.fromEntries(most)));
	}
}

/** The level of each rate is between what acknowledged grants leave at least, and what all that were asked leave at most. */
async function checkRates(asks: Ask[], killedAt: number): Promise<void> {
	for (const [name, { slotDecayPerSecond }] of Object.entries(RATES)) {
		const sentAt = performance.now();
		const { activeSlots } = await caller.inspect(name);
		const heardAt = performance.now();
		const grants = asks.filter(({ body, fate }) => body.names[name] && fate !== "denied");
		const acknowledged = grants.filter(({ fate }) => fate === "granted");
		const least = levelOf(
			acknowledged.map(({ sentAt, body }) => [sentAt, body.names[name] ?? 0]),
			slotDecayPerSecond,
			heardAt,
		);
		const most = levelOf(
			grants.map(({ answeredAt, body }) => [Number.isNaN(answeredAt) ? killedAt : answeredAt, body.names[name] ?? 0]),
			slotDecayPerSecond,
			sentAt,
		);
		// The server's clock counts whole milliseconds.
		expect(activeSlots).toBeGreaterThanOrEqual(least - 0.1);
		expect(activeSlots).toBeLessThanOrEqual(Math.ceil(most + 0.1));
	}
}

/** The level at `now` of a bucket that got these slots at these moments. */
function levelOf(grants: [at: number, slots: number][], perSecond: number, now: number): number {
	let level = 0;
	let at = 0;
	const run = (until: number): void => {
		level = Math.max(0, level - (perSecond * (until - at)) / 1000);
		at = until;
	};
	for (const [moment, slots] of grants.sort(([a], [b]) => a - b)) {
		run(moment);
		level += slots;
	}
	run(now);
	return level;
}

test("promise 6: kill -9 under load loses no acknowledged lease and doubles none", async () => {
	const seed = newSeed();
	console.log(`kill -9 under load: seed ${seed}`);
	const random = new Random(seed);
	for (const [name, { limit, slotDecayPerSecond }] of Object.entries({ ...POOLS, ...RATES })) {
		await caller.limit(name, limit, slotDecayPerSecond);
	}
	const rates: Ask[] = [];
	let kept: Ask[] = [];
	const seen = { granted: 0, released: 0, denied: 0, inFlight: 0, inLine: 0, severalNames: 0, survivors: 0 };
	const startsMs: number[] = [];

	for (let round = 0; round < ROUNDS; round += 1) {
		const load = new Load(seed + round, kept);
		const running = load.run();
		const steps = random.int(60, 400);
		// `running` ends early only with an error.
		await Promise.race([running, until(`${steps} steps`, ANSWER_MS, () => load.steps >= steps)]);
		load.ending = true;
		const killedAt = performance.now();
		await killAndRestart();
		startsMs.push(performance.now() - killedAt);
		await running;

		rates.push(...load.asks.filter(({ body }) => body.mode === "rate_limit"));
		const leases = [...kept, ...load.asks.filter(({ body }) => body.mode !== "rate_limit")];
		seen.granted += load.asks.filter(({ fate }) => fate === "granted" || fate === "released").length;
		seen.released += load.asks.filter(({ fate }) => fate === "released").length;
		seen.denied += load.asks.filter(({ fate }) => fate === "denied").length;
		seen.inFlight += load.asks.filter(({ fate }) => fate === "asked" || fate === "releasing").length;
		seen.inLine += leases.filter(({ fate, stream }) => fate === "asked" && stream?.position).length;
		seen.severalNames += leases.filter(
			({ fate, body }) => fate === "granted" && Object.keys(body.names).length > 1,
		).length;
		seen.survivors += kept.length;
		await checkRates(rates, killedAt);
		await checkPools(leases);

		// The same id again is the same lease, of those that were answered and of those that were not.
		for (const ask of leases.filter(({ fate, body }) => fate === "granted" && !body.hold)) {
			const { expiresAt, renewing } = ask;
			expect(await answered(ask), ask.body.id).toBe(true);
			if (renewing > 0) expect(ask.expiresAt >= expiresAt).toBe(true);
			else expect([ask.body.id, ask.expiresAt]).toEqual([ask.body.id, expiresAt]);
			ask.renewing = 0;
		}
		const open = leases.filter(({ fate }) => fate === "asked");
		for (const ask of open.filter(({ stream }) => stream === null)) await answered(ask);
		for (const ask of rates.filter(({ fate }) => fate === "asked")) await answered(ask);
		for (const ask of load.asks
			.filter(({ body, fate }) => body.mode === "rate_limit" && fate === "granted")
			.slice(-40)) {
			const { answeredAt } = ask;
			expect(await answered(ask), "the receipt of a grant").toBe(true);
			ask.answeredAt = Math.max(answeredAt, killedAt);
		}
		// A release that nobody answered is asked for again; what it gives back was not given back before.
		for (const ask of leases.filter(({ fate, body }) => fate === "releasing" && !body.hold)) {
			expect(partSums(ask.body.names)).toContain(await caller.release(ask.body));
			ask.fate = "released";
		}
		// Those that stood in line ask again too; the last one first.
		const lined = open.filter(({ stream }) => stream !== null).reverse();
		for (const ask of lined) ask.stream = caller.stream(ask.body);
		kept = leases.filter(({ fate, body }) => fate === "granted" && !body.hold);
		const dropped = leavingRoom(kept);
		kept = kept.filter((ask) => !dropped.includes(ask));
		for (const ask of dropped) await release(ask);
		await Promise.all(lined.map(resumed));
		await checkExactly(kept);
		await checkRates(rates, killedAt);
	}
	console.log(`kill -9 under load: ${JSON.stringify(seen)}`);
	report("kill -9 to the first answer after it", startsMs);
	for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(0);
	for (const ask of kept) await release(ask);
});

/** Leases to give up, so that those that stay take at most a third of any pool. */
function leavingRoom(leases: Ask[]): Ask[] {
	const left = new Map(Object.entries(POOLS).map(([name, { limit }]) => [name, limit / 3]));
	return leases.filter(({ body }) => {
		const names = Object.entries(body.names);
		if (names.some(([name, slots]) => (left.get(name) ?? 0) < slots)) return true;
		for (const [name, slots] of names) left.set(name, (left.get(name) ?? 0) - slots);
		return false;
	});
}

/** Nothing is in flight any more: the pools hold these leases and not a slot besides. */
async function checkExactly(leases: Ask[]): Promise<void> {
	for (const name of Object.keys(POOLS)) {
		const here = leases.flatMap(({ body }) => (body.names[name] ? [{ id: body.id, slots: body.names[name] }] : []));
		const activeSlots = here.reduce((sum, { slots }) => sum + slots, 0);
		// Reservations of a coordinator that died, and held leases of connections that did, come back by themselves.
		await until(`${name} has ${activeSlots} slots in use`, LAPSED_MS, async () => {
			const info = await caller.inspect(name);
			return info.activeSlots === activeSlots && info.waitingCount === 0;
		});
		const stored = (await caller.leases(name)).map(({ id, slots }) => ({ id, slots }));
		expect(stored.sort(byId)).toEqual(here.sort(byId));
		expect(await caller.inspect(name)).toMatchObject({ leaseCount: here.length, activeSlots });
	}
}

const byId = (a: { id: string }, b: { id: string }): number => (a.id < b.id ? -1 : 1);

test("promises 3 and 11: after kill -9 waiters are served in their order, whoever comes back first", async () => {
	const lines = ["line-many", "line-late", "line-late-held", "line-lost"];
	for (const name of [...lines, "line-many-other"]) await caller.limit(name, 1);
	const taken = new Map<string, Lease>();
	for (const names of lines) taken.set(names, await caller.take({ names, id: `${names}-0`, leaseSeconds: 600 }));
	const free = (name: string): Promise<number> => caller.release(taken.get(name) as Lease);

	const hold = { leaseSeconds: 600, hold: true };
	const many: AcquireRequest[] = [
		{ names: "line-many", id: "many-1" },
		{ names: "line-many", id: "many-2", ...hold },
		{ names: "line-many", id: "many-3" },
		{ names: ["line-many-other", "line-many"], id: "many-4" },
		{ names: "line-many", id: "many-5", waitSeconds: 600 },
		{ names: ["line-many", "line-many-other"], id: "many-6", ...hold },
		{ names: "line-many", id: "many-7", ...hold },
	];
	const late = { first: { names: "line-late", id: "late-1" }, second: { names: "line-late", id: "late-2" } };
	const held = {
		first: { names: "line-late-held", id: "held-1", ...hold },
		second: { names: "line-late-held", id: "held-2", ...hold },
	};
	const lost = { first: { names: "line-lost", id: "lost-1" }, second: { names: "line-lost", id: "lost-2" } };
	for (const body of [...many, ...[late, held, lost].flatMap(({ first, second }) => [first, second])]) {
		await within(`a place for ${body.id}`, ANSWER_MS, caller.stream(body).queued);
	}
	const idsIn = ({ waiting }: LimitInfo): string[] => waiting.map(({ id }) => id);
	const before = idsIn(await caller.inspect("line-many"));
	expect(before).toEqual(many.map(({ id }) => id));

	await killAndRestart();

	// The later ones are back and their slots are free: they wait for the earlier ones, who have the right of way.
	const ahead = [late, held].map(({ first, second }) => ({ first, second: caller.stream(second) }));
	const pastTheLost = caller.stream(lost.second);
	for (const { second } of ahead) {
		expect(await within(`the place that ${second.body.id} had`, ANSWER_MS, second.queued)).toBe(2);
	}
	const freedAt = performance.now();
	for (const name of ["line-late", "line-late-held", "line-lost"]) await free(name);

	// All come back, the last one first.
	const back: Stream[] = [];
	for (const body of [...many].reverse()) {
		const stream = caller.stream(body);
		back.unshift(stream);
		await within(`a place for ${body.id}`, ANSWER_MS, stream.queued);
	}
	expect(idsIn(await caller.inspect("line-many"))).toEqual(before);
	await free("line-many");
	const order: string[] = [];
	await Promise.all(
		back.map(async (stream) => {
			const { id, names } = await within(`a grant for ${stream.body.id}`, ANSWER_MS, stream.granted);
			order.push(id);
			await caller.release({ id, names });
		}),
	);
	expect(order).toEqual(before);

	// Longer than a broken connection is given in a line that goes on; after a restart everybody needs more.
	await sleep(Math.max(0, 2_000 - (performance.now() - freedAt)));
	for (const { first, second } of ahead) {
		expect(second.decided, `${second.body.id} was granted before ${first.id} was back`).toBe(false);
		const stream = caller.stream(first);
		await caller.release(await within(`the grant for ${first.id}`, ANSWER_MS, stream.granted));
		await within(`the grant for ${second.body.id}`, ANSWER_MS, second.granted);
	}

	// One that never comes back holds up the line for a few seconds only.
	await within("the grant past the one that is lost", ANSWER_MS, pastTheLost.granted);
	const passedAfter = pastTheLost.grantedAt - freedAt;
	console.log(`a waiter that did not come back after kill -9 was passed after ${passedAfter.toFixed(0)} ms`);
});
