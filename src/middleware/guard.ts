/** What stands before a handler: asks the limits, and answers in its place when they say no. */

import { isAcquisitionError, isTimeoutError, isUnreachableError } from "../client/errors.ts";
import type { Headgate, HeadgateError, Lease, Names } from "../client/index.ts";
import { isTooLong, rateLimitHeaders, rateLimitHeaders06 } from "../headers.ts";
import { BOUNDS, type LimitStatus, type Problem, type Slots } from "../protocol.ts";
import { sendable } from "./body.ts";

type Maybe<T> = T | Promise<T>;

/** Options of every guard; `C` is what the framework knows of a request. */
export interface GuardOptions<C> {
	/** The service; a function where its binding comes with the request. */
	gate: Headgate | ((c: C) => Headgate);
	/**
	 * The limits of this request: a name, several, or slots per name. All of them or none. A name has 1 to 255 characters,
	 * no control characters and none of `/ % & > <`; `namePart` makes a part of one of any text.
	 */
	name: (c: C) => Maybe<Names>;
	/** What the request costs of each: a whole number from 1, or one per name. Default 1. */
	occupy?: number | Slots | ((c: C) => Maybe<number | Slots>);
	/** Requests that are let through uncounted. */
	skip?: (c: C) => Maybe<boolean>;
	/** How long a request may wait in line for its turn. Default 0: it is denied at once. */
	waitSeconds?: number;
	/** Whose turn it takes in the line, such as a tenant: keys that wait take turns. None: that of all that have none. */
	key?: (c: C) => Maybe<string | undefined>;
	/** Of those that wait the higher are served first: 0 to 9. Default 0. */
	priority?: number | ((c: C) => Maybe<number>);
	/** The `RateLimit` headers on every answer. Default `"draft-11"`. */
	headers?: "draft-11" | "draft-6" | false;
	/** What a limit is called in headers and problems, where its own name is not for every caller. */
	label?: (name: string) => string;
	/** The answer to a denied request, instead of a problem; its headers are added to it. */
	onDenied?: (c: C, problem: Problem) => Maybe<Response>;
	/**
	 * A name that was not configured, neither itself nor by a policy, is answered as `onError` says, and logged. A limit
	 * that was configured and is switched off lets through all the same. False: such names let every caller through, are
	 * created switched off, and show up for the operator. Default true.
	 */
	strict?: boolean;
	/**
	 * When the limiter is out of reach, or the name was not configured (`strict`). `"closed"`: 503 with a problem.
	 * `"open"`: the request goes through uncounted. Or an answer of your own; none lets it through. What the limiter
	 * refuses, such as a name that cannot be one, is an error of the program, and thrown. Default `"closed"`.
	 */
	onError?: "closed" | "open" | ((c: C, error: unknown) => Maybe<Response | undefined>);
	/**
	 * Limits that an answer of 429 pauses, for as long as its `Retry-After` says: for a route before an upstream, whose word
	 * it passes on. Without one it is 5 s, and never more than 600 s. The denial of a guard is no such answer. Default: none.
	 */
	pauseOn429?: (c: C) => Maybe<string | string[]>;
	/** Longest time for the limiter to answer, waiting aside. Default 5. */
	answerSeconds?: number;
}

export interface ConcurrencyOptions<C> extends GuardOptions<C> {
	/** Limits taken in the same request by rate; see `rate` of docs/http.md. */
	rate?: (c: C) => Maybe<Names>;
	/** What `rate` takes is an estimate, which `lease.settle` corrects within so long: 1 to 3,600. Left out: it is what it is. */
	settleSeconds?: number;
	/** Take fewer slots where a limit could never grant so many. Default false. */
	atMost?: boolean;
	/** How long the slots stay taken when this program is not heard of any more. Default 60. */
	leaseSeconds?: number;
	/** Longest time that one answer holds its slots; then its body is cut. Default and at most an hour. */
	maxBodySeconds?: number;
	/** How long an answer that no reader begins to read holds its slots, such as one that was dropped. Default 10, at most 600. */
	unreadSeconds?: number;
	/** How long a reader may take nothing of what is ready for it before the body is cut. Default 60, at most 3,600. */
	stalledSeconds?: number;
}

/** What the limits said: go on, or answer this instead. */
export type Verdict =
	| { goOn: true; lease: Lease | null; headers: Record<string, string> }
	| { goOn: false; response: Response };

const GO_ON: Verdict = { goOn: true, lease: null, headers: {} };
const ANSWER_SECONDS = 5;
/** The pause where an upstream did not say how long it is too busy. */
const PAUSE_SECONDS = 5;

