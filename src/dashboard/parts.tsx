/** Small things that every view is made of. */

import type { ComponentChildren } from "preact";
import type { LimitSummary, Settings } from "../protocol.ts";
import { safe } from "../visible.ts";
import { windowWords } from "../window.ts";
import { isolated, number, plural, rate } from "./format.ts";
import { type Load, loadOf, pauseLeftMs } from "./state.ts";
import { now } from "./stream.ts";

export const linkTo = (name: string): string => `#/limits/${encodeURIComponent(name)}`;

const WORDS: Record<Load, string> = { off: "off", free: "free", busy: "nearly full", full: "full" };

/** Text from elsewhere: its controls are visible, and its direction is its own affair. */
export const Foreign = ({ text }: { text: string }) => <bdi>{safe(text)}</bdi>;

/** What a colour says, as a word too. */
export function LoadBadge({ limit }: { limit: LimitSummary }) {
	// Only what is paused looks at the clock: a hundred rows would be drawn anew each second.
	if (limit.pausedUntil !== null && pauseLeftMs(limit, now.value) > 0) return <span class="badge full">paused</span>;
	if (limit.active && !limit.enforce) return <span class="badge off">only watches</span>;
	const load = loadOf(limit);
	return load === "free" ? null : <span class={`badge ${load}`}>{WORDS[load]}</span>;
}

/** How much of a limit is in use. */
export function Meter({ limit, large = false }: { limit: LimitSummary; large?: boolean }) {
	const { activeSlots, limit: capacity } = limit;
	const share = capacity === 0 ? (activeSlots > 0 ? 1 : 0) : Math.min(1, activeSlots / capacity);
	return (
		// biome-ignore lint/a11y/useSemanticElements: a <meter> cannot be drawn as this is.
		<div
			class={`meter ${loadOf(limit)}${large ? " large" : ""}`}
			role="meter"
			aria-label={`Slots in use of ${isolated(limit.name)}`}
			aria-valuemin={0}
			aria-valuemax={Math.max(capacity, activeSlots)}
			aria-valuenow={activeSlots}
			aria-valuetext={`${number(activeSlots)} of ${plural(capacity, "slot")}`}
		>
			<div class="fill" style={{ width: `${(100 * share).toFixed(2)}%` }} />
		</div>
	);
}

/** How slots come back. */
export const returns = ({ slotDecayPerSecond, window }: Settings): string =>
	window ? windowWords(window) : slotDecayPerSecond > 0 ? rate(slotDecayPerSecond) : "on release";

/** A figure that is worth a glance only when it is not nothing. */
export function Count({ value, tone }: { value: number; tone?: "waiting" | "denied" }) {
	return <span class={value === 0 ? "nothing" : (tone ?? "")}>{number(value)}</span>;
}

export function Notice({ children, bad = false }: { children: ComponentChildren; bad?: boolean }) {
	return <p class={`notice${bad ? " bad" : ""}`}>{children}</p>;
}
