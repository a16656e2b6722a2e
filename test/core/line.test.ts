/** Who is granted, in which order, and when: promises 1 to 4. */

import { describe, expect, test } from "vitest";
import type { Settings } from "../../src/core/limit.ts";
import { AWAY_MS, DOUBT_MS, RESERVATION_MS } from "../../src/core/patience.ts";
import { everything, open, RATE, scene } from "./scene.ts";

describe("promise 1: never too many", () => {
	scene("as many as the limit, and not one more", { limit: 2 })`
		0 acquire a      => granted a
		0 acquire b      => granted b
		0 acquire c      => denied c, retry 30000
		0 used?          => 2
	`;
	scene("reservations count", { limit: 2 })`
		0 reserve a x2   => reserved a x2
		0 acquire b      => denied b, retry 5000
		0 used?          => 2
	`;
	scene("a reservation that is committed is not counted twice", { limit: 2 })`
		0 reserve a x2   => reserved a x2
		0 commit a       => granted a x2
		0 used?          => 2
	`;
	scene("slots set by hand count", { limit: 2 })`
		0 configure slots=2 => configured
		0 acquire a         => denied a, retry 30000
	`;
	scene("a limit lowered below what is in use throws nobody out, and drains", { limit: 3 })`
		0 acquire a          => granted a
		0 acquire b          => granted b
		0 configure limit=1  => configured
		0 used?              => 2
		0 release a          => released a by caller
		0 acquire c          => denied c, retry 0
		1 release b          => released b by caller
		1 acquire c          => granted c
	`;
	scene("a limit of 0 is a pause: who does not wait is denied, who waits is served when it is raised", { limit: 0 })`
		0  acquire a x3             => denied a, retry 30000
		0  acquire b x2 wait=ever   => queued b at 1
		0  acquire c wait=20        => queued c at 2
		20 tick                     => denied c, retry 30000
		30 configure limit=2        => configured, granted b x2 after 30
		31 configure limit=0        => configured
		32 release b                => released b x2 by caller
		33 acquire d x3 wait=ever   => queued d at 1
		34 acquire e wait=ever      => queued e at 2
		35 configure limit=2        => exceeds_limit d, configured, granted e after 1
	`;
	scene("a limit of 0 with decay is one too", { limit: 0, slotDecayPerSecond: 1 })`
		0  acquire a rate           => denied a, retry 30000
		0  acquire b rate wait=ever => queued b at 1
		0  reserve c wait=ever      => queued c at 2
		30 configure limit=2        => configured, granted b after 30, reserved c
	`;
	scene("a limit of 0 refuses for good what no raise would mend", { limit: 0 })`
		0 acquire a rate wait=ever => no_decay a
	`;
	scene("with decay: the limit at once, then as fast as they come back", RATE)`
		0    acquire a x10 rate => granted a x10
		0    acquire b rate     => denied b, retry 1000
		999  acquire b rate     => denied b, retry 1
		1000 acquire b rate     => granted b
		1000 acquire c rate     => denied c, retry 1000
	`;
	scene("with decay: a late alarm does not grant for moments that passed", { limit: 1, slotDecayPerSecond: 1 })`
		0    acquire x rate           => granted x
		0    acquire a rate wait=ever => queued a at 1
		0    acquire b rate wait=ever => queued b at 2
		0    acquire c rate wait=ever => queued c at 3
		0    reserve p1 park wait=1000 => parked p1 at 4
		0    reserve p2 park wait=2000 => parked p2 at 4
		5500 tick                     => denied p1, retry 3000, denied p2, retry 3000, granted a after 5500
		6500 tick                     => granted b after 6500
	`;
	scene("a late alarm does not grant a lease that is over already", { limit: 1 })`
		0    acquire a lease=1000           => granted a
		0    acquire b lease=1000 wait=ever => queued b at 1
		9000 tick                           => released a by expiry, granted b after 9000
		9999 tick                           => nothing
		10000 tick                          => released b by expiry
	`;
	scene("an inactive limit grants whatever is asked, holds nothing and says so", { limit: 1, active: false })`
		0 acquire a x9      => granted a x9 unenforced
		0 acquire b rate    => granted b unenforced
		0 reserve c x5      => reserved c x5 unenforced
		0 commit c          => granted c x5 unenforced
		0 used?             => 0
		0 release a         => released a x0 by caller
	`;
	scene("what an inactive limit granted is not counted once it is active", { limit: 1, active: false })`
		0 acquire a             => granted a unenforced
		0 configure active=yes  => configured
		0 acquire b             => granted b
		0 release a             => released a x0 by caller
		0 used?                 => 1
	`;
});

