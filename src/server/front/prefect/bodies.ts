/**
 * Bodies of Prefect's wire, read as its own server reads them: leniently ("3" is a number, "yes" a boolean), and with
 * its words for what is wrong, because its command line shows them.
 */

import { BOUNDS } from "../../../protocol.ts";
import { nameFault } from "../requests.ts";

/** One complaint, as pydantic words it. */
export interface Complaint {
	type: string;
	loc: (string | number)[];
	msg: string;
	input: unknown;
	ctx?: Record<string, unknown>;
}

type Fault = Pick<Complaint, "type" | "msg"> & {
	ctx?: Record<string, unknown>;
	at?: (string | number)[];
	of?: unknown;
};
type Result<T> = { value: T } | { faults: Fault[] };
type Reader<T> = (input: unknown) => Result<T>;

const fault = (type: string, msg: string, ctx?: Record<string, unknown>): { faults: Fault[] } => ({
	faults: [{ type, msg, ...(ctx && { ctx }) }],
});

// ------------------------------------------------------------------------------------------------ values

interface Range {
	ge?: number;
	gt?: number;
	le?: number;
}

function within(value: number, { ge, gt, le }: Range): Result<number> {
	if (ge !== undefined && value < ge) {
		return fault("greater_than_equal", `Input should be greater than or equal to ${ge}`, { ge });
	}
	if (gt !== undefined && value <= gt) return fault("greater_than", `Input should be greater than ${gt}`, { gt });
	if (le !== undefined && value > le) {
		return fault("less_than_equal", `Input should be less than or equal to ${le}`, { le });
	}
	return { value };
}

const integer =
	(range: Range): Reader<number> =>
	(input) => {
		if (typeof input === "boolean") return within(Number(input), range);
		if (typeof input === "number") {
			if (!Number.isInteger(input)) {
				return fault("int_from_float", "Input should be a valid integer, got a number with a fractional part");
			}
			return within(input, range);
		}
		if (typeof input !== "string") return fault("int_type", "Input should be a valid integer");
		if (input.length > BOUNDS.spelledLength || !/^\s*[+-]?\d+(\.0*)?\s*$/.test(input)) {
			return fault("int_parsing", "Input should be a valid integer, unable to parse string as an integer");
		}
		return within(Number(input), range);
	};

const float =
	(range: Range): Reader<number> =>
	(input) => {
		const isSpelled = typeof input === "string" && input.length <= BOUNDS.spelledLength && input.trim() !== "";
		if (typeof input === "string" && (!isSpelled || Number.isNaN(Number(input)))) {
			if (isSpelled && /^[+-]?(?:nan|inf|infinity)$/i.test(input.trim())) return fault("finite_number", FINITE);
			return fault("float_parsing", "Input should be a valid number, unable to parse string as a number");
		}
		if (!["number", "boolean", "string"].includes(typeof input)) {
			return fault("float_type", "Input should be a valid number");
		}
		const value = Number(input);
		return Number.isFinite(value) ? within(value, range) : fault("finite_number", FINITE);
	};
const FINITE = "Input should be a finite number";

const TRUE = ["true", "t", "yes", "y", "on", "1"];
const FALSE = ["false", "f", "no", "n", "off", "0"];
const boolean: Reader<boolean> = (input) => {
	if (typeof input === "boolean") return { value: input };
	if (typeof input !== "string" && typeof input !== "number")
		return fault("bool_type", "Input should be a valid boolean");
	const word = String(input).slice(0, BOUNDS.spelledLength).toLowerCase();
	if (TRUE.includes(word)) return { value: true };
	if (FALSE.includes(word)) return { value: false };
	return fault("bool_parsing", "Input should be a valid boolean, unable to interpret input");
};

const PATTERN = "^[^/%&><]+$";
/** A name of a limit that can be made. */
const name: Reader<string> = (input) => {
	if (typeof input !== "string") return fault("string_type", "Input should be a valid string");
	const why = nameFault(input);
	if (why === null) return { value: input };
	if (input === "" || /[/%&><]/.test(input)) {
		return fault("string_pattern_mismatch", `String should match pattern '${PATTERN}'`, { pattern: PATTERN });
	}
	return fault("value_error", `Value error, ${why}`, { error: {} });
};

const text: Reader<string> = (input) =>
	typeof input === "string" ? { value: input } : fault("string_type", "Input should be a valid string");

