/**
 * Judges a history by the promises, as far as callers can see them. It knows when a request was sent and when its answer was heard,
 * and so between which moments the server must have decided; it says that a promise was broken only where no moment between
 * them would do.
 */

import type { Ask, History, Limit, Violation } from "./history.ts";

/** A server counts whole milliseconds, and so may decide one before the moment at which it was asked. */
const GRAIN_MS = 2;

export function check(history: History): Violation[] {
	const found: Violation[] = [];
	for (const limit of history.limits.values()) {
		if (limit.kind === "lease") {
			found.push(...overHeld(history, limit), ...fences(history, limit), ...overtaken(history, limit));
		} else {
			found.push(...overGranted(history, limit));
		}
		found.push(...grantedInPause(history, limit));
	}
	for (const ask of history.asks) found.push(...identity(history, ask), ...giveBack(history, ask));
	return found;
}

/** The moment until which a lease is held for sure, if nothing ends it: counted from when it was asked for or renewed. */
export function heldUntil(history: History, ask: Ask): number {
	if (ask.grantedAt === Number.POSITIVE_INFINITY) return Number.NEGATIVE_INFINITY;
	const bases = [ask.sentAt, ...ask.renewals.filter(({ status }) => status === 200).map(({ sentAt }) => sentAt)];
	const ends = bases.map((base) => {
		let end = base + ask.leaseMs;
		for (const { at, seconds } of history.jumps) {
			// A clock that is set on takes its seconds from each lease of that time; one that is set back takes nothing.
			if (seconds > 0 && at >= base && at < end) end = Math.max(at, end - seconds * 1_000);
		}
		return end;
	});
	return Math.min(ask.endSentAt, ask.leftAt, Math.max(...ends) - GRAIN_MS);
}

/** The moment until which a lease may be held, counted from the last answer that says that it began, or begins again. */
export function mayLastUntil({ grantedAt, renewals, leaseMs }: Ask): number {
	const renewed = renewals.filter(({ status }) => status !== 410).map(({ answeredAt }) => answeredAt);
	return Math.max(grantedAt, ...renewed) + leaseMs;
}

/** The largest capacity that may have been in force at any moment between these two. */
function capacityWithin({ capacities }: Limit, from: number, to: number): number {
	const possible = capacities.filter(
		(one) =>
			one.sentAt <= to &&
			!capacities.some((later) => later.sentAt >= one.answeredAt && later.answeredAt <= from && later !== one),
	);
	return Math.max(...possible.map(({ limit }) => limit));
}

/** Promise 1, of leases: those that are held for sure at one moment fit into the limit. */
function overHeld(history: History, limit: Limit): Violation[] {
	const held = history.asks
		.filter((ask) => ask.mode === "concurrency" && (ask.slots[limit.name] ?? 0) > 0)
		.map((ask) => ({ ask, slots: ask.slots[limit.name] as number, from: ask.grantedAt, to: heldUntil(history, ask) }))
		.filter(({ from, to }) => from < to)
		.sort((a, b) => a.from - b.from);
	for (const { from: moment } of held) {
		const together = held.filter(({ from, to }) => from <= moment && moment < to);
		const capacity = capacityWithin(limit, Math.min(...together.map(({ ask }) => ask.sentAt)), moment);
		let sum = together.reduce((all, { slots }) => all + slots, 0);
		if (sum <= capacity) continue;
		const shown = together.sort((a, b) => a.slots - b.slots);
		// As few as show it.
		while (shown[0] && sum - shown[0].slots > capacity) sum -= (shown.shift() as (typeof shown)[number]).slots;
		return [
			{
				promise: 1,
				what: `${sum} slots of ${limit.name} are held at once, and it has ${capacity}`,
				history: history.tell(shown.map(({ ask }) => ask)),
			},
		];
	}
	return [];
}

