/**
 * A request for several names: reserve in the one fixed order, then commit all at once. A reservation that is not
 * committed lapses, and a lease whose peers did not commit gives its slots back, so a coordinator may die at any
 * step and leave nothing behind for longer than ten seconds.
 *
 * A request that waits keeps a place in every line. It waits for the name that has no room and holds nothing
 * meanwhile; when its turn there comes it tries the others again. After three rounds in vain it holds what it has,
 * in the fixed order, so that it is served in the end and two such requests never wait for each other.
 */

import type { Event } from "../../core/commands.ts";
import type { Request } from "../../core/limit.ts";
import type { LimitStatus, Problem, WaitingFor } from "../../protocol.ts";
import { type Answered, type Granted, lease, missingStatus, seen, waitingFor } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import type { Missing, Outcome, Peeked, Status } from "../contract/outcomes.ts";
import { failure, outOfReach, unknownLimits, withdrawn } from "../contract/problems.ts";
import { TooMany } from "./admission/admission.ts";
import { limitOf } from "./limit-stub.ts";
import { type Line, lines, type Place } from "./ndjson.ts";
import { rulingsOf } from "./policy-copy.ts";
import type { Acquire } from "./requests.ts";
import { coreRequest, deniedVerdict, type Verdict } from "./verdict.ts";

/** Rounds in which a waiting request gives back what it has; then it holds on to it. */
export const POLITE_ROUNDS = 3;
/** How often a waiting request is heard of by the limits where it keeps a place or slots. They lapse after 5 s. */
export const TOUCH_MS = 1_500;

/** Restarts of objects that one request outlives; more of them are no accident. */
const BREAKS_MAX = 5;

/** What a waiting request is told on its way. */
export type Progress = (position: number, waitingFor: WaitingFor) => void;

/** How one name of a request was answered. */
interface Reserved {
	name: string;
	/** `granted`: the request had been committed before; this is its repetition. */
	event: Extract<Event, { kind: "reserved" | "granted" }>;
	status: Status;
}

type Blocked = Extract<Event, { kind: "denied" | "parked" }>;

/** A name that has no room for the request. */
interface BlockedName {
	name: string;
	event: Blocked;
	status: Status;
}

export class Coordinator {
	readonly #env: Env;
	readonly #acquire: Acquire;
	/** The caller has gone, or gave up. */
	readonly #signal: AbortSignal;
	readonly #progress: Progress;
	readonly #startedAt = Date.now();
	/** Slots set aside so far, by name. */
	readonly #reserved = new Map<string, Reserved>();
	/** Tells this run from another under the same id, whose caller came back. */
	readonly #call = crypto.randomUUID();
	/** How each limit that this request was sent to stood then. Another one of the same name is not asked. */
	readonly #met = new Map<string, Status>();
	/** Names whose line has a place of this request. */
	readonly #placed = new Set<string>();
	/** Waits that ended because their object was restarted. */
	#breaks = 0;
	/** Ends the wait in one line because the place in another is lost. */
	#displaced: AbortController | null = null;
	readonly #skipped: LimitStatus[] = [];

	constructor(env: Env, acquire: Acquire, signal: AbortSignal, progress: Progress = () => undefined) {
		this.#env = env;
		this.#acquire = acquire;
		this.#signal = signal;
		this.#progress = progress;
	}

