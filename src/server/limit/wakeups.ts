/**
 * When an object is woken though nobody asks: by a timer while somebody waits for it, and by an alarm, which outlives
 * the object's time in memory. An alarm costs a write, so it is moved only when it would come too late.
 */

import type { At } from "../../core/time.ts";

/** A deadline that a timer watches gets its alarm this much later, as a backstop that is seldom moved. */
const ALARM_SLACK_MS = 5_000;
/** Housework is done no more often than this. */
const HOUSEWORK_MS = 1_000;

interface Deps {
	storage: Pick<DurableObjectStorage, "setAlarm">;
	/** The timer has rung. */
	tick(): void;
}

export interface Wakeup {
	/** When something falls due; null: nothing does. */
	wakeAt: At | null;
	/** Whether somebody waits here for it to fall due. */
	awaited: boolean;
	/** When there is something to tidy. */
	houseworkAt: At;
}

export class Wakeups {
	readonly #deps: Deps;
	#timer: ReturnType<typeof setTimeout> | null = null;
	#alarmAt: At | null = null;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	set(now: At, { wakeAt, awaited, houseworkAt }: Wakeup): void {
		if (this.#timer) clearTimeout(this.#timer);
		this.#timer = null;
		const dueAt = wakeAt ?? Number.POSITIVE_INFINITY;
		const timed = awaited && dueAt - now < ALARM_SLACK_MS;
		if (timed) this.#timer = setTimeout(() => this.#deps.tick(), Math.max(0, dueAt - now));
		this.alarm(Math.min(timed ? now + ALARM_SLACK_MS : dueAt, Math.max(now + HOUSEWORK_MS, houseworkAt)));
	}

	/** Makes sure that the alarm rings at `at` or before. */
	alarm(at: At): void {
		if (at === Number.POSITIVE_INFINITY || (this.#alarmAt !== null && this.#alarmAt <= at)) return;
		this.#alarmAt = at;
		void this.#deps.storage.setAlarm(at);
	}

	/** The alarm rang, or was deleted: there is none any more. */
	rang(): void {
		this.#alarmAt = null;
	}
}
