/**
 * Shows that the tests of the core would notice: plants one fault after another in a copy of the core, and runs the
 * simulation against it, and the table tests where the simulation sees nothing. Ends with an error when a fault
 * survives, or when the text that it replaces is no longer there exactly once.
 *
 *     node scripts/plant-faults.ts [--quick] [words of the faults to plant]
 *
 * Quick is half a minute: the text of every fault is looked for, every sixth is planted, and the first lives of the
 * simulation are run against it; and the tables where it is known which of them see a fault, if it is named.
 */

import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

interface Fault {
	name: string;
	/** Text of the core, or of what a Worker borrows by, there exactly once. */
	is: string;
	becomes: string;
	/** The simulation knows nothing of this, and the tables of this file do. */
	tables?: "calendar" | "fairness" | "lending" | "time" | "window";
}

/** What a Worker borrows by: the simulation of Workers runs it. */
const LOANS = "server/front/lending/loans.ts";

const FAULTS: Fault[] = [
	{
		name: "a key that was away has credit",
		is: `tag: of.served,\n\t\t\tfirst: undefined`,
		becomes: `tag: 0,\n\t\t\tfirst: undefined`,
		tables: "fairness",
	},
	{
		name: "a key that leaves the line and comes back begins anew",
		is: `line && line.tag <= of.served;`,
		becomes: `line && line.tag <= Number.POSITIVE_INFINITY;`,
		tables: "fairness",
	},
	{
		name: "equal tags are ordered by name",
		is: `(a.tag === b.tag && a.number < b.number);`,
		becomes: `(a.tag === b.tag && String(a.key) < String(b.key));`,
		tables: "fairness",
	},
	{
		name: "a tag is lost over a restart",
		is: `tag: entry.tag ?? undefined,`,
		becomes: `tag: undefined,`,
		tables: "fairness",
	},
	{
		name: "what a key was charged is lost over a restart",
		is: `charge: entry.charge || undefined,`,
		becomes: `charge: undefined,`,
		tables: "fairness",
	},
	{
		name: "a charge is not corrected when a lease ends",
		is: `	settleCharge(limit, entry, slots, heldMs);\n	const { meanHeldMs }`,
		becomes: `	const { meanHeldMs }`,
		tables: "fairness",
	},
	{
		name: "a charge is not corrected when an estimate is settled",
		is: `settleCharge(limit, entry, slots - actual,`,
		becomes: `settleCharge(limit, entry, 0,`,
		tables: "fairness",
	},
	{
		name: "what steps back into the line stays charged",
		is: `count(limit, entry, -1);\n	limit.order.takeBack(entry);`,
		becomes: `count(limit, entry, -1);`,
		tables: "fairness",
	},
	{
		name: "weights weigh nothing",
		is: `? (weights[key] ?? 1) : 1`,
		becomes: `? 1 : 1`,
		tables: "fairness",
	},
	{
		name: "what is granted beside a line is not charged",
		is: `if (limit.sums.inTurn > 0) limit.order.charge(`,
		becomes: `if (limit.sums.inTurn < 0) limit.order.charge(`,
		tables: "fairness",
	},
	{
		name: "those that starve are given every grant",
		is: `owed !== undefined && !(this.#owes && owed === waiter)`,
		becomes: `owed !== undefined`,
		tables: "fairness",
	},
	{
		name: "a higher priority starves a lower one",
		is: `(this.#owes ? this.#starving(before)`,
		becomes: `(this.#owes && before > 1e15 ? this.#starving(before)`,
		tables: "fairness",
	},
	{
		name: "a place counts those of an equal tag that come after it",
		is: `at === servedAt && line.number < number`,
		becomes: `at === servedAt`,
		tables: "fairness",
	},
	{
		name: "a period goes back with the clock",
		is: `if (wall < this.#period.endsAt) return;`,
		becomes: `if (wall >= this.#period.startsAt && wall < this.#period.endsAt) return;`,
	},
	{
		name: "a period ends by the limit's own time, and not by the clock",
		is: `const wall = this.at - this.#clock.offsetMs;`,
		becomes: `const wall = this.at;`,
	},
	{
		name: "what was set by hand is owned again after a restart, in a window",
		is: `for (const id of held) say(turn, { kind: "rewritten", id });`,
		becomes: `for (const id of held) if (id === "") say(turn, { kind: "rewritten", id });`,
	},
	{
		name: "a period is not stored",
		is: `if (period) this.#period = { ...period };`,
		becomes: `if (period && this.#granted < 0) this.#period = { ...period };`,
	},
	{
		name: "what a period before owned is owned again after a restart",
		is: `if (order === this.#period.startsAt) this.#bands.set(`,
		becomes: `if (order <= this.#period.startsAt) this.#bands.set(`,
	},
	{
		name: "a boundary that is shown twice is the second",
		is: `if (found.length > 0) return Math.min(...found);`,
		becomes: `if (found.length > 0) return Math.max(...found);`,
		tables: "calendar",
	},
	{
		name: "a month that is too short begins in the next",
		is: `return Date.UTC(year, month, Math.min(day, new Date(Date.UTC(year, month + 1, 0)).getUTCDate()));`,
		becomes: `return Date.UTC(year, month, day);`,
		tables: "calendar",
	},
	{
		name: "a slot of a sliding window comes back a moment early",
		is: `if (at + this.windowMs > this.at) break;`,
		becomes: `if (at + this.windowMs > this.at + 1) break;`,
	},
	{
		name: "moments of a sliding window are rounded down",
		is: `const up = Math.ceil(at / this.#grainMs) * this.#grainMs;`,
		becomes: `const up = Math.floor(at / this.#grainMs) * this.#grainMs;`,
		tables: "window",
	},
	{
		name: "a change of the window gives fresh slots",
		is: `if (decays(limit)) limit.level.reset(wholeSlots(free));`,
		becomes: `if (decays(limit)) limit.level.reset(didDecay ? 0 : wholeSlots(free));`,
	},
	{
		name: "a lease holds slots of a window",
		is: `if (mode === "concurrency" && hasWindow(settings)) return "no_lease";`,
		becomes: ``,
	},
	{
		name: "a lease never expires",
		is: `const end = entry.mode === "concurrency" ? entry.expiresAt : Number.POSITIVE_INFINITY;`,
		becomes: `const end = Number.POSITIVE_INFINITY;`,
	},
	{
		name: "the newest waiter is served first",
		is: `		(a, b) => a.seq < b.seq,`,
		becomes: `		(a, b) => a.seq > b.seq,`,
	},
	{
		name: "a head that does not fit is overtaken",
		is: `if (isHeldBack && refused) return;`,
		becomes: `if (isHeldBack && refused) continue;`,
	},
	{
		name: "who does not wait jumps the line",
		is: `return !isPaused(limit) && isNext && fits(limit, slots) ? null : "denied";`,
		becomes: `return !isPaused(limit) && fits(limit, slots) ? null : "denied";`,
	},
	{
		name: "reservations do not count",
		is: `sums.leased + sums.reserved + limit.unleased + slots <= settings.limit`,
		becomes: `sums.leased + limit.unleased + slots <= settings.limit`,
	},
	{
		name: "reservations do not count where slots decay",
		is: `return level.total <= BigInt(settings.limit - sums.reserved - sums.lent - slots) * SLOT;`,
		becomes: `return level.total <= BigInt(settings.limit - sums.lent - slots) * SLOT;`,
	},
	{
		name: "a denial rounds the level down",
		is: `if (isBusy(code)) limit.totals.denied += 1;`,
		becomes: `if (isBusy(code)) limit.totals.denied += 1;\n	if (isBusy(code) && decays(limit)) limit.level.top -= limit.level.top % SLOT;`,
	},
	{
		name: "who does not wait is granted in a pause",
		is: `return !isPaused(limit) && isNext && fits(`,
		becomes: `return isNext && fits(`,
	},
	{
		name: "the line is served in a pause",
		is: `(isPaused(limit) || !fits(limit, entry.slots))`,
		becomes: `(!fits(limit, entry.slots))`,
	},
	{
		name: "a shorter pause ends a longer one",
		is: `ms === 0 ? 0 : Math.max(limit.pausedUntil, now + ms)`,
		becomes: `ms === 0 ? 0 : now + ms`,
	},
	{
		name: "a pause cannot be ended",
		is: `limit.pausedUntil = ms === 0 ? 0 : `,
		becomes: `limit.pausedUntil = `,
	},
	{
		name: "the end of a pause wakes nobody",
		is: `if (decays(limit) || isPaused(limit)) {`,
		becomes: `if (decays(limit)) {`,
	},
	{
		name: "the retry of a decaying limit does not know of a pause",
		is: `At => (isPaused(limit) ? limit.pausedUntil : limit.clock.lastAt);`,
		becomes: `At => limit.clock.lastAt;`,
	},
	{
		name: "a pause is lost in a restart",
		is: `...(limit.pausedUntil > clock.lastAt && { pausedUntil: limit.pausedUntil }),`,
		becomes: ``,
	},
	{
		name: "a fence is given twice",
		is: `Math.max(limit.fence + 1, limit.clock.lastAt * FENCES_PER_MS)`,
		becomes: `Math.max(limit.fence, limit.clock.lastAt * FENCES_PER_MS)`,
	},
	{
		name: "a restart forgets the fence",
		is: `fence: saved.fence ?? 0 },`,
		becomes: `fence: 0 },`,
	},
	{
		name: "a lease loses its fence in a restart",
		is: `fence: saved.fence ?? null,`,
		becomes: `fence: null,`,
	},
	{
		name: "a limit that only watches denies",
		is: `const isHeldBack = refused !== null && enforces(limit);\n	if`,
		becomes: `const isHeldBack = refused !== null;\n	if`,
	},
	{
		name: "what would be denied holds slots",
		is: `entry.enforced = limit.settings.active && !wouldDeny;`,
		becomes: `entry.enforced = limit.settings.active;`,
	},
	{
		name: "what would be denied is counted as granted",
		is: `if (!entry.wouldDeny) {\n		observe(`,
		becomes: `{\n		observe(`,
	},
	{
		name: "what would be denied is not counted",
		is: `if (wouldDeny) limit.totals.wouldDeny += 1;`,
		becomes: ``,
	},
	{
		name: "what would be denied counts as released",
		is: `if (!entry.wouldDeny) totals[by`,
		becomes: `totals[by`,
	},
	{
		name: "a line waits on at a limit that only watches",
		is: `if (isHeldBack && refused) return;`,
		becomes: `if (refused) return;`,
	},
	{
		name: "an estimate gives back all that is left of it",
		is: `limit.level.shrink(id, slots - actual);`,
		becomes: `limit.level.shrink(id, slots);`,
	},
	{
		name: "what an estimate came to above it is forgotten",
		is: `else limit.level.pour(actual - slots);`,
		becomes: ``,
	},
	{
		name: "an estimate can be settled twice",
		is: `outcome: before === actual ? "again" : "otherwise" });`,
		becomes: `outcome: "settled" });`,
	},
	{
		name: "what it was settled with is not remembered",
		is: `&& entry.wants === "lease" && settled === undefined) return;`,
		becomes: `&& entry.wants === "lease") return;`,
	},
	{
		name: "an estimate is given back at the end of its time",
		is: `// The estimate stands.\n		conclude(turn, entry, "receipt");`,
		becomes: `drop(turn, entry);`,
	},
	{
		name: "an estimate that could be settled does not count as one that may come back",
		is: `if (entry.mode !== "rate_limit" || entry.settleMs !== null) sums.returnable += sign;`,
		becomes: `if (entry.mode !== "rate_limit") sums.returnable += sign;`,
	},
	{
		name: "an estimate is a lease",
		is: `if (entry.state === "unsettled") return;\n		sums.leased`,
		becomes: `sums.leased`,
	},
	{
		name: "a release gives an estimate back",
		is: `if (entry?.state === "unsettled") return say(turn, { kind: "released", id, slots: 0, by });`,
		becomes: ``,
	},
	{
		name: "a waiter that takes what there could be is refused when the limit is lowered",
		is: `resize(limit, entry);\n		const never`,
		becomes: `const never`,
	},
	{
		name: "waits are not measured",
		is: `observe(totals.waits, entry.waitedMs);`,
		becomes: ``,
	},
	{
		name: "holds are measured from arrival",
		is: `observe(totals.holds, heldMs);`,
		becomes: `observe(totals.holds, heldMs + entry.waitedMs);`,
	},
	{
		name: "who times out is counted as merely denied",
		is: `if (gaveUp) limit.totals.timedOut += 1;`,
		becomes: ``,
	},
	{
		name: "looks in quick succession lose decay",
		is: `if (now > this.at) this.#sink(this.rate * BigInt(now - this.at));`,
		becomes: `if (now > this.at + 1) this.#sink(this.rate * BigInt(now - this.at));`,
	},
	{
		name: "a release of what is over frees once more",
		is: `if (!node) return null;`,
		becomes: `if (!node) {\n			this.total -= this.total < SLOT ? this.total : SLOT;\n			return null;\n		}`,
	},
	{
		name: "a reservation that is dropped frees twice",
		is: `	limit.order.takeBack(entry);\n	entry.state = "waiting";`,
		becomes: `	limit.order.takeBack(entry);\n	limit.sums.reserved -= entry.slots;\n	entry.state = "waiting";`,
	},
	{
		name: "what falls due does not wake the line",
		is: `limit.level.drain(now);\n	serve(turn);`,
		becomes: `limit.level.drain(now);\n	if (givingUp.length > 0) serve(turn);`,
	},
	{
		name: "nothing is served after a command",
		is: `carryOut(turn, command);\n	serve(turn);`,
		becomes: `carryOut(turn, command);`,
	},
	{
		name: "a late alarm grants in the past",
		is: `fallDue(turn, entry);\n		}\n	}`,
		becomes: `fallDue(turn, entry);\n		}\n		serve(turn);\n	}`,
	},
	{
		name: "a clock that jumps back frees",
		is: `if (now + clock.offsetMs < clock.lastAt) clock.offsetMs = clock.lastAt - now;`,
		becomes: `if (now + clock.offsetMs < clock.lastAt) clock.offsetMs += 2 * (clock.lastAt - now - clock.offsetMs);`,
	},
	{
		name: "a clock that jumps back freezes",
		is: `clock.lastAt = now + clock.offsetMs;\n`,
		becomes: `clock.lastAt = Math.max(clock.lastAt, now);\n`,
	},
	{
		name: "the print of an id is ignored",
		is: `if (entry.print !== request.print || entry.wants !== wants) {`,
		becomes: `if (entry.wants !== wants) {`,
	},
	{
		name: "an id that ended in the same decision is not remembered",
		is: `const past = said?.kind === "ended" ? said.record : turn.limit.recall(id);`,
		becomes: `const past = said ? turn.limit.recall(id) : turn.limit.recall(id);`,
	},
	{
		name: "bands do not sink on release",
		is: `this.total -= node.own;\n			return node.below;`,
		becomes: `return node.below + node.own;`,
	},
	{
		name: "a release gives back all, also what had drained",
		is: `return decays(limit) ? Number(limit.level.owned(entry.id) / SLOT) : entry.slots;`,
		becomes: `return entry.slots;`,
	},
	{
		name: "a raised limit does not serve the line",
		is: `carryOut(turn, command);\n	serve(turn);`,
		becomes: `carryOut(turn, command);\n	if (command.kind !== "configure") serve(turn);`,
	},
	{
		name: "a lowered limit leaves waiters that never fit",
		is: `if (!never || !enforces(limit)) continue;`,
		becomes: `if (!never || !enforces(limit) || never === "exceeds_limit") continue;`,
	},
	{
		name: "a wait of nothing never ends",
		is: `giveUpAt: now + request.waitMs,`,
		becomes: `giveUpAt: now + (request.waitMs || Number.POSITIVE_INFINITY),`,
	},
	{
		name: "a restart loses what had drained",
		is: `this.#sink(sum - total);`,
		becomes: `this.#sink(0n);`,
	},
	{
		name: "a restart stacks bands in order of arrival",
		is: `bands.sort((a, b) => a.order - b.order)`,
		becomes: `bands`,
	},
	{
		name: "a restart forgets the offset of the clock",
		is: `clock: { ...saved.clock }`,
		becomes: `clock: { lastAt: saved.clock.lastAt, offsetMs: 0 }`,
	},
	{
		name: "a restart lets others pass those who waited",
		is: `else entry.standing = "resuming";`,
		becomes: `else entry.standing = "away";`,
	},
	{
		name: "the band above is not written when it moves",
		is: `sayMoved(turn, limit.level.take(entry.id));`,
		becomes: `limit.level.take(entry.id);`,
	},
	{
		name: "who went is not passed",
		is: `export const inTurn = (entry: Entry): boolean => entry.standing === "present"`,
		becomes: `export const inTurn = (entry: Entry): boolean => entry.standing === "away" || entry.standing === "present"`,
	},
	{
		name: "who steps back waits for ever",
		is: `parked: RESERVATION_MS };`,
		becomes: `parked: Number.POSITIVE_INFINITY };`,
	},
	{
		name: "what was not committed here is vouched for",
		is: `past !== undefined && past.kind !== "cancelled";`,
		becomes: `past !== undefined;`,
	},
	{
		name: "an abort is kept as a lease",
		is: `conclude(turn, entry, "cancelled");\n		return say(turn, { kind: "released", id, slots, by });`,
		becomes: `conclude(turn, entry, "lease");\n		return say(turn, { kind: "released", id, slots, by });`,
	},
	{
		name: "a line in front of a denial wastes nothing of its decay",
		is: `const wasted = isExact ? 0 : Math.floor(before.size / settings.limit);`,
		becomes: `const wasted = 0;`,
		tables: "time",
	},
	{
		name: "a limit of 1 is told as if its slot came back within a millisecond",
		is: `if (settings.limit === 1) {`,
		becomes: `if (settings.limit === 0) {`,
		tables: "time",
	},
	{
		name: "what is set aside is free behind a long line",
		is: `usage.pour(sums.reserved + sums.lent);`,
		becomes: ``,
		tables: "time",
	},
	{
		name: "those that are to come back take their slots in their turn, as a denial tells it",
		is: `if (entry.wants !== "lease" || entry.standing === "resuming") sums.inTurnUnsure += sign;`,
		becomes: ``,
		tables: "time",
	},
	{
		name: "equal tags in a longer line are not ordered",
		is: `(reached === servedAt && (numbers[at] as number) < number)`,
		becomes: `reached === servedAt`,
		tables: "fairness",
	},
	{
		name: "a longer line's tag is not kept beside it",
		is: `		tags[at] = tag;`,
		becomes: `		tags[at] ??= tag;`,
		tables: "fairness",
	},
	{
		name: "who waits of a priority is forgotten as a higher one comes",
		is: `for (const { waiters } of of.next) for (const waiter of waiters) of.arrivals.add(waiter);`,
		becomes: ``,
		tables: "fairness",
	},
	{
		name: "retry-after forgets those in line",
		is: `BigInt(settings.limit - before.size - slots) * SLOT) + wasted`,
		becomes: `BigInt(settings.limit - slots) * SLOT) + wasted`,
	},
	{
		name: "retry-after forgets those in a line that is played",
		is: `if (entry.standing === "present") serve(entry.slots, entry.wants);`,
		becomes: `if (entry.standing === "parked") serve(entry.slots, entry.wants);`,
	},
	{
		name: "retry-after is rounded down",
		is: `this.at + Number((excess + this.rate - 1n) / this.rate);`,
		becomes: `this.at + Number(excess / this.rate);`,
	},
	{
		name: "it does not wake for decay",
		is: `if (head?.standing === "present") at`,
		becomes: `if (head?.standing === "resuming") at`,
	},
	{
		name: "slots set by hand free what leases hold",
		is: `limit.unleased = Math.max(0, slots - limit.sums.leased);`,
		becomes: `limit.unleased = slots - limit.sums.leased;`,
	},
	{
		name: "a limit of 0 refuses those who wait until it is raised",
		is: `if (slots > settings.limit && !isShut(limit)) return "exceeds_limit";`,
		becomes: `if (slots > settings.limit) return "exceeds_limit";`,
	},
	{
		name: "a limit of 0 is announced to be raised soon",
		is: `if (isShut(limit)) return Math.max(pausedMs, RETRY_ESTIMATE_MAX_MS);`,
		becomes: ``,
	},
	{
		name: "what was set aside for one unheard stays set aside",
		is: `if (entry.state === "reserved") {\n			returnToLine(turn, entry);`,
		becomes: `if (entry.state === "reserved") {`,
	},
	{
		name: "the first one unheard ends what a second was told of",
		is: `entry && (entry.claims > 0 || !isGranted(entry))`,
		becomes: `entry && !isGranted(entry)`,
	},
	{
		name: "the last one unheard ends nothing",
		is: `if (entry.claims > 0) entry.claims -= 1;`,
		becomes: ``,
	},
	{
		name: "one who went keeps its place in the lines that it does not stand in",
		is: `if (entry.state === "waiting") stand(turn, entry, "away");`,
		becomes: `if (entry.state === "waiting" && inTurn(entry)) stand(turn, entry, "away");`,
	},
	{
		name: "a deadline that changes keeps its place in the heap",
		is: `this.#up(member.heapIndex);\n		this.#down(member.heapIndex);`,
		becomes: `this.#up(member.heapIndex);`,
	},
	{
		name: "lent slots do not count",
		is: `BigInt(settings.limit - sums.reserved - sums.lent - slots) * SLOT;\n}\n\n/**\n * How a request that does not wait`,
		becomes: `BigInt(settings.limit - sums.reserved - slots) * SLOT;\n}\n\n/**\n * How a request that does not wait`,
	},
	{
		name: "all that is free is lent",
		is: `Number(free / (2n * SLOT)) - sums.lent`,
		becomes: `Number(free / SLOT) - sums.lent`,
	},
	{
		name: "each loan has half of what is free, whatever is lent already",
		is: `Number(free / (2n * SLOT)) - sums.lent`,
		becomes: `Number(free / (2n * SLOT))`,
	},
	{
		name: "what may be lent is for those who ask first",
		tables: "lending",
		is: `Math.min(wanted - left, room, part)`,
		becomes: `Math.min(wanted - left, room)`,
	},
	{
		name: "slots are lent past a waiter",
		is: `lends && limit.sums.inTurn === 0 && (known`,
		becomes: `lends && (known`,
	},
	{
		name: "what was used of a loan does not join the level",
		is: `limit.level.pour(slots);\n	countDenied(limit, -slots);`,
		becomes: `countDenied(limit, -slots);`,
	},
	{
		name: "slots are lent in a pause",
		is: `!isShut(limit) && !isPaused(limit);`,
		becomes: `!isShut(limit);`,
	},
	{
		name: "a limit that only watches lends",
		is: `const isLent = enforces(limit) && `,
		becomes: `const isLent = settings.active && `,
	},
	{
		name: "a loan outlives the decay that it is of",
		is: `for (const loan of loans) writeOff(turn, loan);`,
		becomes: ``,
	},
	{
		name: "what is said of a loan twice counts twice",
		is: `const slots = Math.min(loan.slots, Math.max(0, said.used - used));`,
		becomes: `const slots = Math.min(loan.slots, said.used);`,
	},
	{
		name: "grants from a loan that are told twice count twice",
		is: `const requests = Math.max(0, said.grants - grants);`,
		becomes: `const requests = said.grants;`,
	},
	{
		name: "a loan that nobody accounts for comes back",
		is: `account(turn, { id, used: used + slots, grants });`,
		becomes: ``,
	},
	{
		name: "a loan ends without a grace",
		is: `loan.expiresAt = now + lentMs + LOAN_GRACE_MS;`,
		becomes: `loan.expiresAt = now + lentMs;`,
	},
	{
		name: "a denied request borrows",
		is: `borrow(turn, command.borrow, wasGranted(turn, command.request.id));`,
		becomes: `borrow(turn, command.borrow, true);`,
	},
	{
		name: "a loan is forgotten by a restart",
		is: `...(saved.state === "lent" && { used: saved.used ?? 0, grants: saved.grants ?? 0, share: saved.share ?? 1 }),`,
		becomes: `...(saved.state === "lent" && { used: 0, grants: 0, share: 1 }),`,
	},
	{
		name: "a denial does not know that loans end",
		is: `const loans = [...limit.loans.values()].sort((a, b) => b.until - a.until);`,
		becomes: `const loans: Entry[] = [];`,
	},
	{
		name: "a Worker grants more than was lent",
		is: `loan.used + slots > loan.slots) return null;`,
		becomes: `loan.used + slots > loan.slots + 1) return null;`,
	},
	{
		name: "a Worker grants from a loan past the grace",
		is: `const endsAt = sentAt + lent.lentMs;`,
		becomes: `const endsAt = sentAt + lent.lentMs + 4_000;`,
	},
	{
		name: "a Worker grants from a loan that has ended",
		is: `if (!loan || now >= loan.endsAt || now < loan.askedAt`,
		becomes: `if (!loan || now < loan.askedAt`,
	},
	{
		name: "a Worker takes up a loan that it has repaid",
		is: `if (!isMine || borrowing.isOver) return`,
		becomes: `if (!isMine) return`,
	},
	{
		name: "a Worker repays less than it has used",
		is: `		const { id, used, grants } = loan;\n		return { repay`,
		becomes: `		const { id, grants } = loan;\n		const used = loan.used - 1;\n		return { repay`,
	},
];

