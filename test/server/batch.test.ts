/** `POST /v1/acquire/batch`: many requests in one call, each with its own outcome. */

import { runInDurableObject } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { type BatchAnswer, type BatchOutcome, BOUNDS, type Lease, type Problem } from "../../src/protocol.ts";
import {
	acquire,
	call,
	expectProblem,
	granted,
	inspect,
	limitObject,
	newId,
	newLimit,
	newLimits,
	newName,
	release,
} from "./support.ts";

const batch = (requests: unknown) => call<BatchAnswer & Problem>("POST", "/v1/acquire/batch", { requests });

async function outcomes(requests: unknown[]): Promise<BatchOutcome[]> {
	const { status, body } = await batch(requests);
	expect(status, JSON.stringify(body)).toBe(200);
	return body.answers;
}

const statuses = (answers: BatchOutcome[]): number[] => answers.map(({ status }) => status);
const leaseOf = (outcome: BatchOutcome | undefined): Lease => (outcome as { lease: Lease }).lease;
const problemOf = (outcome: BatchOutcome | undefined): Problem => (outcome as { problem: Problem }).problem;

describe("each request has its own outcome, in its place", () => {
	test("granted, denied, refused and wrong ones side by side", async () => {
		const [one = "", two = ""] = await newLimits(1, 5);
		const answers = await outcomes([
			{ names: one },
			{ names: two, occupy: 2 },
			{ names: one },
			{ names: one, occupy: 9 },
			{ names: "a/b" },
			{ names: two, mode: "rate_limit" },
			{ names: newName(), createIfMissing: false, strict: true },
			{ names: two, waitSeconds: 3 },
			{ names: two, hold: true },
			"no request",
		]);
		expect(statuses(answers)).toEqual([200, 200, 429, 422, 422, 422, 404, 422, 422, 422]);
		expect(leaseOf(answers[1]).names).toEqual({ [two]: 2 });
		expect(problemOf(answers[2])).toMatchObject({ code: "denied", "violated-policies": [one] });
		expect(problemOf(answers[3]).code).toBe("exceeds_limit");
		expect(problemOf(answers[5]).code).toBe("no_decay");
		expect(problemOf(answers[7]).detail).toContain("a batch does not wait");
		expect((await release(leaseOf(answers[0]))).body).toEqual({ released: 1 });
		expect((await inspect(two)).activeSlots).toBe(2);
	});

	test("what is denied within it changes nothing", async () => {
		const [one = "", two = ""] = await newLimits(1, 1);
		await granted({ names: one });
		const answers = await outcomes([{ names: [one, two] }, { names: two }]);
		expect(statuses(answers)).toEqual([429, 200]);
		expect((await inspect(two)).activeSlots).toBe(1);
	});

	test("several names are all or nothing, beside requests for one of them", async () => {
		const [one = "", two = ""] = await newLimits(3, 3);
		const answers = await outcomes(Array.from({ length: 6 }, (_, n) => ({ names: n % 2 ? [one, two] : one })));
		expect(statuses(answers).filter((status) => status === 200)).toHaveLength(3);
		const held = answers.flatMap((answer) => ("lease" in answer ? [Object.keys(answer.lease.names)] : []));
		expect((await inspect(one)).activeSlots).toBe(3);
		expect((await inspect(two)).activeSlots).toBe(held.filter((names) => names.includes(two)).length);
	});

	test("the same id again is the same lease, in one batch and in the next", async () => {
		const name = await newLimit({ limit: 5 });
		const request = { names: name, id: newId() };
		const answers = [...(await outcomes([request, request])), ...(await outcomes([request]))];
		expect(new Set(answers.map((answer) => leaseOf(answer).id)).size).toBe(1);
		expect((await inspect(name)).activeSlots).toBe(1);
	});

	test("those for one name are decided in their order, and what they got outlives the object", async () => {
		const name = await newLimit({ limit: 10 });
		const answers = await outcomes([6, 5, 4, 1].map((occupy) => ({ names: name, occupy })));
		expect(statuses(answers)).toEqual([200, 429, 200, 429]);
		await runInDurableObject(limitObject(name), (_, state) => void state);
		expect((await inspect(name)).leases.map(({ slots }) => slots)).toEqual([6, 4]);
	});
});

