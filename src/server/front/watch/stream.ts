/**
 * One stream for a reader that watches many limits: the Worker follows each limit's own stream and that of new names, and
 * passes on the newest line of each. A reader that is slow finds fewer lines, never older ones.
 */

import {
	BOUNDS,
	type HouseTotals,
	type LimitSummary,
	type LimitsPage,
	type Order,
	type Problem,
	type WatchEvent,
} from "../../../protocol.ts";
import { WATCH_BEAT_MS } from "../../../rhythms.ts";
import { toIso } from "../../contract/answers.ts";
import type { ListNews } from "../../contract/directory-calls.ts";
import type { Env } from "../../contract/env.ts";
import type { Watched } from "../../contract/limit-calls.ts";
import { directoryObject } from "../../contract/placement.ts";
import { problem, unknownLimits } from "../../contract/problems.ts";
import type { Grant } from "../auth.ts";
import type { Caller } from "../caller.ts";
import { seesIds, veiled } from "../digests.ts";
import { limitOf } from "../limit-stub.ts";
import { textLines } from "../ndjson.ts";
import { inParts, yieldToOthers } from "../yielding.ts";

/** How long after its stream broke a limit is asked again: doubled each time, up to the last. */
const AGAIN_MS = { first: 500, last: 30_000 };

/** Which limits to watch: a page of those that start with `prefix`, and those that appear. */
export interface Page {
	prefix: string;
	order: Order;
	after: string;
	count: number;
}

/** Watches one limit in full. */
export async function watchOne(
	env: Env,
	name: string,
	grant: Grant,
	caller: Caller,
): Promise<ReadableStream | Problem> {
	const leave = env.caller ? env.caller.enter("streams") : () => undefined;
	if (!leave) return ofToken(env, "");
	try {
		const watched = await limitOf(env, name).watch(true);
		if (watched === null || typeof watched === "string") {
			leave();
			return watched === null ? unknownLimits([name]) : tooMany(env, watched, ` the limit "${name}"`);
		}
		const out = new Outbox();
		const show = async (event: WatchEvent): Promise<void> => {
			// What is shown of ids takes a moment; the lines of one stream stay in their order all the same.
			if (event.event === "limit" && "leases" in event.limit) event.limit = await veiled(grant, event.limit);
			out.put(event.event === "samples" ? " samples" : name, text(event));
		};
		await show(watched.picture);
		const follow = async (): Promise<void> => {
			for await (const line of textLines(watched.lines, out.over)) {
				if (seesIds(grant)) out.put(isOf("samples", line) ? " samples" : name, `${line}\n`);
				else await show(JSON.parse(line) as WatchEvent);
			}
			out.end();
		};
		return out.stream(caller, follow, leave);
	} catch (error) {
		leave();
		throw error;
	}
}

/** Watches a page of limits, and those that appear meanwhile. */
export async function watchMany(env: Env, page: Page, caller: Caller): Promise<ReadableStream | Problem> {
	const leave = env.caller ? env.caller.enter("streams") : () => undefined;
	if (!leave) return ofToken(env, "");
	const directory = directoryObject(env);
	const crowd = new Crowd(env, page);
	let appearing: ReadableStream | undefined;
	try {
		// Before the list, so that no name falls between the two.
		const watching = (await directory.watch(page.prefix, env.caller?.share("streams"))) as
			| ReadableStream
			| "full"
			| "share";
		if (typeof watching === "string") {
			leave();
			return tooMany(env, watching, " the list");
		}
		appearing = watching;
		const { names: worst, needing, totals } = await directory.attention(page.prefix, page.count);
		const byName = page.order === "name" ? await directory.names(page.prefix, page.after, page.count) : null;
		// Those at rest have to be woken, and whoever looks for trouble does not wait for that.
		const first = byName?.names ?? (needing > 0 ? worst.slice(0, needing) : worst);
		await crowd.begin(first, byName ? [] : worst.slice(first.length), byName?.next ?? null, totals);
	} catch (error) {
		leave();
		await appearing?.cancel();
		crowd.out.end();
		throw error;
	}
	return crowd.out.stream(caller, () => crowd.hearOf(appearing), leave);
}

