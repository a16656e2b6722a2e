/** Requests that are granted from a loan of this Worker, and the calls by which it borrows and repays; see `loans.ts`. */

import { waitUntil } from "cloudflare:workers";
import { lease } from "../../contract/answers.ts";
import type { Env } from "../../contract/env.ts";
import type { LimitRequest, Missing, Outcome } from "../../contract/outcomes.ts";
import { prefixOf } from "../../contract/policies.ts";
import { outOfReach } from "../../contract/problems.ts";
import { type AskLimit, type LimitStub, limitOf } from "../limit-stub.ts";
import type { Acquire } from "../requests.ts";
import type { Verdict } from "../verdict.ts";
import type { BorrowCall, Todo } from "./loans.ts";
import { loansOf } from "./memory.ts";

/** Loans that a change of the policies repays: a request has 1,000 calls. What is left is taken for used. */
const REPAID_MAX = 100;

/** How long a request waits for a loan that another one has asked for. A limit that takes longer has too much to do already. */
const AWAITED_MS = 2_000;
/** How often it looks: ever seldomer. */
const LOOK_MS = { first: 2, most: 20 };

/** Grants a request without asking; null: its limit has to be asked. `again`: after it has waited for a loan. */
export function fromLoan(env: Env, request: Acquire, again = false): Verdict | null {
	const name = borrowedFor(request);
	if (name === null) return null;
	const slots = request.names[0]?.[1] ?? 0;
	const given = loansOf(env).take(name, slots, Date.now(), again);
	if (!given) return null;
	if (given.isDue) waitUntil(borrowOn(env, name));
	const { status } = given;
	const receipt = lease(request.id, [{ name, slots, expiresAt: null, fence: null, status }], [], 0, null);
	return { ok: true, lease: receipt, statuses: [status] };
}

/**
 * Waits for a loan that is on its way, each request by a timer of its own (what one request awaits must not hang on another's), and
 * grants from it; null: its limit has to be asked. Undefined: there is nothing to wait for. Of those who wait in vain one at a time
 * asks the limit; the others are refused, and not sent after those that it does not answer.
 */
export function fromAwaited(env: Env, request: Acquire): Promise<Verdict | null> | undefined {
	const name = borrowedFor(request);
	return name !== null && loansOf(env).isAwaited(name, Date.now()) ? awaited(env, request, name) : undefined;
}

async function awaited(env: Env, request: Acquire, name: string): Promise<Verdict | null> {
	const until = Date.now() + AWAITED_MS;
	for (let lookMs = LOOK_MS.first; Date.now() < until; lookMs = Math.min(LOOK_MS.most, 2 * lookMs)) {
		await scheduler.wait(lookMs);
		const given = fromLoan(env, request, true);
		if (given || !loansOf(env).isAwaited(name, Date.now())) return given;
	}
	return loansOf(env).mayAsk(name, Date.now()) ? null : { ok: false, problem: outOfReach(), statuses: [] };
}

/** Asks the limit, and borrows in the same call if it is asked often. */
export async function borrowing(
	limit: LimitStub,
	env: Env,
	request: Acquire,
	wanted: LimitRequest,
	send: AskLimit,
): Promise<Outcome | Missing> {
	const name = borrowedFor(request);
	if (name === null) return send(limit, wanted);
	const borrowCall = loansOf(env).borrow(name, Date.now());
	const asked = borrowCall ? { ...wanted, borrow: borrowCall.borrow } : wanted;
	const counts = loansOf(env).sends(name);
	const sending = send(limit, asked);
	const answered = heard(env, name, wanted.request.slots, borrowCall, counts ? timed(env, name, sending) : sending);
	// Its caller may go, and the others wait for the answer all the same.
	if (counts) waitUntil(answered.catch(() => undefined));
	return answered;
}

/** Tells how long a call took: a limit that answers late is asked less. */
async function timed<T>(env: Env, name: string, call: Promise<T>): Promise<T> {
	const sentAt = Date.now();
	let isAnswered = false;
	try {
		const answer = await call;
		isAnswered = true;
		return answer;
	} finally {
		loansOf(env).sent(name, sentAt, Date.now(), isAnswered);
	}
}

async function heard(
	env: Env,
	name: string,
	slots: number,
	borrowCall: BorrowCall | null,
	answered: Promise<Outcome | Missing>,
): Promise<Outcome | Missing> {
	const loans = loansOf(env);
	try {
		const answer = await answered;
		if (!("missing" in answer)) {
			follow(env, name, loans.heard(name, slots, answer.status, borrowCall, answer.lent, Date.now()));
		} else if (borrowCall) follow(env, name, loans.failed(name, borrowCall, Date.now()));
		return answer;
	} catch (error) {
		if (borrowCall) follow(env, name, loans.failed(name, borrowCall, Date.now()));
		throw error;
	}
}

/** What this Worker borrowed of names that a policy is for comes back, for it may be for others now. */
export function repayAll(env: Env, pattern: string): void {
	const prefix = prefixOf(pattern);
	const repay = loansOf(env).endAll((name) => (prefix === null ? name === pattern : name.startsWith(prefix)));
	follow(env, "", { repay: repay.slice(0, REPAID_MAX) });
}

/**
 * The name of a request that may be granted from a loan: one name, by rate. Not one that waits, nor one that its caller may
 * have sent before, nor one whose denials its limit has to count, nor one whose slots are an estimate or as many as there could be.
 */
function borrowedFor({ names, mode, waitMs, maybeRepeated, polled, settleMs, atMost }: Acquire): string | null {
	const [only, ...others] = names;
	if (!only || others.length > 0 || mode !== "rate_limit" || waitMs > 0) return null;
	if (maybeRepeated || polled || settleMs !== undefined || atMost) return null;
	return only[0];
}

async function borrowOn(env: Env, name: string): Promise<void> {
	const loans = loansOf(env);
	const borrowCall = loans.borrow(name, Date.now());
	if (!borrowCall) return;
	try {
		const answer = await limitOf(env, name).borrow(borrowCall.borrow);
		if (answer) follow(env, name, loans.heard(name, 0, answer.status, borrowCall, answer.lent, Date.now()));
		else follow(env, name, loans.failed(name, borrowCall, Date.now()));
	} catch (error) {
		console.warn(`"${name}" did not answer whether it lends:`, error);
		follow(env, name, loans.failed(name, borrowCall, Date.now()));
	}
}

function follow(env: Env, name: string, { endsAt, repay = [] }: Todo): void {
	if (endsAt !== undefined) waitUntil(end(env, name, endsAt));
	for (const { name, account } of repay) {
		const repaying = limitOf(env, name).repay(account);
		waitUntil(
			repaying.catch((error) => console.warn(`What "${name}" lent could not be repaid, and is taken for used:`, error)),
		);
	}
}

/** Repays a loan at its end, unless it was borrowed on by then. */
async function end(env: Env, name: string, endsAt: number): Promise<void> {
	await scheduler.wait(Math.max(0, endsAt - Date.now()));
	follow(env, name, loansOf(env).ended(name, endsAt));
}
