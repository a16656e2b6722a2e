/**
 * What is read from strangers: bodies, names, files of limits, values of options. Whatever is written there, it is either
 * understood within its bounds or refused in words of bounded length; nothing throws what is no refusal. What was found once stays in `CORPUS`.
 */

import { InvalidArgumentError } from "commander";
import fc from "fast-check";
import { parseList } from "structured-headers";
import { describe, expect, test } from "vitest";
import { readDesired } from "../../src/cli/desired.ts";
import { CliError } from "../../src/cli/exit.ts";
import * as values from "../../src/cli/values.ts";
import { rateLimitHeaders, rateLimitHeaders06 } from "../../src/headers.ts";
import { BOUNDS, type LimitStatus } from "../../src/protocol.ts";
import * as requests from "../../src/server/front/requests.ts";

/** Bodies that are worth a look each time. */
const CORPUS: unknown[] = [
	{ names: { __proto__: 1 } },
	JSON.parse('{"names": {"__proto__": 1}}'),
	JSON.parse('{"names": "n", "__proto__": {"mode": "rate_limit"}}'),
	{ names: ["toString", "constructor", "hasOwnProperty"] },
	{ names: { n: -0 } },
	{ names: "n", leaseSeconds: 1e308 },
	{ names: "n", occupy: 2 ** 53 },
	{ names: "\ud800" },
	{ names: "n", holder: "\u0000" },
	{ limit: 1, window: { every: "month", startsOn: 31, timeZone: "__proto__" } },
	{ limit: 1, window: { every: "year", startsOn: "02-30" } },
	{ limit: 1, weights: JSON.parse('{"__proto__": 1, "constructor": 2}') },
	{ requests: [{}, null, [], { names: [] }] },
	{ seconds: Number.MIN_VALUE },
];

const text = fc.oneof(
	fc.string({ unit: "binary", maxLength: 300 }),
	fc.string({ maxLength: 20 }),
	fc.constantFrom(
		"__proto__",
		"constructor",
		"toString",
		"",
		".",
		"..",
		"*",
		"a:*",
		"a/b",
		"\ud800",
		"n",
		"rate_limit",
	),
);
const number = fc.oneof(
	fc.double(),
	fc.integer(),
	fc.constantFrom(0, -0, 1, 0.1, 1e-9, 1e9, 1e10, 2 ** 31 - 1, 2 ** 31, 2 ** 53, 1e308, 86_400, 31_536_000),
);
const leaf = fc.oneof(text, number, fc.boolean(), fc.constant(null));
const hostile = fc.oneof(
	leaf,
	fc.array(leaf, { maxLength: 20 }),
	fc.dictionary(text, leaf, { maxKeys: 20, noNullPrototype: false }),
	fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<unknown>,
);
const names = fc.oneof(
	text,
	fc.uniqueArray(text, { maxLength: 20 }),
	fc.dictionary(text, fc.oneof(fc.nat(20), number), { maxKeys: 20 }),
);
const window = fc.record(
	{
		every: fc.oneof(fc.constantFrom("minute", "hour", "day", "week", "month", "year", 60), hostile),
		timeZone: fc.oneof(fc.constantFrom("UTC", "Europe/Berlin"), text),
		at: fc.oneof(fc.constantFrom("00:00", "24:00", "7:5"), text),
		startsOn: fc.oneof(fc.constantFrom("monday", 31, "02-29"), hostile),
		sliding: fc.oneof(fc.boolean(), hostile),
	},
	{ requiredKeys: [] },
);
/** A body in which some fields are as they should be. */
const FIELDS: Record<string, fc.Arbitrary<unknown>> = {
	...{ names, rate: names, actual: names, id: text, holder: text, key: text, region: text },
	...{ occupy: number, leaseSeconds: number, waitSeconds: number, settleSeconds: number, seconds: number },
	...{ limit: number, slotDecayPerSecond: number, lendSeconds: number, activeSlots: number, idleSeconds: number },
	...{ priority: number, starveAfterSeconds: number, weights: fc.dictionary(text, number, { maxKeys: 10 }), window },
	...{ mode: fc.constantFrom("concurrency", "rate_limit", "other"), firstAttempt: fc.boolean(), atMost: fc.boolean() },
	...{
		createIfMissing: fc.boolean(),
		strict: fc.boolean(),
		hold: fc.boolean(),
		active: fc.boolean(),
		enforce: fc.boolean(),
	},
};
const ENOUGH = [
	["names"],
	["names", "id"],
	["id", "actual"],
	["limit"],
	["seconds"],
	["limit", "window"],
	["weights", "limit"],
];
const plain = fc.record({
	...{ names: fc.constantFrom("n", ["n", "m"], { n: 2 }), id: fc.constant("i"), actual: fc.constant({ n: 0 }) },
	...{ limit: fc.nat(9), seconds: fc.nat(9), window: fc.constant({ every: "day" }), weights: fc.constant({ a: 3 }) },
});
/** Enough of a body, some fields more, and maybe one that is spoilt. */
const nearly = fc
	.record({
		...{
			plain,
			enough: fc.constantFrom(...ENOUGH),
			whole: fc.record(FIELDS),
			spoilt: fc.option(fc.tuple(text, hostile)),
		},
		kept: fc.subarray(Object.keys(FIELDS), { maxLength: 3 }),
	})
	.map(
		({ plain, enough, whole, kept, spoilt }): Record<string, unknown> => ({
			...Object.fromEntries(enough.map((key) => [key, plain[key as keyof typeof plain]])),
			...Object.fromEntries(kept.map((key) => [key, whole[key]])),
			...(spoilt && { [spoilt[0]]: spoilt[1] }),
		}),
	);
