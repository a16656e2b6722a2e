/** What the demo shows: a line of progress while it runs, and a table when it is done. */

import Table from "cli-table3";

/** One line of the closing table. Without `met` it is only told, and where the machine stalled it is not judged. */
export interface Finding {
	what: string;
	measured: string;
	aim?: string;
	met?: boolean | "stalled";
}

export interface Act {
	title: string;
	findings: Finding[];
}

/** Between two lines where there is no terminal to rewrite one on. */
const QUIET_MS = 3_000;

export class Progress {
	readonly #live = process.stdout.isTTY === true;
	#printedAt = Number.NEGATIVE_INFINITY;
	#title = "";

	begin(title: string): void {
		this.#title = title;
		this.#printedAt = Number.NEGATIVE_INFINITY;
	}

	/** Shows how far it is: on the same line of a terminal, or now and then on a line of its own. */
	at(state: string): void {
		const now = performance.now();
		const line = `${this.#title}: ${state}`;
		if (this.#live) process.stdout.write(`\r\x1b[2K${line.slice(0, (process.stdout.columns ?? 80) - 1)}`);
		else if (now - this.#printedAt >= QUIET_MS) process.stdout.write(`${line}\n`);
		else return;
		this.#printedAt = now;
	}

	clear(): void {
		if (this.#live) process.stdout.write("\r\x1b[2K");
	}
}

function shown(met: Finding["met"]): string {
	if (met === "stalled") return "machine stalled";
	return met === undefined ? "" : met ? "✓" : "✗ missed";
}

/** The closing table; answers how many targets were missed. */
export function closingTable(acts: Act[]): { text: string; missed: number } {
	// Colours would end up in logs and copies.
	const table = new Table({ head: ["", "measured", "target", ""], style: { head: [], border: [] } });
	for (const { title, findings } of acts) {
		table.push([{ content: title, colSpan: 4 }]);
		for (const { what, measured, aim, met } of findings) {
			table.push([`  ${what}`, measured, aim ?? "", shown(met)]);
		}
	}
	const missed = acts.flatMap(({ findings }) => findings).filter(({ met }) => met === false).length;
	return { text: table.toString(), missed };
}

export function percentile(values: number[], part: number): number {
	const sorted = [...values].sort((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

export const ms = (value: number): string => `${value.toFixed(1)} ms`;
export const s = (value: number): string => `${(value / 1_000).toFixed(2)} s`;