/** Promises 1, 8 and 16, of what comes back by itself: what is granted for sure within two moments is no more than may be. */
function overGranted(history: History, limit: Limit): Violation[] {
	const grants = history.asks
		.filter((ask) => ask.grantedAt < Number.POSITIVE_INFINITY && (ask.slots[limit.name] ?? 0) > 0)
		.map((ask) => {
			const slots = ask.slots[limit.name] as number;
			return { ask, slots: Math.min(slots, ask.settled[limit.name] ?? slots) };
		});
	if (limit.kind === "calendar") return overInPeriod(history, limit, grants);
	const byEnd = grants.sort((a, b) => a.ask.grantedAt - b.ask.grantedAt);
	for (const { ask: first } of grants) {
		let sum = 0;
		const within: Ask[] = [];
		for (const { ask, slots } of byEnd) {
			if (ask.sentAt < first.sentAt) continue;
			const lengthMs = ask.grantedAt - first.sentAt + GRAIN_MS;
			const jumps = history.jumps.filter(
				({ at, seconds }) => seconds > 0 && at >= first.sentAt - GRAIN_MS && at <= ask.grantedAt,
			);
			if (limit.kind === "sliding" && (lengthMs >= limit.windowMs - GRAIN_MS || jumps.length > 0)) break;
			sum += slots;
			within.push(ask);
			const jumped = jumps.reduce((all, { seconds }) => all + seconds, 0);
			const decayed = limit.slotDecayPerSecond * (lengthMs / 1_000 + jumped);
			const most = capacityWithin(limit, first.sentAt, ask.grantedAt) + decayed;
			if (sum <= most + 1e-6) continue;
			return [
				{
					promise: 1,
					what: `${sum} slots of ${limit.name} are granted within ${lengthMs.toFixed(0)} ms, and ${most.toFixed(3)} may be`,
					history: history.tell(within),
				},
			];
		}
	}
	return [];
}

/** Of a calendar: each period is told with its grants by the moment at which it ends. */
function overInPeriod(history: History, limit: Limit, grants: { ask: Ask; slots: number }[]): Violation[] {
	const periods = Map.groupBy(grants, ({ ask }) => ask.resetsAt[limit.name] ?? "");
	for (const [period, all] of periods) {
		const sum = all.reduce((total, { slots }) => total + slots, 0);
		const most = Math.max(...limit.capacities.map((one) => one.limit));
		if (period === "" || sum <= most) continue;
		const what = `${sum} slots of ${limit.name} are granted in the period that ends at ${period}, and it has ${most}`;
		return [{ promise: 1, what, history: history.tell(all.map(({ ask }) => ask)) }];
	}
	return [];
}

function grantedInPause(history: History, limit: Limit): Violation[] {
	for (const { sentAt, answeredAt, seconds } of limit.pauses) {
		const jumped = history.jumps.filter((jump) => jump.at >= sentAt && jump.seconds > 0);
		if (jumped.length > 0) continue;
		const ask = history.asks.find(
			(one) =>
				(one.slots[limit.name] ?? 0) > 0 &&
				one.sentAt >= answeredAt &&
				one.grantedAt <= sentAt + seconds * 1_000 - GRAIN_MS,
		);
		if (ask) return [{ promise: "pause", what: `${limit.name} grants in a pause`, history: history.tell([ask]) }];
	}
	return [];
}

/** Fences rise with every lease of a name, whatever was restarted and whatever the clock does, and no two leases share one. */
function fences(history: History, { name }: Limit): Violation[] {
	const told = history.asks
		.filter(({ fences }) => (fences[name]?.length ?? 0) > 0)
		.map((ask) => ({ ask, fence: (ask.fences[name] as number[])[0] as number }));
	const seen = new Map<number, Ask>();
	for (const { ask, fence } of told) {
		const other = seen.get(fence);
		if (other) {
			return [
				{
					promise: "fence",
					what: `two leases of ${name} have the fence ${fence}`,
					history: history.tell([other, ask]),
				},
			];
		}
		seen.set(fence, ask);
	}
	const heard = told.toSorted((a, b) => a.ask.grantedAt - b.ask.grantedAt);
	let at = 0;
	let highest: (typeof told)[number] | undefined;
	for (const next of told.toSorted((a, b) => a.ask.sentAt - b.ask.sentAt)) {
		for (let before = heard[at]; before && before.ask.grantedAt < next.ask.sentAt; before = heard[++at]) {
			if (!highest || before.fence > highest.fence) highest = before;
		}
		if (highest && highest.fence > next.fence && highest.ask !== next.ask) {
			const what = `the fence of ${name} falls from ${highest.fence} to ${next.fence}`;
			return [{ promise: "fence", what, history: history.tell([highest.ask, next.ask]) }];
		}
	}
	return [];
}

/**
 * Promise 3: one that heard its place in line is served before any that asked later, waiting or not. Fences tell the order of
 * service. Left out: those of several names, which step aside while they wait for another, and those whose connection broke.
 */
function overtaken(history: History, { name }: Limit): Violation[] {
	const alone = history.asks.filter(
		(ask) => Object.keys(ask.slots).length === 1 && ask.tries === 1 && (ask.fences[name]?.length ?? 0) > 0,
	);
	const fenceOf = (ask: Ask): number => (ask.fences[name] as number[])[0] as number;
	for (const first of alone) {
		if (first.queuedAt === Number.POSITIVE_INFINITY) continue;
		const later = alone.find((ask) => ask.sentAt > first.queuedAt && fenceOf(ask) < fenceOf(first));
		if (!later) continue;
		const what = `${later.id} is served before ${first.id}, which stood in line before it asked`;
		return [{ promise: 3, what, history: history.tell([first, later]) }];
	}
	return [];
}

