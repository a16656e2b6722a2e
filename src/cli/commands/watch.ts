/** `watch`: how limits stand, live. */

import { byAttention, conditionOf } from "../../attention.ts";
import type { HouseTotals, LimitSummary, WatchEvent } from "../../protocol.ts";
import { WATCH_BEAT_MS } from "../../rhythms.ts";
import type { Context } from "../context.ts";
import { explain } from "../exit.ts";
import { draw, writeSource } from "../output.ts";
import { clip, counted, safe, table } from "../print.ts";
import { limitColumns } from "./limits.ts";

/** The terminal is drawn anew at most so often. */
const FRAME_MS = 100;
/** After this silence the stream is taken for dead. */
const SILENCE_MS = 4 * WATCH_BEAT_MS;
/** How long to wait before asking again, doubled each time. */
const AGAIN_MS = { first: 500, last: 10_000 };

/** Ends when `signal` aborts. */
export async function watch(context: Context, prefix: string | undefined, signal: AbortSignal): Promise<void> {
	const view = context.json
		? new JsonLines(context)
		: context.out.terminal
			? new Live(context, prefix)
			: new Lines(context);
	try {
		let pauseMs = 0;
		for (let seen = false; !signal.aborted; ) {
			try {
				for await (const event of events(context, prefix, signal)) {
					if (event.event === "limits") seen = true;
					pauseMs = 0;
					view.show(event);
				}
			} catch (error) {
				if (signal.aborted) return;
				const known = explain(error, context.url);
				// What was never there, or is not allowed, does not come by waiting.
				if (
					!seen ||
					known === undefined ||
					("status" in (error as Error) && (error as { status: number }).status < 500)
				) {
					throw error;
				}
				view.interrupted(known.message);
			}
			pauseMs = Math.min(AGAIN_MS.last, Math.max(AGAIN_MS.first, pauseMs * 2));
			await pause(pauseMs, signal);
		}
	} finally {
		view.end();
	}
}

/** The lines of one stream, to its end. */
async function* events(context: Context, prefix: string | undefined, signal: AbortSignal): AsyncGenerator<WatchEvent> {
	const transport = context.transport();
	const over = new AbortController();
	const end = (): void => over.abort(signal.reason);
	signal.addEventListener("abort", end);
	let silence: NodeJS.Timeout | undefined;
	const heard = (): void => {
		clearTimeout(silence);
		silence = setTimeout(() => over.abort(new Error("silence")), SILENCE_MS);
	};
	heard();
	try {
		const query = new URLSearchParams({ order: "attention", ...(prefix && { prefix }) });
		const response = await openOrFail(context, () =>
			transport.open("GET", `/v1/watch?${query}`, undefined, "application/x-ndjson", over.signal),
		);
		let rest = "";
		for await (const chunk of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
			heard();
			const lines = (rest + chunk).split("\n");
			rest = lines.pop() ?? "";
			for (const line of lines) if (line.trim() !== "") yield JSON.parse(line) as WatchEvent;
		}
	} catch (error) {
		throw error instanceof TypeError || over.signal.aborted ? transport.unreachable(1, error as never) : error;
	} finally {
		clearTimeout(silence);
		signal.removeEventListener("abort", end);
		over.abort();
	}
}

/** Opens a stream; an answer that is worth another try becomes the error that a call would end with. */
async function openOrFail(context: Context, open: () => Promise<Response>): Promise<Response> {
	try {
		return await open();
	} catch (error) {
		if (error instanceof Error && error.name === "HeadgateError") throw error;
		throw context.transport().unreachable(1, error as never);
	}
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		const timer = setTimeout(done, ms);
		signal.addEventListener("abort", done);
		function done(): void {
			clearTimeout(timer);
			signal.removeEventListener("abort", done);
			resolve();
		}
	});
}

interface View {
	show(event: WatchEvent): void;
	interrupted(why: string): void;
	end(): void;
}

/** Every line as it came, for programs. */
class JsonLines implements View {
	readonly #context: Context;
	constructor(context: Context) {
		this.#context = context;
	}
	show(event: WatchEvent): void {
		writeSource(process.stdout, `${JSON.stringify(event)}\n`);
	}
	interrupted(why: string): void {
		this.#context.warn(why);
	}
	end(): void {}
}

