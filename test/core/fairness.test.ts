/** Who is next: keys that share, and priorities that starve nobody; promise 15. */

import { describe } from "vitest";
import { RATE, scene } from "./scene.ts";

describe("keys take turns", () => {
	scene("one that floods delays itself", { limit: 1 })`
		0   acquire x                     => granted x
		0   acquire a1 wait=ever key=a    => queued a1 at 1
		0   acquire a2 wait=ever key=a    => queued a2 at 2
		0   acquire a3 wait=ever key=a    => queued a3 at 3
		0   acquire b1 wait=ever key=b    => queued b1 at 2
		0   acquire b2 wait=ever key=b    => queued b2 at 4
		0   acquire c1 wait=ever          => queued c1 at 3
		100 release x                     => released x by caller, granted a1 after 100
		200 release a1                    => released a1 by caller, granted b1 after 200
		300 release b1                    => released b1 by caller, granted c1 after 300
		400 release c1                    => released c1 by caller, granted a2 after 400
		500 release a2                    => released a2 by caller, granted b2 after 500
		600 release b2                    => released b2 by caller, granted a3 after 600
	`;
	scene("a key that was served just now waits behind one that comes", { limit: 1 })`
		0   acquire x                     => granted x
		0   acquire a1 wait=ever key=a    => queued a1 at 1
		100 release x                     => released x by caller, granted a1 after 100
		100 acquire a2 wait=ever key=a    => queued a2 at 1
		100 acquire b1 wait=ever key=b    => queued b1 at 1
		200 release a1                    => released a1 by caller, granted b1 after 100
	`;
	scene("a key that was away begins where the others are", { limit: 1 })`
		0   acquire x                     => granted x
		0   acquire a1 wait=ever key=a    => queued a1 at 1
		0   acquire a2 wait=ever key=a    => queued a2 at 2
		0   acquire a3 wait=ever key=a    => queued a3 at 3
		0   acquire a4 wait=ever key=a    => queued a4 at 4
		100 release x                     => released x by caller, granted a1 after 100
		200 release a1                    => released a1 by caller, granted a2 after 200
		300 release a2                    => released a2 by caller, granted a3 after 300
		300 acquire b1 wait=ever key=b    => queued b1 at 1
		300 acquire b2 wait=ever key=b    => queued b2 at 3
	`;
	scene("by weight", { limit: 1, weights: { a: 2 } })`
		0   acquire x                     => granted x
		0   acquire a1 wait=ever key=a    => queued a1 at 1
		0   acquire a2 wait=ever key=a    => queued a2 at 2
		0   acquire a3 wait=ever key=a    => queued a3 at 3
		0   acquire a4 wait=ever key=a    => queued a4 at 4
		0   acquire b1 wait=ever key=b    => queued b1 at 2
		0   acquire b2 wait=ever key=b    => queued b2 at 5
	`;
	scene("a charge is corrected by how long a slot was really held", { limit: 1 })`
		0    acquire x                     => granted x
		0    acquire a1 wait=ever key=a    => queued a1 at 1
		0    acquire a2 wait=ever key=a    => queued a2 at 2
		0    acquire b1 wait=ever key=b    => queued b1 at 2
		0    acquire b2 wait=ever key=b    => queued b2 at 4
		0    acquire b3 wait=ever key=b    => queued b3 at 5
		100  release x                     => released x by caller, granted a1 after 100
		1100 release a1                    => released a1 by caller, granted b1 after 1100
		1200 release b1                    => released b1 by caller, granted b2 after 1200
		1300 release b2                    => released b2 by caller, granted b3 after 1300
		1400 release b3                    => released b3 by caller, granted a2 after 1400
	`;
	scene("a newcomer that does not wait is granted if it would be next, and its key is charged for it", { limit: 4 })`
		0  acquire x x4                     => granted x x4
		0  acquire a0 wait=ever key=a       => queued a0 at 1
		10 release x                        => released x x4 by caller, granted a0 after 10
		10 acquire a1 x4 wait=ever key=a    => queued a1 at 1
		10 acquire a2 key=a                 => denied a2, retry 20
		10 acquire b1 key=b                 => granted b1
		10 acquire b2 key=b                 => denied b2, retry 20
		10 acquire c1 x4 wait=ever key=c    => queued c1 at 1
		10 acquire d1 key=d                 => denied d1, retry 20
	`;
	scene("a key of a name that every object has is a key like any other", { limit: 1, weights: { b: 1 } })`
		0 acquire x                           => granted x
		0 acquire a wait=ever key=constructor => queued a at 1
		0 acquire b wait=ever key=__proto__   => queued b at 2
		1 release x                           => released x by caller, granted a after 1
		2 release a                           => released a by caller, granted b after 2
	`;
	scene("what comes back by itself is shared by slots", { ...RATE, limit: 2 })`
		0    acquire x x2 rate                 => granted x x2
		0    acquire a1 x2 rate wait=ever key=a => queued a1 at 1
		0    acquire a2 x1 rate wait=ever key=a => queued a2 at 2
		0    acquire b1 x1 rate wait=ever key=b => queued b1 at 2
		0    acquire b2 x1 rate wait=ever key=b => queued b2 at 3
		0    acquire b3 x1 rate key=b           => denied b3, retry 6000
		0    acquire c1 x1 rate key=c           => denied c1, retry 4000
		2000 tick                              => granted a1 x2 after 2000
		3000 tick                              => granted b1 after 3000
		4000 tick                              => granted b2 after 4000
		5000 tick                              => granted a2 after 5000
	`;
	scene("what an estimate came to is what its key is charged", { ...RATE, limit: 4 })`
		0    acquire x x4 rate                            => granted x x4
		0    acquire a1 x4 rate wait=ever settle=9000 key=a => queued a1 at 1
		0    acquire a2 x1 rate wait=ever key=a           => queued a2 at 2
		0    acquire b1 x1 rate wait=ever key=b           => queued b1 at 2
		0    acquire b2 x1 rate wait=ever key=b           => queued b2 at 3
		4000 tick                                         => granted a1 x4 after 4000
		4000 settle a1 1                                  => settled a1 with 1, granted b1 after 4000, granted a2 after 4000, granted b2 after 4000
	`;
	scene("a reservation that steps back was not taken", { limit: 1 })`
		0    acquire x                     => granted x
		0    reserve a1 wait=ever key=a    => queued a1 at 1
		0    acquire a2 wait=ever key=a    => queued a2 at 2
		0    acquire b1 wait=ever key=b    => queued b1 at 2
		100  release x                     => released x by caller, reserved a1
		101  park a1                       => parked a1 at 1, granted a2 after 101
		102  reserve a1 wait=ever key=a    => queued a1 at 2
		103  release a2                    => released a2 by caller, granted b1 after 103
		104  release b1                    => released b1 by caller, reserved a1
	`;
	scene("the places, the tags and what was charged outlive a restart", { limit: 1 })`
		0   acquire x                     => granted x
		0   acquire a1 wait=ever key=a    => queued a1 at 1
		0   acquire a2 wait=ever key=a    => queued a2 at 2
		0   acquire a3 wait=ever key=a    => queued a3 at 3
		0   acquire b1 wait=ever key=b    => queued b1 at 2
		0   acquire b2 wait=ever key=b    => queued b2 at 4
		100 release x                     => released x by caller, granted a1 after 100
		100 restart                       => nothing
		101 acquire a2 wait=ever key=a    => queued a2 at 2
		101 acquire a3 wait=ever key=a    => queued a3 at 4
		101 acquire b1 wait=ever key=b    => queued b1 at 1
		101 acquire b2 wait=ever key=b    => queued b2 at 3
		500 release a1                    => released a1 by caller, granted b1 after 500
		501 release b1                    => released b1 by caller, granted b2 after 501
		502 release b2                    => released b2 by caller, granted a2 after 502
	`;
});