/** Promise 11: the same id is the same lease, whose fence does not change, and an id that ended grants nothing more. */
function identity(history: History, ask: Ask): Violation[] {
	for (const [name, told] of Object.entries(ask.fences)) {
		if (told.every((fence) => fence === told[0])) continue;
		const what = `the id ${ask.id} is granted twice: its fences of ${name} are ${told.join(" and ")}`;
		return [{ promise: 11, what, history: history.tell([ask]) }];
	}
	return [];
}

/** Promises 6 and 7: a lease is renewed while it is held for sure, and never once it is over; it gives back what it holds, once. */
function giveBack(history: History, ask: Ask): Violation[] {
	if (ask.mode !== "concurrency") return [];
	const total = Object.values(ask.slots).reduce((sum, slots) => sum + slots, 0);
	const released = ask.released.reduce((sum, slots) => sum + slots, 0);
	const tell = (promise: number, what: string): Violation[] => [{ promise, what, history: history.tell([ask]) }];
	if (released > total) return tell(7, `${ask.id} gives back ${released} slots of ${total}`);
	const until = heldUntil(history, ask);
	for (const { sentAt, answeredAt, status } of ask.renewals) {
		if (status === 410 && answeredAt < until) return tell(6, `${ask.id} is lost: it was told of, and is not renewed`);
		if (status === 200 && sentAt > ask.endedAt) return tell(7, `${ask.id} is renewed after it was released`);
	}
	return [];
}

/** What is stored of a limit while nobody asks for anything, against what callers know of it. */
export function checkStored(
	history: History,
	limit: Limit,
	stored: { id: string; slots: number }[],
	askedAt: number,
): Violation[] {
	const found: Violation[] = [];
	const byId = new Map(stored.map((lease) => [lease.id, lease]));
	if (byId.size < stored.length) {
		found.push({ promise: 11, what: `an id holds ${limit.name} twice: ${JSON.stringify(stored)}`, history: [] });
	}
	for (const ask of history.asks) {
		const slots = ask.slots[limit.name];
		if (slots === undefined || ask.mode !== "concurrency" || ask.grantedAt === Number.POSITIVE_INFINITY) continue;
		// What it was told of before it was asked whether it is there.
		if (heldUntil(history, ask) <= performance.now() || ask.grantedAt > askedAt) continue;
		const lease = byId.get(ask.id);
		if (lease?.slots === slots) continue;
		const what = `${ask.id} was granted ${slots} slots of ${limit.name}, and ${lease ? `${lease.slots} are` : "none is"} there`;
		found.push({ promise: 6, what, history: history.tell([ask]) });
	}
	return found;
}

/** The level of a bucket is between what its grants leave at least and at most. */
export function checkLevel(
	history: History,
	limit: Limit,
	active: number,
	askedAt: number,
	heardAt: number,
): Violation[] {
	const grants = history.asks.filter((ask) => ask.grantedAt < Number.POSITIVE_INFINITY && ask.slots[limit.name]);
	const level = (moment: (ask: Ask) => number, now: number): number => {
		const poured = grants.map((ask) => ({ at: moment(ask), slots: ask.slots[limit.name] as number }));
		const drained = history.jumps
			.filter(({ seconds }) => seconds > 0)
			.map(({ at, seconds }) => ({ at, slots: -seconds * limit.slotDecayPerSecond }));
		let sum = 0;
		let last = Number.NEGATIVE_INFINITY;
		for (const { at, slots } of [...poured, ...drained, { at: now, slots: 0 }].sort((a, b) => a.at - b.at)) {
			if (sum > 0) sum = Math.max(0, sum - ((at - last) / 1_000) * limit.slotDecayPerSecond);
			sum = Math.max(0, sum + slots);
			last = at;
		}
		return sum;
	};
	const grain = (limit.slotDecayPerSecond * 2 * GRAIN_MS) / 1_000;
	const least = level(({ sentAt }) => sentAt, heardAt) - grain;
	// A clock that was set back stands still until that is noticed, and what decays with it; one that is set on forgets ids.
	const most =
		history.jumps.length > 0 ? Number.POSITIVE_INFINITY : Math.ceil(level((ask) => ask.grantedAt, askedAt) + grain);
	if (active >= least && active <= most) return [];
	const what = `${active} slots of ${limit.name} are in use; its grants make it between ${least.toFixed(3)} and ${most}`;
	return [{ promise: active < least ? 6 : 8, what, history: history.tell(grants.slice(-6)) }];
}