describe("promise 2: a denial changes nothing", () => {
	const setups: [string, Partial<Settings>, string[]][] = [
		["of a full limit", { limit: 2 }, ["0 acquire a x2"]],
		["of a full limit with a line", { limit: 2 }, ["0 acquire a x2", "0 acquire b wait=9000"]],
		["of a level between two slots", { limit: 2, slotDecayPerSecond: 0.7 }, ["0 acquire a x2 rate"]],
		["of a level with bands", { limit: 2, slotDecayPerSecond: 0.7 }, ["0 acquire a", "0 acquire b"]],
		["next to a reservation", { limit: 2 }, ["0 reserve a x2"]],
	];
	const denied = ["acquire x x2", "reserve x x2", "acquire x x3", "acquire x x9 wait=500", "acquire a x2 print=other"];
	const rows = setups.flatMap(([name, settings, setup]) =>
		denied.map((words) => [words, name, settings, setup] as const),
	);

	test.each(rows)("%s %s", (words, _, settings, setup) => {
		const { subject, run } = open(settings);
		for (const line of setup) run(line);
		run("300 tick");
		const before = everything(subject.limit);
		expect(run(`300 ${words}`)).toMatch(/denied|exceeds_limit|id_in_use/);
		expect(everything(subject.limit)).toBe(before);
	});

	test("a thousand denials do not put off what comes back", () => {
		const { run } = open({ limit: 1, slotDecayPerSecond: 1 });
		run("0 acquire a rate");
		for (let ms = 1; ms < 1_000; ms += 1) expect(run(`${ms} acquire b rate`)).toBe(`denied b, retry ${1_000 - ms}`);
		expect(run("1000 acquire b rate")).toBe("granted b");
	});
	scene("a cost above the limit is refused at once and never queued", { limit: 2 })`
		0 acquire a x3 wait=ever => exceeds_limit a
		0 acquire b              => granted b
	`;
	scene("a denial of many says nothing about few", { limit: 2 })`
		0 acquire a    => granted a
		0 acquire b x2 => denied b, retry 30000
		0 acquire c    => granted c
	`;
	scene("a rate needs a limit whose slots come back", { limit: 2 })`
		0 acquire a rate => no_decay a
	`;
});

