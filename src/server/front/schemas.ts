/**
 * What a caller may send, once: requests are checked by these schemas, and the reference at `/openapi.json` is made
 * of them. Where JSON Schema cannot say what a check does, `override` says as much of it as can be said.
 */

import * as z from "zod";
import type {} from "zod-openapi"; // What `meta` may say.
import {
	type AcquireRequest,
	type BatchRequest,
	BOUNDS,
	type CheckRequest,
	DEFAULTS,
	ORDERS,
	type PauseRequest,
	REGIONS,
	type Slots,
} from "../../protocol.ts";
import { windowSchema } from "./windows.ts";

const NO_PLACE_IN_A_URL = [".", ".."];
const FORBIDDEN = /[/%&><\p{Cc}]/u;
/** The same rules, as far as a pattern of JSON Schema can say them. */
const NAME_PATTERN = "^(?!\\.{1,2}$)[^/%&><\\u0000-\\u001f\\u007f-\\u009f]+$";
const nameJson = { minLength: 1, maxLength: BOUNDS.nameLength, pattern: NAME_PATTERN };

/** Characters, and not UTF-16 units; of a text that is too long in any case they are not counted one by one. */
const lengthOf = (text: string, most: number): number => (text.length > 2 * most ? text.length : [...text].length);

/** Why a text cannot be a limit's name, or null. */
export function nameFault(name: string): string | null {
	const length = lengthOf(name, BOUNDS.nameLength);
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
	const length = lengthOf(pattern, BOUNDS.patternLength);
	if (length === 0) return "a pattern has at least one character: a prefix and a `*`, like `login:*`, or an exact name";
	if (length > BOUNDS.patternLength) return `a pattern has at most ${BOUNDS.patternLength} characters, not ${length}`;
	if (pattern === "*")
		return "a pattern has at least one character before its `*`: no policy is for every name there is";
	const star = pattern.indexOf("*");
	if (star >= 0 && pattern.indexOf("*", star + 1) >= 0) return "a pattern has one `*` at most, at its end";
	if (star >= 0 && star !== pattern.length - 1) return "a pattern has its `*` at its end, like `login:*`";
	return nameFault(star < 0 ? pattern : pattern.slice(0, -1));
}

function checked(fault: (text: string) => string | null) {
	return z.string().superRefine((text, context) => {
		const message = fault(text);
		if (message) context.addIssue({ code: "custom", message });
	});
}

/** Names that are looked at in one request: further ones are too many, however often a name is repeated. */
const NAMES_MAX = 10 * BOUNDS.namesPerRequest;

export const NOT_AN_OBJECT = "an object from name to slots";

const isRecord = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);

/** An object from name to number, as its entries. Not a record: that would lose a limit called `__proto__`. */
function perName(number: z.ZodType<number>) {
	return z.custom<Slots>(isRecord, NOT_AN_OBJECT).transform((value, context) => {
		const entries = Object.entries(value);
		if (entries.length > NAMES_MAX) {
			context.addIssue({ code: "custom", message: `at most ${NAMES_MAX} names, not ${entries.length}` });
			return [];
		}
		return entries.map(([name, slots]): [string, number] => {
			const fault = nameFault(name) ?? number.safeParse(slots, { reportInput: false }).error?.issues[0]?.message;
			if (fault) context.addIssue({ code: "custom", path: [name], message: fault });
			return [name, slots];
		});
	});
}

/** Bounded by characters and not by UTF-16 units. */
const shortText = (most: number) =>
	z
		.string()
		.refine((text) => lengthOf(text, most) <= most, `at most ${most} characters`)
		.meta({ override: { maxLength: most } });

/** Digits only: what `Number` makes of other texts is nothing that a caller meant. */
const decimal = (least: number, most: number) =>
	z
		.string()
		.regex(/^\d{1,16}$/, "a whole number in digits")
		.transform(Number)
		.pipe(z.int().min(least).max(most))
		.meta({
			override: ({ jsonSchema }) => {
				delete jsonSchema.pattern;
				Object.assign(jsonSchema, { type: "integer", minimum: least, maximum: most });
			},
		});

/** A text that says whose turn it is. */
const key = shortText(BOUNDS.keyLength)
	.min(1)
	.refine((text) => text.isWellFormed(), "a key is well-formed Unicode")
	.meta({ id: "Key", example: "tenant-42", override: { minLength: 1, maxLength: BOUNDS.keyLength } });

