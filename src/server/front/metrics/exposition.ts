/** `/metrics`: every limit that is its own, and the sum of each policy, as OpenMetrics text. */

import { BUCKETS_MS, type Histogram } from "../../../core/totals.ts";
import { BOUNDS, VERSION } from "../../../protocol.ts";
import type { PolicySum } from "../../contract/directory-calls.ts";
import type { Env } from "../../contract/env.ts";
import type { Measured } from "../../contract/limit-calls.ts";
import { directoryObject } from "../../contract/placement.ts";
import { policySums } from "../../contract/policy-sums.ts";
import { limitOf } from "../limit-stub.ts";
import { AT_ONCE, yieldToOthers } from "../yielding.ts";

export const OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/** One limit or policy, as its samples say it. */
interface Measure extends Omit<Measured, "name" | "origin" | "active" | "lent" | "keys"> {
	labels: string;
}

/** What there is to see for a caller that may see names with this prefix. */
export async function metrics(env: Env, prefix: string): Promise<string> {
	const directory = directoryObject(env);
	const [{ names, total }, policies, sums] = await Promise.all([
		directory.ownNames(prefix, BOUNDS.limitsMeasured),
		directory.policies(),
		policySums(env),
	]);
	const answers: PromiseSettledResult<Measured | null>[] = [];
	for (let from = 0; from < names.length; from += AT_ONCE) {
		if (from > 0) await yieldToOthers();
		const some = names.slice(from, from + AT_ONCE);
		answers.push(...(await Promise.allSettled(some.map((name) => limitOf(env, name).measure()))));
	}
	const unavailable = answers.filter(({ status }) => status === "rejected").length;
	const limits = answers.flatMap((answer) => (answer.status === "fulfilled" && answer.value ? [answer.value] : []));
	const seen = policies.filter(({ pattern }) => pattern.startsWith(prefix));
	const ofPolicies = seen.flatMap(({ pattern, limit }) => {
		const sum = sums.find((each) => each.pattern === pattern);
		return sum ? [{ ...sum, capacity: limit }] : [];
	});
	return text(limits, ofPolicies, { leftOut: total - names.length, unavailable });
}

