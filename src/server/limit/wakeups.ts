/**
 * When an object is woken though no call comes: by a timer while a caller waits for it, and by an alarm, which outlives
 * the object's time in memory. To set an alarm costs a row, and its ringing a call, which is a seventh of that. So an alarm is
 * moved when it would come too late, and put off when it is about to ring for nothing and another one is needed anyway. One
 * that nothing follows is left to ring: to delete it would cost more.
 */

import type { At } from "../../core/time.ts";

/** A deadline that a timer watches gets its alarm this much later, as a backstop that is seldom moved. */
const ALARM_SLACK_MS = 5_000;
/** Housework is done no more often than this. */
const HOUSEWORK_MS = 1_000;
/**
 * An alarm that every use brings forward is put off no more often than this: the two would cost a limit in steady use more
 * than an alarm now and then that rings for nothing.
 */
const PUT_OFF_MS = 60_000;

interface Deps {
	storage: Pick<DurableObjectStorage, "getAlarm" | "setAlarm">;
	/** The timer has rung. */
	tick(): void;
}

export interface Wakeup {
	/** When something falls due; null: nothing does. */
	wakeAt: At | null;
	/** Whether a caller waits here for it to fall due. */
	awaited: boolean;
	/** Whether it is stored: what is not is gone with the object's memory, and needs no alarm. */
	kept: boolean;
	/** When there is something to tidy. */
	houseworkAt: At;
	/** What an alarm was set for has just been done, as is seldom. */
	settled: boolean;
}

export class Wakeups {
	readonly #deps: Deps;
	#timer: ReturnType<typeof setTimeout> | null = null;
	/** Null: there is none. Undefined: that is not known yet. */
	#alarmAt: At | null | undefined = null;
	/** What was asked for while it was not known. */
	#wanted: At = Number.POSITIVE_INFINITY;
	/** It rings, and what is done about that sets the next one. */
	#ringing = false;
	#putOffAt: At = Number.NEGATIVE_INFINITY;
	/** Since it was put off last it was brought forward again. */
	#broughtForward = false;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/**
	 * An object that wakes has the alarm that it had before: setting it anew would cost a write at every wake. To be awaited
	 * before anything is decided but what the wake itself brings.
	 */
	recall(): Promise<void> {
		this.#alarmAt = undefined;
		return this.#deps.storage.getAlarm().then((at) => {
			this.#alarmAt = at;
			// Where there is none it rings right now, or the call that woke the object is about to need one.
			if (at !== null) this.alarm(this.#wanted);
		});
	}

	set(now: At, { wakeAt, awaited, kept, houseworkAt, settled }: Wakeup): void {
		if (this.#timer) clearTimeout(this.#timer);
		this.#timer = null;
		const dueAt = wakeAt ?? Number.POSITIVE_INFINITY;
		const timed = awaited && dueAt - now < ALARM_SLACK_MS;
		if (timed || !kept) this.#timer = setTimeout(() => this.#deps.tick(), Math.max(0, dueAt - now));
		const backstopAt = timed ? now + ALARM_SLACK_MS : dueAt;
		const at = Math.min(kept ? backstopAt : Number.POSITIVE_INFINITY, Math.max(now + HOUSEWORK_MS, houseworkAt));
		this.alarm(at);
		this.#putOff(now, at, settled);
	}

	/** Makes sure that the alarm rings at `at` or before. */
	alarm(at: At): void {
		if (this.#ringing) return;
		if (this.#alarmAt === undefined) this.#wanted = Math.min(this.#wanted, at);
		else if (at !== Number.POSITIVE_INFINITY && (this.#alarmAt === null || this.#alarmAt > at)) {
			this.#broughtForward ||= this.#alarmAt !== null;
			this.#move(at);
		}
	}

	/** The alarm rings: there is none any more, and what `work` does sets one when it is done. */
	async ring(work: () => Promise<void>): Promise<void> {
		this.#ringing = true;
		this.#wanted = Number.POSITIVE_INFINITY;
		try {
			await work();
		} finally {
			this.#ringing = false;
			this.#alarmAt = null;
		}
	}

	/** Nothing is due before `at`. `settled`: nor will the next use bring it forward again. */
	#putOff(now: At, at: At, settled: boolean): void {
		if (at === Number.POSITIVE_INFINITY) return;
		if (this.#ringing || !this.#alarmAt || this.#alarmAt + HOUSEWORK_MS >= at) return;
		// A lease that is renewed at every third of its length: every second time.
		const isEarly = this.#alarmAt - now <= (at - now) / 3;
		const isDear = this.#broughtForward && now < this.#putOffAt + PUT_OFF_MS;
		if (!settled && (!isEarly || isDear)) return;
		if (!settled) {
			this.#putOffAt = now;
			this.#broughtForward = false;
		}
		this.#move(at);
	}

	#move(at: At): void {
		this.#alarmAt = at;
		void this.#deps.storage.setAlarm(at);
	}
}
