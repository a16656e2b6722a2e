/**
 * One request on its way, in memory. A request for one name stands in that limit's line; one for several is asked of all of
 * them at once, and holds nothing while one has no room: it keeps a place in every line and is asked anew when one of them
 * changed.
 */

import type { Event } from "../core/commands.ts";
import type { Ms } from "../core/time.ts";
import type { Lease, LimitStatus, Problem, Receipt, WaitingFor } from "../protocol.ts";
import {
	type Answered,
	denial,
	leaseOf,
	lease as leaseOfAll,
	missingStatus,
	waitingFor,
} from "../server/contract/answers.ts";
import { unknownLimits, withdrawn } from "../server/contract/problems.ts";
import type { Acquire } from "../server/front/requests.ts";
import { coreRequest } from "../server/front/verdict.ts";
import type { Clock } from "./clock.ts";
import type { MemoryLimit } from "./memory-limit.ts";

export type Verdict = { lease: Lease | Receipt; problem: null } | { lease: null; problem: Problem };

/** Places that are kept lapse unless they are asked for again. */
const AGAIN_MS: Ms = 1_000;

export interface House {
	clock: Clock;
	/** Null: there is none, and none is to be made. */
	find(name: string, createIfMissing: boolean, strict: boolean): MemoryLimit | null;
	/** Calls whenever slots of any limit may have come free; answers with what stops it. */
	onChange(call: () => void): () => void;
}

interface Asked {
	limit: MemoryLimit;
	slots: number;
}

export class Asking {
	readonly verdict: Promise<Verdict>;
	/** The place in line, when it changed. */
	onQueued: (position: number, waitingFor: WaitingFor) => void = () => undefined;
	readonly #house: House;
	readonly #acquire: Acquire;
	readonly #asked: Asked[] = [];
	readonly #skipped: LimitStatus[] = [];
	readonly #since: number;
	#settle: (verdict: Verdict) => void = () => undefined;
	#over = false;
	/** The last place in line. */
	position: number | null = null;
	/** What it waits for there. */
	waitingFor: WaitingFor | null = null;
	readonly #stops: (() => void)[] = [];
	/** When slots of all names may have come back by themselves. */
	#againMs: Ms = AGAIN_MS;

	constructor(house: House, acquire: Acquire) {
		this.#house = house;
		this.#acquire = acquire;
		this.#since = house.clock.now();
		this.verdict = new Promise((resolve) => {
			this.#settle = resolve;
		});
		const missing: string[] = [];
		for (const [name, slots] of acquire.names) {
			const limit = house.find(name, acquire.createIfMissing && !acquire.strict, acquire.strict);
			if (limit) this.#asked.push({ limit, slots });
			else if (acquire.strict) missing.push(name);
			else this.#skipped.push(missingStatus(name));
		}
		const [first, second] = this.#asked;
		if (missing.length > 0) this.#end({ lease: null, problem: unknownLimits(missing) });
		else if (!first) this.#grantNothing();
		else if (!second) this.#askOne(first);
		else this.#askAll();
	}

