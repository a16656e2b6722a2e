/** What a run came to: in a terminal, and in docs/reliability.md. */

import { createRequire } from "node:module";
import { cpus } from "node:os";
import path from "node:path";
import { type Report, write } from "../bench/report.ts";
import { FAULTS } from "./faults.ts";
import type { Violation } from "./history.ts";
import { SCENES } from "./scenes.ts";

export interface Figures {
	seed: number;
	minutes: number;
	seconds: number;
	rounds: number;
	/** What callers did and came to the end of. */
	operations: number;
	/** Requests for slots among them. */
	requests: number;
	faults: Record<string, number>;
	scenes: Record<string, number>;
	counts: Record<string, number>;
	violation: Violation | null;
	/** What this machine does not allow. */
	missing: string[];
}

const DOCUMENT = path.resolve(import.meta.dirname, "../docs/reliability.md");
/** Lines of a history that a terminal shows. */
const SHOWN = 60;

const counted = (of: Record<string, number>): string =>
	Object.entries(of)
		.sort(([, a], [, b]) => b - a)
		.map(([what, count]) => `${count} ${what}`)
		.join(", ");

export function toText(figures: Figures): string {
	const { seconds, rounds, operations, requests, faults, scenes, counts, violation, missing } = figures;
	const lines = [
		`${rounds} rounds in ${seconds.toFixed(0)} s: ${operations} operations, of them ${requests} requests for slots.`,
		`Faults: ${counted(faults)}.`,
		`Scenes: ${counted(scenes)}.`,
		`Seen: ${counted(counts)}.`,
		...missing.map((what) => `Left out: ${what}.`),
	];
	if (violation === null) return [...lines, "No violation."].join("\n");
	const { promise, what, history } = violation;
	const shown =
		history.length > SHOWN ? [`(${history.length - SHOWN} lines before)`, ...history.slice(-SHOWN)] : history;
	return [...lines, `VIOLATION of promise ${promise}: ${what}`, ...shown.map((line) => `  ${line}`)].join("\n");
}

function machine(): string {
	const wrangler = createRequire(import.meta.url).resolve("wrangler/package.json");
	const { version } = createRequire(wrangler)("workerd/package.json") as { version: string };
	const all = cpus();
	const today = new Date().toISOString().slice(0, 10);
	return `${all[0]?.model.trim()}, ${all.length} cores, workerd ${version}, Node ${process.versions.node}, ${today}`;
}

/** Puts what a run came to between the markers of its section. */
export function writeFigures(section: "soak" | "plants", of: Figures | string[][], how: string): void {
	const report = Array.isArray(of) ? plantsReport(of) : soakReport(of);
	write(DOCUMENT, section, report, `Made with \`${how}\` on ${machine()}.`);
}

function soakReport(figures: Figures): Report {
	const { seconds, rounds, operations, requests, violation, missing, faults, scenes, counts } = figures;
	const sum = Object.values(faults).reduce((all, count) => all + count, 0);
	return {
		title: "",
		notes: [`Seen besides: ${counted(counts)}.`, ...missing.map((what) => `Left out: ${what}.`)],
		head: ["what", "how often"],
		rows: [
			["**violations**", violation === null ? "**0**" : `**${violation.what}**`],
			["minutes", (seconds / 60).toFixed(1)],
			["rounds", String(rounds)],
			["operations, each to its end", operations.toLocaleString("en")],
			["of them requests for slots", requests.toLocaleString("en")],
			["faults", String(sum)],
			...Object.entries(FAULTS).map(([name, { title }]) => [title, String(faults[name] ?? 0)]),
			...Object.entries(SCENES).map(([name, { title }]) => [title, String(scenes[name] ?? 0)]),
		],
		targets: [],
	};
}

const plantsReport = (rows: string[][]): Report => ({
	title: "",
	notes: [],
	head: ["fault in the server", "found after", "as"],
	rows,
	targets: [],
});
