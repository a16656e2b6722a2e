/** Timers that leave nothing behind: no listener, no rejection, no process kept alive without need. */

/** A timer of the runtime: a number, or an object that may have `unref`. */
type Timer = unknown;

/** The clock by which this library waits. */
export interface Time {
	/** Milliseconds that only ever grow. */
	now(): number;
	start(fire: () => void, ms: number): Timer;
	stop(timer: Timer): void;
}

let time: Time = {
	now: () => performance.now(),
	start: (fire, ms) => setTimeout(fire, ms),
	stop: (timer) => clearTimeout(timer as number),
};

/** Only for `headgate/testing`, which has a copy of this library of its own: its time is in the hand of a test. */
export const useTime = (other: Time): void => {
	time = other;
};

export const now = (): number => time.now();

/** Longer delays fire at once in most runtimes. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * Calls `fire` after `ms`, however long that is. Answers with what stops it.
 * With `idle` the timer alone does not keep a process alive, where the runtime has a say in that.
 */
export function startTimer(ms: number, fire: () => void, idle = false): () => void {
	let timer: Timer;
	const arm = (leftMs: number): void => {
		const stepMs = Math.min(leftMs, LONGEST_MS);
		timer = time.start(() => (leftMs > stepMs ? arm(leftMs - stepMs) : fire()), stepMs);
		if (idle) (timer as { unref?: () => void }).unref?.();
	};
	arm(Math.max(0, ms));
	return () => time.stop(timer);
}

/** Settles as `work` does, unless `ms` pass first (`late` is what it rejects with) or `signal` aborts. */
export function within<T>(
	work: Promise<T>,
	ms: number,
	signal: AbortSignal | undefined,
	late: () => Error,
): Promise<T> {
	return new Promise<T>((resolve, reject) => {
		const quit = (): void => settle(() => reject(signal?.reason));
		const stop = startTimer(ms, () => settle(() => reject(late())));
		const settle = (how: () => void): void => {
			stop();
			signal?.removeEventListener("abort", quit);
			how();
		};
		// Also when it comes too late to matter, a rejection of the work is handled here.
		work.then(
			(value) => settle(() => resolve(value)),
			(error) => settle(() => reject(error)),
		);
		if (signal?.aborted) quit();
		else signal?.addEventListener("abort", quit);
	});
}

/** Settles as `work` does, or with null when `ms` pass first; rejects when `signal` aborts. */
export async function upTo<T>(work: Promise<T>, ms: number, signal: AbortSignal | undefined): Promise<T | null> {
	const late = new Error("late");
	try {
		return await within(work, ms, signal, () => late);
	} catch (error) {
		if (error === late) return null;
		throw error;
	}
}

/** Resolves after `ms`; rejects when `signal` aborts. */
export function pause(ms: number, signal: AbortSignal | undefined, idle = false): Promise<void> {
	return new Promise<void>((resolve, reject) => {
		const quit = (): void => {
			stop();
			reject(signal?.reason);
		};
		const stop = startTimer(
			ms,
			() => {
				signal?.removeEventListener("abort", quit);
				resolve();
			},
			idle,
		);
		if (signal?.aborted) quit();
		else signal?.addEventListener("abort", quit, { once: true });
	});
}
