/** Callers that go or ask twice, and what holds of every decision: promises 10 and 11. */

import { describe, expect, test } from "vitest";
import type { Command } from "../../src/core/commands.ts";
import { decide } from "../../src/core/decide.ts";
import { createLimit, isIdle, type Limit, type Request } from "../../src/core/limit.ts";
import { AWAY_MS, REMEMBER_MS, REMEMBER_RECEIPT_MS, RESERVATION_MS } from "../../src/core/patience.ts";
import { open, RATE, scene } from "./scene.ts";

describe("promise 10: gone waiters take nothing", () => {
	scene("who waits no longer is denied", { limit: 1 })`
		0   acquire a          => granted a
		0   acquire b wait=500 => queued b at 1
		499 tick               => nothing
		500 tick               => denied b, retry 30000
		501 release a          => released a by caller
	`;
	scene("a wait of nothing ends at once", { limit: 1 })`
		0 acquire a        => granted a
		0 acquire b wait=0 => queued b at 1
		0 wake?            => 60000
		0 acquire b wait=0 => queued b at 1
		0 tick             => denied b, retry 30000
	`;
	scene("who went is passed at once and forgotten after a moment", { limit: 1 })`
		0    acquire a           => granted a
		0    acquire b wait=ever => queued b at 1
		5    detach b            => nothing
		${4 + AWAY_MS} tick        => nothing
		${5 + AWAY_MS} tick        => left b gone
		1006 release a           => released a by caller
	`;
	scene("who is away may be kept a moment longer, by whoever speaks for it", { limit: 1 })`
		0   acquire a           => granted a
		0   reserve b wait=ever => queued b at 1
		0   detach b            => nothing
		500 touch b             => nothing
		${499 + AWAY_MS} tick   => nothing
		${500 + AWAY_MS} tick   => left b gone
	`;
	scene("slots offered to who went go to the next in line", { limit: 1 })`
		0 acquire a           => granted a
		0 acquire b wait=ever => queued b at 1
		0 acquire c wait=ever => queued c at 2
		1 detach b            => nothing
		2 release a           => released a by caller, granted c after 2
	`;
	scene("a release before the request arrives calls it off", { limit: 1 })`
		0 release a           => released a x0 by caller
		1 acquire a wait=ever => id_in_use a
		1 used?               => 0
	`;
	scene("a release of a waiter takes it out of the line", { limit: 1 })`
		0 acquire a           => granted a
		0 acquire b wait=ever => queued b at 1
		1 release b           => left b cancelled, released b x0 by caller
		2 acquire b wait=ever => id_in_use b
	`;
	scene("who breaks off unheard while it waits may come back", { limit: 1 })`
		0 acquire a           => granted a
		0 acquire b wait=ever => queued b at 1
		0 acquire c wait=ever => queued c at 2
		1 unheard b           => released b x0 by unheard
		2 acquire b wait=ever => queued b at 1
	`;
});

describe("promise 11: ask twice, get once", () => {
	scene("the same id is the same lease", { limit: 2 })`
		0 acquire a => granted a
		5 acquire a => granted a again
		5 used?     => 1
	`;
	scene("the same id is the same place in line", { limit: 1 })`
		0 acquire x           => granted x
		0 acquire a wait=ever => queued a at 1
		0 acquire b wait=ever => queued b at 2
		5 acquire a wait=ever => queued a at 1
		6 release x           => released x by caller, granted a after 6
	`;
	scene("a waiter that asks again and will not wait leaves the line", { limit: 1 })`
		0 acquire x           => granted x
		0 acquire a wait=ever => queued a at 1
		1 acquire a           => denied a, retry 30000
		2 release x           => released x by caller
	`;
	scene("another request under a used id is refused, and changes nothing", { limit: 3 })`
		0 acquire a             => granted a
		1 acquire a print=other => id_in_use a
		1 reserve a             => id_in_use a
		1 acquire b x3 wait=ever => queued b at 1
		2 acquire b print=other => id_in_use b
		3 release a             => released a by caller, granted b x3 after 2
	`;
	scene("an id is remembered for 5 minutes after its lease", { limit: 1 })`
		0      acquire a       => granted a
		0      release a       => released a by caller
		${REMEMBER_MS - 1} acquire a => id_in_use a
		${REMEMBER_MS} acquire a     => granted a
	`;
	scene("an id that ends in this very moment is remembered already", { limit: 1 })`
		0    acquire a lease=1000 => granted a
		1000 acquire a            => released a by expiry, id_in_use a
	`;
	scene("a receipt is the same for 60 s, and then forgotten", RATE)`
		0     acquire a x4 rate             => granted a x4
		59999 acquire a x4 rate             => granted a x4 again
		59999 used?                         => 0
		59999 acquire a x4 rate print=other => id_in_use a
		60000 acquire a x4 rate             => granted a x4
	`;
	scene("a receipt of several names is the same too", RATE)`
		0    reserve a rate    => reserved a
		0    commit a          => granted a
		1    commit a          => granted a again
		3000 tick              => doubted a
		3000 resolve a yes      => nothing
		3001 reserve a rate    => granted a again
		3002 commit a          => granted a again
	`;
	scene("a receipt that its caller did not name is not kept", RATE)`
		0 acquire a rate once => granted a
		1 acquire a rate once => granted a
		1 used?               => 2
	`;
	scene("a repeated receipt says whether it was enforced", { limit: 1, active: false })`
		0 acquire a rate        => granted a unenforced
		1 acquire a rate        => granted a again unenforced
	`;
	scene("a commit repeated is the same lease", { limit: 1 })`
		0 reserve a => reserved a
		0 commit a  => granted a
		1 commit a  => granted a again
		1 used?     => 1
	`;
	scene("a reservation repeated is the same reservation", { limit: 2 })`
		0 reserve a => reserved a
		1 reserve a => reserved a
		1 used?     => 1
	`;
	scene("a restart does not forget ids", { limit: 2 })`
		0 acquire a => granted a
		0 acquire b => granted b
		0 release b => released b by caller
		1 restart   => nothing
		2 acquire a => granted a again
		2 acquire b => id_in_use b
	`;
});