/** Not a record: that would lose a key called `__proto__`. */
const weights = z
	.custom<Record<string, number>>(isRecord, "an object from key to weight")
	.transform((value, context) => {
		const entries = Object.entries(value);
		if (entries.length > BOUNDS.weights) {
			context.addIssue({ code: "custom", message: `at most ${BOUNDS.weights} keys, not ${entries.length}` });
			return {};
		}
		const weight = z.int().min(1).max(BOUNDS.weight);
		for (const [of, given] of entries) {
			const why = [key.safeParse(of), weight.safeParse(given)].find(({ success }) => !success)?.error?.issues[0]
				?.message;
			if (why) context.addIssue({ code: "custom", path: [of], message: why });
		}
		return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
	})
	.meta({
		description: "What keys are given beside each other while they wait; of a key that is not in it 1.",
		example: { "tenant-42": 3 },
		override: {
			type: "object",
			propertyNames: { type: "string", minLength: 1, maxLength: BOUNDS.keyLength },
			additionalProperties: { type: "integer", minimum: 1, maximum: BOUNDS.weight },
			maxProperties: BOUNDS.weights,
		},
	});

export const name = checked(nameFault).meta({ id: "LimitName", example: "database", override: nameJson });
export const pattern = checked(patternFault).meta({
	id: "PolicyPattern",
	description: "A literal prefix and one closing `*`; or the exact name of a limit, which counts before any prefix.",
	example: "login:*",
	override: {
		minLength: 1,
		maxLength: BOUNDS.patternLength,
		pattern: "^(?!\\.{1,2}\\*?$)[^/%&><*\\u0000-\\u001f\\u007f-\\u009f]+\\*?$",
	},
});
const slots = z.int().min(1).max(BOUNDS.limit);
export const id = z
	.string()
	.min(1)
	.max(BOUNDS.idLength, { abort: true })
	// One of dots alone has no place in a URL, so its lease could never be taken back by force.
	.regex(/^(?!\.{1,2}$)[A-Za-z0-9._:-]+$/, "an id has letters, digits and . _ : - only, and is not . or ..")
	.meta({ id: "RequestId", example: "7c6a5b0e-6a3f-4c59-9a53-0d5c2b8f1e11" });
/** In a path any text may stand; only a lease that exists is found. */
export const anyId = z.string().meta({ example: "7c6a5b0e-6a3f-4c59-9a53-0d5c2b8f1e11", override: { minLength: 1 } });
const leaseSeconds = z.number().min(BOUNDS.leaseSeconds.min).max(BOUNDS.leaseSeconds.max);

const namesList = z.array(name).min(1, "at least one name").max(NAMES_MAX);
const namesWithSlots = perName(slots)
	.refine((entries) => entries.length > 0, "at least one name")
	.meta({
		override: {
			type: "object",
			propertyNames: { type: "string", ...nameJson },
			additionalProperties: { type: "integer", minimum: 1, maximum: BOUNDS.limit },
			minProperties: 1,
			maxProperties: BOUNDS.namesPerRequest,
		},
	});
const names = z
	.union([name, namesList, namesWithSlots], { error: "a name, a list of names, or an object from name to slots" })
	.meta({
		description: `One name, a list of at most ${BOUNDS.namesPerRequest} (repeated names count once), or slots per name. All are taken, or none.`,
	});

