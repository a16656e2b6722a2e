/**
 * Tenants that share a limit, in virtual time, on the real core: each keeps so many requests in line, holds what it is given for
 * as long as it likes, and comes again. What each was given is written down beside what a fluid would give them.
 */

import type { Event } from "../../src/core/commands.ts";
import type { Request, Settings } from "../../src/core/limit.ts";
import { Subject } from "./subject.ts";

export interface Tenant {
	name: string;
	/** Whose turns it takes; null: those of all that have no key. */
	key: string | null;
	weight?: number;
	priority?: number;
	/** Requests that it keeps in line, from `fromMs` to `untilMs`. */
	waiting: number;
	fromMs?: number;
	untilMs?: number;
	/** Slots of a request, and how long it holds them. */
	slots: () => number;
	holdMs: () => number;
	/** How long after it was granted it asks for the next one; left out: at once. */
	pauseMs?: () => number;
	/** How long a request waits before it leaves. */
	patienceMs?: () => number;
}

/** A request that was granted. */
export interface Served {
	tenant: Tenant;
	slots: number;
	holdMs: number;
	arrivedAt: number;
	grantedAt: number;
}

export interface Share {
	settings: Partial<Settings>;
	tenants: Tenant[];
	endMs: number;
	mode: "concurrency" | "rate_limit";
	/** Whether the limit is restarted at this moment. */
	restarts?: (now: number) => boolean;
	/** Called after each decision with what was served by it. */
	seen?: (now: number, served: Served[], arena: Arena) => void;
}

interface Live {
	tenant: Tenant;
	slots: number;
	holdMs: number;
	arrivedAt: number;
	grantedAt: number | null;
}

type Due = { at: number; order: number; act: () => void };

export class Arena {
	readonly subject: Subject;
	readonly served: Served[] = [];
	readonly #share: Share;
	readonly #live = new Map<string, Live>();
	readonly #due: Due[] = [];
	#wake: Due | null = null;
	#now = 0;
	#ids = 0;
	#fresh: Served[] = [];

	constructor(share: Share) {
		this.#share = share;
		const weights = Object.fromEntries(
			share.tenants.flatMap(({ key, weight }) => (key !== null && weight !== undefined ? [[key, weight]] : [])),
		);
		this.subject = new Subject({ limit: 1, slotDecayPerSecond: 0, active: true, ...share.settings, weights }, 0);
		for (const tenant of share.tenants) {
			for (let each = 0; each < tenant.waiting; each += 1) this.#at(tenant.fromMs ?? 0, () => this.#ask(tenant));
		}
	}

	/** Requests of a tenant that wait. */
	waiting(tenant: Tenant): number {
		return [...this.#live.values()].filter((each) => each.tenant === tenant && each.grantedAt === null).length;
	}

	run(): Served[] {
		for (let next = this.#next(); next && next.at <= this.#share.endMs; next = this.#next()) {
			this.#now = Math.max(this.#now, next.at);
			next.act();
			this.#tell();
		}
		return this.served;
	}

	#next(): Due | undefined {
		const isBefore = (a: Due, b: Due): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
		const first = this.#due.reduce<Due | undefined>(
			(one, each) => (!one || isBefore(each, one) ? each : one),
			undefined,
		);
		const wake = this.#wake;
		if (wake && (!first || wake.at < first.at)) {
			this.#wake = null;
			return wake;
		}
		if (first) this.#due.splice(this.#due.indexOf(first), 1);
		return first;
	}

	#at(at: number, act: () => void): void {
		this.#due.push({ at, order: this.#ids++, act });
	}

	#tell(): void {
		const fresh = this.#fresh;
		this.#fresh = [];
		this.#share.seen?.(this.#now, fresh, this);
		if (!this.#share.restarts?.(this.#now)) return;
		this.subject.restart(this.#now);
		// Those who wait are back at once.
		for (const [id, live] of this.#live) if (live.grantedAt === null) this.#send(id, live);
	}

	#ask(tenant: Tenant): void {
		if (this.#now >= (tenant.untilMs ?? Number.POSITIVE_INFINITY)) return;
		const id = `r${this.#ids++}`;
		const live = {
			tenant,
			slots: tenant.slots(),
			holdMs: tenant.holdMs(),
			arrivedAt: this.#now,
			grantedAt: null,
		};
		this.#live.set(id, live);
		this.#send(id, live);
		const patience = tenant.patienceMs?.();
		if (patience !== undefined) this.#at(this.#now + patience, () => this.#leave(id));
	}

	#send(id: string, { tenant, slots }: Live): void {
		const { key, priority } = tenant;
		const request: Request = {
			...{ id, slots, mode: this.#share.mode, leaseMs: 1e12, waitMs: Number.POSITIVE_INFINITY, ifBusy: "wait" },
			...{ holder: null, held: false, print: "", remember: false },
			...(key !== null && { key }),
			...(priority !== undefined && { priority }),
		};
		this.#hear(this.subject.decide({ kind: "acquire", request }, this.#now));
	}

	#leave(id: string): void {
		const live = this.#live.get(id);
		if (!live || live.grantedAt !== null) return;
		this.#hear(this.subject.decide({ kind: "cancel", id, keepPlace: false }, this.#now));
		// It may have been granted in that very moment.
		if (live.grantedAt !== null) return;
		this.#live.delete(id);
		this.#again(live.tenant);
	}

	#again(tenant: Tenant): void {
		this.#at(this.#now + (tenant.pauseMs?.() ?? 0), () => this.#ask(tenant));
	}

	#hear({ events, wakeAt }: { events: Event[]; wakeAt: number | null }): void {
		for (const event of events) {
			if (event.kind !== "granted" || event.repeat) continue;
			const live = this.#live.get(event.id);
			if (!live || live.grantedAt !== null) continue;
			live.grantedAt = this.#now;
			const { tenant, slots, holdMs, arrivedAt } = live;
			const served = { tenant, slots, holdMs, arrivedAt, grantedAt: this.#now };
			this.served.push(served);
			this.#fresh.push(served);
			this.#again(tenant);
			if (this.#share.mode === "rate_limit") this.#live.delete(event.id);
			else this.#at(this.#now + holdMs, () => this.#release(event.id));
		}
		const tick = (): void => this.#hear(this.subject.decide({ kind: "tick" }, this.#now));
		this.#wake = wakeAt === null ? null : { at: wakeAt, order: 0, act: tick };
	}

	#release(id: string): void {
		this.#live.delete(id);
		this.#hear(this.subject.decide({ kind: "release", id, by: "caller" }, this.#now));
	}
}

/** The mean wait of what a tenant was served, in milliseconds. */
export function meanWaitMs(served: Served[], tenant: Tenant): number {
	const own = served.filter((each) => each.tenant === tenant);
	return own.reduce((sum, { grantedAt, arrivedAt }) => sum + grantedAt - arrivedAt, 0) / own.length;
}

/** What part of all slots, or of all slot-time, a tenant was given. */
export function shareOf(served: Served[], tenant: Tenant, mode: Share["mode"]): number {
	const cost = ({ slots, holdMs }: Served): number => (mode === "rate_limit" ? slots : slots * holdMs);
	const sum = (all: Served[]): number => all.reduce((total, each) => total + cost(each), 0);
	return sum(served.filter((each) => each.tenant === tenant)) / sum(served);
}
