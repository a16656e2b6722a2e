/// <reference lib="esnext.disposable" preserve="true" />
/** Slots that are held: renewed while they are needed, and given back once. */

import type { Lease as LeaseRecord, LimitStatus, Released, Renewed, Settled, Slots } from "../protocol.ts";
import { RENEW_AT } from "../rhythms.ts";
import type { BindingRequest } from "./binding.ts";
import { HeadgateError, LeaseLostError } from "./errors.ts";
import { giveBack } from "./giveback.ts";
import { pause, within } from "./timers.ts";
import { ANSWER_MS, backoffMs, Interruption, silence, type Transport } from "./transport.ts";
import { type Grant, LEASE_SECONDS, type WaitOptions } from "./wait.ts";

/** Options of `concurrency` and `acquire`. */
export interface AcquireOptions extends WaitOptions {
	/**
	 * How long the slots stay taken when this program is not heard of any more: 1 to 86,400. The lease is renewed at a
	 * third of it for as long as it is held. Default 60.
	 */
	leaseSeconds?: number | undefined;
	/**
	 * Limits to take in the same request, all or nothing, by rate: a name, several (a slot of each), or slots per name.
	 * Their slots come back by themselves, at `slotDecayPerSecond`, and not at the release.
	 */
	rate?: string | readonly string[] | Slots | undefined;
	/**
	 * When the lease is lost while it is held: taken back by an operator, or not renewed in time because the service
	 * could not be reached. `"abort"`: `lease.signal` aborts with a `LeaseLostError`. `"continue"`: the work goes on
	 * without its slots, `lease.enforced` turns false, and `onWarning` is told. Default `"abort"`.
	 */
	onLeaseLost?: "abort" | "continue" | undefined;
	/** Ends the waiting, and aborts `lease.signal` while the slots are held. */
	signal?: AbortSignal | undefined;
}

/** The part of its length after which one try of a renewal is given up. */
const RENEW_PATIENCE = 1 / 4;
/** Longest time for giving back: work that is done does not wait for a service that is gone. It goes on behind its back. */
const RELEASE_MS = 5_000;

/**
 * Slots, held until `release()`; `await using` releases them at the end of the block. A lease that is not released
 * is renewed for as long as its program runs.
 *
 * As JSON it is what `gate.renew` and `gate.release` take, so that another program can give it back.
 */
export class Lease {
	/** Made by the client; names the lease everywhere. */
	readonly id: string;
	/** Slots held of each limit. Names that were skipped, because they do not exist, are not in it. */
	readonly names: Slots;
	/**
	 * Of each limit a number that rises with every lease of that name and with no renewal: send it with what is written, and a store
	 * can refuse the holder of an older one. Empty when nothing is held.
	 */
	readonly fence: Readonly<Record<string, number>>;
	/** Slots taken by rate in the same request; they come back by themselves. */
	readonly rate: Slots;
	/** The limits as they were at the grant. */
	readonly limits: readonly LimitStatus[];
	/** How long the slots took to come. */
	readonly waitedSeconds: number;
	/** Aborts when the lease is lost (`onLeaseLost`), or when the signal given by the caller does. Pass it to the work. */
	readonly signal: AbortSignal;
	readonly #transport: Transport;
	readonly #control = new AbortController();
	readonly #options: AcquireOptions;
	readonly #leaseMs: number;
	/** By RPC: the lease ends with this stub. */
	readonly #tether: BindingRequest | null;
	/** Ends the renewing. */
	readonly #stop = new AbortController();
	#expiresAt: string | null = null;
	#enforced: boolean;
	/** When the slots come back unless renewed, by our own clock, and never later than by the service's. */
	#endsAt = 0;
	#releasing: Promise<void> | undefined;
	/** Ends the giving back that goes on after a release has failed. */
	#later: AbortController | undefined;

