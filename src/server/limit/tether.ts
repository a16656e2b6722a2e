/**
 * A request, or a lease, that lives as long as the stub of its caller: the runtime tells an object when the last stub
 * of one of its targets is gone, however its caller went. The lease's own end is the backstop.
 */

import { DurableObject, RpcTarget } from "cloudflare:workers";
import type { Ask, Missing, Outcome } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";

/** How long a request may take to reach its line: longer than the directory takes to answer. */
const ARRIVAL_MS = 2_000;

/** Tethers of each request: a caller that came back under the same id has one more, and the first to go means nothing. */
const tied = new WeakMap<TetheredObject, Map<string, number>>();

export class Tether extends RpcTarget {
	readonly #limit: TetheredObject;
	readonly #id: string;
	/** Names the call that waits. */
	readonly #call: string;
	readonly #ties: Map<string, number>;
	#over = false;

	constructor(limit: TetheredObject, id: string, call: string) {
		super();
		this.#limit = limit;
		this.#id = id;
		this.#call = call;
		this.#ties = tied.get(limit) ?? new Map();
		tied.set(limit, this.#ties);
		this.#ties.set(id, (this.#ties.get(id) ?? 0) + 1);
	}

	/** Null: the limit does not exist any more. */
	renew(): Promise<Outcome | null> {
		return this.#limit.renew(this.#id, null);
	}

	/** Gives back what is held; answers the slots. */
	async release(): Promise<number> {
		this.#untie();
		const answer = await this.#limit.release(this.#id, "caller");
		return answer?.event.kind === "released" ? answer.event.slots : 0;
	}

	[Symbol.dispose](): void {
		if (!this.#untie()) return;
		// A reset of the object ends the place in line, and leaves a lease to its own end.
		this.#giveUp().catch((error) => console.warn("A request whose caller has gone could not be ended:", error));
	}

	/** Leaves the line, or gives back what is held, whichever is true by now. */
	async #giveUp(): Promise<void> {
		if (await this.#end()) return;
		// It may still be on its way in, while the directory is asked about a name that is first seen.
		await scheduler.wait(ARRIVAL_MS);
		await this.#end();
	}

	/** Answers whether there was a lease to give back. */
	async #end(): Promise<boolean> {
		await this.#limit.leave(this.#id, this.#call);
		// A lease that was asked for twice survives one caller that went unheard; this was the last of them.
		const answer = await this.#limit.renew(this.#id, null);
		if (answer?.event.kind !== "renewed") return false;
		await this.#limit.release(this.#id, "caller");
		return true;
	}

	/** Answers whether this ended now, and no other tether speaks for the same request. */
	#untie(): boolean {
		if (this.#over) return false;
		this.#over = true;
		const left = (this.#ties.get(this.#id) ?? 1) - 1;
		if (left > 0) this.#ties.set(this.#id, left);
		else this.#ties.delete(this.#id);
		return left === 0;
	}
}

/** A limit's object, in so far as callers tie themselves to it. */
export abstract class TetheredObject extends DurableObject<Env> {
	abstract acquire(ask: Ask): Promise<Outcome | Missing>;
	abstract leave(id: string, call: string): Promise<void>;
	abstract renew(id: string, leaseMs: number | null): Promise<Outcome | null>;
	abstract release(id: string, by: "caller"): Promise<Outcome | null>;

	/**
	 * A tether for a lease by its id, or for a request. One that does not wait is decided here, in the same call, and
	 * tied if it holds anything. One that waits is tied first and has yet to ask, by a call of its own: a call that is
	 * still unanswered would keep its own target alive.
	 */
	async tether(asked: Ask | string): Promise<{ tether: Tether | null; answer: Outcome | Missing | null }> {
		if (typeof asked === "string") return { tether: new Tether(this, asked, ""), answer: null };
		const { request, call = "" } = asked;
		if (request.waitMs > 0) return { tether: new Tether(this, request.id, call), answer: null };
		const answer = await this.acquire(asked);
		const holds = !("missing" in answer) && answer.event.kind === "granted" && answer.event.expiresAt !== null;
		return { tether: holds ? new Tether(this, request.id, call) : null, answer };
	}
}
