/** `enforce: false`: a limit that says what it would deny, and denies nothing. */

import { describe, expect, test } from "vitest";
import type { LimitHistory } from "../../src/protocol.ts";
import {
	acquire,
	call,
	configure,
	crash,
	expectProblem,
	granted,
	inspect,
	newId,
	newLimit,
	newName,
	newNames,
	patch,
	path,
	release,
	setPolicy,
} from "./support.ts";

describe("a limit that is not enforced", () => {
	test("grants what it would deny, says so, and counts it", async () => {
		const name = await newLimit({ limit: 1, enforce: false });
		const first = await granted({ names: name });
		expect(first.limits).toEqual([{ name, limit: 1, activeSlots: 1, remaining: 0, enforced: false }]);
		const second = await granted({ names: name, waitSeconds: 30 });
		expect(second.limits[0]).toMatchObject({ enforced: false, wouldDeny: true, activeSlots: 1 });
		expect(second.waitedSeconds).toBe(0);
		expect((await release(second)).body).toEqual({ released: 0 });
		expect(await inspect(name)).toMatchObject({
			...{ enforce: false, activeSlots: 1, leaseCount: 1 },
			totals: { grantedAtOnce: 1, wouldDeny: 1, denied: 0, released: 0 },
		});
		const { samples } = (await call<LimitHistory>("GET", `${path(name)}/history`)).body;
		expect(samples.reduce((sum, { wouldDeny }) => sum + wouldDeny, 0)).toBe(1);
	});

	test("answers the same id the same, also after a crash", async () => {
		const [name, id] = [await newLimit({ limit: 1, slotDecayPerSecond: 0.001, enforce: false }), newId()];
		await granted({ names: name, mode: "rate_limit" });
		for (let time = 0; time < 3; time += 1) {
			const { limits } = await granted({ names: name, mode: "rate_limit", id });
			expect(limits[0]).toMatchObject({ wouldDeny: true });
			if (time === 1) await crash(name);
		}
		expect((await inspect(name)).totals.wouldDeny).toBe(1);
	});

	test("among several names holds nobody up, and the others decide", async () => {
		const [watched = "", other = ""] = newNames(2);
		await configure(watched, { limit: 1, enforce: false });
		await configure(other, { limit: 2 });
		await granted({ names: watched });
		const { limits } = await granted({ names: [watched, other] });
		expect(limits.map(({ wouldDeny }) => wouldDeny)).toEqual(
			[watched, other].sort().map((name) => (name === watched ? true : undefined)),
		);
		await granted({ names: other });
		expectProblem(await acquire({ names: [watched, other] }), 429, "denied");
	});

	test("is checked as one that grants, and says that it would deny", async () => {
		const name = await newLimit({ limit: 1, enforce: false });
		await granted({ names: name });
		const { body } = await call("POST", "/v1/check", { names: name });
		expect(body).toMatchObject({ allowed: true, limits: [{ wouldDeny: true, enforced: false }] });
	});

	test("is told to watch and to enforce by PATCH, and PUT without a word enforces", async () => {
		const name = await newLimit({ limit: 1 });
		await granted({ names: name });
		expectProblem(await acquire({ names: name }), 429, "denied");
		expect((await patch(name, { enforce: false })).body.enforce).toBe(false);
		await granted({ names: name });
		expect((await configure(name, { limit: 1 })).enforce).toBe(true);
		expectProblem(await acquire({ names: name }), 429, "denied");
	});

	test("may be every key of a policy", async () => {
		const family = newName();
		await setPolicy(`${family}:*`, { limit: 1, slotDecayPerSecond: 0.001, enforce: false });
		for (const would of [undefined, true]) {
			const { limits } = await granted({ names: `${family}:a`, mode: "rate_limit" });
			expect(limits[0]?.wouldDeny).toBe(would);
		}
	});

	test("leaves itself out of the headers, which would promise what it does not keep", async () => {
		const name = await newLimit({ limit: 1, enforce: false });
		expect((await acquire({ names: name })).headers.get("RateLimit")).toBeNull();
	});

	test.each(["no", 0, null])("enforce: %j is refused", async (enforce) => {
		const answer = await call("PUT", path(newName()), { limit: 1, enforce });
		expect(expectProblem(answer, 422, "invalid").errors?.[0]?.field).toBe("enforce");
	});
});
