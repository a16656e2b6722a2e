/** Scenes as tests, and limits that a test plays line by line. */

import { expect, test } from "vitest";
import type { Limit, Settings } from "../../src/core/limit.ts";
import { waiters } from "../../src/core/line.ts";
import { saveEntry, saveLimit } from "../../src/core/saved.ts";
import { happen, play } from "./script.ts";
import { Subject } from "./subject.ts";

/** A test of one scene: what is said to happen is what happens. */
export const scene =
	(name: string, settings: Partial<Settings>) =>
	(lines: TemplateStringsArray, ...values: unknown[]): void =>
		test(name, () => {
			const { said, happened } = play(settings, String.raw(lines, ...values));
			expect(happened).toBe(said);
		});

export const RATE = { limit: 10, slotDecayPerSecond: 1 };

/** A limit that is played line by line. */
export function open(settings: Partial<Settings>): { subject: Subject; run: (line: string) => string } {
	const subject = new Subject({ limit: 1, slotDecayPerSecond: 0, active: true, ...settings }, 0);
	return {
		subject,
		run(line) {
			const [at, ...words] = line.trim().split(/\s+/);
			return happen(subject, words.join(" "), Number(at));
		},
	};
}

/** All but the clock and the counters. */
export function everything(limit: Limit): string {
	const { totals: _, clock: __, polling: ___, ...saved } = saveLimit(limit);
	return JSON.stringify([
		saved,
		[...limit.entries.values()].map((entry) => saveEntry(limit, entry)),
		waiters(limit).map(({ id }) => id),
	]);
}