/** What is run against a copy of the core: the same lives as in the simulation's own test, up to the first failure. */
const RUNNER = `
	import { Simulation } from "./test/core/simulation.ts";
	const outcomes = new Map();
	let steps = 0;
	let why = null;
	for (let seed = 1; seed <= Number(process.argv[2]) && why === null; seed += 1) {
		const simulation = new Simulation(seed, outcomes);
		try {
			simulation.run(250);
		} catch (error) {
			why = error.message.split("\\n")[0];
		}
		steps += simulation.steps;
	}
	process.stdout.write(JSON.stringify({ steps, why }));
`;

/** What lies under node_modules is left alone by vitest, unless it is told that it is source. */
const CONFIG = `
	export default {
		test: { include: ["test/core/**/*.test.ts"], exclude: ["**/simulation.test.ts", "**/denials.test.ts"], testTimeout: 300_000, bail: 1, server: { deps: { inline: true } } },
	};
`;

/**
 * Ends what hangs, for some faults never come to an end. Of a fault it is so many times what the whole takes without one,
 * on the same machine at the same time.
 */
let hangsMs = 900_000;
const HANGS_TIMES = 4;

const root = fileURLToPath(new URL("..", import.meta.url));
const copy = join(root, "node_modules", ".cache", "plant-faults");