/** One of a few words. */
const oneOf =
	<T extends string>(...words: T[]): Reader<T> =>
	(input) => {
		const word = words.find((each) => each === input);
		if (word !== undefined) return { value: word };
		const quoted = words.map((each) => `'${each}'`);
		const expected = [quoted.slice(0, -1).join(", "), quoted.at(-1)].filter((part) => part !== "").join(" or ");
		return fault("literal_error", `Input should be ${expected}`, { expected });
	};

/** Names of one request. Duplicates count once; those that no limit can have are names of no limit. */
const names: Reader<string[]> = (input) => {
	if (!Array.isArray(input)) return fault("list_type", "Input should be a valid list");
	if (input.length > NAMES_MAX) return tooLong(NAMES_MAX, input.length);
	const faults = input.flatMap((each: unknown, index) => {
		const read = text(each);
		return "value" in read ? [] : read.faults.map((one) => ({ ...one, at: [index], of: each }));
	});
	if (faults.length > 0) return { faults };
	const value = [...new Set(input as string[])]
		.filter((each) => nameFault(each) === null)
		.sort((a, b) => (a < b ? -1 : 1));
	const most = BOUNDS.namesPerRequest;
	if (value.length <= most) return { value };
	return tooLong(most, value.length);
};
/** Names that are looked at, repeated ones included. */
const NAMES_MAX = 10 * BOUNDS.namesPerRequest;

const tooLong = (most: number, length: number): { faults: Fault[] } =>
	fault("too_long", `List should have at most ${most} items after validation, not ${length}`, {
		...{ field_type: "List", max_length: most, actual_length: length },
	});

