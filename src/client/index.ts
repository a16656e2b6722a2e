/**
 * The client of Headgate: hold slots while work runs (`concurrency`), or take slots that come back by themselves
 * (`rateLimit`). Runs wherever `fetch` does: Node 20 or later, Workers, Deno, Bun and browsers.
 */

import { Headgate, type Names, type Receipt, type Work } from "./headgate.ts";
import type { AcquireOptions, Lease } from "./lease.ts";
import type { WaitOptions } from "./wait.ts";

export type {
	CheckAnswer,
	Code,
	DeniedKeys,
	DeniedLimit,
	Given,
	HouseTotals,
	LeaseInfo,
	LimitInfo,
	LimitPatch,
	LimitSettings,
	LimitStatus,
	LimitSummary,
	Policy,
	Problem,
	Region,
	Released,
	Renewed,
	Settings,
	Settled,
	Slots,
	Totals,
	WaiterInfo,
	WaitingFor,
	WaitingKey,
	Window,
	WindowRequest,
} from "../protocol.ts";
export { type Refusal, type RefusalName, refusalOf } from "../refusals.ts";
export type { HeadgateBinding } from "./binding.ts";
export { defineLimits, type LimitsAsCode, type NamesOf } from "./define.ts";
export {
	AcquireConcurrencySlotTimeoutError,
	ConcurrencySlotAcquisitionError,
	HeadgateError,
	HeadgateUnreachableError,
	isAcquisitionError,
	isHeadgateError,
	isLeaseLostError,
	isTimeoutError,
	isUnreachableError,
	LeaseLostError,
} from "./errors.ts";
export {
	type Attempt,
	type BatchedRequest,
	type CallOptions,
	type CheckOptions,
	Headgate,
	type LeaseReference,
	type Names,
	type Outcome,
	type Receipt,
	type TryOptions,
	type Work,
} from "./headgate.ts";
export type { AcquireOptions, Lease } from "./lease.ts";
export type { HeadgateOptions } from "./transport.ts";
export type { WaitOptions } from "./wait.ts";

/** Where a service that was started on this machine listens. */
const LOCAL_URL = "http://127.0.0.1:8787";

let shared: Headgate | undefined;

/** The gate of this process's environment, made at the first call. */
function defaultGate(): Headgate {
	const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
	const { HEADGATE_URL, HEADGATE_TOKEN } = process?.env ?? {};
	shared ??= new Headgate({ url: HEADGATE_URL || LOCAL_URL, token: HEADGATE_TOKEN });
	return shared;
}

/**
 * `Headgate.concurrency` on the gate that the environment names: `HEADGATE_URL` (default `http://127.0.0.1:8787`) and
 * `HEADGATE_TOKEN`, read at the first call.
 *
 * @example
 * import { concurrency } from "headgate";
 *
 * await concurrency("database", { occupy: 1, timeoutSeconds: 30 }, async (lease) => {
 * 	await fetch("https://example.com/query", { signal: lease.signal });
 * });
 */
export function concurrency<T>(names: Names, work: Work<T>): Promise<T>;
export function concurrency<T>(names: Names, options: AcquireOptions | undefined, work: Work<T>): Promise<T>;
export function concurrency(names: Names, options?: AcquireOptions): Promise<Lease>;
export function concurrency<T>(names: Names, ...rest: unknown[]): Promise<T> | Promise<Lease> {
	return defaultGate().concurrency(names, ...(rest as [AcquireOptions, Work<T>]));
}

/**
 * `Headgate.rateLimit` on the gate that the environment names; see `concurrency`.
 *
 * @example
 * import { rateLimit } from "headgate";
 *
 * await rateLimit("openai", { occupy: 3 });
 */
export const rateLimit = (names: Names, options?: WaitOptions): Promise<Receipt> =>
	defaultGate().rateLimit(names, options);
