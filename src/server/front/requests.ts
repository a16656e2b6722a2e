/** From bytes to typed requests: every request is checked here, once, by the schemas of `schemas.ts`. */

import type * as z from "zod";
import {
	BOUNDS,
	type LimitPatch,
	type LimitSettings,
	type Mode,
	type Order,
	type PolicySettings,
	type Window,
} from "../../protocol.ts";
import {
	acquireSchema,
	batchedSchema,
	batchSchema,
	checkSchema,
	leasesQuery,
	limitSchema,
	limitsQuery,
	NOT_AN_OBJECT,
	patchSchema,
	pauseSchema,
	policySchema,
	releaseSchema,
	renewSchema,
	settleSchema,
	streamSchema,
	watchQuery,
} from "./schemas.ts";

export { nameFault, patternFault } from "./schemas.ts";

/** A request that cannot be understood, and why. */
export interface Fault {
	code: "invalid" | "malformed" | "too_large" | "unsupported_media_type";
	detail: string;
	errors?: { field: string; message: string }[];
}

export type Parsed<T> = { ok: true; value: T } | { ok: false; fault: Fault };

/** An acquire with its defaults filled in, its names de-duplicated and in the one fixed order. */
export interface Acquire {
	names: [name: string, slots: number][];
	mode: Mode | "unleased";
	/** Those of the names that are taken by rate in a request of mode `concurrency`. */
	rated: string[];
	id: string;
	/** The id is the caller's own. */
	idChosen: boolean;
	/** The same request may have been sent, and granted, before. */
	maybeRepeated: boolean;
	leaseMs: number;
	/** `Infinity`: for ever. */
	waitMs: number;
	createIfMissing: boolean;
	strict: boolean;
	/** How long what is taken by rate is an estimate. */
	settleMs?: number;
	/** Fewer slots will do where a limit could never grant so many. */
	atMost?: true;
	holder: string | null;
	/** Whose turn it takes in a line; null: the common one. */
	key: string | null;
	priority: number;
	hold: boolean;
	stream: boolean;
	/** The name whose part of the lease knows the others, for callers that send no names back. */
	lead?: string;
	/** Its caller is told to come back after those that were denied before, so each denial must come from the limit. */
	polled?: true;
	/** A digest of everything that makes this request another one than the next under the same id. */
	print: string;
}

const LONGEST = Number.POSITIVE_INFINITY;

/** Parses an acquire. `newId` is used when the caller chose none. */
export function parseAcquire(body: unknown, stream: boolean, newId: string): Parsed<Acquire> {
	return acquireOf(parse(stream ? streamSchema : acquireSchema, body), stream, newId);
}

/** Parses a check: an acquire that is not made. */
export function parseCheck(body: unknown): Parsed<Acquire> {
	const parsed = parse(checkSchema, body);
	if (!parsed.ok) return parsed;
	return acquireOf(
		{ ok: true, value: { ...parsed.value, hold: false, firstAttempt: true, waitSeconds: 0 } },
		false,
		"check",
	);
}

/** For how long a limit is to be paused. */
export function parsePause(body: unknown): Parsed<{ ms: number }> {
	const parsed = parse(pauseSchema, body);
	// A pause that is shorter than a millisecond is a pause, and not the end of one.
	return parsed.ok ? { ok: true, value: { ms: Math.ceil(parsed.value.seconds * 1_000) } } : parsed;
}

/** Parses a batch: each of its requests by itself. `newId` makes an id for one that has none. */
export function parseBatch(body: unknown, newId: () => string): Parsed<Parsed<Acquire>[]> {
	const parsed = parse(batchSchema, body);
	if (!parsed.ok) return parsed;
	// Each request is told of one fault in any case, and all of them together of as many as a request alone.
	let left: number = BOUNDS.faults;
	const requests = parsed.value.requests.map((each) => {
		const checked = parse(batchedSchema, each, Math.max(1, left));
		if (!checked.ok) left -= checked.fault.errors?.length ?? 0;
		return acquireOf(checked, false, newId());
	});
	const names = requests.reduce((sum, each) => sum + (each.ok ? each.value.names.length : 0), 0);
	if (names > BOUNDS.namesPerBatch) {
		return invalid("requests", `at most ${BOUNDS.namesPerBatch} names in all, not ${names}: send two batches`);
	}
	return { ok: true, value: requests };
}