describe("promise 3: first come, first served", () => {
	scene("in order of arrival", { limit: 1 })`
		0 acquire a           => granted a
		1 acquire b wait=ever => queued b at 1
		2 acquire c wait=ever => queued c at 2
		3 release a           => released a by caller, granted b after 2
		4 release b           => released b by caller, granted c after 2
	`;
	scene("a big request at the head is not overtaken by small ones", { limit: 3 })`
		0 acquire a              => granted a
		0 acquire big x3 wait=ever => queued big at 1
		0 acquire b wait=ever    => queued b at 2
		0 acquire c              => denied c, retry 30000
		5 release a              => released a by caller, granted big x3 after 5
	`;
	scene("a request that does not wait never jumps the line, though it would fit", { limit: 3 })`
		0 acquire a x2           => granted a x2
		0 acquire b x2 wait=ever => queued b at 1
		0 acquire c              => denied c, retry 30000
		0 reserve d              => denied d, retry 30000
		0 reserve e park wait=ever => parked e at 2
	`;
	scene("a waiter whose connection broke is passed, and has its place when it is back", { limit: 1 })`
		0  acquire a           => granted a
		0  acquire b wait=ever => queued b at 1
		0  acquire c wait=ever => queued c at 2
		10 detach b            => nothing
		20 release a           => released a by caller, granted c after 20
		30 acquire d wait=ever => queued d at 1
		40 acquire b wait=ever => queued b at 1
		50 release c           => released c by caller, granted b after 50
	`;
	scene("a parked one is passed, and has its place when it is back", { limit: 1 })`
		0  acquire a                => granted a
		0  reserve b park wait=ever => parked b at 1
		0  acquire c wait=ever      => queued c at 1
		10 reserve b wait=ever      => queued b at 1
		20 release a                => released a by caller, reserved b
	`;
	scene("a reservation that steps back stands where it arrived", { limit: 1 })`
		0  reserve a wait=ever      => reserved a
		5  acquire b wait=ever      => queued b at 1
		10 park a                   => parked a at 1, granted b after 5
		20 acquire c wait=ever      => queued c at 1
		30 reserve a wait=ever      => queued a at 1
		40 release b                => released b by caller, reserved a
	`;
	scene("a reservation that steps back waited from its arrival on", { limit: 1 })`
		0    acquire x               => granted x
		0    reserve a wait=ever     => queued a at 1
		1000 release x               => released x by caller, reserved a
		1500 park a                  => parked a at 1
		2000 reserve a wait=ever     => reserved a
		2100 commit a                => granted a after 2000
	`;
	scene("a waiter that can never fit again is refused, and does not hold up the line", { limit: 3 })`
		0 acquire a x2             => granted a x2
		0 acquire b x3 wait=ever   => queued b at 1
		0 acquire c wait=ever      => queued c at 2
		5 configure limit=2        => exceeds_limit b, configured
		6 release a                => released a x2 by caller, granted c after 6
	`;
	scene("a reservation that steps back and can never fit again does not either", { limit: 10 })`
		0 reserve a x8 wait=ever   => reserved a x8
		0 configure limit=5        => configured
		0 park a                   => parked a at 1
		1 reserve a x8 wait=ever   => exceeds_limit a
		2 acquire b                => granted b
	`;
	scene("after a restart the line waits for those in it, in their order", { limit: 1 })`
		0   acquire a           => granted a
		0   acquire b wait=ever => queued b at 1
		0   acquire c wait=ever => queued c at 2
		100 restart             => nothing
		110 acquire d wait=ever => queued d at 3
		120 release a           => released a by caller
		130 acquire c wait=ever => queued c at 2
		140 acquire b wait=ever => granted b after 140
	`;
	scene("who does not come back after a restart is passed after a moment", { limit: 1 })`
		0    acquire a           => granted a
		0    acquire b wait=ever => queued b at 1
		100  restart             => nothing
		200  acquire c wait=ever => queued c at 2
		300  release a           => released a by caller
		5099 tick                => nothing
		5100 tick                => left b gone, granted c after 4900
	`;
	scene("a big request is served within its bound under a stream of small ones", { limit: 2 })`
		0  acquire s1 lease=10           => granted s1
		5  acquire s2 lease=10           => granted s2
		6  acquire big x2 wait=ever      => queued big at 1
		7  acquire s3 lease=10 wait=ever => queued s3 at 2
		10 acquire s4 lease=10 wait=ever => released s1 by expiry, queued s4 at 3
		15 tick                          => released s2 by expiry, granted big x2 after 9
	`;
});

