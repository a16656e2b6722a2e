/** Limits with a window, over HTTP and on disk. */

import { evictDurableObject } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import type { Policy } from "../../src/protocol.ts";
import {
	acquire,
	call,
	configure,
	expectProblem,
	granted,
	inspect,
	limitObject,
	newLimit,
	newName,
	patch,
	path,
	removePolicy,
	setPolicy,
	stopClock,
} from "./support.ts";

const MINUTE_MS = 60_000;

/** Stops the clock at the beginning of a minute. */
function atTheMinute() {
	const clock = stopClock();
	clock.pass(MINUTE_MS - (Date.now() % MINUTE_MS));
	return clock;
}

const take = (names: string, more = {}) => acquire({ names, mode: "rate_limit", ...more });

describe("a window of the calendar", () => {
	test("is shown with what was left out, and says when it resets", async () => {
		atTheMinute();
		const name = newName();
		const body = await configure(name, { limit: 2, window: { every: "month", timeZone: "Europe/Berlin" } });
		const window = { every: "month", timeZone: "Europe/Berlin", at: "00:00", startsOn: 1, sliding: false };
		expect(body).toMatchObject({ limit: 2, slotDecayPerSecond: 0, window });
		expect(new Date(body.resetsAt ?? "").getTime()).toBeGreaterThan(Date.now());
		expect(await inspect(name)).toMatchObject({ window });
	});

	test("gives so many slots in each period, and says how long until the next", async () => {
		const clock = atTheMinute();
		const name = await newLimit({ limit: 3, window: { every: "minute" } });
		const { body, headers } = await take(name, { occupy: 2 });
		const resetsAt = new Date(Date.now() + MINUTE_MS).toISOString();
		expect(body.limits).toMatchObject([{ windowSeconds: 60, resetsAt, nextSlotSeconds: 60, remaining: 1 }]);
		expect(headers.get("RateLimit-Policy")).toBe(`"${name}";q=3;w=60`);
		expect(headers.get("RateLimit")).toBe(`"${name}";r=1;t=60`);
		clock.pass(15_000);
		const denied = await take(name, { occupy: 2 });
		expectProblem(denied, 429, "denied");
		expect(denied.body).toMatchObject({ retryAfterSeconds: 45, limits: [{ nextSlotSeconds: 45 }] });
		clock.pass(44_999);
		expectProblem(await take(name, { occupy: 2 }), 429, "denied");
		clock.pass(1);
		await granted({ names: name, occupy: 3, mode: "rate_limit" });
	});

	test("is remembered when its object leaves memory, and over the end of a period", async () => {
		const clock = atTheMinute();
		const name = await newLimit({ limit: 2, window: { every: "minute" } });
		await granted({ names: name, mode: "rate_limit" });
		await evictDurableObject(limitObject(name));
		expect((await inspect(name)).activeSlots).toBe(1);
		clock.pass(MINUTE_MS);
		await evictDurableObject(limitObject(name));
		expect((await inspect(name)).activeSlots).toBe(0);
		await granted({ names: name, occupy: 2, mode: "rate_limit" });
	});

	test("is no lease's: its slots are taken by rate, also beside those that are held", async () => {
		const name = await newLimit({ limit: 2, window: { every: "day" } });
		const held = await newLimit({ limit: 1 });
		const { body } = await acquire({ names: name });
		expect(body).toMatchObject({ status: 422, code: "no_lease" });
		expect(await granted({ names: held, rate: name })).toMatchObject({ names: { [held]: 1 }, rate: { [name]: 1 } });
	});

	test("takes the place of decay, and decay that of a window; neither gives fresh slots", async () => {
		const name = await newLimit({ limit: 3, slotDecayPerSecond: 0.001 });
		await granted({ names: name, occupy: 3, mode: "rate_limit" });
		expect((await patch(name, { window: { every: "day" } })).body).toMatchObject({
			...{ slotDecayPerSecond: 0, window: { every: "day" }, activeSlots: 3 },
		});
		const { body } = await patch(name, { slotDecayPerSecond: 0.001 });
		expect(body).toMatchObject({ slotDecayPerSecond: 0.001, activeSlots: 3 });
		expect(body).not.toHaveProperty("window");
		await patch(name, { window: { every: "day" } });
		expect(await configure(name, { limit: 3 })).not.toHaveProperty("window");
	});

	test("that is taken away, with nothing in its place, leaves nothing in use that would never come back", async () => {
		const name = await newLimit({ limit: 3, window: { every: "day" } });
		await take(name, { occupy: 3 });
		expect((await patch(name, { window: null })).body).toMatchObject({ slotDecayPerSecond: 0, activeSlots: 0 });
		expect((await granted({ names: name, occupy: 3 })).names).toEqual({ [name]: 3 });
	});

	test("may be that of a policy, and changes with it", async () => {
		const prefix = newName();
		const { body } = await setPolicy(`${prefix}*`, { limit: 1, window: { every: 3_600, sliding: true } });
		expect((body as Policy).window).toMatchObject({ every: 3_600, sliding: true });
		const key = `${prefix}key`;
		await granted({ names: key, mode: "rate_limit" });
		expectProblem(await take(key), 429, "denied");
		expect(await inspect(key)).toMatchObject({ origin: "policy", window: { every: 3_600, sliding: true } });
		await removePolicy(`${prefix}*`);
	});
});