const acquireShape = {
	names,
	occupy: slots.default(DEFAULTS.occupy).meta({ description: "Slots of each name, when `names` does not say." }),
	mode: z.enum(["concurrency", "rate_limit"]).default("concurrency").meta({
		description:
			"`concurrency`: hold slots until they are released, or until the lease ends. `rate_limit`: hold nothing; slots come back by themselves.",
	}),
	rate: names.optional().meta({
		description:
			"Limits to take in the same request by rate: their slots come back by themselves and outlive the lease. One name, several (a slot of each), or slots per name; none of `names`.",
		example: { openai: 1 },
	}),
	id: id.optional().meta({
		description: "Yours: the same id again is the same request, never a second lease. Made here when absent.",
	}),
	firstAttempt: z.boolean().default(false).meta({
		description:
			"The `id` was never sent before, so a denial by rate may be given again without asking the limit. Leave it out when the same request is sent again.",
	}),
	leaseSeconds: leaseSeconds.default(DEFAULTS.leaseSeconds).meta({ description: "Length of the lease." }),
	settleSeconds: z.number().min(BOUNDS.settleSeconds.min).max(BOUNDS.settleSeconds.max).optional().meta({
		description: "What is taken by rate is an estimate, which `POST /v1/settle` may correct for so long.",
	}),
	atMost: z.boolean().default(false).meta({
		description: "Take fewer slots where a limit could never grant so many: the answer says how many.",
	}),
	priority: z.int().min(0).max(BOUNDS.priority).default(0).meta({
		description:
			"Of those that wait, the higher are served first. While they are, older ones of a lower priority are given every second grant: see `starveAfterSeconds`.",
	}),
	key: key.optional().meta({
		description:
			"Whose turn it takes in the line: keys that wait take turns, each as its weight says. Default: one key for all that have none.",
	}),
	createIfMissing: z
		.boolean()
		.default(true)
		.meta({ description: "Create names that nobody configured: by the matching policy, else switched off." }),
	strict: z.boolean().default(false).meta({
		description: "A name that nobody has configured, neither itself nor by a policy, is a 404, and nothing is taken.",
	}),
	holder: shortText(BOUNDS.holderLength)
		.optional()
		.meta({ description: "Who asks, for the operator's eyes.", example: "nightly-report" }),
};
export const acquireSchema = z.strictObject({
	...acquireShape,
	waitSeconds: z.number().min(0).max(BOUNDS.waitSeconds).default(DEFAULTS.waitSeconds),
	hold: z.literal(false, "only a stream can hold: ask with Accept: application/x-ndjson").default(false),
});
/** What the reference shows: the stream takes all that a plain call takes, and more. */
export const streamSchema = z
	.strictObject({
		...acquireShape,
		waitSeconds: z
			.number()
			.min(0)
			.max(BOUNDS.streamWaitSeconds)
			.optional()
			.meta({
				description: `How long to wait in line. Without a stream at most ${BOUNDS.waitSeconds}, answered after ${BOUNDS.plainWaitSeconds} at the latest, and ${DEFAULTS.waitSeconds} when absent; in a stream for ever when absent.`,
			}),
		hold: z.boolean().default(false).meta({
			description:
				"In a stream alone, and not with `rate_limit`: the stream stays open after the grant, and the lease lives as long as it does.",
		}),
	})
	.meta({ id: "AcquireRequest" });
/** Each request is checked by itself, so that one that is wrong is answered in its place. */
export const batchSchema = z.strictObject({ requests: z.array(z.unknown()).min(1).max(BOUNDS.batch) });
/** What a request of a batch may say: it does not wait. */
export const batchedSchema = z.strictObject({
	...acquireShape,
	waitSeconds: z.literal(0, "a batch does not wait: leave `waitSeconds` out, or send this request alone").default(0),
	hold: z.literal(false, "a batch holds no stream: send this request alone").default(false),
});
/** What the reference shows of a batch. */
export const batchShown = z
	.strictObject({ requests: z.array(z.strictObject(acquireShape)).min(1).max(BOUNDS.batch) })
	.meta({ id: "BatchRequest" });
/** The schema says what the protocol says; the compiler compares them. */
type Same<Protocol, _Schema extends Protocol> = Protocol;
type AllOf<T> = { [K in keyof T]-?: T[K] | undefined };
export type CheckedBatchedRequest = Same<
	AllOf<BatchRequest["requests"][number]>,
	AllOf<Omit<z.input<typeof batchedSchema>, "waitSeconds" | "hold">>
>;
export type CheckedAcquireRequest = Same<AllOf<AcquireRequest>, AllOf<z.input<typeof streamSchema>>>;

const { id: _, firstAttempt: __, ...checkShape } = acquireShape;
/** What is asked without being taken: there is no request that an id could name, or that could wait. */
export const checkSchema = z.strictObject(checkShape).meta({ id: "CheckRequest" });
export type CheckedCheckRequest = Same<AllOf<CheckRequest>, AllOf<z.input<typeof checkSchema>>>;
export const pauseSchema = z
	.strictObject({
		seconds: z.number().min(0).max(BOUNDS.pauseSeconds).meta({
			description:
				"Nothing is granted for so long, or until an earlier pause ends, whichever is later. 0 ends a pause, and needs scope `admin`.",
			example: 30,
		}),
	})
	.meta({ id: "PauseRequest" });
