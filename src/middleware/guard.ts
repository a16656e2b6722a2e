/** What stands before a handler: asks the limits, and answers in its place when they say no. */

import { isAcquisitionError, isTimeoutError } from "../client/errors.ts";
import type { Headgate, Lease, Names } from "../client/index.ts";
import { rateLimitHeaders, rateLimitHeaders06 } from "../headers.ts";
import { BOUNDS, type LimitStatus, type Problem, type Slots } from "../protocol.ts";

type Maybe<T> = T | Promise<T>;

/** Options of every guard; `C` is what the framework knows of a request. */
export interface GuardOptions<C> {
	/** The service; a function where its binding comes with the request. */
	gate: Headgate | ((c: C) => Headgate);
	/** The limits of this request: a name, several, or slots per name. All of them or none. */
	name: (c: C) => Maybe<Names>;
	/** What the request costs of each: a whole number from 1, or one per name. Default 1. */
	occupy?: number | Slots | ((c: C) => Maybe<number | Slots>);
	/** Requests that are let through uncounted. */
	skip?: (c: C) => Maybe<boolean>;
	/** How long a request may wait in line for its turn. Default 0: it is denied at once. */
	waitSeconds?: number;
	/** The `RateLimit` headers on every answer. Default `"draft-11"`. */
	headers?: "draft-11" | "draft-6" | false;
	/** What a limit is called in headers and problems, where its own name is not for everybody. */
	label?: (name: string) => string;
	/** The answer to a denied request, instead of a problem; its headers are added to it. */
	onDenied?: (c: C, problem: Problem) => Maybe<Response>;
	/**
	 * When the limiter cannot be asked, or refuses for another reason than that the slots are gone. `"closed"`: 503 with
	 * a problem. `"open"`: the request goes through uncounted. Or an answer of your own; none lets it through.
	 * Default `"closed"`.
	 */
	onError?: "closed" | "open" | ((c: C, error: unknown) => Maybe<Response | undefined>);
	/** Longest time for the limiter to answer, waiting aside. Default 5. */
	answerSeconds?: number;
}

export interface ConcurrencyOptions<C> extends GuardOptions<C> {
	/** Limits taken in the same request by rate; see `rate` of docs/http.md. */
	rate?: (c: C) => Maybe<Names>;
	/** How long the slots stay taken when this program is not heard of any more. Default 60. */
	leaseSeconds?: number;
	/** Longest time that one answer holds its slots; then its body is cut. Default and at most an hour. */
	maxBodySeconds?: number;
}

/** What the limits said: go on, or answer this instead. */
export type Verdict =
	| { goOn: true; lease: Lease | null; headers: Record<string, string> }
	| { goOn: false; response: Response };

const GO_ON: Verdict = { goOn: true, lease: null, headers: {} };
const ANSWER_SECONDS = 5;

/** Refuses at start what could never work. */
export function checkOptions<C>(options: ConcurrencyOptions<C>): void {
	const { gate, name, occupy, waitSeconds = 0, answerSeconds = ANSWER_SECONDS, maxBodySeconds = 1 } = options;
	if (!gate) throw new TypeError("`gate` is missing: pass a Headgate, or a function from the request to one.");
	if (typeof name !== "function") throw new TypeError("`name` must be a function from the request to its limits.");
	if (typeof occupy !== "function") checkOccupy(occupy);
	if (!(waitSeconds >= 0)) throw new RangeError(`waitSeconds must be 0 or more, and was ${waitSeconds}.`);
	if (!(answerSeconds > 0)) throw new RangeError(`answerSeconds must be more than 0, and was ${answerSeconds}.`);
	if (!(maxBodySeconds > 0 && maxBodySeconds <= BOUNDS.bodySeconds)) {
		throw new RangeError(`maxBodySeconds must be at most ${BOUNDS.bodySeconds}, and was ${maxBodySeconds}.`);
	}
}

/** Asks for the slots of one request. */
export async function ask<C>(
	c: C,
	mode: "concurrency" | "rate_limit",
	options: ConcurrencyOptions<C>,
	signal?: AbortSignal,
): Promise<Verdict> {
	if (await options.skip?.(c)) return GO_ON;
	const names = checkNames(await options.name(c), "name");
	const occupy = typeof options.occupy === "function" ? await options.occupy(c) : options.occupy;
	checkOccupy(occupy);
	const rate = options.rate && checkNames(await options.rate(c), "rate");
	const gate = typeof options.gate === "function" ? options.gate(c) : options.gate;
	const { waitSeconds = 0, answerSeconds = ANSWER_SECONDS, leaseSeconds } = options;

	const late = new AbortController();
	const timer = setTimeout(
		() => late.abort(new Error(`The limiter did not answer within ${answerSeconds} s.`)),
		(waitSeconds + answerSeconds) * 1_000,
	);
	const leave = (): void => late.abort(signal?.reason);
	signal?.addEventListener("abort", leave);
	const patience = waitSeconds > 0 ? { timeoutSeconds: waitSeconds } : { maxRetries: 0 };
	const wish = { ...patience, occupy, signal: late.signal };
	try {
		if (mode === "rate_limit") {
			const { limits } = await gate.rateLimit(names, wish);
			return { goOn: true, lease: null, headers: headersOf(options, limits) };
		}
		const lease = await gate.acquire(names, { ...wish, rate, leaseSeconds });
		return { goOn: true, lease, headers: headersOf(options, lease.limits) };
	} catch (error) {
		const problem = deniedBy(error);
		if (problem) return { goOn: false, response: await denied(c, options, problem) };
		return failed(c, options, error);
	} finally {
		clearTimeout(timer);
		signal?.removeEventListener("abort", leave);
	}
}