const requestsOf = fc.record({ requests: fc.array(fc.oneof(nearly, hostile), { maxLength: 12 }) });
const body: fc.Arbitrary<unknown> = fc
	.oneof(hostile, nearly, requestsOf)
	// As it comes: what JSON cannot say is not sent.
	.map((value) => JSON.parse(JSON.stringify(value) ?? "null"));

/** The same choices each time, and what was found before. */
const SEEDED = { seed: 12, numRuns: 250 };

const PARSERS: Record<string, (body: unknown) => requests.Parsed<unknown>> = {
	acquire: (body) => requests.parseAcquire(body, false, "new"),
	stream: (body) => requests.parseAcquire(body, true, "new"),
	batch: (body) => requests.parseBatch(body, () => "new"),
	...{ check: requests.parseCheck, pause: requests.parsePause, renew: requests.parseRenew },
	...{ release: requests.parseRelease, settle: requests.parseSettle, limit: requests.parseSettings },
	...{ policy: requests.parsePolicy, patch: requests.parsePatch },
};

/** What is promised of a request that was understood. */
function within(value: unknown): void {
	if (typeof value !== "object" || value === null) return;
	for (const [key, each] of Object.entries(value)) {
		if (typeof each === "number") expect(each, key).not.toBeNaN();
		if (key.endsWith("Ms") && each !== null)
			expect(Number.isInteger(each) || each === Number.POSITIVE_INFINITY, key).toBe(true);
		if (key === "names") {
			const all = (each as ([string, number] | string)[]).map((one) => (typeof one === "string" ? one : one[0]));
			expect(all.length).toBeLessThanOrEqual(BOUNDS.namesPerRequest);
			expect(new Set(all).size).toBe(all.length);
			for (const name of all) expect(requests.nameFault(name)).toBeNull();
		}
		if (key === "id" && each !== "new") expect([...(each as string)].length).toBeLessThanOrEqual(BOUNDS.idLength);
	}
}

describe("promise 12: a body is understood within its bounds, or refused in bounded words", () => {
	test.each(Object.keys(PARSERS))("%s", (which) => {
		const parse = PARSERS[which] as (typeof PARSERS)[string];
		let [understood, refused] = [0, 0];
		fc.assert(
			fc.property(body, (given) => {
				const parsed = parse(given);
				if (parsed.ok) {
					understood += 1;
					return within(parsed.value);
				}
				refused += 1;
				const { errors = [], detail } = parsed.fault;
				expect(errors.length).toBeLessThanOrEqual(BOUNDS.faults);
				for (const { field, message } of errors)
					expect(field.length + message.length).toBeLessThan(4 * BOUNDS.faultLength);
				expect(detail.length).toBeLessThan(4 * BOUNDS.faults * BOUNDS.faultLength);
				// A refusal can be sent.
				JSON.stringify(parsed.fault);
			}),
			{ ...SEEDED, examples: CORPUS.map((one): [unknown] => [one]) },
		);
		expect(understood).toBeGreaterThan(0);
		expect(refused).toBeGreaterThan(0);
	});
});