await rm(copy, { recursive: true, force: true });
await mkdir(copy, { recursive: true });
await cp(join(root, "test", "core"), join(copy, "test", "core"), { recursive: true });
await cp(join(root, "src", "core"), join(copy, "src", "core"), { recursive: true });
for (const file of ["protocol.ts", LOANS]) await cp(join(root, "src", file), join(copy, "src", file));
await cp(join(root, "tsconfig.base.json"), join(copy, "tsconfig.base.json"));
await writeFile(join(copy, "run.ts"), RUNNER);
await writeFile(join(copy, "vitest.config.ts"), CONFIG);

const folder = join(copy, "src");
const core = (await readdir(join(folder, "core"))).filter((file) => file.endsWith(".ts"));
const files = [...core.map((file) => join("core", file)), LOANS];
const sources = new Map(await Promise.all(files.map(async (file) => [file, await text(file)] as const)));

const isQuick = process.argv.includes("--quick");
/** Of the faults that the simulation may see, the quick run plants one in so many. */
const QUICK_SHARE = 6;
const lives = isQuick ? 150 : 1_600;
const wanted = process.argv
	.slice(2)
	.filter((word) => word !== "--quick")
	.join(" ");
const faults = FAULTS.filter(({ name }) => name.includes(wanted));
const lost = faults.filter((fault) => placesOf(fault).length !== 1);
for (const fault of lost)
	console.error(`The text of "${fault.name}" is there ${placesOf(fault).length} times, and not once.`);
