/**
 * A request, or a lease, that lives as long as the stub of its caller: the runtime tells an object when the last stub
 * of one of its targets is gone, however its caller went. The lease's own end is the backstop.
 */

import { RpcTarget } from "cloudflare:workers";
import type { RequestCalls, TetherCalls, Tied } from "../contract/limit-calls.ts";
import type { LimitRequest, Outcome } from "../contract/outcomes.ts";

/** How long a request may take to reach its line: longer than the directory takes to answer. */
const ARRIVAL_MS = 2_000;

/** The tethers of one object. */
export class Tethers {
	readonly #requests: RequestCalls;
	/** How many there are of each request: a caller that came back under the same id has one more, and the first to go means nothing. */
	readonly #tied = new Map<string, number>();

	/** `requests`: the object itself, which leads on what went to another name. */
	constructor(requests: RequestCalls) {
		this.#requests = requests;
	}

	async tie(asked: LimitRequest | string): Promise<Tied> {
		if (typeof asked === "string") return { tether: this.#tether(asked, ""), answer: null };
		const { request, call = "" } = asked;
		if (request.waitMs > 0) return { tether: this.#tether(request.id, call), answer: null };
		const answer = await this.#requests.acquire(asked);
		const holds = !("missing" in answer) && answer.event.kind === "granted" && answer.event.expiresAt !== null;
		return { tether: holds ? this.#tether(request.id, call) : null, answer };
	}

	/** Answers whether no other tether speaks for the same request. */
	untie(id: string): boolean {
		const left = (this.#tied.get(id) ?? 1) - 1;
		if (left > 0) this.#tied.set(id, left);
		else this.#tied.delete(id);
		return left === 0;
	}

	#tether(id: string, call: string): Tether {
		this.#tied.set(id, (this.#tied.get(id) ?? 0) + 1);
		return new Tether(this, this.#requests, id, call);
	}
}

class Tether extends RpcTarget implements TetherCalls {
	readonly #tethers: Tethers;
	readonly #requests: RequestCalls;
	readonly #id: string;
	/** Names the call that waits. */
	readonly #call: string;
	#over = false;

	constructor(tethers: Tethers, requests: RequestCalls, id: string, call: string) {
		super();
		this.#tethers = tethers;
		this.#requests = requests;
		this.#id = id;
		this.#call = call;
	}

	renew(): Promise<Outcome | null> {
		return this.#requests.renew(this.#id, null);
	}

	async release(): Promise<number> {
		this.#untie();
		const answer = await this.#requests.release(this.#id, "caller");
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
		await this.#requests.leave(this.#id, this.#call);
		// A lease that was asked for twice survives one caller that went unheard; this was the last of them.
		const answer = await this.#requests.renew(this.#id, null);
		if (answer?.event.kind !== "renewed") return false;
		await this.#requests.release(this.#id, "caller");
		return true;
	}

	/** Answers whether this ended now, and no other tether speaks for the same request. */
	#untie(): boolean {
		if (this.#over) return false;
		this.#over = true;
		return this.#tethers.untie(this.#id);
	}
}
