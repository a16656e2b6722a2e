/** What a section has to say: as a table in a terminal, and as one in `docs/benchmarks.md`. */

import { readFileSync, writeFileSync } from "node:fs";
import Table from "cli-table3";

export interface Target {
	what: string;
	/** What is aimed at, in words. */
	aim: string;
	measured: string;
	met: boolean;
}

export interface Report {
	title: string;
	/** How to read it: what was done, and anything that bent the numbers. */
	notes: string[];
	head: string[];
	rows: string[][];
	targets: Target[];
	/** Draws its plots, where the report is written. */
	draw?: () => Promise<void>;
}

const TARGET_HEAD = ["target", "aim", "measured", ""];

const targetRow = ({ what, aim, measured, met }: Target): string[] => [what, aim, measured, met ? "✓" : "✗ missed"];

/** For the terminal. */
export function toText({ title, notes, head, rows, targets }: Report): string {
	const parts = [title, ...notes, table(head, rows)];
	if (targets.length > 0) parts.push(table(TARGET_HEAD, targets.map(targetRow)));
	return parts.join("\n");
}

function table(head: string[], rows: string[][]): string {
	// Colours would end up in logs and copies.
	const made = new Table({ head, style: { head: [], border: [] } });
	made.push(...rows);
	return made.toString();
}

/**
 * Replaces the section's part of the document, which stands between two comments that name it. What stands around
 * them is written by hand and stays.
 */
export function write(file: string, section: string, report: Report, measuredHow: string): void {
	const text = readFileSync(file, "utf8");
	const begin = `<!-- measured: ${section} -->`;
	const end = `<!-- end: ${section} -->`;
	const from = text.indexOf(begin);
	const to = text.indexOf(end);
	if (from < 0 || to < from) throw new Error(`${file} has no place for the section: ${begin} … ${end}`);
	const { notes, head, rows, targets } = report;
	const judged = targets.length > 0 ? [markdown(TARGET_HEAD, targets.map(targetRow))] : [];
	const parts = [markdown(head, rows), ...judged, ...notes, measuredHow];
	writeFileSync(file, `${text.slice(0, from)}${begin}\n\n${parts.join("\n\n")}\n\n${text.slice(to)}`);
}

function markdown(head: string[], rows: string[][]): string {
	const line = (cells: string[]): string => `| ${cells.join(" | ")} |`;
	return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
