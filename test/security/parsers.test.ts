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
import { Interruption } from "../../src/client/interruption.ts";
import { Lines } from "../../src/client/lines.ts";
import { failure, parseAnswer } from "../../src/client/transport.ts";
import { rateLimitHeaders, rateLimitHeaders06 } from "../../src/headers.ts";
import { pauseSecondsOf } from "../../src/middleware/guard.ts";
import { BOUNDS, type LimitStatus, type Problem } from "../../src/protocol.ts";
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

describe("Retry-After", () => {
	const now = Date.UTC(2026, 10, 27);
	const after = fc.oneof(
		text,
		number.map(String),
		fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
		fc.constantFrom(
			"in 3 s",
			"120 seconds",
			"-5",
			"1.5",
			"1e9",
			"0x10",
			"9".repeat(400),
			" 7 ",
			"3, 4",
			"GMT",
			"0 GMT",
		),
	);

	test("of an upstream pauses for whole seconds within the bound, whatever it says", () => {
		fc.assert(
			fc.property(after, (said) => {
				const seconds = pauseSecondsOf(said, now);
				expect(Number.isInteger(seconds)).toBe(true);
				expect(seconds).toBeGreaterThanOrEqual(1);
				expect(seconds).toBeLessThanOrEqual(BOUNDS.pauseSeconds);
			}),
			SEEDED,
		);
	});

	test("is read as it was written, in seconds and as a date", () => {
		fc.assert(
			fc.property(fc.integer({ min: 1, max: BOUNDS.pauseSeconds }), (seconds) => {
				expect(pauseSecondsOf(String(seconds), now)).toBe(seconds);
				expect(pauseSecondsOf(String(seconds - 0.5), now)).toBe(seconds);
				expect(pauseSecondsOf(new Date(now + 1_000 * seconds).toUTCString(), now)).toBe(seconds);
			}),
			SEEDED,
		);
	});

	test.each(["in 3 s", "120 seconds", "-5", "2001-01-01", "", "Nov 27", "0 GMT"])("%j is as good as none", (said) => {
		expect(pauseSecondsOf(said, now)).toBe(pauseSecondsOf(null, now));
	});

	test("holds a client back for a time, or not at all, whatever a proxy says", () => {
		fc.assert(
			fc.property(after, fc.constantFrom(408, 429, 500, 503), fc.boolean(), (said, status, ours) => {
				const problem = { type: "about:blank", title: "", status, detail: "", code: "overloaded" } as Problem;
				const error = failure(problem, ours, Number(said));
				if (error instanceof Interruption) expect(error.retryAfterMs).toBeGreaterThanOrEqual(0);
				else expect(status === 429 && ours).toBe(true);
			}),
			SEEDED,
		);
	});
});

describe("the lines of a stream", () => {
	/** A stream of these bytes, cut at these places. */
	const streamOf = (bytes: Uint8Array, cuts: number[]): Response => {
		const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
		const chunks = places.slice(1).map((to, index) => bytes.slice(places[index], to));
		return new Response(
			new ReadableStream({
				pull(controller) {
					const chunk = chunks.shift();
					if (chunk) controller.enqueue(chunk);
					else controller.close();
				},
			}),
		);
	};
	const cuts = fc.array(fc.nat(1_000), { maxLength: 10 });

	test("are what was sent, however they are cut on the way, and an end without a verdict breaks off", async () => {
		const line = fc
			.oneof(fc.string({ unit: "grapheme", maxLength: 40 }), fc.json())
			.map((each) => each.replaceAll("\n", " ").toWellFormed());
		await fc.assert(
			fc.asyncProperty(fc.array(line, { maxLength: 8 }), cuts, async (sent, at) => {
				const lines = new Lines(
					streamOf(new TextEncoder().encode(`\ufeff${sent.map((each) => `${each}\n`).join("")}`), at),
				);
				for (const each of sent) expect(await lines.next()).toBe(each);
				await expect(lines.next()).rejects.toBeInstanceOf(Interruption);
			}),
			SEEDED,
		);
	});

	test("are objects, or something between spoke", async () => {
		const bytes = fc.oneof(
			fc.uint8Array({ maxLength: 200 }),
			fc.json().map((json) => new TextEncoder().encode(`${json}\n`)),
		);
		await fc.assert(
			fc.asyncProperty(bytes, cuts, async (sent, at) => {
				const lines = new Lines(streamOf(sent, at));
				try {
					for (;;) expect(typeof parseAnswer(await lines.next())).toBe("object");
				} catch (error) {
					expect(error).toBeInstanceOf(Interruption);
				}
			}),
			SEEDED,
		);
	});

	test("end where one grows without an end", async () => {
		let sent = 0;
		const endless = new ReadableStream<Uint8Array>({
			pull(controller) {
				sent += 65_536;
				controller.enqueue(new Uint8Array(65_536).fill(0x61));
			},
		});
		await expect(new Lines(new Response(endless)).next()).rejects.toBeInstanceOf(Interruption);
		expect(sent).toBeLessThan(1_000_000);
	});
});