describe("promise 4: whatever frees slots serves the line at once", () => {
	for (const [name, then] of [
		["release", "5 release a => released a by caller, granted w after 5"],
		["a forced release", "5 force a => released a by operator, granted w after 5"],
		["an answer that was never heard", "5 unheard a => released a by unheard, granted w after 5"],
		["expiry", "1000 tick => released a by expiry, granted w after 1000"],
		["the end of a connection", "5 detach a => released a by caller, granted w after 5"],
		["a raised limit", "5 configure limit=2 => configured, granted w after 5"],
		["deactivation", "5 configure active=no => configured, granted w after 5 unenforced"],
		["decay", "5 configure decay=2 => configured\n505 tick => granted w after 505"],
		["slots set by hand on a decaying limit", "5 configure decay=2 slots=0 => configured, granted w after 5"],
	] as const) {
		scene(name, { limit: 1 })`
			0 acquire a lease=1000 held => granted a
			0 acquire w wait=ever       => queued w at 1
			${then}
		`;
	}
	scene("a reservation dropped", { limit: 1 })`
		0 reserve a           => reserved a
		0 acquire w wait=ever => queued w at 1
		5 cancel a            => left a cancelled, granted w after 5
	`;
	scene("a reservation lapsed", { limit: 1 })`
		0    reserve a           => reserved a
		0    acquire w wait=ever => queued w at 1
		5000 tick                => released a by lapse, granted w after 5000
	`;
	scene("a commit that its peers did not follow", { limit: 1 })`
		0    reserve a           => reserved a
		0    commit a            => granted a
		0    acquire w wait=ever => queued w at 1
		3000 tick                => doubted a
		3001 resolve a no         => released a by abort, granted w after 3001
	`;
	scene("a commit taken back", { limit: 1 })`
		0 reserve a           => reserved a
		0 commit a            => granted a
		0 acquire w wait=ever => queued w at 1
		5 cancel a            => left a cancelled, granted w after 5
	`;
	scene("unleased slots set to none", { limit: 1 })`
		0 configure slots=1   => configured
		0 acquire w wait=ever => queued w at 1
		5 configure slots=0   => configured, granted w after 5
	`;
	scene("the head cancelled", { limit: 2 })`
		0 acquire a              => granted a
		0 acquire b x2 wait=ever => queued b at 1
		0 acquire c wait=ever    => queued c at 2
		5 cancel b               => left b cancelled, granted c after 5
	`;
	scene("the head detached", { limit: 2 })`
		0 acquire a              => granted a
		0 acquire b x2 wait=ever => queued b at 1
		0 acquire c wait=ever    => queued c at 2
		5 detach b               => granted c after 5
	`;
	scene("the head giving up", { limit: 2 })`
		0  acquire a              => granted a
		0  acquire b x2 wait=50   => queued b at 1
		0  acquire c wait=ever    => queued c at 2
		50 tick                   => denied b, retry 30000, granted c after 50
	`;
	scene("one release serves as many as fit", { limit: 3 })`
		0 acquire a x3           => granted a x3
		0 acquire b wait=ever    => queued b at 1
		0 acquire c wait=ever    => queued c at 2
		0 acquire d x2 wait=ever => queued d at 3
		5 release a              => released a x3 by caller, granted b after 5, granted c after 5
	`;
	scene("a receipt served leaves the line for good, also when asked again at that moment", {
		limit: 1,
		slotDecayPerSecond: 1,
	})`
		0    acquire a rate           => granted a
		0    acquire b rate wait=ever => queued b at 1
		900  detach b                 => nothing
		1000 acquire b rate wait=ever => granted b after 1000
		1000 acquire c rate wait=ever => queued c at 1
		2000 tick                     => granted c after 1000
	`;
	scene("what comes free in the very moment of giving up is still had", { limit: 1 })`
		0    acquire a lease=1000    => granted a
		0    acquire b wait=1000     => queued b at 1
		1000 tick                    => released a by expiry, granted b after 1000
	`;
	scene("the line is served before the request that comes late", RATE)`
		0    acquire a x10 rate       => granted a x10
		0    acquire w rate wait=ever => queued w at 1
		5000 acquire d rate           => granted w after 5000, granted d
	`;
});

describe("promise 4: it wakes exactly when something is due", () => {
	scene("never, when nothing is", { limit: 1 })`
		0 wake? => never
	`;
	scene("not for the decay of an idle level", RATE)`
		0 acquire a x10 rate once => granted a x10
		0 wake?                   => never
	`;
	scene("for the first lease that ends", { limit: 2 })`
		0 acquire a lease=900 => granted a
		0 acquire b lease=700 => granted b
		0 wake?               => 700
		5 renew b 2000        => renewed b to 2005
		5 wake?               => 900
	`;
	scene("for a reservation", { limit: 1 })`
		0 reserve a => reserved a
		0 wake?     => ${RESERVATION_MS}
	`;
	scene("for a doubt", { limit: 1 })`
		0 reserve a => reserved a
		0 commit a  => granted a
		0 wake?     => ${DOUBT_MS}
	`;
	scene("for a waiter's patience", { limit: 1 })`
		0 acquire a          => granted a
		0 acquire b wait=300 => queued b at 1
		0 wake?              => 300
	`;
	scene("for a waiter that is away", { limit: 1 })`
		0 acquire a           => granted a
		0 acquire b wait=ever => queued b at 1
		0 detach b            => nothing
		0 wake?               => ${AWAY_MS}
	`;
	scene("for the decay that makes room for the head, and not for those behind", RATE)`
		0 acquire a x10 rate          => granted a x10
		0 acquire b x3 rate wait=ever => queued b at 1
		0 acquire c rate wait=ever    => queued c at 2
		0 wake?                       => 3000
	`;
	scene("not again and again for decay that cannot help", { limit: 10, slotDecayPerSecond: 1000 })`
		0  reserve a x8           => reserved a x8
		0  acquire b x5 wait=ever => queued b at 1
		10 wake?                  => 5000
	`;
	scene("on the caller's clock, also after it jumped back", { limit: 1 })`
		5000 acquire a lease=900 => granted a
		2000 wake?               => 2900
	`;
});
