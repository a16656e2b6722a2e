/** Keeps a runtime running: it is started, known to answer, and started again when it dies. */

import { setTimeout as sleep } from "node:timers/promises";
import { BOUNDS } from "../protocol.ts";
import type { FolderLock } from "./lock.ts";
import type { Workerd, WorkerdExit } from "./workerd.ts";

export interface ServerExit extends WorkerdExit {
	/** Whether `stop` or `kill` asked for it. */
	expected: boolean;
	/** What workerd printed last. */
	lastLines: string;
}

export interface KeeperOptions {
	lock: FolderLock;
	/** A workerd that waits for its `go`; the port is the one that the first of them got, or undefined. */
	spawn(port: number | undefined): Workerd;
	urlOf(port: number): string;
	/** Hears of every death and every new start. */
	onLine: ((line: string) => void) | undefined;
}

const MINUTE_MS = 60_000;
/** From start to the first answer of `/health`: half a second here, and loaded machines are slow. */
const READY_MS = 30_000;
/** Before a second try, and twice as long before each further one: what ended it may pass, as a port in use does. */
const PAUSE_MS = 100;

/**
 * The runtime of one server, one process after another on the same data and port. No other server can have the folder
 * meanwhile: its lock is let go when the last of them has ended and none will follow.
 */
export class Keeper {
	readonly #options: KeeperOptions;
	readonly #stopping = new AbortController();
	#workerd: Workerd | undefined;
	#port: number | undefined;
	/** When a runtime died of itself. */
	#deaths: number[] = [];
	/** Resolves when the last runtime has ended. */
	readonly exited: Promise<ServerExit>;
	readonly #exited = Promise.withResolvers<ServerExit>();

	constructor(options: KeeperOptions) {
		this.#options = options;
		this.exited = this.#exited.promise;
	}

	/** Of the runtime that is, or was last. */
	get pid(): number {
		return this.#workerd?.pid ?? 0;
	}

	get url(): string {
		return this.#options.urlOf(this.#port ?? 0);
	}

	lastLines(): string {
		return this.#workerd?.lastLines() ?? "";
	}

	/** Rejects when the first one does not get ready; then none is left, and the lock is free. */
	async start(): Promise<void> {
		try {
			await this.#launch();
		} catch (error) {
			this.#stopping.abort();
			this.#options.lock.release();
			throw error;
		}
		void this.#keep();
	}

	/** Ends it, and answers when it has ended; what is in flight is given `graceMs`. */
	async end(graceMs: number): Promise<void> {
		this.#stopping.abort();
		if (graceMs > 0) {
			this.#workerd?.signal("SIGTERM");
			const cancel = new AbortController();
			await Promise.race([this.exited, sleep(graceMs, undefined, { signal: cancel.signal }).catch(() => undefined)]);
			cancel.abort();
		}
		this.#workerd?.signal("SIGKILL");
		await this.exited;
	}

	/** A runtime that answers. When that fails, it has ended before this rejects. */
	async #launch(): Promise<void> {
		const workerd = this.#options.spawn(this.#port);
		this.#workerd = workerd;
		try {
			this.#options.lock.setRuntime(workerd.pid);
			workerd.go();
			this.#port = await inTime(workerd.port);
			// The port is known to be ours from here on, so the answer of `/health` is this server's.
			await inTime(untilHealthy(this.url, workerd.exited));
		} catch (error) {
			workerd.signal("SIGKILL");
			await workerd.exited;
			throw error;
		}
	}

	async #keep(): Promise<void> {
		for (;;) {
			const exit = (await this.#workerd?.exited) ?? { code: null, signal: null };
			const again = !this.#stopping.signal.aborted && (await this.#startAgain(howItEnded(exit)));
			if (again) continue;
			this.#options.lock.release();
			const expected = this.#stopping.signal.aborted;
			this.#exited.resolve({ ...exit, expected, lastLines: this.lastLines() });
			return;
		}
	}

	/** Whether there is a runtime again. */
	async #startAgain(how: string): Promise<boolean> {
		const say = (text: string) => this.#options.onLine?.(`headgate: ${text}`);
		const { signal } = this.#stopping;
		for (let pause = 0; !signal.aborted; pause = pause * 2 || PAUSE_MS) {
			const now = performance.now();
			this.#deaths = [...this.#deaths.filter((at) => now - at < MINUTE_MS), now];
			if (this.#deaths.length > BOUNDS.restartsPerMinute) return false;
			await sleep(pause, undefined, { signal }).catch(() => undefined);
			if (signal.aborted) return false;
			say(`the runtime (workerd) ended ${how}${reasonIn(this.lastLines())}, and is started again.`);
			try {
				await this.#launch();
				if (signal.aborted) this.#workerd?.signal("SIGKILL");
				else say(`ready again on ${this.url}; callers that wait ask again, and keep their places.`);
				return true;
			} catch (error) {
				how = `before it was ready: ${error instanceof Error ? error.message : error}`;
			}
		}
		return false;
	}
}

export function howItEnded({ code, signal }: WorkerdExit): string {
	return signal === null ? `with code ${code}` : `by ${signal}`;
}

/** What an end is known to come from. */
function reasonIn(lastLines: string): string {
	if (/too many open files/i.test(lastLines)) return ", out of file descriptors (`ulimit -n`)";
	if (/address already in use/i.test(lastLines)) return ", its port taken by another process";
	if (/no space left on device|disk is full/i.test(lastLines)) return ", the disk full";
	return "";
}

async function inTime<T>(promise: Promise<T>): Promise<T> {
	const cancel = new AbortController();
	const late = sleep(READY_MS, undefined, { signal: cancel.signal }).then(() => {
		throw new Error(`it was not ready within ${READY_MS / 1000} s`);
	});
	late.catch(() => undefined);
	try {
		return await Promise.race([promise, late]);
	} finally {
		cancel.abort();
	}
}

/** One answer is enough: the socket is open already, and workerd holds the request until the Worker has loaded. */
async function untilHealthy(url: string, exited: Promise<WorkerdExit>): Promise<void> {
	const gone = exited.then((exit) => {
		throw new Error(`workerd ended ${howItEnded(exit)}`);
	});
	gone.catch(() => undefined);
	const answer = await Promise.race([fetch(`${url}/health`), gone]);
	const body = await answer.text();
	if (answer.status !== 200) throw new Error(`/health answered ${answer.status}: ${body.slice(0, 500)}`);
}