function acquireOf(parsed: Parsed<z.output<typeof streamSchema>>, stream: boolean, newId: string): Parsed<Acquire> {
	if (!parsed.ok) return parsed;
	const { names, occupy, mode, id, leaseSeconds, waitSeconds, createIfMissing, strict, holder, hold, firstAttempt } =
		parsed.value;
	const held = slotsPerName(names, occupy);
	if (held.length === 0) return invalid("names", "at least one name");
	const taken = slotsPerName(parsed.value.rate ?? [], 1);
	const rated = taken.map(([name]) => name);
	if (rated.length > 0 && mode === "rate_limit") {
		return invalid("rate", 'in mode "rate_limit" all names are taken by rate: put these among `names`');
	}
	const twice = held.find(([name]) => rated.includes(name));
	if (twice) return invalid("rate", `"${twice[0]}" is among \`names\` too: a limit is either held or taken by rate`);
	const perName = slotsPerName([...held, ...taken], 1);
	if (perName.length > BOUNDS.namesPerRequest) {
		return invalid("names", `at most ${BOUNDS.namesPerRequest} names, not ${perName.length}`);
	}
	const { settleSeconds, atMost, key, priority } = parsed.value;
	if (settleSeconds !== undefined && mode === "concurrency" && rated.length === 0) {
		return invalid("settleSeconds", "nothing is taken by rate: what is held is given back as it is");
	}
	const more = {
		...(settleSeconds !== undefined && { settleMs: Math.round(settleSeconds * 1000) }),
		...(atMost && { atMost }),
	};
	const turn = { ...(key !== undefined && { key }), ...(priority > 0 && { priority }) };
	const kind = Object.keys({ ...more, ...turn }).length > 0 ? [{ ...more, ...turn }] : [];
	if (hold && mode === "rate_limit") return invalid("hold", "a rate limit holds nothing: leave `hold` out");
	return {
		ok: true,
		value: {
			...{ names: perName, mode, rated, createIfMissing, strict, hold, stream },
			id: id ?? newId,
			idChosen: id !== undefined,
			maybeRepeated: id !== undefined && !firstAttempt,
			leaseMs: Math.round(leaseSeconds * 1000),
			waitMs: Math.round(Math.min(waitSeconds ?? LONGEST, stream ? LONGEST : BOUNDS.plainWaitSeconds) * 1000),
			holder: holder ?? null,
			key: key ?? null,
			priority,
			...more,
			print: digest(JSON.stringify([perName, mode, leaseSeconds, hold, holder, ...rated, ...kind])),
		},
	};
}

/** How the slots of one name come back. */
export const modeOf = ({ mode, rated }: Acquire, name: string): Acquire["mode"] =>
	rated.includes(name) ? "rate_limit" : mode;

/** FNV-1a, twice with different seeds. It tells a mistake from a repetition; no caller gains by a collision. */
function digest(text: string): string {
	let a = 0x811c9dc5;
	let b = 0xcbf29ce4;
	for (let index = 0; index < text.length; index += 1) {
		a = Math.imul(a ^ text.charCodeAt(index), 0x01000193);
		b = Math.imul(b ^ text.charCodeAt(index), 0x01000193) ^ (b >>> 13);
	}
	return (a >>> 0).toString(36) + (b >>> 0).toString(36);
}

/** The names of a lease that is renewed or released, in the fixed order. */
export interface LeaseRef {
	id: string;
	names: string[];
	leaseMs: number | null;
}

export function parseRenew(body: unknown): Parsed<LeaseRef> {
	return leaseRef(parse(renewSchema, body));
}

/** Slots per name that estimates came to, in the fixed order. */
export type Actual = [name: string, slots: number][];

export function parseRelease(body: unknown): Parsed<LeaseRef & { actual: Actual }> {
	const parsed = parse(releaseSchema, body);
	const lease = leaseRef(parsed);
	if (!lease.ok || !parsed.ok) return lease as Parsed<never>;
	return { ok: true, value: { ...lease.value, actual: slotsPerName(parsed.value.actual ?? [], 0) } };
}

export function parseSettle(body: unknown): Parsed<{ id: string; actual: Actual }> {
	const parsed = parse(settleSchema, body);
	if (!parsed.ok) return parsed;
	return { ok: true, value: { id: parsed.value.id, actual: slotsPerName(parsed.value.actual, 0) } };
}

