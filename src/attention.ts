/** Which limits need a look, and which of them first: the same for the directory, the page and the terminal. */

/** What of a limit decides whether it needs a look. */
export interface Condition {
	limit: number;
	/** Switched on, and enforced: another one holds nobody back. */
	active: boolean;
	/** For a while it grants nothing. */
	paused: boolean;
	slotDecayPerSecond: number;
	activeSlots: number;
	waiting: number;
	/** Within the last minute. */
	granted: number;
	/** Within the last minute. */
	denied: number;
}

/** Why, worst first. */
export const NEEDS = ["paused", "waiting", "full", "denying", "nearly"] as const;
export type Need = (typeof NEEDS)[number];

/** From this share of its slots on a limit is nearly full. */
export const NEARLY = 0.8;

/** Null: all is well. */
export function needOf({
	limit,
	active,
	paused,
	activeSlots,
	waiting,
	denied,
}: Omit<Condition, "granted">): Need | null {
	if (!active) return null;
	if (paused || limit === 0) return "paused";
	if (waiting > 0) return "waiting";
	if (activeSlots >= limit) return "full";
	if (denied > 0) return "denying";
	return activeSlots >= NEARLY * limit ? "nearly" : null;
}

/** What of a limit as it is listed. */
interface Listed {
	limit: number;
	active: boolean;
	enforce: boolean;
	pausedUntil: string | null;
	slotDecayPerSecond: number;
	activeSlots: number;
	waitingCount: number;
	lastMinute: { granted: number; denied: number };
}

export const conditionOf = ({
	active,
	enforce,
	pausedUntil,
	waitingCount,
	lastMinute,
	...rest
}: Listed): Condition => ({
	...{ limit: rest.limit, slotDecayPerSecond: rest.slotDecayPerSecond, activeSlots: rest.activeSlots },
	...{ active: active && enforce, paused: pausedUntil !== null, waiting: waitingCount, ...lastMinute },
});

/** Whom to look at first: by its need, then the longest line, the most denials, the fullest. */
export function byAttention(a: Omit<Condition, "granted">, b: Omit<Condition, "granted">): number {
	return (
		rankOf(a) - rankOf(b) ||
		b.waiting - a.waiting ||
		b.denied - a.denied ||
		b.activeSlots / Math.max(1, b.limit) - a.activeSlots / Math.max(1, a.limit)
	);
}

function rankOf(condition: Omit<Condition, "granted">): number {
	const need = needOf(condition);
	return need === null ? NEEDS.length : NEEDS.indexOf(need);
}