	async run(): Promise<Verdict> {
		const keepAlive = this.#acquire.waitMs > 0 ? setInterval(() => void this.#touchAll(), TOUCH_MS) : null;
		try {
			return await this.#collect();
		} catch (error) {
			// A caller that broke off may be back already under the same id: its places are left to lapse.
			await (this.#signal.aborted ? this.#stepBack() : this.#giveUp());
			if (error instanceof Withdrawn || error instanceof TooMany) {
				return { ok: false, problem: error.problem, statuses: [] };
			}
			if (error instanceof Unconfigured) return this.#refuseUnconfigured(error.limit);
			if (this.#signal.aborted) throw error;
			const known = failure(error as Error);
			if (!known?.code.endsWith("_data")) console.error(`A request of several names failed on the way:`, error);
			return { ok: false, problem: known ?? outOfReach(), statuses: [] };
		} finally {
			if (keepAlive) clearInterval(keepAlive);
		}
	}

	// -------------------------------------------------------------------------------------------- rounds

	async #collect(): Promise<Verdict> {
		let everyLine = this.#acquire.waitMs > 0;
		for (let round = 1; ; round += 1) {
			const blocked = await this.#reserveAll(everyLine);
			everyLine = false;
			if (!blocked) {
				const verdict = await this.#commitAll();
				if (verdict) return verdict;
				continue; // A reservation had lapsed: another round.
			}
			if (blocked.event.kind === "denied" || this.#leftMs() <= 0) return this.#refuse(blocked);

			// A limit that is shut is so maybe for days, and one that is paused for minutes: no other waiter is held up meanwhile.
			const { enforced, limit, pausedUntil } = blocked.status;
			const isStill = pausedUntil !== undefined || (enforced && limit === 0);
			await this.#letGo(round <= POLITE_ROUNDS || isStill ? "" : blocked.name);
			const answer = await this.#waitFor(blocked.name);
			if (answer === null) {
				everyLine = true;
				continue;
			}
			if (this.#isAnother(blocked.name, answer.status)) return this.#refuse(this.#deleted(blocked.name));
			if (answer.event.kind === "reserved" || answer.event.kind === "granted")
				this.#keep(blocked.name, answer.event, answer.status);
			else return this.#refuse({ name: blocked.name, event: asBlocked(answer.event), status: answer.status });
		}
	}

	/**
	 * Reserves, in the fixed order and without waiting, every name that is not reserved yet; answers the first that has
	 * no room. `toTheEnd`: asks the names behind it too, so that the request has its place in every line from its
	 * arrival on, and one that can never be granted is refused at once.
	 */
	async #reserveAll(toTheEnd: boolean): Promise<BlockedName | null> {
		let first: BlockedName | null = null;
		for (const [name] of this.#acquire.names) {
			if (this.#reserved.has(name) || this.#skipped.some((skipped) => skipped.name === name)) continue;
			const isNew = !this.#met.has(name);
			const answer = await this.#limit(name).reserve({
				request: this.#request(name, this.#acquire.waitMs > 0 ? "park" : "deny"),
				createIfMissing: isNew && this.#acquire.createIfMissing,
				strict: this.#acquire.strict,
				call: this.#call,
			});
			if ("missing" in answer) {
				if (!isNew) return this.#deleted(name);
				if (this.#acquire.strict) throw new Unconfigured(name);
				this.#skipped.push(missingStatus(name));
				continue;
			}
			if (this.#isAnother(name, answer.status)) {
				this.#placed.add(name); // It is left again with the others.
				return this.#deleted(name);
			}
			this.#met.set(name, answer.status);
			if (answer.event.kind === "reserved" || answer.event.kind === "granted")
				this.#keep(name, answer.event, answer.status);
			else {
				const blocked = { name, event: this.#blockedBy(name, answer.event), status: answer.status };
				if (!toTheEnd || blocked.event.kind === "denied") return blocked;
				first ??= blocked;
			}
		}
		return first;
	}

	/** Whether this is not the limit that the request was sent to, but one that was made under its name since. */
	#isAnother(name: string, { limitId }: Status): boolean {
		const met = this.#met.get(name);
		return met !== undefined && met.limitId !== limitId;
	}

	/** A limit that was deleted while the request waited, wherever it stood. */
	#deleted(name: string): BlockedName {
		const status = this.#met.get(name);
		if (!status) throw new Error(`"${name}" was never met.`);
		const { id } = this.#acquire;
		return { name, status, event: { kind: "denied", id, code: "unknown_limit", retryAfterMs: 0, position: 0 } };
	}

	#keep(name: string, event: Reserved["event"], status: Status): void {
		this.#placed.delete(name);
		this.#reserved.set(name, { name, event, status });
	}

