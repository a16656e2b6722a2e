import { testGate } from "headgate/testing";
import { expect, test } from "vitest";
import worker, { type Env } from "./worker.ts";

test("two query at once; who waits for five seconds is told to come back", async () => {
	const { gate, clock, limits } = testGate();
	// What `using` gives back over a binding, `await using` does in the library.
	const concurrency = async (...asked: Parameters<typeof gate.acquire>) => {
		const lease = await gate.acquire(...asked);
		return Object.assign(lease, { [Symbol.dispose]: () => void lease.release() });
	};
	const env = { LIMITS: { concurrency, configure: gate.configure.bind(gate) } } as unknown as Env;
	const get = (path = "/") => worker.fetch(new Request(`http://localhost${path}`), env);

	expect((await get("/setup")).status).toBe(200);
	expect(await Promise.all([get(), get()].map(async (answer) => (await answer).json()))).toEqual([
		...[1, 2].map(() => ({ rows: "42 rows", waitedSeconds: 0 })),
	]);
	await clock.advance(0);
	expect(limits.get("database")?.activeSlots).toBe(0);

	await gate.acquire("database", { occupy: 2 });
	const late = get();
	await clock.advance(4_999);
	expect(limits.get("database")?.waitingCount).toBe(1);
	await clock.advance(1);
	expect([(await late).status, (await late).headers.get("Retry-After")]).toEqual([503, "5"]);
});
