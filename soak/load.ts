/**
 * Callers of every kind at one set of limits. Each makes its choices from a seed of its own, tells the history what it asked for
 * and what it heard, and asks again under the same id when its connection breaks.
 */

import { check, checkLevel, checkStored, heldUntil, mayLastUntil } from "./checker.ts";
import { type Ask, History, type Limit, type Violation } from "./history.ts";
import { type Answer, Broken, call, Hung, type Json, Lines, notForEver, pause, until } from "./http.ts";
import type { Random } from "./random.ts";
import type { Server } from "./server.ts";

/** What ends a run: the server did what it must not. */
export class Broke extends Error {
	readonly violation: Violation;

	constructor(violation: Violation) {
		super(violation.what);
		this.violation = violation;
	}
}

/** A fault may be felt for so long after it is over, by a connection that was being made. */
const FELT_MS = 5_000;
/** What a restart, an expiry or a reservation that lapses leaves is gone by then, on a machine that does other things. */
const GONE_MS = 60_000;
const LONG_SECONDS = 600;

const PLAIN = 4;
const STREAMING = 4;
const RATE = 3;

interface Spec {
	kind: Limit["kind"];
	limit: number;
	slotDecayPerSecond?: number;
	window?: { every: number; sliding: boolean };
	lendSeconds?: number;
	isPlain?: boolean;
}

const LIMITS = {
	"pool-a": { kind: "lease", limit: 14 },
	"pool-b": { kind: "lease", limit: 5 },
	"line-1": { kind: "lease", limit: 1 },
	"line-2": { kind: "lease", limit: 2 },
	"line-3": { kind: "lease", limit: 3 },
	"rate-a": { kind: "decay", limit: 40, slotDecayPerSecond: 20, isPlain: true },
	"rate-b": { kind: "decay", limit: 6, slotDecayPerSecond: 3, isPlain: true },
	lent: { kind: "decay", limit: 60, slotDecayPerSecond: 40, lendSeconds: 0.5 },
	estimate: { kind: "decay", limit: 60, slotDecayPerSecond: 10 },
	paused: { kind: "decay", limit: 20, slotDecayPerSecond: 50 },
	slides: { kind: "sliding", limit: 12, window: { every: 2, sliding: true } },
	calendar: { kind: "calendar", limit: 10, window: { every: 3, sliding: false } },
} satisfies Record<string, Spec>;
type Name = keyof typeof LIMITS;

/** What no caller may ask for, and the status that it is told. */
const REFUSED: [status: number, method: string, route: string, body?: unknown][] = [
	[422, "POST", "/v1/acquire", { names: Array.from({ length: 17 }, (_, at) => `n${at}`) }],
	[422, "POST", "/v1/acquire", { names: "a/b" }],
	[422, "POST", "/v1/acquire", { names: "x".repeat(256) }],
	[422, "POST", "/v1/acquire", { names: "n", leaseSeconds: 0 }],
	[422, "POST", "/v1/acquire", { names: "n", leaseSeconds: 86_401 }],
	[422, "POST", "/v1/acquire", { names: "n", occupy: -1 }],
	[422, "POST", "/v1/acquire", { names: "n", waitSeconds: 61 }],
	[422, "POST", "/v1/acquire", { names: "n", id: "x".repeat(129) }],
	[422, "POST", "/v1/acquire", { names: "n", holder: "x".repeat(257) }],
	[413, "POST", "/v1/acquire", { names: "n", holder: "x".repeat(70_000) }],
	[400, "POST", "/v1/acquire", '{"names": '],
	[404, "GET", "/v1/nothing"],
	[405, "DELETE", "/v1/acquire"],
];

/** The callers of one set of limits, for as many rounds as it lives. */
export class World {
	readonly server: Server;
	readonly history = new History();
	/** Operations that came to an end. */
	done = 0;
	/** How often what happened, for the report. */
	readonly counts = new Map<string, number>();
	#violation: Violation | undefined;
	readonly #prefix: string;
	readonly #random: Random;
	/** Leases that are held over the rounds, by caller. */
	readonly #own: Ask[][] = [];
	/** One of each caller that is held for as long as its limit lives. */
	readonly #kept: (Ask | undefined)[] = [];
	readonly #randoms: Random[] = [];
	/** What a caller that left was asking for, and what the server's clock said. */
	readonly #left: { ask: Ask; wallMs: number }[] = [];
	#ids = 0;
	#running: Promise<unknown> | undefined;
	#ending = false;
	#waiters: { count: number; reached: () => void }[] = [];

