/**
 * Time that passed. What fell due takes effect at its own moment and in the order of those moments, but slots are
 * granted now and never in the past: a late alarm, or a clock that leapt forward, gives no waiter more than was free.
 */

import { conclude, drop, giveBack } from "./ending.ts";
import { deny, dueNext, serve } from "./granting.ts";
import { writeOff } from "./lending.ts";
import type { Entry, Limit } from "./limit.ts";
import { say, sayMoved, type Turn } from "./turn.ts";

/** Lets time run to now. A waiter whose time ended meanwhile is served first if there is room by now. */
export function runTime(turn: Turn): void {
	const { limit, now } = turn;
	const givingUp: Entry[] = [];
	for (;;) {
		const entry = nextDue(limit);
		if (!entry || entry.until > now) break;
		turn.now = Math.max(entry.until, limit.level.at);
		limit.level.drain(turn.now);
		if (entry.state === "waiting" && entry.standing === "present") {
			limit.deadlines.remove(entry);
			givingUp.push(entry);
		} else {
			fallDue(turn, entry);
		}
	}
	turn.now = now;
	limit.level.drain(now);
	serve(turn);
	const late = givingUp.filter((entry) => entry.state === "waiting");
	if (late.length === 0) return;
	for (const entry of late) fallDue(turn, entry);
	serve(turn);
}

function nextDue({ deadlines, loans }: Limit): Entry | undefined {
	const [due, loan] = [deadlines.first, loans.first];
	return due && loan ? (loan.until < due.until ? loan : due) : (due ?? loan);
}

function fallDue(turn: Turn, entry: Entry): void {
	const { limit, now } = turn;
	const { id, slots, peers } = entry;
	if (entry.state === "waiting") {
		const gaveUp = now >= entry.giveUpAt;
		drop(turn, entry);
		if (gaveUp) limit.totals.timedOut += 1;
		if (gaveUp) deny(turn, entry, "denied", slots);
		else say(turn, { kind: "left", id, why: "gone" });
	} else if (entry.state === "lent") {
		writeOff(turn, entry);
	} else if (entry.state === "reserved") {
		drop(turn, entry);
		say(turn, { kind: "released", id, slots: entry.enforced ? slots : 0, by: "lapse" });
	} else if (entry.state === "committed" && (entry.mode !== "concurrency" || now < entry.expiresAt)) {
		dueNext(turn, entry);
		say(turn, { kind: "doubted", id, peers });
	} else if (entry.state === "unsettled") {
		// The estimate stands.
		conclude(turn, entry, "receipt");
		sayMoved(turn, id);
	} else {
		giveBack(turn, entry, "expiry");
	}
}