/** A UUID in any of the forms that Python takes, as its usual text; null when it is none. */
export function uuidOf(input: string): string | null {
	if (input.length > BOUNDS.spelledLength) return null;
	const bare = input.toLowerCase().replaceAll("urn:", "").replaceAll("uuid:", "").replaceAll("-", "");
	let [from, to] = [0, bare.length];
	while ("{}".includes(bare[from] ?? " ")) from += 1;
	while (to > from && "{}".includes(bare[to - 1] ?? " ")) to -= 1;
	const hex = bare.slice(from, to);
	if (!/^[0-9a-f]{32}$/.test(hex)) return null;
	return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export const uuid: Reader<string> = (input) => {
	if (typeof input !== "string") return fault("uuid_type", "UUID input should be a string, bytes or UUID object");
	const value = uuidOf(input);
	if (value !== null) return { value };
	const at = input.search(/[^0-9a-f-]/i);
	const error =
		at >= 0
			? `invalid character: found \`${String.fromCodePoint(input.codePointAt(at) ?? 0)}\` at ${at + 1}`
			: `invalid length: expected length 32 for simple format, found ${input.replaceAll("-", "").length}`;
	return fault("uuid_parsing", `Input should be a valid UUID, ${error}`, { error });
};

const nullOr =
	<T>(read: Reader<T>): Reader<T | null> =>
	(input) =>
		input === null ? { value: null } : read(input);

const holder: Reader<string> = (input) => {
	if (typeof input !== "object" || input === null || Array.isArray(input)) {
		return fault("model_attributes_type", "Input should be a valid dictionary or object to extract fields from");
	}
	const shape = { type: required(oneOf("flow_run", "task_run", "deployment")), id: required(uuid) };
	const read = fields(shape, input as Record<string, unknown>, true);
	if ("faults" in read) return read;
	return { value: `${read.value.type}:${read.value.id}` };
};

// ------------------------------------------------------------------------------------------------ fields

export interface Field<T> {
	read: Reader<T>;
	/** Without one the field is required. */
	default?: { value: T };
}
const required = <T>(read: Reader<T>): Field<T> => ({ read });
const optional = <T, D>(read: Reader<T>, value: D): Field<T | D> => ({
	read: read as Reader<T | D>,
	default: { value },
});

type Shape = Record<string, Field<unknown>>;
type Read<S extends Shape> = { [K in keyof S]: S[K] extends Field<infer T> ? T : never };

function fields<S extends Shape>(shape: S, input: Record<string, unknown>, strict: boolean): Result<Read<S>> {
	const faults: Fault[] = [];
	const value: Record<string, unknown> = {};
	for (const [key, field] of Object.entries(shape)) {
		if (!Object.hasOwn(input, key)) {
			if (field.default) value[key] = field.default.value;
			else faults.push({ type: "missing", msg: "Field required", at: [key], of: strict ? input : null });
			continue;
		}
		const read = field.read(input[key]);
		if ("value" in read) value[key] = read.value;
		else for (const one of read.faults) faults.push({ of: input[key], ...one, at: [key, ...(one.at ?? [])] });
	}
	for (const key of strict ? Object.keys(input) : []) {
		if (key in shape) continue;
		faults.push({ type: "extra_forbidden", msg: "Extra inputs are not permitted", at: [key], of: input[key] });
	}
	return faults.length > 0 ? { faults } : { value: value as Read<S> };
}

/** A body: whether keys that it does not know are refused, and whether it may be left out. */
export interface Body<S extends Shape> {
	shape: S;
	strict: boolean;
	optional: boolean;
}
const model = <S extends Shape>(shape: S): Body<S> => ({ shape, strict: true, optional: false });
const params = <S extends Shape>(shape: S): Body<S> => ({
	...{ shape, strict: false },
	optional: Object.values(shape).every((field) => field.default !== undefined),
});

const missing = (keys: string[]): Complaint[] =>
	keys.map((key) => ({ type: "missing", loc: ["body", key], msg: "Field required", input: null }));

/** Reads a body that was JSON; `undefined` stands for none. */
export function readBody<S extends Shape>(body: Body<S>, input: unknown): { value: Read<S> } | { errors: Complaint[] } {
	let given = input;
	if (given === undefined || given === null) {
		if (!body.optional && body.strict) {
			return { errors: [{ type: "missing", loc: ["body"], msg: "Field required", input: null }] };
		}
		given = {};
	}
	if ((typeof given !== "object" || Array.isArray(given)) && !body.strict) {
		// Each field is looked for in what has none.
		return { errors: missing(Object.keys(body.shape)) };
	}
	if (typeof given !== "object" || given === null || Array.isArray(given)) {
		const msg = "Input should be a valid dictionary or object to extract fields from";
		return { errors: [{ type: "model_attributes_type", loc: ["body"], msg, input }] };
	}
	const read = fields(body.shape, given as Record<string, unknown>, body.strict);
	if ("value" in read) return read;
	const errors = read.faults.map(({ type, msg, ctx, at, of }) => ({
		...{ type, loc: ["body", ...(at ?? [])], msg, input: of },
		...(ctx && { ctx }),
	}));
	return { errors };
}

// ------------------------------------------------------------------------------------------------ bodies

const count: Range = { ge: 0, le: BOUNDS.limit };
const limit = integer(count);
const decay: Reader<number> = (input) => {
	const read = float({ ge: 0, le: BOUNDS.slotDecayPerSecond });
	const result = read(input);
	if ("faults" in result || result.value === 0) return result;
	return within(result.value, { ge: BOUNDS.slotDecayPerSecondMin });
};
const mode = oneOf("concurrency", "rate_limit");
const slots = integer({ gt: 0, le: BOUNDS.limit });
const leaseDuration = float({ ge: 60, le: BOUNDS.leaseSeconds.max });
/** The usual length of a lease, as in Prefect. */
export const LEASE_SECONDS = 300;

export const createBody = model({
	active: optional(boolean, true),
	name: required(name),
	limit: required(limit),
	active_slots: optional(limit, 0),
	denied_slots: optional(limit, 0),
	slot_decay_per_second: optional(decay, 0),
});
export const updateBody = model({
	active: optional(boolean, undefined),
	name: optional(name, undefined),
	limit: optional(limit, undefined),
	active_slots: optional(limit, undefined),
	denied_slots: optional(limit, undefined),
	slot_decay_per_second: optional(decay, undefined),
});
export const filterBody = params({
	limit: optional(nullOr(integer({})), null),
	offset: optional(nullOr(integer(count)), 0),
});
export const incrementBody = params({
	slots: required(slots),
	names: required(names),
	mode: optional(nullOr(mode), null),
	create_if_missing: optional(nullOr(boolean), null),
});
export const incrementWithLeaseBody = params({
	slots: required(slots),
	names: required(names),
	mode: optional(nullOr(mode), null),
	lease_duration: optional(nullOr(leaseDuration), LEASE_SECONDS),
	holder: optional(nullOr(holder), null),
});
export const decrementBody = params({
	slots: required(slots),
	names: required(names),
	occupancy_seconds: optional(nullOr(float({ gt: 0 })), null),
	create_if_missing: optional(nullOr(boolean), null),
});
export const decrementWithLeaseBody = params({ lease_id: required(uuid) });
export const renewBody = params({ lease_duration: optional(nullOr(leaseDuration), LEASE_SECONDS) });