describe("what a key was charged", () => {
	scene("is corrected after a restart too", { limit: 1 })`
		0    acquire x                     => granted x
		0    acquire a1 wait=ever key=a    => queued a1 at 1
		0    acquire a2 wait=ever key=a    => queued a2 at 2
		0    acquire b1 wait=ever key=b    => queued b1 at 2
		0    acquire b2 wait=ever key=b    => queued b2 at 4
		100  release x                     => released x by caller, granted a1 after 100
		100  restart                       => nothing
		101  acquire a2 wait=ever key=a    => queued a2 at 2
		101  acquire b1 wait=ever key=b    => queued b1 at 1
		101  acquire b2 wait=ever key=b    => queued b2 at 3
		1100 release a1                    => released a1 by caller, granted b1 after 1100
		1200 release b1                    => released b1 by caller, granted b2 after 1200
		1300 release b2                    => released b2 by caller, granted a2 after 1300
	`;
	scene("is nothing, once slots were free and nobody waited", { limit: 1 })`
		0    acquire x                     => granted x
		0    acquire a1 wait=ever key=a    => queued a1 at 1
		0    acquire b1 wait=ever key=b    => queued b1 at 2
		100  release x                     => released x by caller, granted a1 after 100
		200  release a1                    => released a1 by caller, granted b1 after 200
		300  release b1                    => released b1 by caller
		400  acquire y                     => granted y
		500  acquire b2 wait=ever key=b    => queued b2 at 1
		500  acquire c1 wait=ever key=c    => queued c1 at 2
	`;
});