/** Refuses at start what could never work. */
export function checkOptions<C>(options: ConcurrencyOptions<C>): void {
	const { gate, name, occupy, waitSeconds = 0, answerSeconds = ANSWER_SECONDS } = options;
	if (!gate) throw new TypeError("`gate` is missing: pass a Headgate, or a function from the request to one.");
	if (typeof name !== "function") throw new TypeError("`name` must be a function from the request to its limits.");
	if (typeof occupy !== "function") checkOccupy(occupy);
	if (!(waitSeconds >= 0)) throw new RangeError(`waitSeconds must be 0 or more, and was ${waitSeconds}.`);
	if (!(answerSeconds > 0)) throw new RangeError(`answerSeconds must be more than 0, and was ${answerSeconds}.`);
	checkSeconds("maxBodySeconds", options.maxBodySeconds, BOUNDS.bodySeconds);
	checkSeconds("unreadSeconds", options.unreadSeconds, BOUNDS.unreadSeconds);
	checkSeconds("stalledSeconds", options.stalledSeconds, BOUNDS.stalledSeconds);
}

function checkSeconds(option: string, seconds: number | undefined, most: number): void {
	if (seconds === undefined || (seconds > 0 && seconds <= most)) return;
	throw new RangeError(`${option} must be more than 0 and at most ${most}, and was ${seconds}.`);
}

/**
 * Asks for the slots of one request.
 * @throws what the limiter refuses for another reason than that the slots are gone: an error of the program.
 */
export async function ask<C>(
	c: C,
	mode: "concurrency" | "rate_limit",
	options: ConcurrencyOptions<C>,
	request: Request,
): Promise<Verdict> {
	const { signal } = request;
	if (await options.skip?.(c)) return GO_ON;
	const names = checkNames(await options.name(c), "name");
	const key = await options.key?.(c);
	const priority = typeof options.priority === "function" ? await options.priority(c) : options.priority;
	const occupy = typeof options.occupy === "function" ? await options.occupy(c) : options.occupy;
	checkOccupy(occupy);
	const rate = options.rate && checkNames(await options.rate(c), "rate");
	const gate = gateOf(c, options);
	const {
		waitSeconds = 0,
		answerSeconds = ANSWER_SECONDS,
		leaseSeconds,
		settleSeconds,
		atMost,
		strict = true,
	} = options;

	const late = new AbortController();
	const timer = setTimeout(
		() => late.abort(new Error(`The limiter did not answer within ${answerSeconds} s.`)),
		(waitSeconds + answerSeconds) * 1_000,
	);
	const leave = (): void => late.abort(signal.reason);
	signal.addEventListener("abort", leave);
	if (signal.aborted) leave();
	// Those who waited in vain are told of what by the limiter itself, which began to count a little later.
	const patience = waitSeconds > 0 ? { timeoutSeconds: waitSeconds, answerSeconds } : { maxRetries: 0 };
	const wish = { ...patience, occupy, strict, key, priority, signal: late.signal };
	let lease: Lease | null = null;
	try {
		if (mode === "rate_limit") {
			const { limits } = await gate.rateLimit(names, wish);
			return { goOn: true, lease, headers: headersOf(options, limits) };
		}
		lease = await gate.acquire(names, { ...wish, rate, leaseSeconds, settleSeconds, atMost });
		return { goOn: true, lease, headers: headersOf(options, lease.limits) };
	} catch (error) {
		await lease?.[Symbol.asyncDispose]();
		refused.add(request);
		// The answer has no reader. To go on would let a caller through who only had to leave at the right moment.
		if (signal.aborted) return { goOn: false, response: new Response(null, { status: 499 }) };
		const problem = deniedBy(error);
		if (problem) return { goOn: false, response: await denied(c, options, problem) };
		if (isAcquisitionError(error) && error.code === "unknown_limit") return unconfigured(c, options, error);
		if (isUnreachableError(error) || late.signal.aborted) return outOfReach(c, options, error);
		throw error;
	} finally {
		clearTimeout(timer);
		signal.removeEventListener("abort", leave);
	}
}

const gateOf = <C>(c: C, { gate }: GuardOptions<C>): Headgate => (typeof gate === "function" ? gate(c) : gate);

/** Requests that a guard did not let through as they were: what they are answered is no upstream's word. */
const refused = new WeakSet<Request>();

/**
 * Carries `pauseOn429` out. Before the slots are given back, or the next in line would ask the upstream in vain; that a
 * limit could not be paused changes nothing of the answer.
 */
export async function passOn<C>(c: C, options: GuardOptions<C>, request: Request, answer: Response): Promise<void> {
	if (answer.status !== 429 || !options.pauseOn429 || refused.has(request)) return;
	const seconds = pauseSecondsOf(answer.headers.get("Retry-After"), Date.now());
	const gate = gateOf(c, options);
	const names = [await options.pauseOn429(c)].flat();
	const paused = await Promise.allSettled(names.map((name) => gate.pause(name, seconds)));
	for (const each of paused) {
		if (each.status === "rejected")
			console.warn("What an upstream said of being too busy pauses nothing:", each.reason);
	}
}

