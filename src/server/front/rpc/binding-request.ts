/**
 * Requests of another Worker, by RPC: each lives as long as the stub that its caller holds. Behind it the object of
 * every name holds a tether, so that the slots are back at once when the caller has gone, however it went.
 */

import { RpcTarget } from "cloudflare:workers";
import type { Lease, Problem, Receipt, Released } from "../../../protocol.ts";
import { toIso } from "../../contract/answers.ts";
import type { Env } from "../../contract/env.ts";
import type { TetherCalls } from "../../contract/limit-calls.ts";
import type { LimitRequest, Missing, Outcome } from "../../contract/outcomes.ts";
import { acquire } from "../acquire.ts";
import { problemOf } from "../http/refused.ts";
import { firstLast, renew, slotsBack } from "../leases.ts";
import { type LimitStub, limitOf } from "../limit-stub.ts";
import type { Acquire } from "../requests.ts";

/** What became of a request. */
export type Decided = { lease: Lease | Receipt; problem: null } | { lease: null; problem: Problem };

/** A tether, as its object's caller sees it. */
type Tied = Pick<TetherCalls, "renew" | "release"> & Disposable;

/** One request that came through a binding, and what it holds. */
export class BindingRequest extends RpcTarget {
	readonly #env: Env;
	readonly #request: Acquire | Problem;
	readonly #gone = new AbortController();
	/** In the fixed order of names. */
	readonly #ties = new Map<string, Tied>();

	/** @internal So that the declarations of the package do without those of its schemas. */
	constructor(env: Env, request: Acquire | Problem) {
		super();
		this.#env = env;
		this.#request = request;
	}

	/** Asks, waits if it is to, and answers once. A refusal is an answer. */
	async verdict(): Promise<Decided> {
		const request = this.#request;
		if ("code" in request) return { lease: null, problem: request };
		const caller = {
			signal: () => this.#gone.signal,
			// Nothing is to outlive the caller here: its end is what ends the context, the stubs in it, and so the tethers.
			waitUntil: (work: Promise<unknown>) => void work.catch((error) => console.warn("Not undone:", error)),
			// A call over a binding is in the trace of the one that made it.
			traceId: () => undefined,
		};
		try {
			// Tied before they are granted: a caller that goes on the way leaves every line, and nothing of any name behind.
			const tying = this.#tieEarly(request);
			const acquiring = acquire(this.#env, request, caller, (limit, wanted) => this.#tie(limit, wanted));
			const [verdict] = await Promise.all([acquiring, tying]);
			if (!verdict.ok) {
				this[Symbol.dispose]();
				return { lease: null, problem: verdict.problem };
			}
			const { lease } = verdict;
			if ("expiresAt" in lease) await this.#tieAll(lease);
			else this[Symbol.dispose]();
			return { lease, problem: null };
		} catch (error) {
			this[Symbol.dispose]();
			return { lease: null, problem: problemOf(error as Error) };
		}
	}

	/** Gives back what is held. */
	async release(): Promise<Released> {
		const counts = await firstLast([...this.#ties], (tie) => this.#release(tie));
		this[Symbol.dispose]();
		return { released: counts.reduce((sum, slots) => sum + slots, 0) };
	}

	/** Renews what is held; null: a part of it is gone. */
	async renew(): Promise<string | null> {
		const { endsAt, gone } = await renew([...this.#ties], (tie) => this.#renew(tie));
		return gone.length === 0 ? toIso(endsAt) : null;
	}

	[Symbol.dispose](): void {
		this.#gone.abort();
		for (const tether of this.#ties.values()) tether[Symbol.dispose]();
		this.#ties.clear();
	}

	get #id(): string {
		return "id" in this.#request ? this.#request.id : "";
	}

	get #names(): string[] {
		return "id" in this.#request ? this.#request.names.map(([name]) => name) : [];
	}

	/** Asks the only limit under a tether, in one round trip. */
	async #tie(limit: LimitStub, wanted: LimitRequest): Promise<Outcome | Missing> {
		const called = { ...wanted, call: crypto.randomUUID() };
		// Sent one after the other, and answered in that order: the tether is there before the request waits.
		const tying = limit.tether(called);
		const waiting = wanted.request.waitMs > 0 ? limit.acquire(called) : null;
		// Whichever fails, the other's failure is heard too.
		const [tied, answer] = await Promise.all([tying, waiting]);
		const { tether } = tied as unknown as { tether: Tied | null };
		if (tether) this.#ties.set(this.#names[0] as string, tether);
		return (answer ?? tied.answer) as Outcome | Missing;
	}

	/** Ties each of several names that are waited for and to be held. */
	async #tieEarly({ id, names, mode, rated, waitMs }: Acquire): Promise<void> {
		if (names.length < 2 || waitMs === 0 || mode !== "concurrency") return;
		await this.#tieTo(
			id,
			names.map(([name]) => name).filter((name) => !rated.includes(name)),
		);
	}

	/** Ties what a coordinator was granted, and lets go of names that it passed over. */
	async #tieAll({ id, names }: Lease): Promise<void> {
		for (const [name, tether] of this.#ties) {
			if (name in names) continue;
			this.#ties.delete(name);
			tether[Symbol.dispose]();
		}
		await this.#tieTo(id, Object.keys(names).sort());
	}

	async #tieTo(id: string, names: string[]): Promise<void> {
		const tied = await Promise.all(
			names
				.filter((name) => !this.#ties.has(name))
				.map(async (name): Promise<[string, Tied]> => [name, await tieTo(limitOf(this.#env, name), id)]),
		);
		for (const [name, tether] of tied) {
			if (this.#gone.signal.aborted) tether[Symbol.dispose]();
			else this.#ties.set(name, tether);
		}
	}

	async #release([name, tether]: [string, Tied]): Promise<number> {
		try {
			return await tether.release();
		} catch {
			// The object was restarted and the tether is torn: the lease is still known by its id.
			return slotsBack(await limitOf(this.#env, name).release(this.#id, "caller"));
		}
	}

	async #renew([name, tether]: [string, Tied]): Promise<Outcome | null> {
		try {
			return await tether.renew();
		} catch {
			const limit = limitOf(this.#env, name);
			const answer = await limit.renew(this.#id, null);
			if (answer?.event.kind !== "renewed") return answer;
			tether[Symbol.dispose]();
			this.#ties.set(name, await tieTo(limit, this.#id));
			return answer;
		}
	}
}

async function tieTo(limit: LimitStub, id: string): Promise<Tied> {
	const { tether } = (await limit.tether(id)) as unknown as { tether: Tied };
	return tether;
}