	constructor(server: Server, prefix: string, random: Random) {
		this.server = server;
		this.#prefix = prefix;
		this.#random = random;
		for (let caller = 0; caller < PLAIN + STREAMING + RATE + 2; caller += 1) {
			this.#own.push([]);
			this.#randoms.push(random.fork());
		}
	}

	name(of: Name): string {
		return `${this.#prefix}-${of}`;
	}

	id(): string {
		return `${this.#prefix}-${++this.#ids}`;
	}

	count(what: string): void {
		this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
	}

	/** Ends the run. */
	broke(violation: Violation): never {
		this.#violation ??= violation;
		throw new Broke(violation);
	}

	async setUp(): Promise<void> {
		for (const [short, spec] of Object.entries(LIMITS) as [Name, Spec][]) {
			const { kind, limit, slotDecayPerSecond = 0, window, lendSeconds, isPlain = false } = spec;
			const name = this.name(short);
			const sentAt = performance.now();
			const settings = { limit, slotDecayPerSecond, ...(window && { window }), ...(lendSeconds && { lendSeconds }) };
			await this.expect([200, 201], "PUT", `/v1/limits/${name}`, settings);
			const windowMs = window ? window.every * 1_000 : 0;
			const capacities = [{ limit, sentAt, answeredAt: performance.now() }];
			this.history.limits.set(name, { name, kind, slotDecayPerSecond, windowMs, capacities, pauses: [], isPlain });
		}
	}

	// ------------------------------------------------------------------------------------------- asking

	/** Asks until there is an answer, whatever breaks meanwhile. */
	async call(method: string, route: string, body?: unknown, again?: () => void): Promise<Answer> {
		for (;;) {
			try {
				const answer = await call(this.server.port, method, route, body);
				if (answer.status === 500 || answer.body?.unreadable !== undefined) {
					const what = `${method} ${route} ${JSON.stringify(body)} is answered ${answer.status}: ${JSON.stringify(answer.body)}`;
					this.broke({ promise: "no bug shows", what, history: [] });
				}
				return answer;
			} catch (error) {
				if (error instanceof Hung) this.broke({ promise: "no call hangs", what: error.message, history: [] });
				if (!(error instanceof Broken)) throw error;
				this.#expectBreak(error.message);
				await this.server.answers();
				again?.();
			}
		}
	}

