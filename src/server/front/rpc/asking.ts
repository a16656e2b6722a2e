/**
 * Requests of another Worker, by RPC: each lives as long as the stub that its caller holds. Behind it the object of
 * every name holds a tether, so that the slots are back at once when the caller has gone, however it went.
 */

import { RpcTarget } from "cloudflare:workers";
import type { Lease, LimitStatus, Problem, Receipt, Released, Renewed, Slots } from "../../../protocol.ts";
import { type RefusalName, withRefusal } from "../../../refusals.ts";
import { toIso } from "../../contract/answers.ts";
import type { Env } from "../../contract/env.ts";
import type { TetherCalls } from "../../contract/limit-calls.ts";
import type { Ask, Missing, Outcome } from "../../contract/outcomes.ts";
import { problem } from "../../contract/problems.ts";
import { acquire } from "../acquire.ts";
import { problemOf } from "../http/refused.ts";
import { firstLast, renew, slotsBack } from "../leases.ts";
import { type LimitStub, limitOf } from "../limit-stub.ts";
import type { Acquire } from "../requests.ts";

/** What became of a request. */
export type Decided = { lease: Lease | Receipt; problem: null } | { lease: null; problem: Problem };

/** After this part of its length a lease is renewed, so that it outlives two renewals that fail. */
const RENEW_AT = 1 / 3;

/** A tether, as its object's caller sees it. */
type Tied = Pick<TetherCalls, "renew" | "release"> & Disposable;

export class Asking extends RpcTarget {
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
		};
		try {
			// Tied before they are granted: whoever goes on the way leaves every line, and nothing of any name behind.
			const tying = this.#tieEarly(request);
			const asking = acquire(this.#env, request, caller, (limit, ask) => this.#tie(limit, ask));
			const [verdict] = await Promise.all([asking, tying]);
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
	async #tie(limit: LimitStub, ask: Ask): Promise<Outcome | Missing> {
		const called = { ...ask, call: crypto.randomUUID() };
		// Sent one after the other, and answered in that order: the tether is there before anybody waits.
		const tying = limit.tether(called);
		const waiting = ask.request.waitMs > 0 ? limit.acquire(called) : null;
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
			if (answer?.event.kind === "renewed") this.#ties.set(name, await tieTo(limit, this.#id));
			return answer;
		}
	}
}

async function tieTo(limit: LimitStub, id: string): Promise<Tied> {
	const { tether } = (await limit.tether(id)) as unknown as { tether: Tied };
	return tether;
}

/**
 * A lease in the hands of another Worker: `using lease = await env.LIMITS.concurrency("database")`. Renewed while it is
 * held. It ends with its stub: at `release()`, at the end of the block or of the request that took it, however that ends.
 *
 * Each property is read by a call, so await it.
 */
export class HeldLease extends RpcTarget {
	readonly #asking: Asking;
	readonly #lease: Lease;
	readonly #timer: ReturnType<typeof setInterval>;
	#lost = false;

	constructor(asking: Asking, lease: Lease, leaseMs: number) {
		super();
		this.#asking = asking;
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
		const expiresAt = Object.keys(this.names).length === 0 ? this.expiresAt : await this.#asking.renew();
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
		return this.#asking.release();
	}

	[Symbol.dispose](): void {
		clearInterval(this.#timer);
		this.#asking[Symbol.dispose]();
	}

	async #beat(): Promise<void> {
		try {
			if (Object.keys(this.names).length === 0) return;
			const expiresAt = await this.#asking.renew();
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

/** A refusal as it is thrown to another Worker: with its name, its message and the problem itself; see `refusalOf`. */
export function refusal(refused: Problem, name: RefusalName = "HeadgateError"): Error & { problem: Problem } {
	const fields = (refused.errors ?? []).map(({ field, message }) => `${field}: ${message}`).join("; ");
	const detail = [`${refused.status} ${refused.code}`, refused.detail || refused.title, fields].filter((part) => part);
	const message = withRefusal(detail.join("; "), { name, problem: refused });
	return Object.assign(new Error(message), { name, problem: refused });
}
