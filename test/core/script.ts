/**
 * Scenes as text. A line is a moment in milliseconds, a command, and what came of it:
 *
 *     0     acquire a x2 lease=1000   => granted a x2
 *     10    acquire b wait=500        => queued b at 1
 *     1000  tick                      => released a x2 by expiry, granted b after 990
 *
 * Commands: `acquire`, `reserve` (with x, lease, wait, park, held, once, rate, loose, print, key, priority), `back` (with x), `commit`, `cancel`, `park`,
 * `touch`, `renew`, `release`, `force`, `unheard`, `detach`, `vouch`, `resolve`, `settle`, `pause`, `configure`, `close`, `tick`; `borrow`
 * (with x, least, used, grants) and `repay` (with used, grants) of a loan; and
 * `restart`, `wake?` and `used?`, which only look. Defaults: 1 slot, a lease of 60 s, denied when busy.
 */

import type { Account, Command, Event } from "../../src/core/commands.ts";
import { activeSlots, type Request, type Settings } from "../../src/core/limit.ts";
import { Subject } from "./subject.ts";

/** Plays a scene and answers with what really happened, in the same form. */
export function play(settings: Partial<Settings>, scene: string): { said: string; happened: string } {
	const subject = new Subject({ limit: 1, slotDecayPerSecond: 0, active: true, ...settings }, 0);
	const lines = scene.split("\n").filter((line) => line.trim() !== "");
	const parsed = lines.map((line) => {
		const [, at = "0", words = "", said = ""] = /^\s*(-?\d+)\s+(.*?)\s*=>\s*(.*?)\s*$/.exec(line) ?? [];
		if (words === "") throw new Error(`Not a line of a scene: ${line}`);
		return { at: Number(at), words: words.replace(/\s+/g, " "), said };
	});
	const row = ({ at, words, said }: (typeof parsed)[number]): string => `${at} ${words} => ${said}`;
	return {
		said: parsed.map(row).join("\n"),
		happened: parsed.map((line) => row({ ...line, said: happen(subject, line.words, line.at) })).join("\n"),
	};
}

/** Carries out one command and tells what came of it. */
export function happen(subject: Subject, words: string, at: number): string {
	const [verb = "", ...rest] = words.split(" ");
	if (verb === "wake?") {
		const { wakeAt } = subject.decide({ kind: "tick" }, at);
		return wakeAt === null ? "never" : String(wakeAt);
	}
	if (verb === "used?") {
		subject.decide({ kind: "inspect" }, at);
		return String(activeSlots(subject.limit));
	}
	if (verb === "restart") {
		subject.restart(at);
		return "nothing";
	}
	const { events } = subject.decide(commandOf(verb, rest), at);
	return events.flatMap(tell).join(", ") || "nothing";
}

function commandOf(verb: string, words: string[]): Command {
	const [id = "", ...options] = words;
	const option = (name: string): string | undefined =>
		words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
	switch (verb) {
		case "acquire":
		case "reserve":
			return { kind: verb, request: requestOf(id, options, option) };
		case "commit":
			return { kind: "commit", id, peers: ["peer"] };
		case "cancel":
		case "park":
			return { kind: "cancel", id, keepPlace: verb === "park" };
		case "touch":
		case "detach":
		case "vouch":
			return { kind: verb, id };
		case "renew":
			return { kind: "renew", id, leaseMs: options[0] === undefined ? null : Number(options[0]) };
		case "release":
			return { kind: "release", id, by: "caller" };
		case "force":
			return { kind: "release", id, by: "operator" };
		case "unheard":
			return { kind: "release", id, by: "unheard" };
		case "settle":
			return { kind: "settle", id, actual: Number(options[0]) };
		case "pause":
			return { kind: "pause", ms: Number(id) };
		case "resolve":
			return { kind: "resolve", id, committed: options[0] === "yes" };
		case "configure":
			return configureOf(option);
		case "back":
			return { kind: "takeBack", slots: Number(id.slice(1)), heldMs: Number(option("held") ?? Number.NaN) || null };
		case "borrow":
			return {
				kind: "borrow",
				...accountOf(id, option),
				wanted: Number(options[0]?.slice(1)),
				least: Number(option("least") ?? 1),
			};
		case "repay":
			return { kind: "repay", ...accountOf(id, option) };
		case "close":
		case "tick":
			return { kind: verb };
		default:
			throw new Error(`Not a command: ${verb}`);
	}
}

