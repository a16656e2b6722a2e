/** Pauses, and the fences of leases. */

import { describe, expect, test } from "vitest";
import { isIdle, wallClock } from "../../src/core/limit.ts";
import { open, RATE, scene } from "./scene.ts";

describe("a pause", () => {
	scene("grants nothing until its end, and then the line in its order, in one turn", { limit: 3 })`
		0    pause 1000           => configured
		0    acquire a            => denied a, retry 1000
		1    acquire b wait=5000  => queued b at 1
		2    acquire c x2 wait=ever => queued c at 2
		3    acquire d wait=ever  => queued d at 3
		4    wake?                => 1000
		999  tick                 => nothing
		1000 tick                 => granted b after 999, granted c x2 after 998
	`;
	scene("leaves leases as they are: they are renewed, given back, and end", { limit: 2 })`
		0    acquire a lease=500  => granted a
		0    acquire b            => granted b
		1    pause 10000          => configured
		2    renew b 9000         => renewed b to 9002
		3    acquire w wait=ever  => queued w at 1
		500  tick                 => released a by expiry
		600  release b            => released b by caller
		10001 tick                => granted w after 9998
	`;
	scene("is as long as the longest that was asked for", { limit: 1 })`
		0    pause 5000  => configured
		100  pause 1000  => configured
		200  acquire a   => denied a, retry 4800
		300  pause 10000 => configured
		300  acquire a   => denied a, retry 10000
	`;
	scene("of 0 ends it, and the line is served in that turn", { limit: 1 })`
		0  pause 5000          => configured
		1  acquire a wait=ever => queued a at 1
		2  pause 0             => configured, granted a after 1
	`;
	scene("lets a waiter give up at its own time", { limit: 1 })`
		0   pause 5000        => configured
		0   acquire a wait=50 => queued a at 1
		50  tick              => denied a, retry 4950
	`;
	scene("is part of the announced moment where slots decay", RATE)`
		0    acquire a x10 rate => granted a x10
		0    pause 2000         => configured
		0    acquire b rate     => denied b, retry 2000
		0    acquire c x5 rate  => denied c, retry 5000
		2000 acquire b rate     => granted b
	`;
	scene("commits what was set aside before it", { limit: 1 })`
		0 reserve a  => reserved a
		1 pause 5000 => configured
		2 commit a   => granted a
		3 reserve b  => denied b, retry 4998
	`;
	scene("survives a restart and a clock that jumps back", { limit: 1 })`
		5000 pause 1000          => configured
		5001 acquire a wait=ever => queued a at 1
		5002 restart             => nothing
		4002 acquire a wait=ever => queued a at 1
		5000 tick                => nothing
		5001 tick                => granted a after 999
	`;
	scene("holds nothing back of a limit that is switched off", { limit: 1, active: false })`
		0 pause 5000           => configured
		0 acquire a            => granted a unenforced
		0 configure active=yes => configured
		1 acquire b            => denied b, retry 4999
	`;

	test("keeps a limit that is otherwise empty", () => {
		const { subject, run } = open({});
		run("0 pause 1000");
		expect(isIdle(subject.limit)).toBe(false);
		run("1000 tick");
		expect(isIdle(subject.limit)).toBe(true);
	});
	test("is shown by the caller's clock", () => {
		const { subject, run } = open({});
		run("5000 tick");
		run("1000 pause 1000");
		expect(wallClock(subject.limit, subject.limit.pausedUntil)).toBe(2000);
	});
});

describe("a fence", () => {
	const fences = (run: (line: string) => string, subject: ReturnType<typeof open>["subject"], lines: string[]) =>
		lines.map((line) => {
			run(line);
			return subject.limit.entries.get(line.split(" ")[2] ?? "")?.fence;
		});

	test("rises with every lease, whatever became of the one before, and stays through its renewals", () => {
		const { subject, run } = open({ limit: 5 });
		const given = fences(run, subject, ["0 acquire a", "0 acquire b", "0 renew a 5000", "0 acquire a"]);
		expect(given).toEqual([1, 2, 1, 1]);
		run("0 release b");
		run("0 restart");
		expect(fences(run, subject, ["0 acquire c", "0 acquire a"])).toEqual([3, 1]);
	});
	test("is above that of a limit of this name that was deleted before, of which nothing is left", () => {
		const first = open({ limit: 5 });
		const [old = 0] = fences(first.run, first.subject, ["1000 acquire a"]);
		const second = open({ limit: 5 });
		expect(fences(second.run, second.subject, ["1001 acquire a"])[0]).toBeGreaterThan(Number(old));
	});
	test("is a whole number that JavaScript counts exactly, for two centuries", () => {
		const { subject, run } = open({ limit: 5 });
		const [fence] = fences(run, subject, [`${Date.UTC(2250, 0)} acquire a`]);
		expect(Number.isSafeInteger(fence)).toBe(true);
	});
});
