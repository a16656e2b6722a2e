/** What `concurrency` over a binding answers with. */

import { RpcTarget } from "cloudflare:workers";
import type { Lease, LimitStatus, Released, Renewed, Slots } from "../../../protocol.ts";
import { RENEW_AT } from "../../../rhythms.ts";
import { problem } from "../../contract/problems.ts";
import type { BindingRequest } from "./binding-request.ts";
import { refusal } from "./refusal.ts";

/**
 * A lease in the hands of another Worker: `using lease = await env.LIMITS.concurrency("database")`. Renewed while it is
 * held. It ends with its stub: at `release()`, at the end of the block or of the request that took it, however that ends.
 *
 * Each property is read by a call, so await it.
 */
export class HeldLease extends RpcTarget {
	readonly #request: BindingRequest;
	readonly #lease: Lease;
	readonly #timer: ReturnType<typeof setInterval>;
	#lost = false;

	constructor(request: BindingRequest, lease: Lease, leaseMs: number) {
		super();
		this.#request = request;
		this.#lease = lease;
		this.#timer = setInterval(() => void this.#beat(), leaseMs * RENEW_AT);
	}

	get id(): string {
		return this.#lease.id;
	}

	/** Slots held of each limit. */
	get names(): Slots {
		return this.#lease.names;
	}

	/** Of each limit a number that rises with every lease of that name and with no renewal. */
	get fence(): Record<string, number> {
		return this.#lease.fence ?? {};
	}

	/** Slots taken by rate in the same request. */
	get rate(): Slots {
		return this.#lease.rate ?? {};
	}

	get expiresAt(): string {
		return this.#lease.expiresAt;
	}

	get waitedSeconds(): number {
		return this.#lease.waitedSeconds;
	}

	/** The limits as they were at the grant. */
	get limits(): LimitStatus[] {
		return this.#lease.limits;
	}

	/** Whether every limit that was asked for holds the work back, and the lease has not been lost. */
	get enforced(): boolean {
		return !this.#lost && this.#lease.limits.every((limit) => limit.enforced);
	}

	/** Renews at once. It is renewed anyway; call it to learn whether it still stands. Throws when it is gone. */
	async renew(): Promise<Renewed> {
		const expiresAt = Object.keys(this.names).length === 0 ? this.expiresAt : await this.#request.renew();
		if (expiresAt === null) {
			this.#lose();
			throw refusal(problem("lease_gone", `The lease "${this.id}" has ended: it was taken back, or expired.`));
		}
		this.#lease.expiresAt = expiresAt;
		return { id: this.id, expiresAt };
	}

	/** Gives the slots back; done when the service has them. Answers how many: 0 the second time. */
	release(): Promise<Released> {
		clearInterval(this.#timer);
		return this.#request.release();
	}

	[Symbol.dispose](): void {
		clearInterval(this.#timer);
		this.#request[Symbol.dispose]();
	}

	async #beat(): Promise<void> {
		try {
			if (Object.keys(this.names).length === 0) return;
			const expiresAt = await this.#request.renew();
			if (expiresAt === null) this.#lose();
			else this.#lease.expiresAt = expiresAt;
		} catch (error) {
			// It is tried again at the next beat; the lease lasts that long.
			console.warn(`The lease "${this.id}" could not be renewed:`, error);
		}
	}

	#lose(): void {
		this.#lost = true;
		clearInterval(this.#timer);
	}
}
