/** Objects that restart at any moment, under callers of every kind: what is held never exceeds what there is. */

import { expect, test } from "vitest";
import { Random } from "../core/random.ts";
import {
	acquire,
	call,
	crash,
	granted,
	inspect,
	newId,
	newLimits,
	open,
	openQueued,
	path,
	release,
	until,
	untilActive,
	untilWaiting,
} from "./support.ts";

const LIMITS = [2, 3, 2, 4];
const WORKERS = 12;
const RUN_MS = 5_000;
const CRASH_EVERY_MS = 200;

test("promise 1: through crashes, no limit is exceeded, no request is stuck, and all comes back", async () => {
	const seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;
	console.log(`crashes: seed ${seed}`);
	const names = await newLimits(...LIMITS);
	const limitOf = new Map(names.map((name, index) => [name, LIMITS[index] as number]));
	const held = new Map(names.map((name) => [name, 0]));
	const faults: string[] = [];
	const outcomes = new Map<string, number>();
	const endsAt = Date.now() + RUN_MS;
	const running = () => Date.now() < endsAt;
	const count = (outcome: string) => outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);

	/** Notes what a caller was told that it holds, until it says that it gives it back. */
	const note = (slots: Record<string, number>, sign: 1 | -1) => {
		for (const [name, number] of Object.entries(slots)) {
			const now = (held.get(name) ?? 0) + sign * number;
			held.set(name, now);
			if (now > (limitOf.get(name) ?? 0)) faults.push(`callers hold ${now} of ${limitOf.get(name)}`);
		}
	};

	const byCall = async (random: Random, asked: Record<string, number>) => {
		const answer = await acquire({ names: asked, waitSeconds: random.pick([0, 0, 2]), leaseSeconds: 5 });
		count(answer.status === 200 ? "granted" : answer.body.code);
		if (answer.status !== 200) {
			if (![429, 503].includes(answer.status)) faults.push(JSON.stringify(answer.body));
			return;
		}
		note(answer.body.names, 1);
		await scheduler.wait(random.int(0, 50));
		note(answer.body.names, -1);
		// What one limit could not be told, its lease gives back in time.
		const { status } = await release(answer.body);
		if (![200, 503].includes(status)) faults.push(`release was answered ${status}`);
	};

	const byStream = async (random: Random, asked: Record<string, number>) => {
		const hold = random.chance(0.5);
		const id = newId();
		const answer = await open({ names: asked, id, hold, waitSeconds: 2, leaseSeconds: 5 }).catch(() => null);
		if (!answer) return count("not opened");
		await until(() => answer.lease !== null || answer.problem !== null || answer.state !== "open", "a verdict");
		count(answer.lease ? "granted over a stream" : (answer.problem?.code ?? "broken"));
		if (answer.problem && ![429, 503].includes(answer.problem.status)) faults.push(JSON.stringify(answer.problem));
		await scheduler.wait(random.int(0, 50));
		if (hold || !answer.lease) await answer.leave();
		else await release({ id, names: asked });
	};

	const work = async (random: Random) => {
		while (running()) {
			const wanted = names.filter(() => random.chance(0.5));
			const asked = Object.fromEntries(wanted.map((name) => [name, random.int(1, 2)]));
			if (wanted.length > 0) await (random.chance(0.7) ? byCall : byStream)(random, asked);
		}
	};

	const crashAll = async (random: Random) => {
		while (running()) {
			await scheduler.wait(CRASH_EVERY_MS);
			await crash(random.pick(names));
		}
	};

	const watch = async () => {
		while (running()) {
			for (const name of names) {
				const { status, body } = await call<{ activeSlots: number; limit: number }>("GET", path(name));
				if (status === 200 && body.activeSlots > body.limit) faults.push(`${body.activeSlots} of ${body.limit} in use`);
			}
			await scheduler.wait(10);
		}
	};

	const workers = Array.from({ length: WORKERS }, (_, index) => work(new Random(seed + index)));
	await Promise.all([...workers, crashAll(new Random(seed - 1)), watch()]);
	expect(faults, JSON.stringify([...outcomes])).toEqual([]);
	expect([...outcomes.keys()]).toEqual(expect.arrayContaining(["granted", "granted over a stream", "denied"]));
	for (const name of names) {
		await untilWaiting(name, 0);
		await untilActive(name, 0);
	}
});

test("a call that waits for several names survives the restart of one of them, or is told to come back", async () => {
	const [a, b] = (await newLimits(1, 1)) as [string, string];
	const lease = await granted({ names: b });
	const waiting = acquire({ names: [a, b], waitSeconds: 10 });
	await untilWaiting(b, 1);
	await crash(b);
	await release(lease);
	const { status, body, headers } = await waiting;
	expect([200, 503], JSON.stringify(body)).toContain(status);
	if (status === 503) expect(headers.get("Retry-After")).toMatch(/^\d+$/);
	else await release(body);
	for (const name of [a, b]) await untilActive(name, 0);
});

test("promise 11: a waiter that comes back after the restart of every object has its old place", async () => {
	const [a, b] = (await newLimits(1, 1)) as [string, string];
	const lease = await granted({ names: [a, b] });
	const ids = [newId(), newId()];
	const before = [];
	for (const id of ids) before.push(await openQueued({ names: [a, b], id }));
	await Promise.all([crash(a), crash(b)]);
	await Promise.all(before.map((stream) => stream.leave()));
	const back = [];
	for (const id of [...ids].reverse()) back.unshift(await openQueued({ names: [a, b], id }));
	await release(lease);
	const first = await back[0]?.granted();
	expect(first?.id).toBe(ids[0]);
	expect(back[1]?.lease).toBeNull();
	await release(first as object);
	expect((await back[1]?.granted())?.id).toBe(ids[1]);
	expect((await inspect(a)).activeSlots).toBe(1);
});
