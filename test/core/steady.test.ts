/** What a denial from a Worker's memory rests on, and what the limit learns of it. */

import { describe, expect, test } from "vitest";
import type { Command } from "../../src/core/commands.ts";
import { decide } from "../../src/core/decide.ts";
import { steadyMs } from "../../src/core/forecast.ts";
import { createLimit, type Request } from "../../src/core/limit.ts";
import { DOUBT_MS, RESERVATION_MS } from "../../src/core/patience.ts";
import { saveLimit } from "../../src/core/saved.ts";
import { Subject } from "./subject.ts";

const ask = (id: string, more: Partial<Request> = {}): Request => ({
	...{ id, slots: 1, mode: "concurrency", leaseMs: 60_000, waitMs: 0, ifBusy: "deny", holder: null, held: false },
	...{ print: "", remember: false, ...more },
});

test("denials that were given elsewhere in its name are counted, and change nothing else", () => {
	const limit = createLimit({ limit: 1, slotDecayPerSecond: 1, active: true }, 0, () => undefined);
	decide(limit, { kind: "acquire", request: ask("a") }, 0);
	const before = structuredClone(saveLimit(limit));
	expect(decide(limit, { kind: "absorbed", denials: 7 }, 0).events).toEqual([]);
	expect(limit.totals.denied).toBe(7);
	expect({ ...saveLimit(limit), totals: before.totals }).toEqual(before);
});

describe("how long nothing but decay gives slots back", () => {
	const settings = { limit: 5, slotDecayPerSecond: 1, active: true };
	const steadyAfter = (...commands: Command[]): number => {
		const subject = new Subject(settings, 0);
		for (const command of commands) subject.decide(command, 0);
		const steady = steadyMs(subject.limit, 60_000);
		// And the same after a restart, but for a reservation: that is lost.
		const lost = subject.limit.sums.reserved > 0;
		subject.restart(0);
		expect(steadyMs(subject.limit, 60_000)).toBe(lost ? 60_000 : steady);
		return steady;
	};
	const acquire = (more: Partial<Request>): Command => ({ kind: "acquire", request: ask(more.id ?? "a", more) });

	test("for ever, when all of it was taken by rate", () => {
		expect(steadyAfter(acquire({ mode: "rate_limit", slots: 5 }))).toBe(60_000);
	});
	test("until the first reservation lapses, or a request of several names is asked about", () => {
		const first: Command = { kind: "reserve", request: ask("a", { mode: "rate_limit" }) };
		expect(steadyAfter(first)).toBe(RESERVATION_MS);
		expect(steadyAfter(first, { kind: "commit", id: "a", peers: ["other"] })).toBe(DOUBT_MS);
	});
	test("not at all, with somebody in line or a lease that may be given back", () => {
		expect(steadyAfter(acquire({}))).toBe(0);
		expect(steadyAfter(acquire({ held: true }))).toBe(0);
		expect(steadyAfter(acquire({ slots: 5 }), acquire({ id: "b", ifBusy: "wait", waitMs: 1_000 }))).toBe(0);
	});
	test("and again, once that lease was given back", () => {
		expect(steadyAfter(acquire({}), { kind: "release", id: "a", by: "caller" })).toBe(60_000);
	});
	test("not at all without decay, or switched off", () => {
		for (const change of [{ slotDecayPerSecond: 0 }, { active: false }]) {
			expect(steadyAfter({ kind: "configure", settings: change })).toBe(0);
		}
	});
});