test.each([
	["promise 5: a reservation lapses within", RESERVATION_MS, 10_000],
	["promise 10: who went is forgotten, once it was noticed, within", AWAY_MS, 2_000],
])("%s %d of %d ms", (_, is, most) => {
	expect(is).toBeLessThan(most);
});

test("promise 11: an id is remembered for 5 minutes, a receipt for 60 s", () => {
	expect([REMEMBER_MS, REMEMBER_RECEIPT_MS]).toEqual([5 * 60_000, 60_000]);
});

test("the same state, command and moment always give the same events", () => {
	const lines = [
		"0 acquire a x2 lease=900",
		"0 reserve b",
		"0 acquire c x3 wait=ever",
		"0 acquire d rate wait=700",
		"5 reserve e park wait=ever",
		"10 commit b",
		"20 detach c",
		"700 tick",
		"900 tick",
		"950 configure limit=2 decay=0.5",
		"3200 tick",
		"3300 close",
	];
	const tellAll = (): string => {
		const { run } = open({ limit: 4, slotDecayPerSecond: 0.3 });
		return lines.map(run).join("\n");
	};
	expect(tellAll()).toBe(tellAll());
});

test("a limit that goes idle leaves nothing behind", () => {
	const { subject, run } = open({ limit: 3, slotDecayPerSecond: 1 });
	for (const line of ["0 acquire a", "0 acquire b rate", "0 reserve c", "0 cancel c", "0 release a"]) run(line);
	expect(isIdle(subject.limit)).toBe(false);
	run("1000 tick");
	expect(isIdle(subject.limit)).toBe(true);
	expect(subject.decide({ kind: "tick" }, 1_000).wakeAt).toBe(null);
});

describe("nothing on the way of a plain acquire scans the leases", () => {
	const request = (id: string): Request => ({
		...{ id, slots: 1, mode: "concurrency", leaseMs: 60_000, waitMs: 0, ifBusy: "deny" },
		...{ holder: null, held: false, print: "", remember: false },
	});

	function filled(leases: number, slotDecayPerSecond: number): Limit {
		const limit = createLimit({ limit: 2 * leases, slotDecayPerSecond, active: true }, 0, () => undefined);
		for (let index = 0; index < leases; index += 1)
			decide(limit, { kind: "acquire", request: request(`r${index}`) }, 0);
		return limit;
	}

	test.each([0, 1e-6])("nobody looks at all of them (decay %s)", (decay) => {
		const limit = filled(100, decay);
		const scan = (): never => {
			throw new Error("All leases were looked at.");
		};
		Object.assign(limit.entries, { keys: scan, values: scan, entries: scan, forEach: scan, [Symbol.iterator]: scan });
		const commands: Command[] = [
			{ kind: "acquire", request: request("x") },
			{ kind: "renew", id: "x", leaseMs: 1_000 },
			{ kind: "release", id: "r50", by: "caller" },
			{ kind: "release", id: "x", by: "caller" },
			{ kind: "reserve", request: request("y") },
			{ kind: "commit", id: "y", peers: [] },
			{ kind: "acquire", request: { ...request("z"), slots: 200 } },
			{ kind: "configure", settings: { limit: 300 } },
			{ kind: "tick" },
		];
		for (const command of commands) expect(() => decide(limit, command, 1)).not.toThrow();
	});

	test.each([0, 1e-6])("10,000 leases cost about as much as 10 (decay %s)", (decay) => {
		const few = filled(10, decay);
		const many = filled(10_000, decay);
		let next = 0;
		const time = (limit: Limit): number => {
			const startedAt = performance.now();
			for (let index = 0; index < 500; index += 1) {
				const id = `x${next++}`;
				decide(limit, { kind: "acquire", request: request(id) }, 1);
				decide(limit, { kind: "release", id, by: "operator" }, 1);
			}
			return performance.now() - startedAt;
		};
		const rounds = Array.from({ length: 40 }, () => [time(few), time(many)] as const);
		const best = (index: 0 | 1): number => Math.min(...rounds.map((round) => round[index]));
		// A heap of 10,000 is ten levels deeper than one of 10; a scan would cost a thousand times as much.
		expect(best(1) / best(0)).toBeLessThan(30);
	});
});