/** What the command line throws at whoever typed: each of these is told in a sentence. */
const isRefusal = (error: unknown): boolean => error instanceof InvalidArgumentError || error instanceof CliError;

function understoodOrRefused<T>(read: () => T): T | undefined {
	try {
		return read();
	} catch (error) {
		if (!isRefusal(error)) throw error;
		return undefined;
	}
}

describe("what is typed is a number, or refused", () => {
	const typed = fc.oneof(
		text,
		fc
			.tuple(
				fc.oneof(fc.double({ noNaN: true }), fc.integer()),
				fc.constantFrom("", "s", "ms", "min", "h", "d", "/s", "/min", " S", "e5", "__proto__"),
			)
			.map(([value, unit]) => `${value}${unit}`),
	);
	const { duration, leaseDuration, pauseDuration, lend, patience, count, decay, port } = values;
	test.each(Object.entries({ duration, leaseDuration, pauseDuration, lend, patience, count, decay, port }))(
		"%s",
		(_, read) => {
			fc.assert(
				fc.property(typed, (given) => {
					const value = understoodOrRefused(() => read(given));
					if (value !== undefined) expect(value).toBeGreaterThanOrEqual(0);
				}),
				{
					...SEEDED,
					examples: ["1e5", "toString", "5__proto__", "1constructor", "0x10", "٣", "9".repeat(400)].map((one) => [one]),
				},
			);
		},
	);
});

test.each(["toml", "json"] as const)("a file of limits is read, or refused with its faults: %s", (format) => {
	const files = fc.oneof(
		text,
		fc
			.dictionary(fc.oneof(fc.constantFrom("limits", "policies"), text), fc.dictionary(text, fc.oneof(nearly, hostile)))
			.map((file) => JSON.stringify(file)),
		fc
			.tuple(text, nearly)
			.map(([name, settings]) =>
				[
					`[limits.${JSON.stringify(name)}]`,
					...Object.entries(settings).map(([key, value]) => `${key} = ${JSON.stringify(value)}`),
				].join("\n"),
			),
	);
	fc.assert(
		fc.property(files, (file) => {
			const read = understoodOrRefused(() => readDesired(file, format, "limits"));
			for (const name of read?.limits.keys() ?? []) expect(requests.nameFault(name)).toBeNull();
			for (const pattern of read?.policies.keys() ?? []) expect(requests.patternFault(pattern)).toBeNull();
		}),
		{
			...SEEDED,
			examples: [
				"",
				"limits = 1",
				'{"limits": {"__proto__": {"limit": 1}}}',
				"[limits.__proto__]\nlimit = 1",
				"[limits]\n[limits]",
			].map((one): [string] => [one]),
		},
	);
});

test("RateLimit headers can be read by whoever reads structured fields, whatever limits are called", () => {
	const name = text.filter((each) => requests.nameFault(each) === null);
	const positive = fc.double({ min: 0, max: 1e15, noNaN: true });
	const status = fc.record(
		{
			...{
				name,
				limit: fc.nat(2 ** 31 - 1),
				activeSlots: fc.nat(),
				remaining: fc.nat(2 ** 31 - 1),
				enforced: fc.boolean(),
			},
			...{ slotDecayPerSecond: positive, windowSeconds: positive, nextSlotSeconds: positive },
		},
		{ requiredKeys: ["name", "limit", "activeSlots", "remaining", "enforced"] },
	);
	fc.assert(
		fc.property(fc.array(status, { maxLength: 16 }), fc.option(positive, { nil: undefined }), (limits, seconds) => {
			for (const make of [rateLimitHeaders, rateLimitHeaders06]) {
				const headers = make(limits as LimitStatus[], seconds);
				new Headers(headers);
				if ("Retry-After" in headers) expect(headers["Retry-After"]).toMatch(/^\d+$/);
				if (make === rateLimitHeaders06) continue;
				const enforced = limits.filter((limit) => limit.enforced).length;
				for (const header of ["RateLimit", "RateLimit-Policy"] as const) {
					if (headers[header] !== undefined) expect(parseList(headers[header])).toHaveLength(enforced);
				}
			}
		}),
		SEEDED,
	);
});