if (lost.length > 0) process.exit(1);

const unharmedAt = performance.now();
const unharmed = await judge();
if (unharmed.by !== null) {
	console.error(`The tests fail without a fault: ${unharmed.by}: ${unharmed.why}`);
	process.exit(1);
}
hangsMs = Math.ceil(10_000 + HANGS_TIMES * (performance.now() - unharmedAt));
console.log(`Without a fault: ${unharmed.steps} steps and the table tests pass.\n`);

let survivors = 0;
const left: string[] = [];
for (const [index, fault] of faults.entries()) {
	// Vitest alone takes longer to begin than all lives of the quick run.
	if (isQuick && wanted === "" && (fault.tables !== undefined || index % QUICK_SHARE !== 0)) {
		left.push(fault.name);
		continue;
	}
	const [file] = placesOf(fault) as [string];
	const source = sources.get(file) as string;
	await writeFile(
		join(folder, file),
		source.replace(fault.is, () => fault.becomes),
	);
	const startedAt = performance.now();
	const { by, why, steps } = await judge(fault.tables);
	const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
	await writeFile(join(folder, file), source);
	if (by === null && isQuick && fault.tables === undefined) {
		left.push(fault.name);
		continue;
	}
	if (by === null) survivors += 1;
	const after = by === "simulation" ? `${steps} steps, ` : "";
	console.log(
		`${by === null ? "SURVIVED" : "caught  "} ${fault.name}\n         ${by ?? "nobody"}, ${after}${seconds} s: ${why}`,
	);
}
const judged = faults.length - left.length;
console.log(`\n${judged - survivors} of ${judged} faults were caught.`);
if (left.length > 0) console.log(`Left to the long run, which has more lives and all tables: ${left.length}.`);
process.exit(survivors > 0 ? 1 : 0);