export type CheckedPauseRequest = Same<AllOf<PauseRequest>, AllOf<z.input<typeof pauseSchema>>>;

// A lease is sent back as it was answered: with fields that are not needed here, and without names if all were skipped.
const leaseNames = z
	.union(
		[
			name,
			z.array(name).max(NAMES_MAX),
			perName(z.number()).meta({
				override: {
					type: "object",
					propertyNames: { type: "string", ...nameJson },
					additionalProperties: { type: "number" },
					maxProperties: BOUNDS.namesPerRequest,
				},
			}),
		],
		{ error: "the names of a lease, as it was answered" },
	)
	.meta({ description: `At most ${BOUNDS.namesPerRequest} names.` });
export const renewSchema = z
	.object({
		id,
		names: leaseNames,
		leaseSeconds: leaseSeconds
			.optional()
			.meta({ description: "Counted from now. Default: the length that the lease was acquired with." }),
	})
	.meta({ id: "RenewRequest" });
const actual = perName(z.int().min(0).max(BOUNDS.limit))
	.refine((entries) => entries.length > 0, "at least one name")
	.refine((entries) => entries.length <= BOUNDS.namesPerRequest, `at most ${BOUNDS.namesPerRequest} names`)
	.meta({
		description: "What the estimate of each name came to, in slots; 0 gives back all that has not come back by itself.",
		override: {
			type: "object",
			propertyNames: { type: "string", ...nameJson },
			additionalProperties: { type: "integer", minimum: 0, maximum: BOUNDS.limit },
			minProperties: 1,
			maxProperties: BOUNDS.namesPerRequest,
		},
	});
export const settleSchema = z.strictObject({ id, actual }).meta({ id: "SettleRequest" });
export const releaseSchema = z
	.object({ id, names: leaseNames, actual: actual.optional() })
	.meta({ id: "ReleaseRequest" });

const settingsShape = {
	limit: z.int().min(0).max(BOUNDS.limit).meta({ description: "Capacity in slots.", example: 20 }),
	slotDecayPerSecond: z
		.number()
		.min(0)
		.max(BOUNDS.slotDecayPerSecond)
		.refine((decay) => decay === 0 || decay >= BOUNDS.slotDecayPerSecondMin, {
			error: `0, or at least ${BOUNDS.slotDecayPerSecondMin}`,
		})
		.meta({
			description: "Slots that come back by themselves each second; 0: only by release.",
			override: { anyOf: [{ const: 0 }, { minimum: BOUNDS.slotDecayPerSecondMin }] },
		}),
	active: z.boolean().meta({ description: "Off: grants at once and holds nothing." }),
	enforce: z.boolean().meta({
		description: "False: decides and counts as ever, and says what it would deny; no caller is denied or waits.",
	}),
	lendSeconds: z
		.number()
		.min(0)
		.max(BOUNDS.lendSeconds.max)
		.refine((seconds) => seconds === 0 || seconds >= BOUNDS.lendSeconds.min, {
			error: `0, or at least ${BOUNDS.lendSeconds.min}`,
		})
		.meta({
			description:
				"For how long a Worker may borrow slots that come back by themselves, and grant them without asking the limit; 0: not at all.",
			override: { anyOf: [{ const: 0 }, { minimum: BOUNDS.lendSeconds.min }] },
		}),
	weights,
	starveAfterSeconds: z.number().min(0).max(BOUNDS.starveAfterSeconds).meta({
		description: "Waiters that are older are given every second grant while a higher priority waits; 0: they are not.",
	}),
};
const region = z.enum(REGIONS);
const settings = {
	limit: settingsShape.limit,
	slotDecayPerSecond: settingsShape.slotDecayPerSecond.default(0),
	window: windowSchema.nullable().default(null),
	active: settingsShape.active.default(true),
	enforce: settingsShape.enforce.default(true),
	lendSeconds: settingsShape.lendSeconds.default(0),
	weights: settingsShape.weights.default({}),
	starveAfterSeconds: settingsShape.starveAfterSeconds.default(DEFAULTS.starveAfterSeconds),
};