test("requests for one name share a commit", async () => {
	const name = await newLimit({ limit: 100 });
	let commits = 0;
	await runInDurableObject(limitObject(name), (_, { storage }) => {
		const { sync } = storage;
		storage.sync = () => {
			commits += 1;
			return sync.call(storage);
		};
	});
	expect(statuses(await outcomes(Array.from({ length: 32 }, () => ({ names: name }))))).toEqual(Array(32).fill(200));
	expect(commits).toBe(1);
	for (let alone = 0; alone < 3; alone += 1) await granted({ names: name });
	expect(commits).toBe(4);
});

describe("bounds", () => {
	const name = newName();

	test.each([
		["no request", [], 422],
		["as many as there may be", Array(BOUNDS.batch).fill({ names: name }), 200],
		["one more", Array(BOUNDS.batch + 1).fill({ names: name }), 422],
		["none at all", undefined, 422],
		["something else", { names: name }, 422],
	])("%s", async (_, requests, status) => {
		expect((await batch(requests)).status).toBe(status);
	});

	test("names are counted over all of them", async () => {
		const names = Array.from({ length: BOUNDS.namesPerRequest }, (_, n) => `${name}-${n}`);
		const most = Math.floor(BOUNDS.namesPerBatch / BOUNDS.namesPerRequest);
		const refused = expectProblem(await batch(Array(most + 1).fill({ names, createIfMissing: false })), 422, "invalid");
		expect(refused.detail).toContain(`at most ${BOUNDS.namesPerBatch} names`);
	});

	test("a flood of faults is told of once: each request of one, and all together of as many as one alone", async () => {
		const wrong = Array.from({ length: BOUNDS.batch }, () => ({ names: Array(BOUNDS.faults).fill("%") }));
		const { status, body } = await batch(wrong);
		expect(status).toBe(200);
		const told = body.answers.map((answer) => problemOf(answer).errors?.length);
		expect(told).toEqual([BOUNDS.faults, ...Array(BOUNDS.batch - 1).fill(1)]);
		expect(problemOf(body.answers[1]).detail).toMatch(/; and 15 more\.$/);
		// What is right stands where it stood.
		const answers = await outcomes([...wrong.slice(1), { names: name }]);
		expect(statuses(answers)).toEqual([...Array(BOUNDS.batch - 1).fill(422), 200]);
		expect(JSON.stringify(body).length).toBeLessThan(5 * JSON.stringify({ requests: wrong }).length);
	});

	test.each([
		[
			"bad names",
			() => Array.from({ length: BOUNDS.batch }, (_, n) => ({ names: { [`${n}%${"x".repeat(597)}`]: 1 } })),
			422,
		],
		[
			"unknown fields",
			() => Array.from({ length: BOUNDS.batch }, (_, n) => ({ names: name, [`${n}${"x".repeat(597)}`]: 1 }) as object),
			422,
		],
		[
			"names that nobody configured",
			() =>
				Array.from({ length: BOUNDS.batch }, (_, n) => ({
					names: [0, 1].map((m) => `${m}-${n}-${"x".repeat(240)}`),
					strict: true,
				})),
			404,
		],
	])("problems are told in few words, however long what was sent: %s", async (_, made, expected) => {
		const requests = made();
		const answers = await outcomes(requests);
		expect(statuses(answers)).toEqual(Array(BOUNDS.batch).fill(expected));
		const words = answers
			.map(problemOf)
			.map(({ detail, errors = [] }) => [detail, ...errors.map(({ field }) => field)]);
		const each = words.flat().map(({ length }) => length);
		expect(Math.min(...words.map(([detail]) => detail?.length ?? 0))).toBeGreaterThanOrEqual(BOUNDS.batchWordsEach);
		expect(each.reduce((sum, length) => sum + length)).toBeLessThan(
			BOUNDS.batchWords + each.length * BOUNDS.batchWordsEach,
		);
		// The first ones whole.
		expect(words[0]?.[0]).toMatch(/\.$/);
		expect(JSON.stringify(answers).length).toBeLessThan(2 * JSON.stringify({ requests }).length);
	});

	test("nothing is taken by a batch that is refused as a whole", async () => {
		const limit = await newLimit({ limit: 200 });
		expectProblem(await batch(Array(BOUNDS.batch + 1).fill({ names: limit })), 422, "invalid");
		expect((await inspect(limit)).activeSlots).toBe(0);
		expect((await acquire({ names: limit })).status).toBe(200);
	});
});
