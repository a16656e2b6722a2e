/**
 * From bytes to typed requests: every request is checked here, once, against the bounds of `protocol.ts`.
 * The schemas are the source of what a caller may send.
 */

import * as z from "zod";
import {
	type AcquireRequest,
	BOUNDS,
	DEFAULTS,
	type LimitPatch,
	type Mode,
	type Settings,
	type Slots,
} from "../protocol.ts";

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
	mode: Mode;
	/** Those of the names that are taken by rate in a request of mode `concurrency`. */
	rated: string[];
	id: string;
	/** The id is the caller's own. */
	idChosen: boolean;
	leaseMs: number;
	/** `Infinity`: for ever. */
	waitMs: number;
	createIfMissing: boolean;
	strict: boolean;
	holder: string | null;
	hold: boolean;
	stream: boolean;
	/** A digest of everything that makes this request another one than the next under the same id. */
	print: string;
}

const NO_PLACE_IN_A_URL = [".", ".."];
const FORBIDDEN = /[/%&><\p{Cc}]/u;

/** Why a text cannot be a limit's name, or null. */
export function nameFault(name: string): string | null {
	const length = [...name].length;
	if (length === 0) return "a name has at least one character";
	if (length > BOUNDS.nameLength) return `a name has at most ${BOUNDS.nameLength} characters, not ${length}`;
	if (FORBIDDEN.test(name)) return "a name has none of / % & > < and no control characters";
	if (NO_PLACE_IN_A_URL.includes(name)) return `"${name}" has no place in a URL, so it could never be configured`;
	// Different broken texts would become one name on their way to the object.
	if (!name.isWellFormed()) return "a name is well-formed Unicode";
	return null;
}

/** Why a text cannot be a policy's pattern, or null. */
export function patternFault(pattern: string): string | null {
	const length = [...pattern].length;
	if (length > BOUNDS.patternLength) return `a pattern has at most ${BOUNDS.patternLength} characters, not ${length}`;
	if (pattern.indexOf("*") !== pattern.length - 1) return "a pattern ends with its only `*`, like `login:*`";
	if (pattern.length < 2) return "a pattern has at least one character before its `*`";
	return nameFault(pattern.slice(0, -1));
}

function checked(fault: (text: string) => string | null) {
	return z.string().superRefine((text, context) => {
		const message = fault(text);
		if (message) context.addIssue({ code: "custom", message });
	});
}

const NOT_AN_OBJECT = "an object from name to slots";

/** An object from name to number, as its entries. Not a record: that would lose a limit called `__proto__`. */
function perName(number: z.ZodType<number>) {
	const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
	return z.custom<Slots>(isObject, NOT_AN_OBJECT).transform((value, context) =>
		Object.entries(value).map(([name, slots]): [string, number] => {
			const fault = nameFault(name) ?? number.safeParse(slots, { reportInput: false }).error?.issues[0]?.message;
			if (fault) context.addIssue({ code: "custom", path: [name], message: fault });
			return [name, slots];
		}),
	);
}

/** Bounded as names are, by characters and not by UTF-16 units. */
const partOfName = z
	.string()
	.refine((text) => [...text].length <= BOUNDS.nameLength, `at most ${BOUNDS.nameLength} characters`);

const name = checked(nameFault);
const slots = z.int().min(1).max(BOUNDS.limit);
const id = z
	.string()
	.regex(/^[A-Za-z0-9._:-]+$/, "an id has letters, digits and . _ : - only")
	.max(BOUNDS.idLength);
const leaseSeconds = z.number().min(BOUNDS.leaseSeconds.min).max(BOUNDS.leaseSeconds.max);

const namesList = z
	.array(name)
	.min(1, "at least one name")
	.max(10 * BOUNDS.namesPerRequest);
const namesWithSlots = perName(slots);
const names = z.union([name, namesList, namesWithSlots], {
	error: "a name, a list of names, or an object from name to slots",
});

const acquireShape = {
	names,
	occupy: slots.default(DEFAULTS.occupy),
	mode: z.enum(["concurrency", "rate_limit"]).default("concurrency"),
	rate: names.optional(),
	id: id.optional(),
	leaseSeconds: leaseSeconds.default(DEFAULTS.leaseSeconds),
	createIfMissing: z.boolean().default(true),
	strict: z.boolean().default(false),
	holder: z.string().max(BOUNDS.holderLength).optional(),
};
const acquireSchema = z.strictObject({
	...acquireShape,
	waitSeconds: z.number().min(0).max(BOUNDS.waitSeconds).default(DEFAULTS.waitSeconds),
	hold: z.literal(false, "only a stream can hold: ask with Accept: application/x-ndjson").default(false),
});
const streamSchema = z.strictObject({
	...acquireShape,
	waitSeconds: z.number().min(0).max(BOUNDS.streamWaitSeconds).optional(),
	hold: z.boolean().default(false),
});
/** The schema says what the protocol says; the compiler compares them. */
type Same<Protocol, _Schema extends Protocol> = Protocol;
type AllOf<T> = { [K in keyof T]-?: T[K] | undefined };
export type CheckedAcquireRequest = Same<AllOf<AcquireRequest>, AllOf<z.input<typeof streamSchema>>>;