	/**
	 * Without a grant it holds nothing. `idle`: the lease alone does not keep the process alive.
	 * @internal
	 */
	constructor(transport: Transport, options: AcquireOptions, grant: Grant | null, idle: boolean) {
		const record = grant?.record as LeaseRecord | undefined;
		this.id = record?.id ?? crypto.randomUUID();
		this.names = record?.names ?? {};
		this.fence = record?.fence ?? {};
		this.rate = record?.rate ?? {};
		this.limits = record?.limits ?? [];
		this.waitedSeconds = record?.waitedSeconds ?? 0;
		this.signal = this.#control.signal;
		this.#transport = transport;
		this.#options = options;
		this.#tether = grant?.tether ?? null;
		this.#leaseMs = (options.leaseSeconds ?? LEASE_SECONDS) * 1_000;
		this.#enforced = isEnforced(this.limits);
		options.signal?.addEventListener("abort", this.#onCallerAbort);
		if (!grant || !record || !this.#holds()) return;
		this.#expiresAt = record.expiresAt;
		this.#endsAt = performance.now() + this.#leaseMs;
		void this.#keep(grant.sound, idle);
	}

	/** When the slots come back unless the lease is renewed (ISO 8601); null when it holds nothing. */
	get expiresAt(): string | null {
		return this.#expiresAt;
	}

	/**
	 * Whether every limit that was asked for holds the work back. False when one of them is switched off or does not
	 * exist, when the service could not be reached (`onError: "open"`), when the lease was lost, and without names.
	 */
	get enforced(): boolean {
		return this.#enforced;
	}

	/**
	 * Gives the slots back; done when the service has them. Once is enough: later calls give back nothing more.
	 * @throws HeadgateUnreachableError when it could not be reached within 5 s. It is tried on in the background until
	 * `expiresAt`, when the slots come back by themselves, for as long as this program runs.
	 */
	release(): Promise<void> {
		this.#releasing ??= this.#release();
		return this.#releasing;
	}

	/** Releases. Does not throw, so that it hides no error of the work; `onWarning` is told if it fails. */
	async [Symbol.asyncDispose](): Promise<void> {
		try {
			await this.release();
		} catch (error) {
			this.#transport.warn(`the lease ${this.id} could not be released yet; it ends by itself at the latest`, error);
		}
	}

	/**
	 * Says what the estimates taken by `rate` came to, with `settleSeconds`: below them the rest comes back, above them the difference
	 * is taken too. A number is for each of them. It may be said before the release and after it.
	 * @throws HeadgateError with code `receipt_gone` when `settleSeconds` are over, `already_settled` when it was settled otherwise.
	 */
	settle(actual: number | Slots): Promise<Settled> {
		return settleEstimate(this.#transport, this.id, this.rate, actual);
	}

	/** What `gate.renew` and `gate.release` take. */
	toJSON(): { id: string; names: Slots; expiresAt: string | null } {
		return { id: this.id, names: this.names, expiresAt: this.#expiresAt };
	}

	readonly #onCallerAbort = (): void => this.#control.abort(this.#options.signal?.reason);

	#holds(): boolean {
		return Object.keys(this.names).length > 0;
	}

	async #release(): Promise<void> {
		this.#stop.abort();
		this.#options.signal?.removeEventListener("abort", this.#onCallerAbort);
		if (!this.#holds()) return;
		this.#later?.abort();
		const { id, names } = this;
		const over = new AbortController();
		const options = { signal: over.signal, answerMs: RELEASE_MS };
		const plainly = () => this.#transport.call<Released>("POST", "/v1/release", { id, names }, options);
		// A stub that is torn gives nothing back; the lease is still known by its id.
		const call = this.#tether ? this.#tether.release().catch(plainly) : plainly();
		try {
			await within(call, RELEASE_MS, undefined, silence(RELEASE_MS));
		} catch (error) {
			over.abort();
			this.#releasing = undefined; // It may be tried again.
			if (error instanceof HeadgateError) throw error;
			this.#later = new AbortController();
			// What becomes of it does not matter: at the end of the lease the slots are back.
			giveBack(this.#transport, { id, names }, this.#endsAt, this.#later.signal).catch(() => undefined);
			throw error instanceof Interruption ? this.#transport.unreachable(1, error) : error;
		} finally {
			this.#tether?.[Symbol.dispose]?.();
		}
	}

	/** Renews until it is released or lost. */
	async #keep(sound: Promise<boolean>, idle: boolean): Promise<void> {
		try {
			const first = pause(this.#leaseMs * RENEW_AT, this.#stop.signal, idle);
			const stands = await Promise.race([sound, first.then(() => false)]);
			if (!stands) await this.#renew(idle);
			for (;;) {
				const renewAt = this.#endsAt - this.#leaseMs + this.#leaseMs * RENEW_AT;
				await pause(renewAt - performance.now(), this.#stop.signal, idle);
				await this.#renew(idle);
			}
		} catch (error) {
			if (!this.#stop.signal.aborted) this.#lose(error);
		}
	}

	/** Renews once, trying until the lease ends. */
	async #renew(idle: boolean): Promise<void> {
		const patienceMs = Math.min(ANSWER_MS, this.#leaseMs * RENEW_PATIENCE);
		let last: unknown = new Error("it was not renewed in time");
		for (let failures = 1; ; failures++) {
			const askedAt = performance.now();
			const leftMs = this.#endsAt - askedAt;
			if (leftMs <= 0) throw last;
			try {
				this.#expiresAt = await this.#renewal(Math.min(patienceMs, leftMs));
				this.#endsAt = askedAt + this.#leaseMs; // The service counted from later.
				return;
			} catch (error) {
				// Everything but "gone" may pass, such as a token that is being replaced.
				if (this.#stop.signal.aborted || (error instanceof HeadgateError && error.code === "lease_gone")) throw error;
				last = error;
			}
			const pauseMs = backoffMs(failures, last instanceof Interruption ? last : undefined);
			await pause(Math.min(pauseMs, this.#endsAt - performance.now()), this.#stop.signal, idle);
		}
	}

	/** One try of a renewal; answers when the lease ends now. */
	async #renewal(answerMs: number): Promise<string> {
		const { id, names } = this;
		const { signal } = this.#stop;
		// A stub that is torn, or knows no more than that the lease is gone, leaves the answer to its id.
		const tied = this.#tether && within(this.#tether.renew(), answerMs, signal, silence(answerMs)).catch(() => null);
		const expiresAt = await tied;
		if (expiresAt !== null) return expiresAt;
		const body = { id, names, leaseSeconds: this.#leaseMs / 1_000 };
		return (await this.#transport.once<Renewed>("POST", "/v1/renew", body, { signal, answerMs })).expiresAt;
	}

	#lose(cause: unknown): void {
		this.#enforced = false;
		const error = new LeaseLostError(this.id, this.names, cause);
		if (this.#options.onLeaseLost === "continue") this.#transport.warn("work goes on without its slots", error);
		else this.#control.abort(error);
	}
}

/** Settles what was taken by rate. Of names that were skipped, and where no service was asked, there is nothing to settle. */
export async function settleEstimate(
	transport: Transport,
	id: string,
	taken: Slots,
	given: number | Slots,
): Promise<Settled> {
	const actual =
		typeof given === "number" ? Object.fromEntries(Object.keys(taken).map((name) => [name, given])) : given;
	if (Object.keys(taken).length === 0) return { id, actual: {}, limits: [] };
	return transport.call<Settled>("POST", "/v1/settle", { id, actual }, {});
}

/** Whether all of these limits count. */
export const isEnforced = (limits: readonly LimitStatus[]): boolean =>
	limits.length > 0 && limits.every((limit) => limit.enforced);
