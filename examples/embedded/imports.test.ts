import { testGate } from "headgate/testing";
import { expect, test } from "vitest";
import { importOnce, LIMITS } from "./imports.ts";

test("imports take turns, and who waits for too long is told", async () => {
	const { gate, clock, limits } = testGate({ limits: LIMITS });
	const done: (() => void)[] = [];
	const work = () => new Promise<void>((resolve) => done.push(resolve));
	const first = importOnce(gate, work);
	const second = importOnce(gate, work);
	await clock.advance(1_999);
	expect(limits.get("import")).toMatchObject({ activeSlots: 1, waitingCount: 1 });
	await clock.advance(1);
	expect((await second).status).toBe(503);
	done[0]?.();
	expect(await (await first).json()).toEqual({ imported: true, mailed: true });
	expect(limits.get("import")?.activeSlots).toBe(0);
});

test("the fourth import of a minute is made, and its mail is not sent", async () => {
	const { gate, clock } = testGate({ limits: LIMITS });
	const once = async () => (await importOnce(gate, async () => undefined)).json();
	for (const mailed of [true, true, true, false]) expect(await once()).toEqual({ imported: true, mailed });
	await clock.advance(20_000);
	expect(await once()).toEqual({ imported: true, mailed: true });
});
