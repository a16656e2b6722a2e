/** Time in the hand of a test. It stands still until it is told to pass, or follows the fake timers of a test framework. */

import { type Time, useTime } from "../client/timers.ts";

/** Passes the time of a test framework's fake timers: `vi.advanceTimersByTimeAsync`, `jest.advanceTimersByTimeAsync`. */
export type Tick = (ms: number) => unknown;

/** Turns of the event loop in which everything that is due has had its say: a grant crosses a few promises. */
const TURNS = 3;

interface Timer {
	dueAt: number;
	fire: () => void;
	/** With a framework's timers: the one of theirs. */
	theirs: unknown;
}

export class Clock implements Time {
	readonly #tick: Tick | null;
	readonly #timers = new Set<Timer>();
	#at = Date.now();

	constructor(tick: Tick | null) {
		this.#tick = tick;
		useTime(this);
	}

	/** Milliseconds since 1970. */
	now(): number {
		return this.#tick ? Date.now() : this.#at;
	}

	/**
	 * Lets time pass, from one thing that falls due to the next: leases are renewed or end, waiters are served, slots come
	 * back. With `tick` the framework's timers run along.
	 */
	async advance(ms: number): Promise<void> {
		if (!(ms >= 0)) throw new RangeError(`Time passes forwards, and not by ${ms} ms.`);
		const until = this.now() + ms;
		await settled();
		for (;;) {
			const next = Math.min(until, ...[...this.#timers].map(({ dueAt }) => Math.ceil(dueAt)));
			await this.#pass(Math.max(0, next - this.now()));
			await settled();
			if (this.now() >= until && !this.#due()) return;
		}
	}

	async #pass(ms: number): Promise<void> {
		if (this.#tick) return void (await this.#tick(ms));
		this.#at += ms;
		for (let due = this.#due(); due; due = this.#due()) {
			this.#timers.delete(due);
			due.fire();
		}
	}

	/** Of those that are due, the first. */
	#due(): Timer | undefined {
		if (this.#tick) return undefined;
		const due = [...this.#timers].filter(({ dueAt }) => dueAt <= this.#at);
		return due.sort((a, b) => a.dueAt - b.dueAt)[0];
	}

	/** Of the library and the core: a timer on this clock. */
	start(fire: () => void, ms: number): Timer {
		const timer: Timer = { dueAt: this.now() + ms, fire, theirs: null };
		this.#timers.add(timer);
		if (this.#tick) {
			timer.theirs = setTimeout(() => {
				this.#timers.delete(timer);
				fire();
			}, ms);
		}
		return timer;
	}

	/** Of the library and the core: a timer on this clock. */
	stop(timer: unknown): void {
		this.#timers.delete(timer as Timer);
		if (this.#tick) clearTimeout((timer as Timer | undefined)?.theirs as number);
	}
}

/** Everything that is due has had its turn. By messages, for no test framework puts its own in their place. */
async function settled(): Promise<void> {
	for (let turn = 0; turn < TURNS; turn += 1) {
		await new Promise<void>((resolve) => {
			const { port1, port2 } = new MessageChannel();
			port1.onmessage = () => {
				port1.close();
				resolve();
			};
			port2.postMessage(null);
		});
	}
}