	/** Its caller has gone. */
	leave(): void {
		if (this.#over) return;
		for (const { limit } of this.#asked) limit.run({ kind: "cancel", id: this.#acquire.id, keepPlace: false });
		this.#end({ lease: null, problem: withdrawn(this.#acquire.id) });
	}

	#end(verdict: Verdict): void {
		this.#over = true;
		for (const stop of this.#stops.splice(0)) stop();
		this.#settle(verdict);
	}

	#grantNothing(): void {
		const { id, mode, leaseMs } = this.#acquire;
		const endsAt = mode === "rate_limit" ? null : this.#house.clock.now() + leaseMs;
		this.#end({ lease: leaseOfAll(id, [], this.#skipped, 0, endsAt), problem: null });
	}

	#askOne({ limit, slots }: Asked): void {
		const { id } = this.#acquire;
		const hear = (event: Event): void => {
			if (this.#over) return;
			if (event.kind === "granted") {
				const granted = leaseOf(event, limit.status());
				granted.limits.push(...this.#skipped);
				this.#end({ lease: granted, problem: null });
			} else if (event.kind === "denied") {
				this.#end({ lease: null, problem: denial(id, [{ slots, status: limit.status(), denied: event }]) });
			} else if (event.kind === "left") {
				this.#end({ lease: null, problem: withdrawn(id) });
			} else if (event.kind === "queued") this.#queued(event.position, waitingFor(limit.status()));
		};
		this.#stops.push(limit.hear(id, hear));
		limit.run({ kind: "acquire", request: coreRequest(this.#acquire, limit.name, slots) });
	}

	#askAll(): void {
		const until = this.#since + this.#acquire.waitMs;
		let asking = false;
		let timer: unknown;
		const ask = (): void => {
			if (this.#over || asking) return;
			asking = true;
			try {
				this.#round(this.#house.clock.now() >= until);
			} finally {
				asking = false;
			}
		};
		const again = (): void => {
			if (this.#over) return;
			ask();
			const leftMs = Math.max(1, until - this.#house.clock.now());
			timer = this.#house.clock.start(again, Math.min(AGAIN_MS, leftMs, Math.max(1, this.#againMs)));
		};
		let due = false;
		// Not in the middle of what another request is being told.
		const soon = (): void => {
			if (due) return;
			due = true;
			queueMicrotask(() => {
				due = false;
				ask();
			});
		};
		this.#stops.push(this.#house.onChange(soon), () => this.#house.clock.stop(timer));
		again();
	}

	/** Asks all of them. All or none: where one has no room, the others give back what was set aside. */
	#round(isLast: boolean): void {
		const { id } = this.#acquire;
		const answered: (Answered & { event: Event | undefined; limit: MemoryLimit })[] = [];
		for (const { limit, slots } of this.#asked) {
			const request = coreRequest(this.#acquire, limit.name, slots);
			const ifBusy = isLast ? "deny" : "park";
			const events = limit.run({ kind: "reserve", request: { ...request, ifBusy } });
			const event = events.findLast((each) => "id" in each && each.id === id && each.kind !== "ended");
			const denied = event?.kind === "denied" || event?.kind === "parked" ? event : null;
			answered.push({ slots, status: limit.status(), denied, event, limit });
		}
		const refused = answered.filter(({ denied }) => denied !== null);
		if (refused.length === 0) return this.#commit();
		const isFinal = isLast || refused.some(({ denied }) => denied?.kind === "denied");
		for (const { limit, denied } of answered) {
			if (denied === null || isFinal) limit.run({ kind: "cancel", id, keepPlace: !isFinal });
		}
		if (isFinal) return this.#end({ lease: null, problem: denial(id, answered) });
		this.#againMs = Math.max(...refused.map(({ denied }) => denied?.retryAfterMs ?? 0));
		const [inTheWay] = refused;
		if (inTheWay)
			this.#queued(Math.max(...refused.map(({ denied }) => denied?.position ?? 1)), waitingFor(inTheWay.status));
	}

	#commit(): void {
		const { id, leaseMs, mode } = this.#acquire;
		const now = this.#house.clock.now();
		const waitedMs = now - this.#since;
		const granted = this.#asked.map(({ limit, slots }) => {
			const events = limit.run({ kind: "commit", id, peers: [] });
			limit.run({ kind: "resolve", id, committed: true });
			const event = events.find((each) => each.kind === "granted" && each.id === id);
			const kept = event?.kind === "granted" ? event : { slots, expiresAt: null, fence: null };
			return {
				...{ name: limit.name, slots: kept.slots, expiresAt: kept.expiresAt, fence: kept.fence },
				status: limit.status(),
			};
		});
		const endsAt = mode === "rate_limit" ? null : now + leaseMs;
		this.#end({ lease: leaseOfAll(id, granted, this.#skipped, waitedMs, endsAt), problem: null });
	}

	#queued(position: number, reason: WaitingFor): void {
		if (position === this.position && reason.reason === this.waitingFor?.reason) return;
		this.position = position;
		this.waitingFor = reason;
		this.onQueued(position, reason);
	}
}