/** A line for each change: moment, name, used, waiting. */
class Lines implements View {
	readonly #context: Context;
	constructor(context: Context) {
		this.#context = context;
	}
	show(event: WatchEvent): void {
		if (event.event === "limits") {
			for (const limit of event.limits) this.#line(limit);
			const page = event.limits.length + (event.unavailable?.length ?? 0) + (event.following ?? 0);
			const left = (event.totals?.limits ?? 0) - page;
			if (left > 0) this.#context.warn(`and ${left} more, which need no look or a lesser one`);
		} else if (event.event === "limit") this.#line(event.limit);
		else if (event.event === "deleted")
			this.#context.print(`${new Date().toISOString()}\t${safe(event.name)}\tdeleted`);
	}
	interrupted(why: string): void {
		this.#context.warn(why);
	}
	end(): void {}

	#line({ name, activeSlots, limit, waitingCount }: LimitSummary): void {
		this.#context.print(
			[new Date().toISOString(), safe(name), `${activeSlots}/${limit}`, `${waitingCount} waiting`].join("\t"),
		);
	}
}

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";

/** A table that is drawn over itself, on the terminal's other screen, so that what was there before comes back. */
class Live implements View {
	readonly #context: Context;
	readonly #prefix: string | undefined;
	readonly #limits = new Map<string, LimitSummary>();
	#totals: HouseTotals | null = null;
	#trouble: string | undefined;
	#timer: NodeJS.Timeout | undefined;
	readonly #onResize = (): void => this.#draw();
	readonly #leave = (): void => void draw(process.stdout, LEAVE);
	#entered = false;

	constructor(context: Context, prefix: string | undefined) {
		this.#context = context;
		this.#prefix = prefix;
	}

	show(event: WatchEvent): void {
		this.#trouble = undefined;
		if (event.event === "limits") {
			this.#limits.clear();
			for (const limit of event.limits) this.#limits.set(limit.name, limit);
			this.#totals = event.totals ?? null;
		} else if (event.event === "limit") this.#limits.set(event.limit.name, event.limit);
		else if (event.event === "deleted") this.#limits.delete(event.name);
		else if (event.event === "totals") this.#totals = event.totals;
		this.#soon();
	}

	interrupted(why: string): void {
		this.#trouble = why;
		this.#soon();
	}

	end(): void {
		clearTimeout(this.#timer);
		process.stdout.off("resize", this.#onResize);
		process.off("exit", this.#leave);
		if (this.#entered) this.#leave();
	}

	#soon(): void {
		this.#timer ??= setTimeout(() => this.#draw(), FRAME_MS);
	}

	#draw(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		if (!this.#entered) {
			draw(process.stdout, ENTER);
			process.stdout.on("resize", this.#onResize);
			// However this ends, the terminal is left as it was.
			process.on("exit", this.#leave);
			this.#entered = true;
		}
		const screen = { ...this.#context.out, columns: Math.max(20, process.stdout.columns || 80) };
		const rows = Math.max(4, process.stdout.rows || 24);
		const limits = [...this.#limits.values()].sort(
			(a, b) => byAttention(conditionOf(a), conditionOf(b)) || (a.name < b.name ? -1 : 1),
		);
		const shown = {
			limits: limits.length,
			full: limits.filter(({ active, remaining }) => active && remaining === 0).length,
			waiting: limits.reduce((sum, { waitingCount }) => sum + waitingCount, 0),
		};
		// What is shown is of this moment, and the sums of all a few seconds old: where all are shown, it is right.
		const all = this.#totals && this.#totals.limits > shown.limits ? this.#totals : shown;
		const which = this.#prefix === undefined ? "" : ` of ${safe(this.#prefix)}`;
		const title = `${counted(all.limits, "limit")}${which}, ${all.full} full, ${all.waiting} waiting`;
		const state = this.#trouble === undefined ? "Ctrl-C ends" : safe(this.#trouble);
		const lines = [
			screen.colors.bold(clip(title, screen.columns)),
			(this.#trouble === undefined ? screen.colors.dim : screen.colors.red)(clip(state, screen.columns)),
			"",
			...table(screen, limitColumns(screen), limits),
		];
		const left = all.limits - limits.length;
		const hidden = Math.max(0, lines.length + (left > 0 ? 1 : 0) - rows);
		if (hidden > 0 || left > 0) {
			// The line that says so takes the place of a limit, where there is no other.
			const out = left + (hidden > 0 ? lines.length - (rows - 1) : 0);
			lines.splice(rows - 1, lines.length, screen.colors.dim(`and ${out} more`));
		}
		// Each line is cleared to its end rather than the screen at once, which would flicker.
		draw(process.stdout, `\x1b[H${lines.map((line) => `${line}\x1b[K`).join("\n")}\x1b[J`);
	}
}
