/** What has to change so that a server is as a file says. Pure. */

import { DEFAULTS, type LimitSettings, type LimitSummary, type Policy } from "../protocol.ts";
import { windowWords } from "../window.ts";
import type { Desired } from "./desired.ts";

export interface Change {
	field: string;
	/** Undefined: there was none. */
	from: number | boolean | string | null | undefined;
	to: number | boolean | string | null;
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
	const alike = lookAlikes([...desired.limits.keys(), ...actual.limits.keys()]);
	const alikePatterns = lookAlikes([...desired.policies.keys(), ...actual.policies.keys()]);
	let unchanged = 0;
	const add = (step: Step | undefined): void => {
		if (step === undefined) return void unchanged++;
		const warning = (step.kind === "limit" ? alike : alikePatterns).get(step.name);
		const notes = [step.note, warning].filter((note) => note !== undefined);
		steps.push({ ...step, ...(notes.length > 0 && { note: notes.join("; ") }) });
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
		// Names that a policy made, or a first use, were never in a file.
		if (origin !== "configured" || desired.limits.has(name)) continue;
		const busy = activeSlots > 0 || waitingCount > 0;
		const note = { note: `in use: ${activeSlots} taken, ${waitingCount} waiting` };
		add({ kind: "limit", name, action: "delete", changes: [], ...(busy && note) });
	}
	for (const pattern of actual.policies.keys()) {
		if (!desired.policies.has(pattern)) add({ kind: "policy", name: pattern, action: "delete", changes: [] });
	}
	return { steps, unchanged };
}

/** Limits that a file wants to live elsewhere than they do, with where they were made for. A limit never moves. */
export const misplaced = ({ limits }: Desired, actual: Actual): [name: string, region: string | null][] =>
	[...limits].flatMap(([name, { region }]) => {
		const before = actual.limits.get(name);
		return before && region !== null && region !== before.region ? [[name, before.region]] : [];
	});

function limitStep(name: string, settings: LimitSettings, before: LimitSummary | undefined): Step | undefined {
	// A file that says nothing of a place wishes for none.
	const changes = compare(before, { ...settings, region: settings.region ?? before?.region ?? null });
	if (before === undefined) return { kind: "limit", name, action: "create", changes };
	if (before.origin === "configured") {
		return changes.length === 0 ? undefined : { kind: "limit", name, action: "change", changes };
	}
	const note = before.origin === "policy" ? "had the settings of a policy" : "was used, and configured by nobody";
	return { kind: "limit", name, action: "change", changes, note };
}

/** A name as it is, and as Unicode composes and decomposes it: the same to the eye, and not to a server. */
export const spellings = (name: string): string[] => [name, name.normalize("NFC"), name.normalize("NFD")];

/** Of names that look like another: where the first such differs from it, by its code points. */
function lookAlikes(names: string[]): Map<string, string> {
	const byLook = new Map<string, string[]>();
	for (const name of new Set(names)) {
		const look = name.normalize("NFC");
		byLook.set(look, [...(byLook.get(look) ?? []), name]);
	}
	const notes = new Map<string, string>();
	for (const group of byLook.values()) {
		for (const name of group) {
			const other = group.find((each) => each !== name);
			if (other !== undefined) notes.set(name, `not the name that looks the same: ${difference(name, other)}`);
		}
	}
	return notes;
}

function difference(name: string, other: string): string {
	const [here, there] = [[...name], [...other]];
	let at = 0;
	while (at < here.length && here[at] === there[at]) at++;
	const end = (a: string[], b: string[]): number => {
		let length = 0;
		while (length < Math.min(a.length, b.length) - at && a.at(-1 - length) === b.at(-1 - length)) length++;
		return a.length - length;
	};
	const points = (from: string[], until: number): string =>
		from
			.slice(at, until)
			.map((character) => `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`)
			.join(" ");
	return `${points(here, end(here, there))} here, ${points(there, end(there, here))} there`;
}

const FIELDS = [
	"limit",
	"slotDecayPerSecond",
	"window",
	"active",
	"enforce",
	"lendSeconds",
	"weights",
	"starveAfterSeconds",
	"region",
	"idleSeconds",
] as const;
type Fields = LimitSettings & { idleSeconds?: number };
/** Not worth a word when something is created. */
const USUAL: Partial<Fields> = {
	slotDecayPerSecond: 0,
	window: null,
	active: true,
	enforce: true,
	lendSeconds: 0,
	weights: {},
	starveAfterSeconds: DEFAULTS.starveAfterSeconds,
	region: null,
	idleSeconds: DEFAULTS.idleSeconds,
};

/** A window, and weights, are told in words, which say all of them. */
function said(field: (typeof FIELDS)[number], { window = null, weights, ...fields }: Partial<Fields>) {
	if (field === "weights") return weights && weightWords(weights);
	return field === "window" ? window && windowWords(window) : fields[field];
}

const weightWords = (weights: Record<string, number>): string =>
	Object.entries(weights)
		.sort(([a], [b]) => (a < b ? -1 : 1))
		.map(([key, weight]) => `${key} ${weight}`)
		.join(", ") || "none";

function compare(before: Fields | undefined, after: Fields): Change[] {
	return FIELDS.flatMap((field) => {
		const to = said(field, after);
		// A server of an earlier version does not tell what it does not know.
		return to === undefined || to === (said(field, before ?? USUAL) ?? said(field, USUAL))
			? []
			: [{ field, from: before && said(field, before), to }];
	});
}