/** `Retry-After` is seconds, or a date of HTTP. Of what is neither, `Date.parse` would make one all the same: "in 3 s" lies in 2001. */
export function pauseSecondsOf(retryAfter: string | null, now: number): number {
	const said = retryAfter ?? "";
	const at = /^[A-Z][a-z]+, .* GMT$/.test(said) ? Date.parse(said) : Number.NaN;
	const seconds = Math.ceil(/^\d+(\.\d+)?$/.test(said) ? Number(said) : (at - now) / 1_000);
	return Number.isNaN(seconds) ? PAUSE_SECONDS : Math.min(BOUNDS.pauseSeconds, Math.max(1, seconds));
}

/** A limit that holds back, or a bound of this program's token: neither is passed by asking again, nor by `onError`. */
const DENIALS: string[] = ["denied", "queue_full", "too_many_waiters", "too_many_names"];

/** The denial in an error: the slots are gone. */
function deniedBy(error: unknown): Problem | null {
	if (isAcquisitionError(error)) {
		return DENIALS.includes(error.code) ? error.problem : null;
	}
	if (!isTimeoutError(error)) return null;
	// The limiter fell silent while the request stood in line: then all of its names stood in the way.
	const waited = { type: QUOTA_EXCEEDED, title: "No free slots", status: 429, code: "denied", detail: error.message };
	const silent = { ...waited, retryAfterSeconds: 1, "violated-policies": Object.keys(error.names) };
	return (error.cause as Problem | undefined) ?? (silent as Problem);
}

const QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

async function denied<C>(c: C, options: GuardOptions<C>, denial: Problem): Promise<Response> {
	const { code, retryAfterSeconds, limits = [] } = denial;
	const { label = (name) => name } = options;
	const violated = (denial["violated-policies"] ?? []).map(label);
	const list = violated.map((name) => `"${name}"`).join(", ");
	const detail = `No free slots of ${list || "a limit"}.`;
	// How others stand in line is for the operator, not for every caller.
	const problem: Problem = {
		...{ type: QUOTA_EXCEEDED, title: "Too many requests", status: 429, code, detail },
		...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
		"violated-policies": violated,
	};
	const response = sendable((await options.onDenied?.(c, problem)) ?? problemResponse(problem));
	// Also without the RateLimit headers a denied caller is told when to come back.
	const headers = { ...retryAfter(retryAfterSeconds), ...headersOf(options, limits, retryAfterSeconds) };
	return withHeaders(response, headers);
}

/** A name was not configured, so nothing would hold the request back. */
async function unconfigured<C>(c: C, options: GuardOptions<C>, error: HeadgateError): Promise<Verdict> {
	const { label = (name) => name } = options;
	const names = error.problem["violated-policies"] ?? [];
	for (const name of names) complain(name, options.onError === "open" ? "let through uncounted" : "refused");
	const violated = names.map(label);
	const list = violated.map((name) => `"${name}"`).join(", ");
	const detail = `Nobody has configured ${list}: set a limit of this name, or a policy for it, in Headgate; or pass \`strict: false\` to let such requests through.`;
	const problem = { type: "about:blank", title: "The limit is not configured", status: 503, detail };
	return failed(c, options, error, { ...problem, code: "unknown_limit", "violated-policies": violated });
}

/** Names of which the log tells already. */
const complained = new Set<string>();

/** Once a name; the oldest is forgotten when there are many, for strangers may choose them. */
function complain(name: string, what: string): void {
	if (complained.has(name)) return;
	const [oldest] = complained;
	if (oldest !== undefined && complained.size >= BOUNDS.namesComplained) complained.delete(oldest);
	complained.add(name);
	console.warn(
		`Nobody has configured ${JSON.stringify(name)}, so its requests are ${what}. Configure the limit or a policy for it, or pass \`strict: false\`.`,
	);
}

function outOfReach<C>(c: C, options: GuardOptions<C>, error: unknown): Promise<Verdict> {
	if (typeof options.onError !== "function") {
		const what = options.onError === "open" ? "let through" : "refused";
		console.error(`The limiter could not be asked, and the request was ${what}:`, error);
	}
	const detail = "The limiter of this service could not be asked. Nothing was done; try again in a second.";
	const problem = { type: REDUCED_CAPACITY, title: "The limiter is out of reach", status: 503, detail };
	return failed(c, options, error, { ...problem, code: "overloaded", retryAfterSeconds: 1 });
}

async function failed<C>(c: C, { onError }: GuardOptions<C>, error: unknown, problem: Problem): Promise<Verdict> {
	if (onError === "open") return GO_ON;
	const response = typeof onError === "function" ? await onError(c, error) : problemResponse(problem);
	return response ? { goOn: false, response } : GO_ON;
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
	// What two guards say may be too long where neither was alone.
	const limits = ["RateLimit-Policy", "RateLimit"];
	if (isTooLong(limits.map((name) => answer.headers.get(name)))) for (const name of limits) answer.headers.delete(name);
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
