/** The public calls. */

import type {
	BatchAnswer,
	BatchOutcome,
	CheckAnswer,
	Code,
	DeniedKeys,
	Given,
	HouseTotals,
	LeaseInfo,
	LeasesPage,
	LimitInfo,
	LimitPatch,
	LimitSettings,
	LimitSummary,
	LimitsPage,
	Mode,
	PoliciesPage,
	Policy,
	PolicySettings,
	Problem,
	Receipt as ReceiptRecord,
	Released,
	Renewed,
	Settled,
	Slots,
} from "../protocol.ts";
import { ConcurrencySlotAcquisitionError, HeadgateError, isLeaseLostError } from "./errors.ts";
import { type AcquireOptions, isEnforced, Lease, settleEstimate } from "./lease.ts";
import { checkLease, checkObject, checkWork, inPath, type Names, slotsOf } from "./names.ts";
import { type HeadgateOptions, Transport } from "./transport.ts";
import { obtain, type WaitOptions } from "./wait.ts";

export type { Names } from "./names.ts";

/** What runs while the slots are held. `lease.signal` tells when to stop. */
export type Work<T> = (lease: Lease) => T | PromiseLike<T>;

/** Options of a request that never waits. */
export type TryOptions = Omit<AcquireOptions, "timeoutSeconds" | "maxRetries">;

/** The slots, or why not. */
export type Attempt = { lease: Lease; denied: null } | { lease: null; denied: Problem };

/** One request of `acquireMany`. */
export interface BatchedRequest<N extends string = string>
	extends Pick<
		AcquireOptions,
		| "occupy"
		| "rate"
		| "leaseSeconds"
		| "onLeaseLost"
		| "createIfMissing"
		| "strict"
		| "holder"
		| "settleSeconds"
		| "atMost"
		| "priority"
		| "key"
	> {
	names: Names<N>;
	/** `"rate_limit"`: the slots come back by themselves, and the lease holds nothing. Default `"concurrency"`. */
	mode?: Mode | undefined;
}

/** Options of `check`. */
export interface CheckOptions
	extends Pick<BatchedRequest, "occupy" | "rate" | "mode" | "createIfMissing" | "strict">,
		CallOptions {}

/** What became of it: slots that are held, slots taken by rate, or the problem that it alone would have been refused with. */
export type Outcome =
	| { lease: Lease; receipt: null; denied: null }
	| { lease: null; receipt: Receipt; denied: null }
	| { lease: null; receipt: null; denied: Problem };

/** As many requests as one call takes; see `BOUNDS.batch`. */
const BATCH = 100;

/** What `rateLimit` answers with. Nothing is held: the slots come back by themselves. */
export interface Receipt extends ReceiptRecord {
	/** Whether every limit that was asked for counted the slots; see `Lease.enforced`. */
	enforced: boolean;
	/**
	 * Says what an estimate came to, with `settleSeconds`: below it the rest comes back, above it the difference is taken too. A number is
	 * for each name. Once is enough: the same again changes nothing.
	 * @throws HeadgateError with code `receipt_gone` when `settleSeconds` are over, `already_settled` when it was settled otherwise.
	 */
	settle(actual: number | Slots): Promise<Settled>;
}

/** A lease by its id and its names: a `Lease`, or what became of it as JSON. */
export interface LeaseReference {
	id: string;
	names: Names;
}

/** Ends a call early. */
export interface CallOptions {
	signal?: AbortSignal | undefined;
}

/**
 * A Headgate service: named limits, shared by every program that knows them.
 *
 * Most callers want `concurrency` with a function, and `rateLimit`. With `new Headgate<"database" | "openai">(…)` the compiler
 * refuses a name that is misspelt; `NamesOf` takes them from `defineLimits`.
 *
 * Each waiting caller keeps a connection open. A browser opens six to a host that does not speak HTTP/2 (a deployed
 * Worker does), so let fewer than six wait at once on a page that talks to a local server.
 *
 * @example
 * import { Headgate } from "headgate";
 *
 * const gate = new Headgate({ url: "https://limits.example.workers.dev", token: "secret" });
 * await gate.concurrency("database", async () => {
 * 	// At most as many run here at once, anywhere, as the limit "database" has slots.
 * });
 */
export class Headgate<N extends string = string> {
	readonly #transport: Transport;

	/** @throws TypeError when there is no valid `url` and no `binding`. */
	constructor(options: HeadgateOptions) {
		this.#transport = new Transport(options);
	}