	#blockedBy(name: string, event: Event): Blocked {
		if (event.kind === "parked") this.#placed.add(name);
		return asBlocked(event);
	}

	/** Gives back what comes after `before` in the fixed order, keeping its places in line. */
	async #letGo(before: string): Promise<void> {
		const names = this.#setAside().filter((name) => before === "" || name > before);
		await Promise.all(
			names.map(async (name) => {
				this.#reserved.delete(name);
				this.#placed.add(name);
				await this.#limit(name).cancel(this.#acquire.id, true);
			}),
		);
	}

	/** Keeps nothing from others; the slots may have come in the very moment in which the caller went. */
	async #stepBack(): Promise<void> {
		const names = [...this.#setAside(), ...this.#placed];
		await Promise.allSettled(names.map((name) => this.#limit(name).stepBack(this.#acquire.id, this.#call)));
	}

	/**
	 * Stands in one line until the verdict. Null when the lines must be asked again: one of them has lost the place of
	 * this request, or the object waited for was restarted or deleted.
	 */
	async #waitFor(name: string): Promise<Outcome | null> {
		this.#placed.add(name);
		const displaced = new AbortController();
		this.#displaced = displaced;
		try {
			const opened = await this.#limit(name).open(
				{ request: this.#request(name, "wait"), createIfMissing: false, call: this.#call },
				"reserve",
				"outcomes",
			);
			if ("missing" in opened) return null;
			for await (const line of lines(opened, AbortSignal.any([this.#signal, displaced.signal]))) {
				const place = placeIn(line);
				if (place) this.#progress(place.place, place.waitingFor);
				if ("event" in line && typeof line.event === "object" && line.event.kind !== "queued") return line as Outcome;
			}
		} catch (error) {
			// Its place outlives a restart for a moment, and is taken up again.
			if (this.#signal.aborted || this.#breaks >= BREAKS_MAX) throw error;
			this.#breaks += 1;
		}
		this.#signal.throwIfAborted();
		return null;
	}

	// ------------------------------------------------------------------------------------------- verdicts

	/** Commits everything; null when a reservation had lapsed and another round is to be tried. */
	async #commitAll(): Promise<Verdict | null> {
		const reserved = [...this.#reserved.values()];
		const all = reserved.map(({ name }) => name);
		const { id } = this.#acquire;
		const answers = await Promise.all(
			reserved.map(({ name }) =>
				this.#limit(name).commit(
					id,
					all.filter((peer) => peer !== name),
				),
			),
		);
		const granted: Granted[] = [];
		answers.forEach((answer, index) => {
			if ("missing" in answer || answer.event.kind !== "granted") return;
			const { slots, expiresAt, fence } = answer.event;
			granted.push({ name: all[index] as string, slots, expiresAt, fence, status: seen(answer.event, answer.status) });
		});
		if (granted.length < reserved.length) {
			await this.#undo(answers.flatMap((answer, index) => (isNew(answer) ? [all[index] as string] : [])));
			if (this.#acquire.waitMs > 0 && this.#leftMs() > 0) return null;
			return { ok: false, problem: outOfReach(), statuses: [] };
		}
		this.#reserved.clear();
		const concurrency = this.#acquire.mode === "concurrency";
		const ends = granted.map(({ expiresAt }) => expiresAt ?? Number.POSITIVE_INFINITY);
		const endsAt = Math.min(...ends, Date.now() + this.#acquire.leaseMs);
		const waitedMs = this.#waitedMs();
		return {
			ok: true,
			lease: lease(id, granted, this.#skipped, waitedMs, concurrency ? endsAt : null),
			statuses: granted.map(({ status }) => status),
		};
	}

	/** Nothing was answered yet: what did commit is taken back as if it had not. */
	async #undo(committed: string[]): Promise<void> {
		this.#reserved.clear();
		await Promise.all(committed.map((name) => this.#limit(name).cancel(this.#acquire.id, false)));
	}

	/** A denial that leaves no trace, and says of every name how it stands. */
	async #refuse(blocked: BlockedName): Promise<Verdict> {
		await this.#giveUp();
		const answered = await Promise.all(
			this.#acquire.names.map(async ([name, slots]): Promise<Answered | string | null> => {
				if (name === blocked.name) return { slots, status: blocked.status, denied: blocked.event };
				const peeked = await this.#peek(name, slots);
				if (this.#acquire.strict && this.#isUnconfigured(name, peeked)) return name;
				return "missing" in peeked ? null : { slots, ...peeked };
			}),
		);
		const unconfigured = answered.filter((each) => typeof each === "string");
		if (unconfigured.length > 0) return { ok: false, problem: unknownLimits(unconfigured), statuses: [] };
		const known = answered.filter((each) => each !== null && typeof each === "object");
		return deniedVerdict(this.#acquire.id, known);
	}

	/** Refuses a strict request, and says which of its names were not configured. */
	async #refuseUnconfigured(first: string): Promise<Verdict> {
		const found = await Promise.all(
			this.#acquire.names.map(async ([name, slots]) =>
				name === first || this.#isUnconfigured(name, await this.#peek(name, slots)) ? [name] : [],
			),
		);
		return { ok: false, problem: unknownLimits(found.flat()), statuses: [] };
	}

	#peek(name: string, slots: number): Promise<Peeked | Missing> {
		return this.#limit(name).peek(coreRequest(this.#acquire, name, slots));
	}

	/** A key of a policy is made when it is first used; where this Worker knows of no policies it is given the benefit. */
	#isUnconfigured(name: string, peeked: Peeked | Missing): boolean {
		if (!("missing" in peeked)) return peeked.status.configured === false;
		return rulingsOf(this.#env).rule(name)?.policy === null;
	}

	/** Leaves every line, and sets free what was set aside. What cannot be reached lapses by itself. */
	async #giveUp(): Promise<void> {
		const names = new Set([...this.#setAside(), ...this.#placed]);
		this.#reserved.clear();
		this.#placed.clear();
		await Promise.allSettled([...names].map((name) => this.#limit(name).cancel(this.#acquire.id, false)));
	}

	/** Names with a reservation of this run; not those of a lease that was only asked for again. */
	#setAside(): string[] {
		return [...this.#reserved.values()].filter(({ event }) => event.kind === "reserved").map(({ name }) => name);
	}

	async #touchAll(): Promise<void> {
		const names = [...this.#setAside(), ...this.#placed];
		const answers = await Promise.allSettled(names.map((name) => this.#limit(name).touch(this.#acquire.id)));
		// A place is lost when its limit can no longer grant it, or the caller withdrew: asking again tells which.
		if (answers.some((answer) => answer.status === "fulfilled" && !answer.value)) this.#displaced?.abort();
	}

	// -------------------------------------------------------------------------------------------- helpers

	#limit(name: string) {
		return limitOf(this.#env, name);
	}

	#request(name: string, ifBusy: Request["ifBusy"]): Request {
		const slots = this.#acquire.names.find(([each]) => each === name)?.[1] ?? 0;
		const others =
			this.#acquire.lead === name ? this.#acquire.names.flatMap(([each]) => (each === name ? [] : [each])) : undefined;
		return { ...coreRequest(this.#acquire, name, slots), waitMs: this.#leftMs(), ifBusy, others };
	}

	#waitedMs(): number {
		return Date.now() - this.#startedAt;
	}

	#leftMs(): number {
		return Math.max(0, this.#acquire.waitMs - this.#waitedMs());
	}
}

/** Whether a commit was the first of its request. */
const isNew = (answer: Outcome | Missing): boolean =>
	"event" in answer && answer.event.kind === "granted" && !answer.event.repeat;

function asBlocked(event: Event): Blocked {
	if (event.kind === "denied" || event.kind === "parked") return event;
	if (event.kind === "left") throw new Withdrawn(event.id);
	throw new Error(`A limit answered "${event.kind}" to a reservation.`);
}

/** A name of a strict request was not configured. */
class Unconfigured extends Error {
	override readonly name = "Unconfigured";
	readonly limit: string;
	constructor(limit: string) {
		super(`"${limit}" was not configured`);
		this.limit = limit;
	}
}

/** The caller released the id of a request that was still waiting. */
export class Withdrawn extends Error {
	override readonly name = "Withdrawn";
	readonly problem: Problem;
	constructor(id: string) {
		super("withdrawn");
		this.problem = withdrawn(id);
	}
}

function placeIn(line: Line): Place | null {
	if ("place" in line) return line;
	if (!("event" in line) || typeof line.event !== "object" || line.event.kind !== "queued") return null;
	return { place: line.event.position, waitingFor: waitingFor((line as Outcome).status) };
}