function accountOf(id: string, option: (name: string) => string | undefined): Account {
	const used = Number(option("used") ?? 0);
	return { id, used, grants: Number(option("grants") ?? used) };
}

function requestOf(id: string, options: string[], option: (name: string) => string | undefined): Request {
	const wait = option("wait");
	const slots = options.find((word) => /^x\d+$/.test(word));
	return {
		id,
		slots: Number(slots?.slice(1) ?? 1),
		mode: options.includes("rate") ? "rate_limit" : options.includes("loose") ? "unleased" : "concurrency",
		leaseMs: Number(option("lease") ?? 60_000),
		waitMs: wait === "ever" ? Number.POSITIVE_INFINITY : Number(wait ?? 0),
		ifBusy: options.includes("park") ? "park" : wait === undefined ? "deny" : "wait",
		holder: null,
		held: options.includes("held"),
		print: option("print") ?? `${slots ?? "x1"}`,
		remember: !options.includes("once"),
		...(option("settle") !== undefined && { settleMs: Number(option("settle")) }),
		...(options.includes("atmost") && { atMost: true }),
		...(option("key") !== undefined && { key: option("key") }),
		...(option("priority") !== undefined && { priority: Number(option("priority")) }),
	};
}

function configureOf(option: (name: string) => string | undefined): Command {
	const [limit, decay, active, slots, enforce, lend] = ["limit", "decay", "active", "slots", "enforce", "lend"].map(
		option,
	);
	const [weights, starve] = ["weights", "starve"].map(option);
	return {
		kind: "configure",
		settings: {
			...(limit !== undefined && { limit: Number(limit) }),
			...(decay !== undefined && { slotDecayPerSecond: Number(decay) }),
			...(active !== undefined && { active: active === "yes" }),
			...(enforce !== undefined && { enforce: enforce === "yes" }),
			...(lend !== undefined && { lendSeconds: Number(lend) }),
			...(weights !== undefined && { weights: weightsOf(weights) }),
			...(starve !== undefined && { starveAfterSeconds: Number(starve) }),
		},
		...(slots !== undefined && { activeSlots: Number(slots) }),
	};
}

/** As in `a:2,b:3`. */
const weightsOf = (text: string): Record<string, number> =>
	Object.fromEntries(
		text.split(",").map((each): [string, number] => {
			const [key = "", weight] = each.split(":");
			return [key, Number(weight)];
		}),
	);

/** An event in words; what only storage needs to hear is left out. */
function tell(event: Event): string | [] {
	const many = "slots" in event && event.slots !== 1 ? ` x${event.slots}` : "";
	const would = "wouldDeny" in event && event.wouldDeny;
	const loose = would ? " though it would deny" : "enforced" in event && !event.enforced ? " unenforced" : "";
	switch (event.kind) {
		case "granted":
			return `granted ${event.id}${many}${event.waitedMs > 0 ? ` after ${event.waitedMs}` : ""}${event.repeat ? " again" : ""}${loose}`;
		case "reserved":
			return `reserved ${event.id}${many}${loose}`;
		case "queued":
			return `queued ${event.id} at ${event.position}`;
		case "parked":
			return `parked ${event.id} at ${event.position}`;
		case "denied":
			return event.code === "denied" ? `denied ${event.id}, retry ${event.retryAfterMs}` : `${event.code} ${event.id}`;
		case "left":
			return `left ${event.id} ${event.why}`;
		case "renewed":
			return `renewed ${event.id} to ${event.expiresAt}`;
		case "settled":
			return `settled ${event.id} with ${event.slots}${event.outcome === "settled" ? "" : ` ${event.outcome}`}`;
		case "gone":
			return `gone ${event.id}`;
		case "released":
			return `released ${event.id}${many} by ${event.by}`;
		case "doubted":
			return `doubted ${event.id}`;
		case "vouched":
			return `vouched ${event.id} ${event.committed ? "yes" : "no"}`;
		case "lent":
			return `lent ${event.id} ${event.slots} for ${event.lentMs}`;
		case "repaid":
			return `repaid ${event.id} ${event.slots} by ${event.by}`;
		case "configured":
			return "configured";
		case "rewritten":
		case "ended":
			return [];
	}
}