	/**
	 * Holds slots of all the limits while `work` runs, and answers with its value. Waits in line for the slots, first
	 * come, first served; takes all or none. The slots are given back before this settles, whatever the work does.
	 *
	 * The work is never abandoned: when the lease is lost or `signal` aborts, `lease.signal` aborts, and this settles
	 * when the work does. Work that ends with an `AbortError` because its lease was lost rejects with `LeaseLostError`.
	 *
	 * @throws TypeError when the names, `occupy` or the work are none, such as `undefined` or a `Set`: nothing runs.
	 * @throws AcquireConcurrencySlotTimeoutError after `timeoutSeconds` without the slots.
	 * @throws ConcurrencySlotAcquisitionError when the slots are refused.
	 * @throws HeadgateUnreachableError when the service cannot be reached (`onError`).
	 * @throws whatever the work throws, and the reason of `signal`.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * const report = await gate.concurrency(["database", "reports"], { timeoutSeconds: 30 }, async (lease) => {
	 * 	const response = await fetch("https://example.com/report", { signal: lease.signal });
	 * 	return response.text();
	 * });
	 * console.log(report);
	 */
	concurrency<T>(names: Names<N>, work: Work<T>): Promise<T>;
	concurrency<T>(names: Names<N>, options: AcquireOptions | undefined, work: Work<T>): Promise<T>;
	/**
	 * The same as `acquire`, for `await using`.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * {
	 * 	await using lease = await gate.concurrency("database", { occupy: 2 });
	 * 	console.log(lease.id, lease.expiresAt);
	 * } // Given back here.
	 */
	concurrency(names: Names<N>, options?: AcquireOptions): Promise<Lease>;
	concurrency<T>(
		names: Names<N>,
		...rest: [options?: AcquireOptions | Work<T> | undefined, work?: Work<T>]
	): Promise<T> | Promise<Lease> {
		const [options = {}, work] = rest;
		if (typeof options === "function") return this.#run(names, {}, options);
		// Work that is missing by mistake would take slots and not use them.
		return rest.length > 1 ? this.#run(names, options, work as Work<T>) : this.#acquire(names, options, true);
	}

	/**
	 * Takes slots and answers with the lease, which is renewed until it is released. Throws as `concurrency` does.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * const lease = await gate.acquire({ database: 1, memory: 4 }, { holder: "nightly import" });
	 * await lease.release();
	 */
	acquire(names: Names<N>, options: AcquireOptions = {}): Promise<Lease> {
		return this.#acquire(names, options, true);
	}