describe("priorities", () => {
	scene("the higher goes first, and of equal ones the one that came first", { limit: 1 })`
		0 acquire x                       => granted x
		0 acquire a wait=ever             => queued a at 1
		0 acquire b wait=ever priority=1  => queued b at 1
		0 acquire c wait=ever priority=9  => queued c at 1
		0 acquire d wait=ever priority=1  => queued d at 3
		0 acquire e priority=9            => denied e, retry 30000
		1 release x                       => released x by caller, granted c after 1
		2 release c                       => released c by caller, granted b after 2
		3 release b                       => released b by caller, granted d after 3
		4 release d                       => released d by caller, granted a after 4
	`;
	scene("a higher one that does not wait does not wait for lower ones either", { limit: 2 })`
		0 acquire x                       => granted x
		0 acquire a x2 wait=ever          => queued a at 1
		0 acquire b                       => denied b, retry 30000
		0 acquire c priority=1            => granted c
	`;
	scene("every second grant is for those that wait for long while a higher priority waits", {
		limit: 1,
		starveAfterSeconds: 1,
	})`
		0    acquire x                       => granted x
		0    acquire l1 wait=ever            => queued l1 at 1
		10   acquire l2 wait=ever            => queued l2 at 2
		20   acquire h1 wait=ever priority=5 => queued h1 at 1
		20   acquire h2 wait=ever priority=5 => queued h2 at 2
		20   acquire h3 wait=ever priority=5 => queued h3 at 3
		500  release x                       => released x by caller, granted h1 after 480
		1000 release h1                      => released h1 by caller, granted h2 after 980
		1000 acquire h4 wait=ever priority=5 => queued h4 at 3
		1000 acquire l3 wait=ever            => queued l3 at 5
		1000 restart                         => nothing
		1001 acquire l1 wait=ever            => queued l1 at 1
		1001 acquire l2 wait=ever            => queued l2 at 4
		1001 acquire h3 wait=ever priority=5 => queued h3 at 2
		1001 acquire h4 wait=ever priority=5 => queued h4 at 3
		1001 acquire l3 wait=ever            => queued l3 at 5
		1005 release h2                      => released h2 by caller, granted l1 after 1005
		1010 release l1                      => released l1 by caller, granted h3 after 990
		1020 release h3                      => released h3 by caller, granted l2 after 1010
		1030 release l2                      => released l2 by caller, granted h4 after 30
		1040 release h4                      => released h4 by caller, granted l3 after 40
	`;
	scene("0: nobody starves", { limit: 1, starveAfterSeconds: 0 })`
		0      acquire x lease=1000000         => granted x
		0      acquire l wait=ever             => queued l at 1
		0      acquire h1 wait=ever priority=1 => queued h1 at 1
		0      acquire h2 wait=ever priority=1 => queued h2 at 2
		900000 release x                       => released x by caller, granted h1 after 900000
		900001 release h1                      => released h1 by caller, granted h2 after 900001
	`;
});
