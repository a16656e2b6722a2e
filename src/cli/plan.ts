/** What has to change so that a server is as a file says. Pure. */

import { DEFAULTS, type LimitSummary, type Policy, type Settings } from "../protocol.ts";
import type { Desired } from "./desired.ts";

export interface Change {
	field: string;
	/** Undefined: there was none. */
	from: number | boolean | undefined;
	to: number | boolean;
}

export interface Step {
	kind: "limit" | "policy";
	name: string;
	action: "create" | "change" | "delete";
	changes: Change[];
	/** What an operator should know before saying yes. */
	note?: string;
}

export interface Plan {
	steps: Step[];
	/** Entries that are as they should be. */
	unchanged: number;
}

/** What a server has: of the limits, those that the file speaks of, and with `prune` all. */
export interface Actual {
	limits: Map<string, LimitSummary>;
	policies: Map<string, Policy>;
}

/** `prune`: limits that were configured by hand, and policies, go when the file does not speak of them. */
export function plan(desired: Desired, actual: Actual, prune: boolean): Plan {
	const steps: Step[] = [];
	let unchanged = 0;
	const add = (step: Step | undefined): void => {
		if (step === undefined) unchanged++;
		else steps.push(step);
	};
	for (const [name, settings] of desired.limits) add(limitStep(name, settings, actual.limits.get(name)));
	for (const [pattern, settings] of desired.policies) {
		const before = actual.policies.get(pattern);
		const changes = compare(before, settings);
		const action = before ? "change" : "create";
		add(changes.length === 0 ? undefined : { kind: "policy", name: pattern, action, changes });
	}
	if (!prune) return { steps, unchanged };
	for (const { name, origin, activeSlots, waitingCount } of actual.limits.values()) {
		// Names that a policy or nobody made were never in a file.
		if (origin !== "configured" || desired.limits.has(name)) continue;
		const busy = activeSlots > 0 || waitingCount > 0;
		const note = { note: `in use: ${activeSlots} taken, ${waitingCount} waiting` };
		steps.push({ kind: "limit", name, action: "delete", changes: [], ...(busy && note) });
	}
	for (const pattern of actual.policies.keys()) {
		if (!desired.policies.has(pattern)) steps.push({ kind: "policy", name: pattern, action: "delete", changes: [] });
	}
	return { steps, unchanged };
}

function limitStep(name: string, settings: Settings, before: LimitSummary | undefined): Step | undefined {
	const changes = compare(before, settings);
	if (before === undefined) return { kind: "limit", name, action: "create", changes };
	if (before.origin === "configured") {
		return changes.length === 0 ? undefined : { kind: "limit", name, action: "change", changes };
	}
	const note = before.origin === "policy" ? "had the settings of a policy" : "was used, and configured by nobody";
	return { kind: "limit", name, action: "change", changes, note };
}

const FIELDS = ["limit", "slotDecayPerSecond", "active", "idleSeconds"] as const;
type Fields = Settings & { idleSeconds?: number };
/** Not worth a word when something is created. */
const USUAL: Partial<Fields> = { slotDecayPerSecond: 0, active: true, idleSeconds: DEFAULTS.idleSeconds };

function compare(before: Fields | undefined, after: Fields): Change[] {
	return FIELDS.flatMap((field) => {
		const to = after[field];
		return to === undefined || to === (before ?? USUAL)[field] ? [] : [{ field, from: before?.[field], to }];
	});
}