/** Slots come back in one way. */
function inOneWay(
	given: { slotDecayPerSecond?: number | undefined; window?: unknown },
	context: z.RefinementCtx,
): void {
	if (!given.window || !given.slotDecayPerSecond) return;
	const message = "slots come back by a window or by `slotDecayPerSecond`: leave one of them out";
	context.addIssue({ code: "custom", path: ["window"], message, input: "window" });
}

/** Only what comes back one after the other can be lent: what is held comes back by its holder, and with a window all at once. */
function lendsWhatDecays(
	given: { slotDecayPerSecond?: number | undefined; window?: unknown; lendSeconds?: number | undefined },
	context: z.RefinementCtx,
): void {
	if (!given.lendSeconds || (given.slotDecayPerSecond !== 0 && !given.window)) return;
	context.addIssue({ code: "custom", path: ["lendSeconds"], message: LENDS_NOTHING, input: "lendSeconds" });
}
export const LENDS_NOTHING =
	"only with a `slotDecayPerSecond`: slots that are held, or come back with a window, are not lent";

export const limitSchema = z
	.strictObject({
		...settings,
		region: region.nullable().default(null).meta({
			description:
				"Where a new limit is to live, as a location hint of Cloudflare; null: where its policy says, or the deployment. A limit never moves: another one than it was made with is refused.",
		}),
	})
	.superRefine(inOneWay)
	.superRefine(lendsWhatDecays)
	.meta({ id: "Settings" });
export const policySchema = z
	.strictObject({
		...settings,
		window: windowSchema.nullable().exactOptional(),
		weights: settingsShape.weights.exactOptional(),
		starveAfterSeconds: settingsShape.starveAfterSeconds.exactOptional(),
		region: region.nullable().default(null).meta({
			description: "Where keys of the policy are to live, from their first use on; null: where the deployment says.",
		}),
		idleSeconds: z
			.number()
			.min(BOUNDS.idleSeconds.min)
			.max(BOUNDS.idleSeconds.max)
			.default(DEFAULTS.idleSeconds)
			.meta({ description: "How long a key of the policy is kept once it is idle and empty; then it deletes itself." }),
	})
	.superRefine(inOneWay)
	.superRefine(lendsWhatDecays)
	.meta({ id: "PolicySettings" });
export const patchSchema = z
	.strictObject({
		limit: settingsShape.limit.optional(),
		slotDecayPerSecond: settingsShape.slotDecayPerSecond.optional(),
		window: windowSchema.nullable().optional(),
		active: settingsShape.active.optional(),
		enforce: settingsShape.enforce.optional(),
		lendSeconds: settingsShape.lendSeconds.optional(),
		weights: settingsShape.weights.optional(),
		starveAfterSeconds: settingsShape.starveAfterSeconds.optional(),
		region: region.optional().meta({ description: "Only the one that it was made with: a limit never moves." }),
		activeSlots: z.int().min(0).max(BOUNDS.limit).optional().meta({
			description: "Slots in use, set by hand. It never frees a slot that somebody holds.",
		}),
	})
	.superRefine(inOneWay)
	.superRefine(lendsWhatDecays)
	.meta({ id: "LimitPatch" });

const page = (count: number, most: number) => ({
	count: decimal(1, most)
		.optional()
		.transform((given) => given ?? count)
		.meta({ description: "Entries of one page.", override: { default: count } }),
});
/** Of a list that is asked for, or watched. */
const order = z.enum(ORDERS).default("name").meta({
	description: `\`attention\`: those first that need a look, worst first: paused, with a line, full, denying, nearly full. Then others by name; there is no further page.`,
});
export const limitsQuery = z.object({
	order,
	prefix: shortText(BOUNDS.nameLength).default("").meta({ description: "Only names that start with this." }),
	after: shortText(BOUNDS.nameLength).default("").meta({ description: "The `next` of the page before." }),
	...page(DEFAULTS.limitsPage, BOUNDS.limitsPage),
});
export const watchQuery = z.object({
	...limitsQuery.shape,
	name: name.optional().meta({ description: "Watch this one alone, in full." }),
});
export const leasesQuery = z.object({
	after: decimal(0, Number.MAX_SAFE_INTEGER)
		.optional()
		.transform((given) => given ?? 0)
		.meta({ description: "The `next` of the page before.", override: { default: 0 } }),
	...page(DEFAULTS.leasesPage, BOUNDS.leasesPage),
});