/** How long a stream that is one too many stays away. */
const STREAMS_AGAIN = { retryAfterSeconds: 30 };

const tooMany = (env: Env, why: "full" | "share", what: string): Problem =>
	why === "share"
		? ofToken(env, what)
		: problem(
				"too_many_streams",
				`${BOUNDS.watchers} streams watch${what} already. Close one, or try again in a while.`,
				STREAMS_AGAIN,
			);

const ofToken = (env: Env, what: string): Problem =>
	problem(
		"too_many_streams",
		`${env.caller?.most("streams")} streams of your token watch${what} already. Close one, or raise \`streams\` in the token's bounds.`,
		STREAMS_AGAIN,
	);

const isOf = (event: WatchEvent["event"], line: string): boolean => line.startsWith(`{"event":"${event}"`);

const text = (event: WatchEvent): string => `${JSON.stringify(event)}\n`;

/** The limits that one stream follows. */
class Crowd {
	readonly out = new Outbox();
	readonly #env: Env;
	readonly #page: Page;
	/** By name; true: it was made anew while it was followed, and its end is not the last of it. */
	readonly #followed = new Map<string, boolean>();
	/** The last name of the page, when there are pages after it. */
	#last: string | null = null;
	#opened = 0;
	/** Of the page, and not in its first line. */
	#rest: string[] = [];

	constructor(env: Env, page: Page) {
		this.#env = env;
		this.#page = page;
	}