/** A limit that holds back, or a bound of this program's token: neither is passed by asking again, nor by `onError`. */
const DENIALS: string[] = ["denied", "exceeds_limit", "queue_full", "too_many_waiters", "too_many_names"];

/** The denial in an error: the slots are gone, or never were as many. */
function deniedBy(error: unknown): Problem | null {
	if (isAcquisitionError(error)) {
		return DENIALS.includes(error.code) ? error.problem : null;
	}
	if (!isTimeoutError(error)) return null;
	const waited = { type: QUOTA_EXCEEDED, title: "No free slots", status: 429, code: "denied", detail: error.message };
	return (error.cause as Problem | undefined) ?? ({ ...waited, retryAfterSeconds: 1 } as Problem);
}

const QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

async function denied<C>(c: C, options: GuardOptions<C>, refused: Problem): Promise<Response> {
	const { code, retryAfterSeconds, limits = [] } = refused;
	const { label = (name) => name } = options;
	const violated = (refused["violated-policies"] ?? []).map(label);
	const list = violated.map((name) => `"${name}"`).join(", ");
	const detail =
		code === "exceeds_limit"
			? `This request costs more than ${list} ever has.`
			: `No free slots of ${list || "a limit"}.`;
	// How others stand in line is for the operator, not for every caller.
	const problem: Problem = {
		...{ type: QUOTA_EXCEEDED, title: "Too many requests", status: 429, code, detail },
		...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
		"violated-policies": violated,
	};
	const response = (await options.onDenied?.(c, problem)) ?? problemResponse(problem);
	// Also without the RateLimit headers a denied caller is told when to come back.
	const headers = { ...retryAfter(retryAfterSeconds), ...headersOf(options, limits, retryAfterSeconds) };
	return withHeaders(response, headers);
}

async function failed<C>(c: C, options: GuardOptions<C>, error: unknown): Promise<Verdict> {
	const { onError = "closed" } = options;
	if (typeof onError === "function") {
		const response = await onError(c, error);
		return response ? { goOn: false, response } : GO_ON;
	}
	console.error(
		`The limiter could not be asked, and the request was ${onError === "open" ? "let through" : "refused"}:`,
		error,
	);
	if (onError === "open") return GO_ON;
	const detail = "The limiter of this service could not be asked. Nothing was done; try again in a second.";
	const problem: Problem = {
		type: REDUCED_CAPACITY,
		title: "The limiter is out of reach",
		status: 503,
		code: "overloaded",
		detail,
	};
	return { goOn: false, response: problemResponse({ ...problem, retryAfterSeconds: 1 }) };
}

function problemResponse(problem: Problem): Response {
	const headers = { "Content-Type": "application/problem+json", ...retryAfter(problem.retryAfterSeconds) };
	return new Response(JSON.stringify(problem), { status: problem.status, headers });
}

const retryAfter = (seconds: number | undefined): Record<string, string> =>
	seconds === undefined ? {} : { "Retry-After": String(Math.ceil(seconds)) };

function headersOf<C>(
	{ headers = "draft-11", label }: GuardOptions<C>,
	limits: readonly LimitStatus[],
	retryAfterSeconds?: number,
): Record<string, string> {
	if (headers === false) return {};
	const shown = label ? limits.map((limit) => ({ ...limit, name: label(limit.name) })) : limits;
	return (headers === "draft-6" ? rateLimitHeaders06 : rateLimitHeaders)(shown, retryAfterSeconds);
}

/** The same answer with these headers; two guards on one route make one list. */
export function withHeaders(response: Response, headers: Record<string, string>): Response {
	// An upgraded connection cannot be made anew, and its headers are sent already.
	if (response.status === 101 || Object.keys(headers).length === 0) return response;
	const answer = new Response(response.body, response);
	for (const [name, value] of Object.entries(headers)) {
		const before = /^RateLimit(-Policy)?$/.test(name) ? answer.headers.get(name) : null;
		answer.headers.set(name, before === null ? value : `${before}, ${value}`);
	}
	return answer;
}

function checkNames(names: Names, option: string): Names {
	const list = typeof names === "string" ? [names] : Array.isArray(names) ? names : Object.keys(names ?? {});
	if (list.length === 0 || list.includes("")) {
		throw new TypeError(`\`${option}\` gave no name. Let a request through uncounted with \`skip\`.`);
	}
	if (list.length > BOUNDS.namesPerRequest) {
		throw new TypeError(`\`${option}\` gave ${list.length} names; a request takes at most ${BOUNDS.namesPerRequest}.`);
	}
	return names;
}

function checkOccupy(occupy: number | Slots | undefined): void {
	const all = typeof occupy === "object" ? Object.values(occupy) : occupy === undefined ? [] : [occupy];
	for (const slots of all) {
		if (Number.isSafeInteger(slots) && slots >= 1) continue;
		throw new RangeError(`\`occupy\` must be a whole number from 1, and was ${slots}. Use \`skip\` for what is free.`);
	}
}