function leaseRef(
	parsed: Parsed<{ id: string; names: ParsedNames; leaseSeconds?: number | undefined }>,
): Parsed<LeaseRef> {
	if (!parsed.ok) return parsed;
	const { id, names, leaseSeconds } = parsed.value;
	const ordered = slotsPerName(names, 1).map(([name]) => name);
	if (ordered.length > BOUNDS.namesPerRequest) {
		return invalid("names", `at most ${BOUNDS.namesPerRequest} names, not ${ordered.length}`);
	}
	return {
		ok: true,
		value: { id, names: ordered, leaseMs: leaseSeconds === undefined ? null : Math.round(leaseSeconds * 1000) },
	};
}

export const parseSettings = (body: unknown): Parsed<LimitSettings> => parse(limitSchema, body);

export const parsePolicy = (body: unknown): Parsed<PolicySettings> => parse(policySchema, body);

export function parsePatch(body: unknown): Parsed<LimitPatch<Window>> {
	const parsed = parse(patchSchema, body);
	if (!parsed.ok) return parsed;
	const { window, slotDecayPerSecond } = parsed.value;
	// A window takes the place of decay, and decay that of a window.
	const instead = window ? { slotDecayPerSecond: 0 } : slotDecayPerSecond ? { window: null } : {};
	// Slots that do not come back by decay are not lent.
	const unlent = window || slotDecayPerSecond === 0 ? { lendSeconds: 0 } : {};
	const given = Object.entries({ ...parsed.value, ...instead, ...unlent }).filter(([, value]) => value !== undefined);
	return { ok: true, value: Object.fromEntries(given) as LimitPatch<Window> };
}

export const parseLimitsQuery = (query: Record<string, string>) => onePage(parse(limitsQuery, query));
export const parseWatchQuery = (query: Record<string, string>) => onePage(parse(watchQuery, query));
export const parseLeasesQuery = (query: Record<string, string>) => parse(leasesQuery, query);

/** Those that need a look change places all the time, so there is no next page of them. */
const onePage = <T extends { order: Order; after: string }>(parsed: Parsed<T>): Parsed<T> =>
	parsed.ok && parsed.value.order === "attention" && parsed.value.after !== ""
		? invalid("after", "with `order=attention` there is one page; ask for those that start with a longer `prefix`")
		: parsed;

type ParsedNames = string | string[] | [string, number][];

/** Slots per name, each name once, in the order in which every request takes them. */
function slotsPerName(names: ParsedNames, occupy: number): [string, number][] {
	const list = typeof names === "string" ? [names] : names;
	const entries = list.map((each): [string, number] => (typeof each === "string" ? [each, occupy] : each));
	return [...new Map(entries)].sort(([a], [b]) => (a < b ? -1 : 1));
}

function parse<T>(schema: z.ZodType<T>, input: unknown, faults: number = BOUNDS.faults): Parsed<T> {
	const result = schema.safeParse(input, { reportInput: false });
	if (result.success) return { ok: true, value: result.data };
	const complaints = result.error.issues.flatMap(deepest).flatMap(unknownKeys);
	const errors = complaints.slice(0, faults).map(({ path, message }) => ({
		field: path.map(String).join(".").slice(0, BOUNDS.faultLength) || "body",
		message,
	}));
	return { ok: false, fault: { code: "invalid", detail: sentence(errors, complaints.length), errors } };
}

type Complaint = { path: PropertyKey[]; message: string; keys?: string[] };

/** A field that does not exist is blamed itself, and not the object it was found in. */
const unknownKeys = ({ path, message, keys }: Complaint): Complaint[] =>
	keys?.map((key) => ({ path: [...path, key], message: "there is no such field" })) ?? [{ path, message }];

/** Of a union's branches, the one that the caller meant says why: it went deepest, or complained of more than a type. */
function deepest(issue: z.core.$ZodIssue): Complaint[] {
	if (issue.code !== "invalid_union") return [issue];
	const meant = issue.errors.find((branch) =>
		branch.some((inner) => inner.path.length > 0 || (inner.code !== "invalid_type" && inner.message !== NOT_AN_OBJECT)),
	);
	if (!meant) return [issue];
	return meant.map((inner) => ({ path: [...issue.path, ...inner.path], message: inner.message }));
}

function invalid(field: string, message: string): { ok: false; fault: Fault } {
	const errors = [{ field, message }];
	return { ok: false, fault: { code: "invalid", detail: sentence(errors), errors } };
}

function sentence(errors: { field: string; message: string }[], all = errors.length): string {
	const more = all > errors.length ? `; and ${all - errors.length} more` : "";
	return `${errors.map(({ field, message }) => `${field}: ${message}`).join("; ")}${more}.`;
}