	/** Asks for the limits of the first line; those of the `rest` have theirs once they are asked. */
	async begin(names: string[], rest: string[], next: string | null, totals: HouseTotals): Promise<void> {
		this.#last = next;
		this.#rest = rest;
		// They have their places on the page.
		for (const name of rest) this.#followed.set(name, false);
		const limits: LimitSummary[] = [];
		const unavailable: string[] = [];
		const first = await inParts(names, (name) => this.#open(name));
		for (const [index, answer] of first.entries()) {
			const name = names[index] as string;
			const watched = answer.status === "fulfilled" ? answer.value : "full";
			if (watched === null) continue;
			if (typeof watched === "string") {
				unavailable.push(name);
				void this.#tryAgain(name, AGAIN_MS.first);
			} else {
				limits.push(watched.picture.limit);
				void this.#pass(name, watched);
			}
		}
		const list: LimitsPage = { limits, next, ...(unavailable.length > 0 && { unavailable }), totals };
		this.out.put("", text({ event: "limits", ...list, ...(rest.length > 0 && { following: rest.length }) }));
	}

	/** Follows names as they appear, and as they need a look. */
	async hearOf(news: ReadableStream): Promise<void> {
		void this.#tellRest();
		for await (const line of textLines(news, this.out.over)) {
			const told = JSON.parse(line) as ListNews;
			if ("appeared" in told) {
				for (const name of told.appeared) if (this.#isOnPage(name)) void this.#follow(name);
				continue;
			}
			this.out.put(" totals", text({ event: "totals", totals: told.totals }));
			if (this.#page.order === "attention") this.#turnTo(told.worst.slice(0, this.#page.count));
		}
		// The directory went, and with it the news of names: the reader asks again.
		this.out.end();
	}

	async #tellRest(): Promise<void> {
		await yieldToOthers();
		await inParts(this.#rest, (name) => this.#tryAgain(name, 0));
	}

	/** Limits that need a look now are followed too; those that need none any more stay for as long as there is room. */
	#turnTo(worst: string[]): void {
		const coming = worst.filter((name) => !this.#followed.has(name));
		// The reader asks again, and begins with those.
		if (this.#followed.size + coming.length > BOUNDS.limitsPerWatch) return this.out.end();
		for (const name of coming) void this.#follow(name);
	}

	#isOnPage(name: string): boolean {
		if (this.#page.order === "attention") return this.#followed.size < this.#page.count;
		return name > this.#page.after && (this.#last === null || name <= this.#last);
	}

	async #follow(name: string): Promise<void> {
		if (this.#followed.has(name)) {
			this.#followed.set(name, true);
			return;
		}
		if (this.#followed.size >= BOUNDS.limitsPerWatch) return this.out.put(" more", text({ event: "more" }));
		await this.#tryAgain(name, 0);
	}

	async #tryAgain(name: string, waitMs: number): Promise<void> {
		this.#followed.set(name, false);
		for (let pauseMs = waitMs; ; pauseMs = Math.min(AGAIN_MS.last, Math.max(AGAIN_MS.first, 2 * pauseMs))) {
			if (pauseMs > 0) await scheduler.wait(pauseMs);
			if (this.out.over.aborted) return;
			// Out of reach is told to the reader below, and asked again.
			const watched = await this.#open(name).catch(() => "full" as const);
			if (watched === null) {
				this.#followed.delete(name);
				return this.out.put(name, text({ event: "deleted", name }));
			}
			if (typeof watched !== "string") {
				this.out.put(name, text(watched.picture));
				return this.#pass(name, watched);
			}
			this.out.put(name, text({ event: "unavailable", name }));
		}
	}

	async #open(name: string): Promise<Watched | "full" | "share" | null> {
		this.#opened += 1;
		if (this.#opened > BOUNDS.followedPerWatch) {
			this.out.end();
			return "full";
		}
		this.#followed.set(name, false);
		const watched = await limitOf(this.#env, name).watch(false);
		if (watched === null) this.#followed.delete(name);
		return watched;
	}

	/** Passes the lines of one limit on, to its end. */
	async #pass(name: string, { lines }: Watched): Promise<void> {
		let deleted = false;
		try {
			for await (const line of textLines(lines, this.out.over)) {
				deleted = isOf("deleted", line);
				this.out.put(name, `${line}\n`);
			}
		} catch {
			// Its object went, as at every deployment; it is asked again.
		}
		if (this.out.over.aborted) return;
		if (!deleted) return this.#tryAgain(name, AGAIN_MS.first);
		const again = this.#followed.get(name);
		this.#followed.delete(name);
		if (again) await this.#follow(name);
	}
}

/** Lines on their way to the reader: of each limit the newest, and so no more of them than there are limits. */
class Outbox {
	readonly #over = new AbortController();
	readonly #lines = new Map<string, string>();
	#woken: () => void = () => undefined;

	/** Aborts when the reader has gone, or when there is nothing more to say. */
	get over(): AbortSignal {
		return this.#over.signal;
	}

	put(of: string, line: string): void {
		this.#lines.set(of, line);
		this.#woken();
	}

	/** What is on its way is still said. */
	end(): void {
		this.#over.abort();
		this.#woken();
	}

	/** The stream, which lives as long as its reader; `work` puts lines. Then it has `left`. */
	stream(caller: Caller, work: () => Promise<void>, left: () => void): ReadableStream {
		const { readable, writable } = new IdentityTransformStream();
		const writer = writable.getWriter() as WritableStreamDefaultWriter<Uint8Array>;
		const worked = work().catch((error: unknown) => {
			if (!this.over.aborted) console.warn("A watched object went, and its watchers ask again:", error);
			this.end();
		});
		caller.waitUntil(Promise.all([this.#write(writer).finally(left), worked]));
		return readable;
	}

	async #write(writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
		const encoder = new TextEncoder();
		const beat = setInterval(() => {
			this.put(" heartbeat", text({ event: "heartbeat", at: toIso(Date.now()) }));
		}, WATCH_BEAT_MS);
		try {
			for (;;) {
				if (this.#lines.size === 0) {
					if (this.over.aborted) return await writer.close();
					await new Promise<void>((woken) => {
						this.#woken = woken;
					});
					continue;
				}
				const lines = [...this.#lines.values()].join("");
				this.#lines.clear();
				await writer.write(encoder.encode(lines));
			}
		} catch {
			this.#over.abort(); // The reader has gone, which is how such a stream ends.
		} finally {
			clearInterval(beat);
		}
	}
}
