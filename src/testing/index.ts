/**
 * Tests of your own code without a server: `testGate()` is the library, over the service's own core, in memory, with time in
 * the hand of the test.
 */

import { Headgate } from "../client/index.ts";
import type { Given, LimitInfo, PolicySettings } from "../protocol.ts";
import * as requests from "../server/front/requests.ts";
import { Clock, type Tick } from "./clock.ts";
import { MemoryService } from "./service.ts";

export * from "../client/index.ts";
export type { Tick } from "./clock.ts";

/** Settings of a limit; a number is its slots, which come back by release alone. */
export type TestSettings = number | Given<PolicySettings>;

export interface TestGateOptions {
	/** Limits to begin with, by name; a name with a closing `*` is a policy. */
	limits?: Record<string, TestSettings>;
	/**
	 * Passes the time of your test framework's fake timers: `(ms) => vi.advanceTimersByTimeAsync(ms)`,
	 * `(ms) => jest.advanceTimersByTimeAsync(ms)`, `(ms) => mock.timers.tick(ms)`. Then the gate lives by those timers, and
	 * `clock.advance` passes them along. Without it the gate has a clock of its own, which stands still.
	 */
	tick?: Tick;
}

/** The limits of a test gate, set and looked at without a promise. */
export interface TestLimits {
	/** Creates a limit, or replaces its settings; with a closing `*`, a policy. */
	set(name: string, settings: TestSettings): void;
	/** How a limit is now. Undefined: there is none. */
	get(name: string): LimitInfo | undefined;
}

export interface TestGate {
	/** The library, as your code is given it. */
	gate: Headgate;
	/** Time in your hand. All test gates of a process live by the clock of the last one that was made. */
	clock: Pick<Clock, "now" | "advance">;
	limits: TestLimits;
}

/**
 * A gate for tests: no server, no network, no waiting.
 *
 * @example
 * import { testGate } from "headgate/testing";
 *
 * const { gate, clock, limits } = testGate({ limits: { database: 1 } });
 * await gate.acquire("database", { holder: "the other" });
 * const waits = gate.concurrency("database", { timeoutSeconds: 3_600 }, async () => "done");
 * await clock.advance(3_599_000);
 * console.log(limits.get("database")?.waitingCount); // 1
 */
export function testGate({ limits: given = {}, tick }: TestGateOptions = {}): TestGate {
	const clock = new Clock(tick ?? null);
	const service = new MemoryService(clock);
	const gate = new Headgate({ binding: service, onUnconfigured: () => undefined });
	const limits: TestLimits = {
		set(name, settings) {
			const body = typeof settings === "number" ? { limit: settings } : settings;
			if (name.endsWith("*")) service.configurePolicy(name, accepted(name, requests.parsePolicy(body)));
			else service.configure(name, accepted(name, requests.parseSettings(body)));
		},
		get: (name) => service.limit(name)?.info(),
	};
	for (const [name, settings] of Object.entries(given)) limits.set(name, settings);
	return { gate, clock, limits };
}

function accepted<T>(name: string, parsed: requests.Parsed<T>): T {
	if (parsed.ok) return parsed.value;
	throw new TypeError(`The settings of "${name}": ${parsed.fault.detail}`);
}