// A lease is sent back as it was answered: with fields that are not needed here, and without names if all were skipped.
const leaseNames = z.union([name, z.array(name), perName(z.number())], {
	error: "the names of a lease, as it was answered",
});
const renewSchema = z.object({ id, names: leaseNames, leaseSeconds: leaseSeconds.optional() });
const releaseSchema = z.object({ id, names: leaseNames });

const settingsShape = {
	limit: z.int().min(0).max(BOUNDS.limit),
	slotDecayPerSecond: z
		.number()
		.min(0)
		.max(BOUNDS.slotDecayPerSecond)
		.refine((decay) => decay === 0 || decay >= BOUNDS.slotDecayPerSecondMin, {
			error: `0, or at least ${BOUNDS.slotDecayPerSecondMin}`,
		}),
	active: z.boolean(),
};
const settingsSchema = z.strictObject({
	limit: settingsShape.limit,
	slotDecayPerSecond: settingsShape.slotDecayPerSecond.default(0),
	active: settingsShape.active.default(true),
});
const patchSchema = z.strictObject({
	limit: settingsShape.limit.optional(),
	slotDecayPerSecond: settingsShape.slotDecayPerSecond.optional(),
	active: settingsShape.active.optional(),
	activeSlots: z.int().min(0).max(BOUNDS.limit).optional(),
});

const page = (count: number, most: number) => ({ count: z.coerce.number().int().min(1).max(most).default(count) });
const limitsQuery = z.object({
	prefix: partOfName.default(""),
	after: partOfName.default(""),
	...page(DEFAULTS.limitsPage, BOUNDS.limitsPage),
});
const leasesQuery = z.object({
	after: z.coerce.number().int().min(0).default(0),
	...page(DEFAULTS.leasesPage, BOUNDS.leasesPage),
});

/** Parses an acquire. `newId` is used when the caller chose none. */
export function parseAcquire(body: unknown, stream: boolean, newId: string): Parsed<Acquire> {
	const parsed = parse(stream ? streamSchema : acquireSchema, body);
	if (!parsed.ok) return parsed;
	const { names, occupy, mode, id, leaseSeconds, waitSeconds, createIfMissing, strict, holder, hold } = parsed.value;
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
	if (hold && mode === "rate_limit") return invalid("hold", "a rate limit holds nothing: leave `hold` out");
	return {
		ok: true,
		value: {
			...{ names: perName, mode, rated, createIfMissing, strict, hold, stream },
			id: id ?? newId,
			idChosen: id !== undefined,
			leaseMs: Math.round(leaseSeconds * 1000),
			waitMs: waitSeconds === undefined ? Number.POSITIVE_INFINITY : Math.round(waitSeconds * 1000),
			holder: holder ?? null,
			print: digest(JSON.stringify([perName, mode, leaseSeconds, hold, holder, ...rated])),
		},
	};
}

/** How the slots of one name come back. */
export const modeOf = ({ mode, rated }: Acquire, name: string): Mode => (rated.includes(name) ? "rate_limit" : mode);

/** FNV-1a, twice with different seeds. It tells a mistake from a repetition; nobody gains by a collision. */
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

export function parseRelease(body: unknown): Parsed<LeaseRef> {
	return leaseRef(parse(releaseSchema, body));
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

export const parseSettings = (body: unknown): Parsed<Settings> => parse(settingsSchema, body);

export function parsePatch(body: unknown): Parsed<LimitPatch> {
	const parsed = parse(patchSchema, body);
	if (!parsed.ok) return parsed;
	const given = Object.entries(parsed.value).filter(([, value]) => value !== undefined);
	return { ok: true, value: Object.fromEntries(given) as LimitPatch };
}

export const parseLimitsQuery = (query: Record<string, string>) => parse(limitsQuery, query);
export const parseLeasesQuery = (query: Record<string, string>) => parse(leasesQuery, query);

type ParsedNames = string | string[] | [string, number][];

/** Slots per name, each name once, in the order in which every request takes them. */
function slotsPerName(names: ParsedNames, occupy: number): [string, number][] {
	const list = typeof names === "string" ? [names] : names;
	const entries = list.map((each): [string, number] => (typeof each === "string" ? [each, occupy] : each));
	return [...new Map(entries)].sort(([a], [b]) => (a < b ? -1 : 1));
}

function parse<T>(schema: z.ZodType<T>, input: unknown): Parsed<T> {
	const result = schema.safeParse(input, { reportInput: false });
	if (result.success) return { ok: true, value: result.data };
	const errors = result.error.issues
		.flatMap(deepest)
		.flatMap(unknownKeys)
		.map(({ path, message }) => ({
			field: path.map(String).join(".") || "body",
			message,
		}));
	return { ok: false, fault: { code: "invalid", detail: sentence(errors), errors } };
}

type Complaint = { path: PropertyKey[]; message: string; keys?: string[] };

/** A field that nobody knows is blamed itself, and not the object it was found in. */
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

const sentence = (errors: { field: string; message: string }[]): string =>
	`${errors.map(({ field, message }) => `${field}: ${message}`).join("; ")}.`;