	/**
	 * Takes slots if they are free now, and never waits in line. A denial is an answer here, with all its details; other
	 * refusals are thrown as by `concurrency`.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * const { lease, denied } = await gate.tryAcquire("exports");
	 * if (lease) await lease.release();
	 * else console.log(`busy, again in ${denied.retryAfterSeconds} s`);
	 */
	async tryAcquire(names: Names<N>, options: TryOptions = {}): Promise<Attempt> {
		try {
			checkObject(options, "The options");
			return { lease: await this.#acquire(names, { ...options, maxRetries: 0 }, true), denied: null };
		} catch (error) {
			if (error instanceof ConcurrencySlotAcquisitionError && error.code === "denied") {
				return { lease: null, denied: error.problem };
			}
			throw error;
		}
	}

	/**
	 * Makes many requests at once, none of which waits: those for one limit cost it a call and a commit together. Each has
	 * its own outcome, in its place. More than 100 go out in several calls, one after the other.
	 *
	 * @throws TypeError when one of them names no limit; nothing is asked for then.
	 * @throws HeadgateUnreachableError when the service cannot be reached: what it may have granted unheard comes back at
	 * the end of its lease.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * const jobs = ["a.csv", "b.csv"];
	 * const outcomes = await gate.acquireMany(jobs.map((holder) => ({ names: "imports", holder })));
	 * for (const { lease, denied } of outcomes) {
	 * 	if (denied) console.log(denied.detail);
	 * 	await lease?.release();
	 * }
	 */
	async acquireMany(requests: readonly BatchedRequest<N>[], options: CallOptions = {}): Promise<Outcome[]> {
		const all: readonly Omit<BatchedRequest, "names">[] = requests;
		const asked = requests.map((each) => wireOf(each as { names: unknown } as BatchedRequest));
		const outcomes: Outcome[] = [];
		try {
			for (let from = 0; from < asked.length; from += BATCH) {
				const body = { requests: asked.slice(from, from + BATCH) };
				const { answers } = await this.#transport.call<BatchAnswer>("POST", "/v1/acquire/batch", body, options);
				for (const answer of answers)
					outcomes.push(this.#outcome(answer, all[outcomes.length] as Omit<BatchedRequest, "names">));
			}
			return outcomes;
		} catch (error) {
			for (const { lease } of outcomes) await lease?.[Symbol.asyncDispose]();
			throw error;
		}
	}

	/**
	 * Takes slots that come back by themselves, at the limit's `slotDecayPerSecond`; waits in line until they fit, and
	 * holds nothing. Throws as `concurrency` does; a limit without decay is refused.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * await gate.rateLimit("openai", { occupy: 3 });
	 */
	async rateLimit(names: Names<N>, options: WaitOptions = {}): Promise<Receipt> {
		const slots = slotsOf(names as Names, checkObject(options, "The options").occupy);
		options.signal?.throwIfAborted();
		const asked = Object.keys(slots).length > 0;
		const grant = asked ? await obtain(this.#transport, { ...options, slots, mode: "rate_limit" }) : null;
		options.signal?.throwIfAborted();
		return receiptOf(this.#transport, grant?.record ?? { ...NOTHING, id: crypto.randomUUID() });
	}

	/**
	 * Renews a lease that another program holds; a `Lease` of this library renews itself. `leaseSeconds` counts from
	 * now; default: the length that it was acquired with.
	 * @throws HeadgateError with code `lease_gone` when it has ended.
	 */
	renew(lease: LeaseReference, options: CallOptions & { leaseSeconds?: number | undefined } = {}): Promise<Renewed> {
		const { id, names } = checkLease(lease);
		return this.#transport.call("POST", "/v1/renew", { id, names, leaseSeconds: options.leaseSeconds }, options);
	}

	/**
	 * Says what estimates of another program came to, by the id of the request; see `settleSeconds`.
	 * @throws HeadgateError with code `receipt_gone` or `already_settled`.
	 */
	settle(id: string, actual: Slots, options: CallOptions = {}): Promise<Settled> {
		return this.#transport.call("POST", "/v1/settle", { id, actual: checkObject(actual, "`actual`") }, options);
	}

	/** Gives back a lease by its id and names. Answers with the slots given back: 0 when there was nothing left. */
	release(lease: LeaseReference, options: CallOptions = {}): Promise<Released> {
		return this.#transport.call("POST", "/v1/release", checkLease(lease), options);
	}

	/**
	 * Asks whether slots would be granted now. Nothing is taken, counted or created; what is true now may not be a moment later.
	 * `mode`: default `"concurrency"`.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * const { allowed, limits } = await gate.check("exports");
	 * console.log(allowed, limits[0]?.remaining);
	 */
	check(names: Names, options: CheckOptions = {}): Promise<CheckAnswer> {
		const { occupy, rate, mode, createIfMissing, strict, signal } = checkObject(options, "The options");
		const body = { ...{ mode, createIfMissing, strict }, ...namedOf({ names, occupy, rate }) };
		return this.#transport.call("POST", "/v1/check", body, { signal });
	}

	/**
	 * Lets a limit grant nothing for `seconds` (0 to 600), or until an earlier pause ends, whichever is later. Leases stay, and
	 * those who wait keep their places. For an upstream that answered 429 with `Retry-After`. 0 ends a pause, which takes a token of
	 * scope `admin`.
	 * @throws HeadgateError with code `unknown_limit` when it does not exist.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * const response = await fetch("https://api.example.com/");
	 * if (response.status === 429) await gate.pause("openai", Number(response.headers.get("Retry-After") ?? 1));
	 */
	pause(name: string, seconds: number, options: CallOptions = {}): Promise<LimitSummary> {
		return this.#transport.call("POST", `${pathOf(name)}/pause`, { seconds }, options);
	}

	/**
	 * Creates a limit, or replaces its settings. Left out: no decay, active, and no `region` of its own. A limit never moves: another
	 * region than the one that it was made with is refused.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * await gate.configure("database", { limit: 20 });
	 * await gate.configure("openai", { limit: 100, slotDecayPerSecond: 100 / 60 });
	 */
	configure(name: N, settings: Given<LimitSettings>, options: CallOptions = {}): Promise<LimitSummary> {
		return this.#transport.call("PUT", pathOf(name), checkObject(settings, "The settings"), options);
	}

	/**
	 * Shows a limit: settings, slots in use, who holds and who waits.
	 * @throws HeadgateError with code `unknown_limit` when it does not exist.
	 */
	inspect(name: N, options: CallOptions = {}): Promise<LimitInfo> {
		return this.#transport.call("GET", pathOf(name), undefined, options);
	}

	/**
	 * All limits, or those whose names start with `prefix`, in the order of their names; read page by page.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * for await (const limit of gate.limits({ prefix: "login:" })) console.log(limit.name, limit.activeSlots);
	 */
	async *limits(options: CallOptions & { prefix?: string | undefined } = {}): AsyncGenerator<LimitSummary, void, void> {
		const query = new URLSearchParams(options.prefix ? { prefix: options.prefix } : {});
		for (;;) {
			const page: LimitsPage = await this.#transport.call("GET", `/v1/limits?${query}`, undefined, options);
			yield* page.limits;
			if (page.next === null) return;
			query.set("after", page.next);
		}
	}

	/**
	 * The limits that need a look, worst first: paused, with a line, full, denying, nearly full; then others by name, up to
	 * `count`. `totals` are of all limits, also of those that are left out.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * const { limits, totals } = await gate.attention();
	 * console.log(`${limits[0]?.name} first; ${totals.full} of ${totals.limits} limits are full`);
	 */
	async attention(
		options: CallOptions & { prefix?: string | undefined; count?: number | undefined } = {},
	): Promise<{ limits: LimitSummary[]; totals: HouseTotals; unavailable?: string[] }> {
		const { prefix, count } = options;
		const query = new URLSearchParams({ order: "attention", ...(prefix && { prefix }) });
		if (count !== undefined) query.set("count", String(count));
		const page: LimitsPage = await this.#transport.call("GET", `/v1/limits?${query}`, undefined, options);
		return page as LimitsPage & { totals: HouseTotals };
	}

	/**
	 * Changes some settings of a limit and leaves the others, or sets the slots in use by hand (`activeSlots`).
	 * @throws HeadgateError with code `unknown_limit` when it does not exist.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * await gate.update("database", { active: false });
	 */
	update(name: N, patch: LimitPatch, options: CallOptions = {}): Promise<LimitSummary> {
		return this.#transport.call("PATCH", pathOf(name), checkObject(patch, "The settings"), options);
	}

	/** Deletes a limit with its leases and its line. Answers whether there was one. */
	delete(name: N, options: CallOptions = {}): Promise<boolean> {
		return this.#remove(pathOf(name), "unknown_limit", options);
	}

	/** All leases of a limit, the oldest first; read page by page. `inspect` shows the first 100. */
	async *leases(name: N, options: CallOptions = {}): AsyncGenerator<LeaseInfo, void, void> {
		for (let after = "0"; ; ) {
			const path = `${pathOf(name)}/leases?count=1000&after=${after}`;
			const page: LeasesPage = await this.#transport.call("GET", path, undefined, options);
			yield* page.leases;
			if (page.next === null) return;
			after = page.next;
		}
	}

	/**
	 * Takes the slots of one limit away from a lease, whichever caller holds it; that one learns of it when it renews.
	 * Answers with the slots given back: 0 when the lease had ended.
	 */
	async forceRelease(name: N, id: string, options: CallOptions = {}): Promise<Released> {
		try {
			const path = `${pathOf(name)}/leases/${inPath(id, "The id of a lease")}`;
			return await this.#transport.call("DELETE", path, undefined, options);
		} catch (error) {
			if (error instanceof HeadgateError && error.code === "lease_gone") return { released: 0 };
			throw error;
		}
	}

	/** All policies, in the order of their patterns. */
	async policies(options: CallOptions = {}): Promise<Policy[]> {
		return (await this.#transport.call<PoliciesPage>("GET", "/v1/policies", undefined, options)).policies;
	}

	/** The keys of a policy that were denied most within the last minute or two, most first. */
	async deniedKeys(pattern: string, options: CallOptions = {}): Promise<DeniedKeys["keys"]> {
		const path = `/v1/policies/${encodeURIComponent(pattern)}/denied`;
		return (await this.#transport.call<DeniedKeys>("GET", path, undefined, options)).keys;
	}

	/**
	 * Creates a policy, or replaces its settings: those of every name that starts like its pattern, or of one exact name.
	 *
	 * @example
	 * import { Headgate } from "headgate";
	 *
	 * const gate = new Headgate({ url: "https://limits.example.workers.dev" });
	 * await gate.configurePolicy("login:*", { limit: 5, slotDecayPerSecond: 5 / 60 });
	 */
	configurePolicy(pattern: string, settings: Given<PolicySettings>, options: CallOptions = {}): Promise<Policy> {
		const path = pathOf(pattern, "policies");
		return this.#transport.call("PUT", path, checkObject(settings, "The settings"), options);
	}

	/** Deletes a policy. Answers whether there was one. */
	deletePolicy(pattern: string, options: CallOptions = {}): Promise<boolean> {
		return this.#remove(pathOf(pattern, "policies"), "unknown_policy", options);
	}

	async #remove(path: string, unknown: Code, options: CallOptions): Promise<boolean> {
		try {
			await this.#transport.call("DELETE", path, undefined, options);
			return true;
		} catch (error) {
			if (error instanceof HeadgateError && error.code === unknown) return false;
			throw error;
		}
	}

	#outcome(answer: BatchOutcome, { mode, leaseSeconds, onLeaseLost }: Omit<BatchedRequest, "names">): Outcome {
		if ("problem" in answer) return { lease: null, receipt: null, denied: answer.problem };
		const { lease: record } = answer;
		this.#transport.noteUnconfigured(record.limits);
		if (mode === "rate_limit") return { lease: null, receipt: receiptOf(this.#transport, record), denied: null };
		const grant = { record, sound: Promise.resolve(true) };
		const lease = new Lease(this.#transport, { leaseSeconds, onLeaseLost }, grant, true);
		return { lease, receipt: null, denied: null };
	}

	async #acquire(names: Names<N>, options: AcquireOptions, idle: boolean): Promise<Lease> {
		const slots = slotsOf(names as Names, checkObject(options, "The options").occupy);
		const rate = options.rate === undefined ? undefined : slotsOf(options.rate, 1, "rate");
		options.signal?.throwIfAborted();
		const asked = Object.keys(slots).length > 0;
		const grant = asked ? await obtain(this.#transport, { ...options, slots, rate, mode: "concurrency" }) : null;
		const lease = new Lease(this.#transport, options, grant, idle);
		if (!options.signal?.aborted) return lease;
		// The caller left at the instant of the grant, and will not release this lease.
		await lease[Symbol.asyncDispose]();
		throw options.signal.reason;
	}

	async #run<T>(names: Names<N>, options: AcquireOptions, work: Work<T>): Promise<T> {
		checkWork(work);
		// While the work runs the renewing keeps the process alive: it may be waiting for nothing else.
		const lease = await this.#acquire(names, options, false);
		try {
			options.signal?.throwIfAborted();
			return await work(lease);
		} catch (error) {
			const reason: unknown = lease.signal.reason;
			const byAbort = error instanceof Error && error.name === "AbortError";
			throw byAbort && isLeaseLostError(reason) ? reason : error;
		} finally {
			await lease[Symbol.asyncDispose]();
		}
	}
}

/** A request as it is sent. Its id is ours, so that a call that is repeated gets nothing twice. */
function wireOf({ names, occupy, rate, ...wish }: BatchedRequest) {
	const { mode, leaseSeconds, settleSeconds, atMost, createIfMissing, strict, holder, priority, key } = wish;
	return {
		...namedOf({ names, occupy, rate }),
		...{ mode, leaseSeconds, settleSeconds, atMost, createIfMissing, strict, holder, priority, key },
		id: crypto.randomUUID(),
	};
}

const namedOf = ({ names, occupy, rate }: Pick<BatchedRequest, "names" | "occupy" | "rate">) => ({
	names: slotsOf(names, occupy),
	rate: rate === undefined ? undefined : slotsOf(rate, 1, "rate"),
});

/** As JSON, and to those who compare it, a receipt is what it says. */
function receiptOf(transport: Transport, { id, names, waitedSeconds, limits }: ReceiptRecord): Receipt {
	const receipt = { id, names, waitedSeconds, limits, enforced: isEnforced(limits) };
	const settle = (actual: number | Slots): Promise<Settled> => settleEstimate(transport, id, names, actual);
	return Object.defineProperty(receipt, "settle", { value: settle }) as Receipt;
}

const NOTHING: Omit<ReceiptRecord, "id"> = { names: {}, waitedSeconds: 0, limits: [] };

const pathOf = (name: string, kind: "limits" | "policies" = "limits"): string =>
	`/v1/${kind}/${inPath(name, kind === "limits" ? "A limit" : "A policy")}`;