describe("a sliding window", () => {
	test("gives each slot back so long after it was taken, from its row too", async () => {
		const clock = stopClock();
		const name = await newLimit({ limit: 2, window: { every: 10, sliding: true } });
		await granted({ names: name, mode: "rate_limit" });
		clock.pass(4_000);
		const { body, headers } = await take(name);
		expect(body.limits).toMatchObject([{ windowSeconds: 10, nextSlotSeconds: 6, remaining: 0 }]);
		expect(headers.get("RateLimit-Policy")).toBe(`"${name}";q=2;w=10`);
		await evictDurableObject(limitObject(name));
		expect((await take(name)).body).toMatchObject({ status: 429, retryAfterSeconds: 6 });
		clock.pass(6_000);
		await granted({ names: name, mode: "rate_limit" });
		expect((await take(name)).body).toMatchObject({ status: 429, retryAfterSeconds: 4 });
	});

	test("denies from memory what it denied, until a slot comes back", async () => {
		const clock = stopClock();
		const name = await newLimit({ limit: 1, window: { every: 10, sliding: true } });
		await granted({ names: name, mode: "rate_limit" });
		clock.pass(9_500);
		expect((await take(name)).body.retryAfterSeconds).toBe(0.5);
		clock.pass(300);
		expect((await take(name)).body).toMatchObject({ retryAfterSeconds: 0.2, limits: [{ nextSlotSeconds: 0.2 }] });
		clock.pass(200);
		await granted({ names: name, mode: "rate_limit" });
	});
});

test.each<[Record<string, unknown>, string, string]>([
	[{ every: "fortnight" }, "window.every", "one of minute, hour, day, week, month, year, or whole seconds"],
	[{ every: 0 }, "window.every", "whole seconds from 1 to 31536000"],
	[{ every: 1.5 }, "window.every", "whole seconds"],
	[{ every: "day", timeZone: "Europe/Berlni" }, "window.timeZone", "the nearest are Europe/Berlin"],
	[{ every: "day", timeZone: "berlin" }, "window.timeZone", "the nearest are Europe/Berlin"],
	[{ every: "day", timeZone: "+02:00" }, "window.timeZone", "there is no such zone"],
	[{ every: "day", at: "25:00" }, "window.at", "a time of day from 00:00 to 23:59"],
	[{ every: "hour", timeZone: "Europe/Berlin" }, "window.timeZone", "only for periods of days and longer"],
	[{ every: 60, at: "09:00" }, "window.at", "only for periods of days and longer"],
	[{ every: "day", startsOn: "monday" }, "window.startsOn", "on every day"],
	[{ every: "week", startsOn: 3 }, "window.startsOn", "a week starts on one of monday"],
	[{ every: "month", startsOn: 32 }, "window.startsOn", "a day of the month from 1 to 31"],
	[{ every: "month", startsOn: "monday" }, "window.startsOn", "a month starts on a number"],
	[{ every: "year", startsOn: "02-30" }, "window.startsOn", "02 has at most 29 days"],
	[{ every: "month", sliding: true }, "window.sliding", "has no one length"],
	[{ every: "day", sliding: true, timeZone: "Europe/Berlin" }, "window.timeZone", "sliding windows have no calendar"],
	[{ every: "day", unit: 1 }, "window.unit", "no such field"],
])("a window %j is refused: %s", async (window, field, why) => {
	const answer = await call("PUT", path(newName()), { limit: 1, window });
	expectProblem(answer, 422, "invalid");
	const { errors } = answer.body as { errors: { field: string; message: string }[] };
	expect(errors).toEqual([{ field, message: expect.stringContaining(why) }]);
});

test("a window and decay are refused together", async () => {
	const answer = await call("PUT", path(newName()), { limit: 1, slotDecayPerSecond: 1, window: { every: "day" } });
	expectProblem(answer, 422, "invalid");
});