	#expectBreak(what: string): void {
		this.count("connections that broke");
		if (this.history.isDisturbed(performance.now())) return;
		this.broke({
			promise: "connections last",
			what: `a connection broke without a fault: ${what}`,
			history: this.server.printed.slice(-10),
		});
	}

	/** Asks until it is answered with one of these, which a fault may put off, and nothing else may. */
	async expect(statuses: number[], method: string, route: string, body?: unknown): Promise<Json> {
		return await until(
			`${method} ${route} answered with ${statuses}`,
			async () => {
				const answer = await this.call(method, route, body);
				if (statuses.includes(answer.status)) return { body: answer.body };
				if (answer.status === 503) {
					this.#sayRefused(answer.body);
					return false;
				}
				this.broke({
					promise: "answers are those that are told",
					what: `${method} ${route} ${JSON.stringify(body)} is answered ${answer.status} ${JSON.stringify(answer.body)}, and not ${statuses}`,
					history: [],
				});
			},
			GONE_MS,
		).then(({ body: found }) => found);
	}

	#sayRefused(problem: Json): void {
		const when = this.history.isDisturbed(performance.now()) ? "in a fault" : "without a fault";
		this.count(`503 ${problem?.code} ${when}`);
	}

	/** What became of a request, as one answer says it. */
	hear(ask: Ask, status: number, body: Json): void {
		const now = performance.now();
		if (status === 200) {
			this.history.note(ask, `is granted, fence ${JSON.stringify(body.fence ?? {})}`);
			this.count("granted");
			ask.grantedAt = Math.min(ask.grantedAt, now);
			ask.fate = "granted";
			for (const [name, fence] of Object.entries((body.fence ?? {}) as Record<string, number>)) {
				const told = ask.fences[name] ?? [];
				ask.fences[name] = told;
				told.push(fence);
			}
			// A grant that is told again shows the period that it is told in.
			if (ask.tries > 1) return;
			for (const { name, resetsAt } of body.limits ?? []) if (resetsAt) ask.resetsAt[name] ??= resetsAt;
			return;
		}
		this.history.note(ask, `is answered ${status} ${body?.code}`);
		if (ask.fate === "granted") return;
		if (status === 429 || body?.code === "exceeds_limit") {
			ask.fate = "denied";
			this.count("denied");
		} else if (status === 503) {
			ask.fate = "refused";
			this.#sayRefused(body);
		} else if (status === 409 && ask.tries > 1) {
			// It was granted to a connection that broke, and given back since.
			ask.fate = "left";
			ask.leftAt = ask.sentAt;
			this.count("ids that had ended when they were asked again");
		} else {
			const what = `${JSON.stringify(ask.slots)} is answered ${status} ${JSON.stringify(body)}`;
			this.broke({ promise: "answers are those that are told", what, history: this.history.tell([ask]) });
		}
	}

	async acquire(ask: Ask, more: object = {}): Promise<boolean> {
		const { id, slots: names, mode, leaseMs } = ask;
		const lease = mode === "concurrency" ? { leaseSeconds: leaseMs / 1_000 } : {};
		const { status, body } = await this.call("POST", "/v1/acquire", { id, names, mode, ...lease, ...more }, () => {
			ask.tries += 1;
			this.history.note(ask, "asks again, for its connection broke");
		});
		this.hear(ask, status, body);
		return ask.fate === "granted";
	}

	async release(ask: Ask): Promise<void> {
		const names = Object.keys(ask.slots);
		ask.endSentAt = Math.min(ask.endSentAt, performance.now());
		this.history.note(ask, "is to be released");
		const { released } = await this.expect([200], "POST", "/v1/release", { id: ask.id, names });
		ask.endedAt = Math.min(ask.endedAt, performance.now());
		ask.released.push(released);
		this.history.note(ask, `has given back ${released}`);
		this.count("released");
	}

	async renew(ask: Ask): Promise<void> {
		const renewal = { sentAt: performance.now(), answeredAt: Number.POSITIVE_INFINITY, status: 0 };
		ask.renewals.push(renewal);
		const names = Object.keys(ask.slots);
		const { status, body } = await this.call("POST", "/v1/renew", { id: ask.id, names }, () => {
			// The one before may have been the one that was carried out.
			renewal.sentAt = performance.now();
		});
		renewal.answeredAt = performance.now();
		renewal.status = status;
		this.history.note(ask, `a renewal is answered ${status}`);
		this.count("renewed");
		if (status === 503) this.#sayRefused(body);
		else if (status !== 200 && status !== 410) {
			const what = `a renewal is answered ${status} ${JSON.stringify(body)}`;
			this.broke({ promise: "answers are those that are told", what, history: this.history.tell([ask]) });
		}
	}

	// ------------------------------------------------------------------------------------------ callers

	/** Lets all callers go on, until `quiet`. */
	begin(): void {
		this.#ending = false;
		const kinds = [
			...Array<(at: number) => Promise<void>>(PLAIN).fill((at) => this.#plain(at)),
			...Array<(at: number) => Promise<void>>(STREAMING).fill((at) => this.#streaming(at)),
			...Array<(at: number) => Promise<void>>(RATE).fill((at) => this.#rate(at)),
			(at: number) => this.#operator(at),
			(at: number) => this.#exact(at),
		];
		this.#running = Promise.all(
			kinds.map(async (step, at) => {
				while (!this.#ending && !this.#violation) {
					await step(at);
					this.done += 1;
					this.#waiters = this.#waiters.filter(({ count, reached }) => {
						if (this.done >= count) reached();
						return this.done < count;
					});
					await pause(this.#of(at).int(0, 15));
				}
			}),
		);
		this.#running.catch(() => undefined);
	}

	#of(caller: number): Random {
		return this.#randoms[caller] as Random;
	}

	/** Resolves when so many more operations came to an end. */
	async further(operations: number): Promise<void> {
		const count = this.done + operations;
		const met = new Promise<void>((reached) => this.#waiters.push({ count, reached }));
		const why = `${operations} more operations`;
		try {
			await notForEver(Promise.race([met, (this.#running as Promise<unknown>).then(() => undefined)]), why);
		} catch (error) {
			if (!(error instanceof Hung)) throw error;
			this.broke({ promise: 3, what: `callers get no further: ${error.message}`, history: this.#open() });
		}
	}

	/** Requests of which nothing is known yet. */
	#open(): string[] {
		return this.history.tell(this.history.asks.filter(({ fate }) => fate === "asked").slice(0, 8));
	}

	async #plain(at: number): Promise<void> {
		const random = this.#of(at);
		const own = this.#own[at] as Ask[];
		const what = random.weighted({
			acquire: own.length < 3 ? 5 : 1,
			renew: own.length > 0 ? 2 : 0,
			release: own.length > (this.#kept[at] ? 1 : 0) ? 3 : 0,
			again: 0.7,
			other: own.length > 0 ? 0.4 : 0,
			look: 0.5,
		});
		const names = random.chance(0.3)
			? random.shuffled(["pool-a", "pool-b", "line-2"] as const).slice(0, 2)
			: [random.pick(["pool-a", "pool-b"] as const)];
		const slots = Object.fromEntries(names.map((name) => [this.name(name), random.int(1, 2)]));
		// Where others wait, nothing is kept from one round to the next.
		const isShort = random.chance(0.35) || names.some((name) => name === "line-2");
		const leaseSeconds = isShort ? random.int(1, 2) : LONG_SECONDS;
		const waitSeconds = random.pick([0, 0, 0.2, 1]);
		const isTwice = random.chance(0.15);
		const index = random.int(0, Math.max(0, own.length - 1));
		if (what === "acquire") {
			const ask = this.history.ask({
				...{ id: this.id(), mode: "concurrency", slots, leaseMs: leaseSeconds * 1_000, waits: waitSeconds > 0 },
			});
			const all = isTwice ? [1, 2] : [1];
			await Promise.all(all.map(() => this.acquire(ask, { waitSeconds })));
			if (ask.fate !== "granted") return;
			own.push(ask);
			const isKept = !isShort && names.length === 1 && names[0] === "pool-a";
			if (isKept && !this.#kept[at]) this.#kept[at] = ask;
		} else if (what === "renew") {
			const ask = own[index] as Ask;
			await this.renew(ask);
			if (ask.renewals.at(-1)?.status !== 410) return;
			own.splice(index, 1);
			if (ask === this.#kept[at]) this.#kept[at] = undefined;
		} else if (what === "release") {
			const releasable = own.filter((ask) => ask !== this.#kept[at]);
			const ask = releasable[index % releasable.length] as Ask;
			own.splice(own.indexOf(ask), 1);
			await Promise.all((isTwice ? [1, 2] : [1]).map(() => this.release(ask)));
		} else if (what === "again") {
			await this.#askAgain(random);
		} else if (what === "other") {
			await this.#askOtherwise(own[index] as Ask);
		} else {
			await this.expect([200], "GET", `/v1/limits/${this.name("pool-a")}`);
			await this.expect([200], "POST", "/v1/check", { names: this.name("pool-b"), occupy: 2 });
		}
	}

	/** Another request under an id that is used: it is refused, and the lease stays as it is. */
	async #askOtherwise(ask: Ask): Promise<void> {
		// A clock that leaps on may end the lease, and forget its id after it.
		const hasJumped = (): boolean => this.history.jumps.some(({ at, seconds }) => at > ask.sentAt && seconds > 0);
		if (hasJumped()) return;
		const names = Object.fromEntries(Object.keys(ask.slots).map((name) => [name, 3]));
		const { status, body } = await this.call("POST", "/v1/acquire", { id: ask.id, names });
		this.history.note(ask, `another request under its id is answered ${status} ${body?.code ?? ""}`);
		if (hasJumped() && status === 200) return void (await this.call("POST", "/v1/release", { id: ask.id, names }));
		// A limit that was lowered meanwhile refuses it before it looks whose id it is.
		if (status === 409 || status === 503 || body?.code === "exceeds_limit" || hasJumped()) return;
		const what = `another request under a used id is answered ${status} ${JSON.stringify(body)}`;
		this.broke({ promise: 11, what, history: this.history.tell([ask]) });
	}

	/** An id that was granted not long ago: it is the same lease, or it has ended. */
	async #askAgain(random: Random): Promise<void> {
		const past = this.history.asks.filter(
			({ fate, mode, isHeld, sentAt }) =>
				fate === "granted" &&
				mode === "concurrency" &&
				!isHeld &&
				performance.now() - sentAt < 120_000 &&
				!this.history.jumps.some(({ at, seconds }) => at > sentAt && seconds > 0),
		);
		if (past.length === 0) return;
		const ask = random.pick(past.slice(-40));
		const { id, slots: names, leaseMs } = ask;
		const jumps = this.history.jumps.length;
		const sentAt = performance.now();
		const before = heldUntil(this.history, ask);
		const { status, body } = await this.call("POST", "/v1/acquire", { id, names, leaseSeconds: leaseMs / 1_000 });
		if (this.history.jumps.length > jumps) return;
		this.history.note(ask, `asked again, is answered ${status} ${body?.code ?? ""}`);
		this.count("ids asked again");
		if (status === 200) {
			if (sentAt > ask.endedAt) {
				const what = `${id} was released, and is granted again`;
				this.broke({ promise: 11, what, history: this.history.tell([ask]) });
			}
			for (const [name, fence] of Object.entries(body.fence as Record<string, number>)) ask.fences[name]?.push(fence);
		} else if (status === 503) {
			this.#sayRefused(body);
		} else if (performance.now() < before && ask.endSentAt === Number.POSITIVE_INFINITY) {
			const what = `${id} is held, and asked again it is answered ${status} ${JSON.stringify(body)}`;
			this.broke({ promise: 11, what, history: this.history.tell([ask]) });
		}
	}

	async #streaming(at: number): Promise<void> {
		const random = this.#of(at);
		const names = random.chance(0.25)
			? random.shuffled(["line-1", "line-2", "line-3"] as const).slice(0, 2)
			: [random.pick(["line-1", "line-1", "line-2"] as const)];
		const slots = Object.fromEntries(names.map((name) => [this.name(name), name === "line-1" ? 1 : random.int(1, 2)]));
		const isHeld = random.chance(0.35);
		const how = random.weighted({ wait: 7, leave: 1.5, stall: 1, "wait a while": 1 });
		const leave = random.pick(["FIN", "RST"] as const);
		const patienceMs = random.int(0, 400);
		const holdMs = random.int(0, 40);
		const ask = this.history.ask({
			...{ id: this.id(), mode: "concurrency", slots, leaseMs: LONG_SECONDS * 1_000, isHeld, waits: true },
		});
		const body = {
			...{ id: ask.id, names: slots, leaseSeconds: LONG_SECONDS },
			...(isHeld && { hold: true }),
			...(how === "wait a while" && { waitSeconds: patienceMs / 1_000 }),
		};
		for (;;) {
			const stream = new Lines(this.server.port, body);
			stream.onLine = ({ event, position }) => {
				if (event !== "queued") return;
				ask.queuedAt = Math.min(ask.queuedAt, performance.now());
				this.history.note(ask, `is told its place, ${position}`);
			};
			if (how === "leave") {
				await stream.first("queued", "granted", "denied");
				await pause(patienceMs);
				return await this.#leave(ask, stream, leave);
			}
			if (how === "stall") {
				await stream.first("queued", "granted", "denied");
				stream.exchange.stall();
				await pause(patienceMs * 5);
				stream.exchange.resume();
				this.count("readers that stalled");
			}
			const line = await this.#verdict(ask, stream);
			if (line?.event === "granted") {
				this.hear(ask, 200, line.lease);
				const broken = stream.exchange.over.then(() => {
					if (isHeld) ask.endSentAt = Math.min(ask.endSentAt, performance.now());
				});
				await Promise.race([pause(holdMs), ...(isHeld ? [broken] : [])]);
				if (isHeld && leave === "RST") {
					ask.endSentAt = Math.min(ask.endSentAt, performance.now());
					this.history.note(ask, "closes the stream that holds its lease");
					stream.exchange.reset();
				} else {
					await this.release(ask);
					stream.exchange.close();
				}
				return;
			}
			if (line?.event === "denied") return this.hear(ask, line.problem.status, line.problem);
			if (stream.refusal) return this.hear(ask, stream.exchange.status, stream.refusal);
			this.#expectBreak(`the stream of ${ask.id}`);
			await this.server.answers();
			ask.tries += 1;
			this.history.note(ask, "asks again, for its stream broke");
		}
	}

	async #verdict(ask: Ask, stream: Lines): Promise<Json> {
		try {
			return await stream.first("granted", "denied");
		} catch (error) {
			if (!(error instanceof Hung)) throw error;
			const seen: string[] = [];
			for (const name of Object.keys(ask.slots)) {
				const { leases, waiting } = await this.expect([200], "GET", `/v1/limits/${name}`);
				seen.push(`${name}: ${JSON.stringify({ leases, waiting })}`);
			}
			const holding = this.history.asks.filter(({ id }) => seen.some((text) => text.includes(`{"id":"${id}","slots"`)));
			const history = [...this.history.tell([ask, ...holding]), ...seen];
			this.broke({ promise: 3, what: `a waiter is never served: ${error.message}`, history });
		}
	}

	/** A caller that goes without a word. Its place goes with it, and what it may have been granted just then is taken back. */
	async #leave(ask: Ask, stream: Lines, how: "FIN" | "RST"): Promise<void> {
		ask.leftAt = performance.now();
		ask.fate = "left";
		this.history.note(ask, `goes, by ${how}`);
		this.count(`callers that went by ${how}`);
		this.#left.push({ ask, wallMs: Date.now() + this.server.clockSeconds * 1_000 });
		if (how === "RST") stream.exchange.reset();
		else stream.exchange.close();
		for (const name of Object.keys(ask.slots)) {
			const look = async (): Promise<boolean> => {
				await this.#takeBack(name);
				const { waiting } = await this.expect([200], "GET", `/v1/limits/${name}`);
				return !waiting.some(({ id }: { id: string }) => id === ask.id);
			};
			await this.#must(10, `${ask.id} went, and has left the line of ${name}`, look, [ask]);
		}
	}

	/** What was granted to callers as they went; a lease that began later is none that may be. */
	async #takeBack(name: string): Promise<void> {
		const leases = new Map((await this.#leases(name)).map((lease) => [lease.id, lease]));
		for (const { ask, wallMs } of this.#left) {
			const lease = leases.get(ask.id);
			if (!lease) continue;
			const late = Date.parse(lease.since) - wallMs;
			const jumped = this.history.jumps.some(({ at }) => at > ask.sentAt);
			if (late > FELT_MS && !jumped) {
				const what = `${ask.id} went, and was granted ${late} ms later`;
				this.broke({ promise: 10, what, history: this.history.tell([ask]) });
			}
			this.count("grants told to callers that were going");
			await this.expect([200, 410], "DELETE", `/v1/limits/${name}/leases/${ask.id}`);
		}
	}

	/** What has to come to be true. */
	async #must(promise: number | string, what: string, look: () => Promise<boolean>, asks: Ask[]): Promise<void> {
		try {
			await until(what, look, GONE_MS);
		} catch (error) {
			if (!(error instanceof Hung)) throw error;
			this.broke({ promise, what: error.message, history: this.history.tell(asks) });
		}
	}

	async #rate(at: number): Promise<void> {
		const random = this.#of(at);
		const short = random.pick([
			"rate-a",
			"rate-b",
			"lent",
			"lent",
			"estimate",
			"paused",
			"slides",
			"calendar",
		] as const);
		const name = this.name(short);
		const slots = random.int(1, short === "lent" || short === "estimate" ? 6 : 3);
		const share = random.next();
		const isBatch = random.chance(0.15);
		const firstAttempt = random.chance(0.5);
		const rate = (): Ask => this.history.ask({ id: this.id(), mode: "rate_limit", slots: { [name]: slots } });
		if (isBatch) {
			const asks = [rate(), rate(), rate()];
			const requests = asks.map(({ id }) => ({ id, names: { [name]: slots }, mode: "rate_limit" }));
			const { status, body } = await this.call("POST", "/v1/acquire/batch", { requests }, () => {
				for (const ask of asks) {
					ask.tries += 1;
					this.history.note(ask, "asks again, for its connection broke");
				}
			});
			for (const [index, ask] of asks.entries()) {
				const answer = body?.answers?.[index];
				if (status === 200) this.hear(ask, answer.status, answer.lease ?? answer.problem);
				else this.hear(ask, status, body);
			}
			return;
		}
		const ask = rate();
		if (short === "lent") {
			// Without an id, for those are what is granted from loans; so it is not asked again.
			const sent = call(this.server.port, "POST", "/v1/acquire", { names: { [name]: slots }, mode: "rate_limit" });
			const answer = await sent.catch((error) => {
				if (!(error instanceof Broken)) throw error;
				this.#expectBreak(error.message);
			});
			if (answer) return this.hear(ask, answer.status, answer.body);
			ask.fate = "left";
			await this.server.answers();
			return;
		}
		const settleSeconds = short === "estimate" ? 60 : undefined;
		const granted = await this.acquire(ask, {
			...(settleSeconds && { settleSeconds }),
			...(firstAttempt && ask.tries === 1 && short !== "estimate" && { firstAttempt }),
		});
		if (!granted || settleSeconds === undefined) return;
		await this.#settle(ask, name, Math.round(share * slots * 1.3));
	}

	async #settle(ask: Ask, name: string, actual: number): Promise<void> {
		const { id } = ask;
		// From when it is sent it may have given slots back.
		ask.settled[name] = actual;
		this.history.note(ask, `is to be settled with ${actual}`);
		const jumps = this.history.jumps.length;
		const settled = await this.call("POST", "/v1/settle", { id, actual: { [name]: actual } });
		const other = await this.call("POST", "/v1/settle", { id, actual: { [name]: actual + 1 } });
		if (this.history.jumps.length > jumps || settled.status === 503 || other.status === 503) return;
		this.count("settled");
		const jumped = this.history.jumps.some(({ at, seconds }) => at >= ask.sentAt && seconds > 0);
		if ((settled.status === 200 && other.status === 409) || jumped) return;
		const what = `an estimate is settled with ${settled.status}, and with another number ${other.status}`;
		this.broke({ promise: "settle", what, history: this.history.tell([ask]) });
	}

	async #operator(at: number): Promise<void> {
		const random = this.#of(at);
		const what = random.pick(["capacity", "pause", "refused", "look"] as const);
		const capacity = random.int(3, 7);
		const seconds = random.int(1, 4) / 10;
		const [status, method, route, body] = random.pick(REFUSED);
		if (what === "capacity") {
			const limit = this.history.limits.get(this.name("pool-b")) as Limit;
			const change = { limit: capacity, sentAt: performance.now(), answeredAt: Number.POSITIVE_INFINITY };
			limit.capacities.push(change);
			await this.expect([200], "PATCH", `/v1/limits/${limit.name}`, { limit: capacity });
			change.answeredAt = performance.now();
			this.count("settings changed");
		} else if (what === "pause") {
			const limit = this.history.limits.get(this.name("paused")) as Limit;
			const sentAt = performance.now();
			const answer = await this.call("POST", `/v1/limits/${limit.name}/pause`, { seconds });
			if (answer.status === 200) limit.pauses.push({ sentAt, answeredAt: performance.now(), seconds });
			this.count("pauses");
		} else if (what === "refused") {
			const answer = await this.call(method, route, body);
			this.count("requests out of bounds");
			if (answer.status === status || (answer.status === 503 && this.history.isDisturbed(performance.now()))) return;
			const told = JSON.stringify(body)?.slice(0, 200);
			const what = `${method} ${route} ${told} is answered ${answer.status}, and not ${status}`;
			this.broke({ promise: 12, what, history: [] });
		} else {
			await this.expect([200], "GET", `/v1/limits?prefix=${this.#prefix}`);
			await this.expect([200], "GET", "/metrics");
		}
	}

	/** Promise 8: alone at a limit, a caller that is denied is granted at exactly the moment that it was told. */
	async #exact(at: number): Promise<void> {
		const random = this.#of(at);
		const name = `${this.#prefix}-exact-${this.done}`;
		const [limit, slotDecayPerSecond] = [random.int(1, 3), random.pick([3, 7, 11, 0.7 * 9])];
		const request = { names: name, occupy: random.int(1, limit), mode: "rate_limit" };
		await this.expect([200, 201], "PUT", `/v1/limits/${name}`, { limit, slotDecayPerSecond });
		const jumps = this.history.jumps.length;
		const from = performance.now();
		const log: string[] = [];
		for (let denials = 0; denials < 3; ) {
			const { status, body } = await this.call("POST", "/v1/acquire", request);
			log.push(`${status} ${body?.retryAfterSeconds ?? ""}`);
			if (status !== 429) continue;
			denials += 1;
			await exactly(body.retryAfterSeconds * 1_000);
			const again = await this.call("POST", "/v1/acquire", request);
			log.push(`asked again after it: ${again.status} ${again.body?.retryAfterSeconds ?? ""}`);
			if (again.status === 200) continue;
			const disturbed = this.history.disturbed.some(({ from: began, to }) => began < performance.now() && to > from);
			if (disturbed || this.history.jumps.length > jumps) break;
			this.broke({ promise: 8, what: `a retry at the announced moment is denied, on ${name}`, history: log });
		}
		this.count("exact retries");
		await this.expect([204, 404], "DELETE", `/v1/limits/${name}`);
	}

	// -------------------------------------------------------------------------------------------- judging

	/** What a fault does is to be expected from now on, until what is returned is called. */
	disturb(what: string): () => void {
		const entry = { what, from: performance.now(), to: Number.POSITIVE_INFINITY };
		this.history.disturbed.push(entry);
		return () => {
			entry.to = performance.now() + FELT_MS;
		};
	}

	/** Leases that live by a stream may end now, and nobody tells. */
	heldMayEnd(): void {
		for (const ask of this.history.asks) if (ask.isHeld) ask.endSentAt = Math.min(ask.endSentAt, performance.now());
	}

	/** Sets the server's clock so many seconds on, or back. */
	jump(seconds: number): void {
		this.history.jumps.push({ at: performance.now(), seconds });
		this.server.setClock(this.server.clockSeconds + seconds);
	}

	/** All callers come to the end of what they do; then what is stored is compared with what they know. */
	async quiet(): Promise<void> {
		this.#ending = true;
		try {
			await notForEver(this.#running as Promise<unknown>, "the end of what callers were doing", () => {}, 180_000);
		} catch (error) {
			if (!(error instanceof Hung)) throw error;
			this.broke({ promise: 3, what: error.message, history: this.#open() });
		}
		for (const limit of this.history.limits.values()) {
			if (limit.kind === "lease") await this.#compare(limit);
			else if (limit.isPlain) await this.#compareLevel(limit);
		}
		const [violation] = check(this.history);
		if (violation) this.broke(violation);
	}

	async #leases(name: string): Promise<{ id: string; slots: number; since: string }[]> {
		const { leases } = await this.expect([200], "GET", `/v1/limits/${name}/leases?count=1000`);
		return leases;
	}

	async #compare(limit: Limit): Promise<void> {
		const { name } = limit;
		const known = new Map(this.history.asks.map((ask) => [ask.id, ask]));
		const mayStay = (ask: Ask): boolean =>
			ask.fate === "granted" && ask.endSentAt === Number.POSITIVE_INFINITY && performance.now() < mayLastUntil(ask);
		await this.#takeBack(name);
		let last: Json;
		try {
			await until(
				`${name} holds what is known and nothing else`,
				async () => {
					const leases = await this.#leases(name);
					const info = await this.expect([200], "GET", `/v1/limits/${name}`);
					last = { leases, info };
					const strangers = leases.filter(({ id }) => !mayStay(known.get(id) ?? ({} as Ask)));
					const sum = leases.reduce((all, { slots }) => all + slots, 0);
					return strangers.length === 0 && info.waitingCount === 0 && info.activeSlots === sum;
				},
				GONE_MS,
			);
		} catch (error) {
			if (!(error instanceof Hung)) throw error;
			const ids: string[] = [...last.leases, ...last.info.waiting].map(({ id }) => id);
			const asks = ids.flatMap((id) => known.get(id) ?? []).filter((ask) => !mayStay(ask));
			const found = `${last.info.activeSlots} in use, ${last.info.waitingCount} waiting, leases ${JSON.stringify(last.leases)}`;
			const what = `${error.message}: ${found}`;
			this.broke({ promise: "5, 7 or 10", what, history: this.history.tell(asks.slice(0, 4)) });
		}
		const askedAt = performance.now();
		const [violation] = checkStored(this.history, limit, await this.#leases(name), askedAt);
		if (violation) this.broke(violation);
	}

	async #compareLevel(limit: Limit): Promise<void> {
		const askedAt = performance.now();
		const { activeSlots } = await this.expect([200], "GET", `/v1/limits/${limit.name}`);
		const [violation] = checkLevel(this.history, limit, activeSlots, askedAt, performance.now());
		if (violation) this.broke(violation);
	}

	/** Everything is given back: no slot is lost, and every limit can be taken in full. */
	async end(): Promise<void> {
		for (const own of this.#own) for (const ask of own.splice(0)) await this.release(ask);
		await this.quiet();
		for (const { name, kind, capacities } of this.history.limits.values()) {
			if (kind === "lease") {
				const slots = (capacities.at(-1) as { limit: number }).limit;
				const body = { names: { [name]: slots }, id: this.id(), waitSeconds: 30 };
				const { status } = await this.call("POST", "/v1/acquire", body);
				if (status !== 200) {
					const what = `with nothing in use, ${slots} slots of ${name} are answered ${status}`;
					this.broke({ promise: 7, what, history: [] });
				}
				await this.expect([200], "POST", "/v1/release", body);
			}
			await this.expect([204], "DELETE", `/v1/limits/${name}`);
		}
	}

	/** Its own choices, for those who do something to it. */
	get random(): Random {
		return this.#random;
	}
}

/** Not a moment less. */
async function exactly(ms: number): Promise<void> {
	const end = performance.now() + ms;
	while (performance.now() < end) await pause(Math.max(1, end - performance.now()));
}
