/** Slots without a lease, and what is kept about callers that poll. */

import { describe, expect, test } from "vitest";
import type { Command } from "../../src/core/commands.ts";
import type { Request, Settings } from "../../src/core/limit.ts";
import { deniedSlots } from "../../src/core/polling.ts";
import { saveLimit } from "../../src/core/saved.ts";
import { play } from "./script.ts";
import { Subject } from "./subject.ts";

const scene = (settings: Partial<Settings>, lines: string): void => {
	const { said, happened } = play(settings, lines);
	expect(happened).toBe(said);
};

describe("slots without a lease", () => {
	test("come back without one, and free the line", () => {
		scene(
			{ limit: 2 },
			`
			0    acquire a x2 loose    => granted a x2
			10   acquire b wait=500    => queued b at 1
			20   back x1               => configured, granted b after 10
			30   used?                 => 2
			`,
		);
	});

	test("F22: a give-back without a lease takes nothing from anybody's lease", () => {
		scene(
			{ limit: 2 },
			`
			0    acquire a             => granted a
			0    acquire b loose       => granted b
			10   back x9               => configured
			20   used?                 => 1
			20   back x1               => configured
			20   used?                 => 1
			`,
		);
	});

	test("of several names come back before the other limits have answered", () => {
		scene(
			{ limit: 1 },
			`
			0    reserve a loose       => reserved a
			0    commit a              => granted a
			10   back x1               => configured
			20   used?                 => 0
			3500 tick                  => nothing
			`,
		);
	});

	test("of several names stay taken once they have", () => {
		scene(
			{ limit: 1 },
			`
			0     reserve a loose      => reserved a
			0     commit a             => granted a
			3000  tick                 => doubted a
			3100  resolve a yes         => nothing
			99000 used?                => 1
			99000 restart              => nothing
			99001 used?                => 1
			`,
		);
	});

	test("F21: on a limit that decays they come back by decay alone, and not once more", () => {
		scene(
			{ limit: 1, slotDecayPerSecond: 1 },
			`
			0    acquire a loose       => granted a
			1000 acquire b loose       => granted b
			1100 back x1               => configured
			1100 used?                 => 1
			`,
		);
	});
});

describe("callers that poll", () => {
	const request = (id: string, slots = 1): Command => ({
		kind: "acquire",
		request: {
			...{ id, slots, mode: "concurrency", leaseMs: 60_000, waitMs: 0, ifBusy: "deny", holder: null },
			...{ held: false, print: "", remember: false },
		} satisfies Request,
	});
	const limit = (settings: Partial<Settings>): Subject =>
		new Subject({ limit: 1, slotDecayPerSecond: 0, active: true, ...settings }, 0);

	test("F2: denials are counted, sink at the rate of decay, and outlive a restart", () => {
		const subject = limit({ slotDecayPerSecond: 0.5 });
		subject.decide(request("a"), 0);
		for (let index = 0; index < 25; index += 1) subject.decide(request(`b${index}`), 0);
		expect(deniedSlots(subject.limit)).toBe(25);
		subject.decide({ kind: "configure", settings: {} }, 1_000);
		expect(deniedSlots(subject.limit)).toBe(24.5);
		subject.restart(1_000);
		expect(deniedSlots(subject.limit)).toBe(24.5);
	});

	test("whoever is granted is no longer waited for", () => {
		const subject = limit({ limit: 2 });
		subject.decide(request("a", 2), 0);
		subject.decide(request("b"), 0);
		subject.decide({ kind: "release", id: "a", by: "caller" }, 0);
		subject.decide(request("c"), 0);
		expect(deniedSlots(subject.limit)).toBe(0);
	});

	test("without decay the count sinks by a slot in the mean time that one is held", () => {
		const subject = limit({});
		subject.decide({ kind: "configure", deniedSlots: 10 }, 0);
		subject.decide({ kind: "tick" }, 2_000);
		expect(deniedSlots(subject.limit)).toBe(9);
	});

	test("the mean time that a slot is held follows Prefect's formula: 2 s, then 4 s, then 3.05 s", () => {
		const subject = limit({});
		const averageMs = (): number => subject.limit.polling.averageHeldMs;
		expect(averageMs()).toBe(2_000);
		subject.decide(request("a"), 0);
		subject.decide({ kind: "release", id: "a", by: "caller" }, 6_000);
		expect(averageMs()).toBe(4_000);
		subject.decide({ kind: "takeBack", slots: 1, heldMs: 2_100 }, 7_000);
		expect(averageMs()).toBe(3_050);
	});

	test("F35: a lease that expired says nothing about how long work takes", () => {
		const subject = limit({});
		subject.decide(request("a"), 0);
		subject.decide({ kind: "tick" }, 60_000);
		expect(subject.limit.entries.size).toBe(0);
		expect(subject.limit.polling.averageHeldMs).toBe(2_000);
	});

	test("F19: a limit of 0 learns nothing, and divides nothing by 0", () => {
		const subject = limit({});
		subject.decide(request("a"), 0);
		subject.decide({ kind: "configure", settings: { limit: 0 } }, 10);
		const { events } = subject.decide({ kind: "release", id: "a", by: "caller" }, 5_000);
		expect(events).toContainEqual({ kind: "released", id: "a", slots: 1, by: "caller" });
		expect(subject.limit.polling.averageHeldMs).toBe(2_000);
	});

	test("what was stored before they were counted is read", () => {
		const subject = limit({});
		const { polling: _, ...older } = saveLimit(subject.limit);
		expect(JSON.stringify(older)).not.toContain("polling");
		expect(subject.rebuilt(0, JSON.stringify(older)).polling).toEqual({ denied: 0, at: 0, averageHeldMs: 2_000 });
	});
});
