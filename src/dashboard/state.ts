/** What the page knows of the limits: filled by the stream, each limit a signal of its own. */

import { computed, type Signal, signal } from "@preact/signals";
import { byAttention, conditionOf, NEARLY } from "../attention.ts";
import type { HistorySample, HouseTotals, LimitInfo, LimitSummary, Order, WatchEvent } from "../protocol.ts";
import { history, type Refusal } from "./api.ts";
import { isolated } from "./format.ts";
import { follow } from "./stream.ts";

/** A text for an operator who cannot see what changed, and for one who just did something. */
export const said = signal<{ text: string; bad: boolean } | null>(null);
export const say = (text: string, bad = false): void => {
	said.value = { text, bad };
};

// ------------------------------------------------------------------------------------------------- list

export const filter = signal("");
/** Names of the page before this one end here; empty: the first page. */
export const after = signal("");
/** Limits by name. The map is a new one whenever a name comes or goes. */
export const limits = signal<ReadonlyMap<string, Signal<LimitSummary>>>(new Map());
export const unavailable = signal<readonly string[]>([]);
/** Where the next page begins; null: this is all. */
export const next = signal<string | null>(null);
/** There are limits that this page has no room for. */
export const crowded = signal(false);
/** Limits of the page that were not heard of yet. */
export const following = signal(0);
export const loaded = signal(false);
export const refusedList = signal<string | null>(null);

/** All limits together, whether or not the page has them. Null: not heard yet. */
export const totals = signal<HouseTotals | null>(null);

/** Those first that need a look. */
export const worstFirst = (a: LimitSummary, b: LimitSummary): number => byAttention(conditionOf(a), conditionOf(b));

/** One page is not all: then the server filters, by the beginning of names. */
export const paged = computed(
	() =>
		next.value !== null ||
		after.value !== "" ||
		crowded.value ||
		(totals.value?.limits ?? 0) > limits.value.size + following.value,
);

export function watchList(prefix: string, from: string, order: Order): { stop(): void } {
	refusedList.value = null;
	const query = { count: "100", order, ...(prefix && { prefix }), ...(from && order === "name" && { after: from }) };
	return follow(query, hearOfList, (refusal) => {
		refusedList.value = refusal.problem.status === 401 ? null : refusal.message;
	});
}

/** Whether a line is the first of a limit that was still to follow. */
function isFollowing(event: WatchEvent): boolean {
	const name = event.event === "limit" ? event.limit.name : "name" in event ? event.name : null;
	return following.value > 0 && name !== null && !limits.value.has(name) && !unavailable.value.includes(name);
}

function hearOfList(event: WatchEvent): void {
	if (isFollowing(event)) following.value -= 1;
	if (event.event === "limits") {
		limits.value = new Map(event.limits.map((limit) => [limit.name, signal<LimitSummary>(limit)]));
		unavailable.value = event.unavailable ?? [];
		next.value = event.next;
		totals.value = event.totals ?? null;
		following.value = event.following ?? 0;
		crowded.value = false;
		loaded.value = true;
	} else if (event.event === "limit") {
		const known = limits.value.get(event.limit.name);
		if (known) known.value = event.limit;
		else put(event.limit);
		if (unavailable.value.includes(event.limit.name)) {
			unavailable.value = unavailable.value.filter((name) => name !== event.limit.name);
		}
	} else if (event.event === "deleted") {
		const { name } = event;
		limits.value = new Map([...limits.value].filter(([each]) => each !== name));
		unavailable.value = unavailable.value.filter((each) => each !== name);
	} else if (event.event === "unavailable") {
		if (!unavailable.value.includes(event.name)) unavailable.value = [...unavailable.value, event.name];
	} else if (event.event === "more") {
		crowded.value = true;
	} else if (event.event === "totals") {
		totals.value = event.totals;
	}
}

/** A new limit, in its place. */
function put(limit: LimitSummary): void {
	const all = [...limits.value, [limit.name, signal(limit)] as const];
	limits.value = new Map(all.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** How long a limit grants nothing yet; 0: it is not paused. */
export const pauseLeftMs = ({ active, pausedUntil }: LimitSummary, now: number): number =>
	active && pausedUntil !== null ? Math.max(0, Date.parse(pausedUntil) - now) : 0;

export type Load = "off" | "free" | "busy" | "full";

/** How a limit stands, in one word. */
export function loadOf({ active, limit, activeSlots, remaining }: LimitSummary): Load {
	if (!active) return "off";
	if (remaining <= 0) return "full";
	return activeSlots >= NEARLY * limit ? "busy" : "free";
}

/** Whether an operator should look at it: it is paused; or it is full, and callers feel it. */
export const isPressing = ({ active, pausedUntil, remaining, waitingCount, lastMinute }: LimitSummary): boolean =>
	active && (pausedUntil !== null || (remaining <= 0 && (waitingCount > 0 || lastMinute.denied > 0)));

// ------------------------------------------------------------------------------------------- one limit

export interface Shown {
	info: Signal<LimitInfo | null>;
	samples: Signal<readonly HistorySample[]>;
	sampleSeconds: Signal<number>;
	/** Why there is nothing to show. */
	gone: Signal<string | null>;
	stop(): void;
}

/** Samples of a quarter of an hour. */
const SAMPLES = 180;

export function watchLimit(name: string): Shown {
	const shown = {
		info: signal<LimitInfo | null>(null),
		samples: signal<readonly HistorySample[]>([]),
		sampleSeconds: signal(5),
		gone: signal<string | null>(null),
	};
	const load = async (): Promise<void> => {
		const past = await history(name);
		shown.sampleSeconds.value = past.sampleSeconds;
		shown.samples.value = merge(past.samples, shown.samples.value);
	};
	let asked = false;
	const hear = (event: WatchEvent): void => {
		if (event.event === "limit") {
			shown.info.value = event.limit as LimitInfo;
			if (asked) return;
			asked = true;
			load().catch(() => {
				asked = false; // With the next line.
			});
		} else if (event.event === "samples") {
			// A gap: the stream had broken meanwhile.
			const last = shown.samples.value.at(-1);
			const first = event.samples[0];
			if (last && first && Date.parse(first.at) > Date.parse(last.at) + 1_000 * shown.sampleSeconds.value)
				asked = false;
			shown.samples.value = merge(shown.samples.value, event.samples);
		} else if (event.event === "deleted") {
			shown.gone.value = `The limit "${isolated(name)}" was deleted.`;
			following.stop();
		}
	};
	const refused = (refusal: Refusal): void => {
		if (refusal.problem.status === 401) return;
		const is404 = refusal.problem.code === "unknown_limit";
		shown.gone.value = is404 ? `There is no limit called "${isolated(name)}".` : refusal.message;
	};
	const following = follow({ name }, hear, refused);
	return { ...shown, stop: following.stop };
}

/** Samples of both, the newer in place of the older. */
function merge(older: readonly HistorySample[], newer: readonly HistorySample[]): readonly HistorySample[] {
	const start = newer[0]?.at;
	if (start === undefined) return older;
	const byMoment = new Map([...older, ...newer].map((sample) => [sample.at, sample]));
	return [...byMoment.values()].sort((a, b) => (a.at < b.at ? -1 : 1)).slice(-SAMPLES);
}