async function text(file: string): Promise<string> {
	return await readFile(join(folder, file), "utf8");
}

/** The files that hold the text of a fault, each as often as it does. */
function placesOf({ is }: Fault): string[] {
	return [...sources].flatMap(([file, source]) => Array(source.split(is).length - 1).fill(file) as string[]);
}

/** Who notices that something is wrong with the copy of the core, and how. */
async function judge(tables?: string): Promise<{ by: string | null; why: string; steps: number }> {
	const simulated = tables === undefined ? await simulate() : null;
	if (simulated && simulated.why !== null) return { by: "simulation", why: cut(simulated.why), steps: simulated.steps };
	const steps = simulated?.steps ?? 0;
	if (tables === undefined && isQuick) return { by: null, why: "", steps };
	const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
	const files = tables === undefined ? [] : [`test/core/${tables}.test.ts`];
	const run = await execute(process.execPath, [vitest, "run", "--root", copy, "--reporter", "json", ...files]);
	if (run.ok) return { by: null, why: "", steps };
	const failed = /"fullName":"([^"]*)","status":"failed"/.exec(run.output)?.[1];
	return { by: "table tests", why: cut(failed ?? run.output), steps };
}

async function simulate(): Promise<{ why: string | null; steps: number }> {
	const outfile = join(copy, "run.mjs");
	await build({
		entryPoints: [join(copy, "run.ts")],
		outfile,
		bundle: true,
		platform: "node",
		format: "esm",
		logLevel: "error",
	});
	const run = await execute(process.execPath, [outfile, String(lives)]);
	return run.ok ? JSON.parse(run.output) : { steps: 0, why: run.output };
}

function cut(words: string): string {
	return words.length > 150 ? `${words.slice(0, 150)}...` : words;
}

/** Runs a program; one that does not end in time has failed, and its end is waited for no longer. */
function execute(program: string, args: string[]): Promise<{ ok: boolean; output: string }> {
	return new Promise((resolve) => {
		execFile(program, args, { timeout: hangsMs, maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
			const never = error?.killed ? "it did not end" : "";
			resolve({ ok: error === null, output: error === null ? stdout : never || stdout || stderr });
		});
	});
}