/** The text itself: pure, so that it can be looked at without a server. */
export function text(
	limits: Measured[],
	policies: (PolicySum & { capacity: number })[],
	{ leftOut, unavailable }: { leftOut: number; unavailable: number },
): string {
	const all: Measure[] = [
		// One that is switched off has no capacity to speak of: it grants everything.
		...limits.map((limit) => ({ ...limit, labels: labelled({ limit: limit.name, origin: limit.origin }) })),
		...policies.map((sum) => ({ ...sum, labels: labelled({ limit: sum.pattern, origin: "policy" }) })),
	];
	const lines: string[] = [];
	const family = (name: string, type: string, help: string, samples: string[]): void => {
		lines.push(`# TYPE headgate_${name} ${type}`);
		if (name.endsWith("_seconds")) lines.push(`# UNIT headgate_${name} seconds`);
		lines.push(`# HELP headgate_${name} ${help}`, ...samples);
	};
	const gauge = (name: string, help: string, of: (measure: Measure) => number): void =>
		family(
			name,
			"gauge",
			help,
			all.map((measure) => `headgate_${name}{${measure.labels}} ${of(measure)}`),
		);
	const counter = (name: string, help: string, of: (totals: Measure["totals"]) => number): void =>
		family(
			name,
			"counter",
			help,
			all.map(({ labels, totals }) => `headgate_${name}_total{${labels}} ${of(totals)}`),
		);
	const histogram = (name: string, help: string, of: (totals: Measure["totals"]) => Histogram): void =>
		family(
			name,
			"histogram",
			help,
			all.flatMap(({ labels, totals }) => buckets(`headgate_${name}`, labels, of(totals))),
		);

	family("build", "info", "Which Headgate this is.", [`headgate_build_info{${labelled({ version: VERSION })}} 1`]);
	gauge(
		"capacity_slots",
		"Slots that a limit has; of a policy, that each of its keys has.",
		({ capacity }) => capacity,
	);
	family(
		"active",
		"gauge",
		"Whether a limit is switched on: 1 or 0.",
		limits.map(
			(limit) => `headgate_active{${labelled({ limit: limit.name, origin: limit.origin })}} ${Number(limit.active)}`,
		),
	);
	gauge(
		"in_use_slots",
		"Slots in use, rounded up; of a policy, those of keys heard of in the last minute.",
		({ inUse }) => inUse,
	);
	family(
		"lent_slots",
		"gauge",
		"Of the slots in use, those that are lent to Workers and not accounted for.",
		limits.map(
			(limit) => `headgate_lent_slots{${labelled({ limit: limit.name, origin: limit.origin })}} ${limit.lent}`,
		),
	);
	gauge(
		"waiting_requests",
		"Requests in line; of a policy, those of keys heard of in the last minute.",
		({ waiting }) => waiting,
	);
	family(
		"policy_keys",
		"gauge",
		"Keys of a policy that were heard of in the last minute.",
		policies.map(({ pattern, keys }) => `headgate_policy_keys{${labelled({ limit: pattern })}} ${keys}`),
	);
	const keys = limits.flatMap((limit) =>
		limit.keys.map(({ key, ...of }) => ({
			...{ ...of, labels: labelled({ limit: limit.name, origin: limit.origin, key }) },
		})),
	);
	const shown = keys.slice(0, BOUNDS.keysMeasured);
	family(
		"key_waiting_requests",
		"gauge",
		"Requests in line, of each key that has a weight.",
		shown.map(({ labels, waiting }) => `headgate_key_waiting_requests{${labels}} ${waiting}`),
	);
	family(
		"key_granted",
		"counter",
		"Requests granted, of each key that has a weight, since its limit was last idle.",
		shown.map(({ labels, granted }) => `headgate_key_granted_total{${labels}} ${granted}`),
	);
	family("keys_left_out", "gauge", `Keys beyond the first ${BOUNDS.keysMeasured}, which are not shown.`, [
		`headgate_keys_left_out ${keys.length - shown.length}`,
	]);
	counter("granted_at_once", "Requests granted without a wait.", ({ grantedAtOnce }) => grantedAtOnce);
	counter("granted_after_wait", "Requests granted after a wait.", ({ grantedAfterWait }) => grantedAfterWait);
	counter(
		"denied",
		"Requests refused for want of free slots, those that timed out among them.",
		({ denied }) => denied,
	);
	counter("timed_out", "Requests that gave up in line at the end of their time.", ({ timedOut }) => timedOut);
	counter("released", "Leases given back by their holder or an operator.", ({ released }) => released);
	counter(
		"would_deny",
		"Requests granted though they would have been denied, for the limit was not enforced.",
		({ wouldDeny }) => wouldDeny,
	);
	counter("expired", "Leases that ended by themselves.", ({ expired }) => expired);
	histogram("wait_seconds", "How long granted requests had waited.", ({ waits }) => waits);
	histogram("hold_seconds", "How long leases were held.", ({ holds }) => holds);
	family("limits_left_out", "gauge", `Limits beyond the first ${BOUNDS.limitsMeasured}, which are not shown.`, [
		`headgate_limits_left_out ${leftOut}`,
	]);
	family("limits_unavailable", "gauge", "Limits that did not answer and are not shown.", [
		`headgate_limits_unavailable ${unavailable}`,
	]);
	lines.push("# EOF", "");
	return lines.join("\n");
}

/** Buckets of OpenMetrics count everything up to their end. */
function buckets(name: string, labels: string, { counts, sumMs }: Histogram): string[] {
	let count = 0;
	const lines = counts.map((more, index) => {
		count += more;
		const end = BUCKETS_MS[index];
		return `${name}_bucket{${labels},le="${end === undefined ? "+Inf" : decimal(end / 1000)}"} ${count}`;
	});
	return [...lines, `${name}_count{${labels}} ${count}`, `${name}_sum{${labels}} ${sumMs / 1000}`];
}

/** The form that OpenMetrics has for the ends of buckets. */
const decimal = (value: number): string => (Number.isInteger(value) ? value.toFixed(1) : String(value));

const labelled = (labels: Record<string, string>): string =>
	Object.entries(labels)
		.map(([name, value]) => `${name}="${escaped(value)}"`)
		.join(",");

const escaped = (value: string): string =>
	value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
