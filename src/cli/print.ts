/** Printing: tables and colours on a terminal, plain lines in a pipe, JSON when asked. */

import pc from "picocolors";
import type { Settings } from "../protocol.ts";
import { safe } from "../visible.ts";
import { windowWords } from "../window.ts";

export { safe } from "../visible.ts";

/** Columns that a text takes. Only a terminal has columns, and the library takes a third of the time of a short command to load. */
const stringWidth = process.stdout.isTTY
	? (await import("string-width")).default
	: (text: string): number => text.length;

/** What standard output is: how wide, and whether a person reads it. */
export interface Screen {
	/** Whether it is a terminal. */
	terminal: boolean;
	/** Columns of the terminal; without one, lines are as long as they are. */
	columns: number;
	colors: ReturnType<typeof pc.createColors>;
}

/** Narrower terminals are treated as so wide. */
const COLUMNS_MIN = 20;

export function screenOf(stream: NodeJS.WriteStream, color = true): Screen {
	const terminal = stream.isTTY === true;
	const wanted = terminal && color && !process.env.NO_COLOR && process.env.TERM !== "dumb";
	const columns = terminal ? Math.max(COLUMNS_MIN, stream.columns || 80) : Number.POSITIVE_INFINITY;
	return { terminal, columns, colors: pc.createColors(wanted) };
}

/** As a word of a command line, to be copied into a shell. */
export function word(text: string): string {
	return /^[\w@+:.,-]+$/.test(text) ? text : `'${safe(text).replaceAll("'", "'\\''")}'`;
}

/** Cut to a width in columns, with an ellipsis where something is missing. */
export function clip(text: string, width: number): string {
	if (stringWidth(text) <= width) return text;
	let kept = "";
	for (const { segment } of new Intl.Segmenter().segment(text)) {
		if (stringWidth(kept + segment) > width - 1) break;
		kept += segment;
	}
	return `${kept}…`;
}

export interface Column<Row> {
	title: string;
	/** Plain text; what is not ours has to go through `safe`. */
	text: (row: Row) => string;
	/** For numbers. */
	right?: boolean;
	/** On a terminal that is too narrow, columns with the highest number go first; 0 stays, and is cut. */
	drop: number;
	/** Text of any length, which is cut before a column goes. */
	cut?: boolean;
	color?: (row: Row, text: string) => string;
}

const GAP = 2;
/** So much of a text that may be cut is kept as long as there are columns that may go. */
const CUT_MIN = 24;
/** Columns that stay are not cut below this. */
const CELL_MIN = 6;

/**
 * The lines of a table. In a pipe: one line a row, without a header, tabs between the columns, nothing left out, so
 * that `cut` and `awk` can read it.
 */
export function table<Row>(screen: Screen, columns: Column<Row>[], rows: readonly Row[]): string[] {
	if (!screen.terminal) return rows.map((row) => columns.map((column) => column.text(row)).join("\t"));
	const cells = rows.map((row) => columns.map((column) => column.text(row)));
	const natural = columns.map(({ title }, at) =>
		Math.max(stringWidth(title), ...cells.map((line) => stringWidth(line[at] ?? ""))),
	);
	let shown = columns.map((_, at) => at);
	const width = (size: (at: number) => number) => shown.reduce((sum, at) => sum + size(at), GAP * (shown.length - 1));
	const whole = (at: number): number => natural[at] ?? 0;
	const least = (at: number): number => (columns[at]?.cut ? Math.min(CUT_MIN, whole(at)) : whole(at));
	while (width(least) > screen.columns) {
		const next = shown.toSorted((a, b) => (columns[b]?.drop ?? 0) - (columns[a]?.drop ?? 0))[0];
		if (next === undefined || columns[next]?.drop === 0) break;
		shown = shown.filter((at) => at !== next);
	}
	const widths = new Map(shown.map((at) => [at, whole(at)]));
	for (let excess = width(whole) - screen.columns; excess > 0; ) {
		// First what may be cut, down to what it keeps, and then whatever is widest.
		const spare = ([at, size]: [number, number]): number => (columns[at]?.cut ? size - least(at) : 0);
		const byRoom = [...widths].toSorted((a, b) => spare(b) - spare(a) || b[1] - a[1]);
		const [widest, size] = byRoom[0] ?? [0, 0];
		const cut = Math.min(excess, spare([widest, size]) || size - CELL_MIN);
		if (cut <= 0) break;
		widths.set(widest, size - cut);
		excess -= cut;
	}
	const line = (texts: string[], color: (at: number, text: string) => string): string => {
		const parts = shown.map((at, index) => {
			const size = widths.get(at) ?? 0;
			const text = clip(texts[at] ?? "", size);
			const blank = " ".repeat(Math.max(0, size - stringWidth(text)));
			const padded = columns[at]?.right ? blank + color(at, text) : color(at, text) + blank;
			return index === shown.length - 1 && !columns[at]?.right ? color(at, text) : padded;
		});
		return parts.join(" ".repeat(GAP));
	};
	const head = line(
		columns.map(({ title }) => title),
		(_, text) => screen.colors.dim(text),
	);
	return [head, ...cells.map((texts, at) => line(texts, (column, text) => paint(columns[column], rows[at], text)))];
}

function paint<Row>(column: Column<Row> | undefined, row: Row | undefined, text: string): string {
	return column?.color && row !== undefined ? column.color(row, text) : text;
}

/** A bar of so many cells, `used` of `limit` full. */
export function bar(used: number, limit: number, cells = 10): string {
	const share = limit === 0 ? (used > 0 ? 1 : 0) : Math.min(1, used / limit);
	// Something is never shown as nothing, and not quite full never as full.
	const full = share === 1 ? cells : Math.min(cells - 1, Math.max(share > 0 ? 1 : 0, Math.round(share * cells)));
	return "█".repeat(full) + "░".repeat(cells - full);
}

/** A time span in one or two units: `42 s`, `3 min 5 s`, `2 h 1 min`. */
export function span(ms: number): string {
	const seconds = Math.max(0, Math.round(ms / 1_000));
	if (seconds < 60) return `${seconds} s`;
	const [big, small, unit, sub] =
		seconds < 3_600
			? [Math.floor(seconds / 60), seconds % 60, "min", "s"]
			: seconds < 86_400
				? [Math.floor(seconds / 3_600), Math.floor((seconds % 3_600) / 60), "h", "min"]
				: [Math.floor(seconds / 86_400), Math.floor((seconds % 86_400) / 3_600), "d", "h"];
	return small === 0 ? `${big} ${unit}` : `${big} ${unit} ${small} ${sub}`;
}

/** A decay as people say it: a second, a minute, an hour or a day, whichever gives a round number. */
export function rate(slotDecayPerSecond: number): string {
	if (slotDecayPerSecond === 0) return "";
	for (const [unit, seconds] of RATE_UNITS) {
		const value = slotDecayPerSecond * seconds;
		if (value >= 0.999_999 && Math.abs(value - Math.round(value)) < 1e-6 * value) return `${Math.round(value)}/${unit}`;
	}
	return `${Number(slotDecayPerSecond.toPrecision(4))}/s`;
}

/** How slots come back that do so by themselves; empty: by release alone. */
export const comesBack = ({ window, slotDecayPerSecond }: Pick<Settings, "window" | "slotDecayPerSecond">): string =>
	window ? windowWords(window) : rate(slotDecayPerSecond);

export const RATE_UNITS: [unit: string, seconds: number][] = [
	["s", 1],
	["min", 60],
	["h", 3_600],
	["d", 86_400],
];

/** `1 slot`, `2 slots`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;
