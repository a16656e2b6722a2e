/**
 * A limit that gets another name. Its object is found by its name, so everything moves into the object of the new one:
 * settings, leases, the line, the id. A waiter goes on waiting there, at the same place; the holder of a lease under the
 * old name is led to the new one, by the old one's object, for as long as the lease may live.
 *
 * A crash in the middle leaves a limit that either has not begun to move or finishes its move when it wakes: where it
 * goes is written down first, and the other object takes the same limit once.
 */

import type { Ended, Entry, Limit, Request } from "../../core/limit.ts";
import { rebuild, type SavedEntry, type SavedLimit, saveEntry, saveLimit } from "../../core/saved.ts";
import type { At } from "../../core/time.ts";
import type { Region } from "../../protocol.ts";
import type { LimitCalls, RequestCalls, StreamFor } from "../contract/limit-calls.ts";
import type { LimitRequest } from "../contract/outcomes.ts";
import type { LimitNamed } from "../contract/placement.ts";
import type { Committer } from "./committer.ts";
import { HearerStream } from "./hearer-stream.ts";
import type { Hearer, Hearers } from "./hearers.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { DamagedDataError, type Identity, type LimitStore } from "./store.ts";

/** How long a lease that was never renewed since is led on: the longest there is. */
const LED_ON_MS = 86_400_000;

/** A whole limit on its way. */
export interface Cargo {
	identity: Identity;
	state: SavedLimit;
	entries: SavedEntry[];
	ended: Ended[];
	usedAt: At;
}

/** What one object of a limit asks of another beside what Workers ask. */
export interface MovingCalls {
	/** Takes a limit in that gets the name of this object; false: there is another one of it. */
	moveIn(cargo: Cargo): Promise<boolean>;
}

type There = LimitCalls & MovingCalls;

interface Deps {
	ctx: DurableObjectState;
	limitNamed: LimitNamed;
	store: LimitStore;
	lifecycle: Lifecycle;
	committer: Committer;
	hearers: Hearers;
	/** The requests of this object. They are reached through here alone. */
	here: RequestCalls;
}

export class Relocation {
	readonly #deps: Deps;
	/** Names that requests of this object went to, by id. */
	readonly #names = new Map<string, string>();

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/** The object woke: what went elsewhere is led on, and a move that was begun is finished. */
	wake(): void {
		if (!this.#hasTable()) return;
		for (const { id, name } of this.#rows<{ id: string; name: string }>("SELECT id, name FROM moved")) {
			this.#names.set(id, name);
		}
		this.#lead();
		const [moving] = this.#rows<{ name: string }>("SELECT name FROM moving");
		if (moving) void this.move(moving.name, null);
	}

	/** Who can be asked of a request by its id: this object, or the one that the request went to. */
	of(id: string): RequestCalls {
		const name = this.#names.get(id);
		return name === undefined ? this.#deps.here : this.#ledOn(name);
	}

	/** A lease that went elsewhere is renewed: it is led on for as long again. */
	leadOn(id: string): void {
		if (!this.#names.has(id)) return;
		const until = Date.now() + LED_ON_MS;
		this.#deps.ctx.storage.sql.exec("UPDATE moved SET until = ? WHERE id = ?", until, id);
		this.#deps.lifecycle.leadsUntil = until;
	}

	/** What was led on for long enough is forgotten. */
	tidy(now: At): void {
		if (this.#names.size === 0) return;
		const over = "DELETE FROM moved WHERE until <= ? RETURNING id";
		for (const { id } of this.#rows<{ id: string }>(over, now)) this.#names.delete(id);
		this.#lead();
	}

	/** Takes a limit in, of which this object has the name; false: there is another one of it. */
	async moveIn({ identity, state, entries, ended, usedAt }: Cargo): Promise<boolean> {
		const { ctx, store, lifecycle, committer } = this.#deps;
		if (committer.limit) return lifecycle.identity?.id === identity.id;
		const name = ctx.id.name ?? identity.name;
		try {
			await lifecycle.checkNew(name, identity.id);
		} catch (error) {
			// Another limit has the name, and its data is lost.
			if (error instanceof DamagedDataError) return false;
			throw error;
		}
		const now = Date.now();
		const limit = rebuild(state, entries, now, store.recall);
		lifecycle.identity = { ...identity, name, listed: true, reported: false };
		lifecycle.usedAt = usedAt;
		const { identity: mine } = lifecycle;
		store.together(() => {
			store.create(mine, limit, usedAt);
			store.remember(ended.map((record) => ({ kind: "ended", id: record.id, record })));
			store.write(limit, [...entries.map(({ id }) => ({ kind: "rewritten" as const, id }))], now);
		});
		committer.limit = limit;
		for (const { id } of entries) this.#names.delete(id);
		committer.run({ kind: "tick" });
		await ctx.storage.sync();
		await lifecycle.report();
		return true;
	}

	/**
	 * Moves the limit out. Nothing else is decided here until everything is there. `region`: where the policies want the new name
	 * to live; else it is asked to live where this one was.
	 */
	move(name: string, region: Region | null): Promise<"moved" | "taken" | null> {
		return this.#deps.ctx.blockConcurrencyWhile(() => this.#moveOut(name, region));
	}

	async #moveOut(name: string, wanted: Region | null): Promise<"moved" | "taken" | null> {
		const { ctx, store, lifecycle, committer, hearers } = this.#deps;
		const { limit } = committer;
		const { identity } = lifecycle;
		const { sql } = ctx.storage;
		if (!limit || !identity) return null;
		if (!this.#hasTable()) {
			sql.exec("CREATE TABLE moved (id TEXT PRIMARY KEY, name TEXT NOT NULL, until INTEGER NOT NULL)");
			sql.exec("CREATE TABLE moving (name TEXT NOT NULL)");
		}
		sql.exec("DELETE FROM moving");
		sql.exec("INSERT INTO moving VALUES (?)", name);
		await ctx.storage.sync();
		const region = wanted ?? identity.region;
		const cargo: Cargo = {
			...{ identity: { ...identity, region }, state: saveLimit(limit), usedAt: lifecycle.usedAt },
			entries: [...limit.entries.values()].map((entry) => saveEntry(limit, entry)),
			ended: store.remembered(),
		};
		const there = this.#there(name, region);
		if (!(await there.moveIn(cargo))) {
			sql.exec("DELETE FROM moving");
			return "taken";
		}
		const now = Date.now();
		store.together(() => {
			for (const id of limit.entries.keys()) {
				sql.exec("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", id, name, now + LED_ON_MS);
				this.#names.set(id, name);
			}
			sql.exec("DELETE FROM moving");
			store.dropEntries();
			committer.cease(now);
		});
		this.#lead();
		for (const hearer of hearers.moveOut()) this.#handOn(hearer, limit, there);
		await ctx.storage.sync();
		ctx.waitUntil(lifecycle.report());
		return "moved";
	}

	/** A hearer of a waiter, or of a lease, hears from there from now on. */
	#handOn(hearer: Hearer, limit: Limit, there: There): void {
		const entry = limit.entries.get(hearer.id);
		if (!entry) return;
		const { ctx } = this.#deps;
		const kind = entry.wants === "lease" ? "acquire" : "reserve";
		const wanted: LimitRequest = {
			request: requestOf(entry, limit),
			createIfMissing: false,
			...(hearer.call && { call: hearer.call }),
		};
		const holds = entry.held && entry.state !== "waiting";
		if (hearer instanceof HearerStream) {
			const open = async (as: StreamFor) => {
				const opened = holds ? await there.hold(entry.id) : await there.open(wanted, kind, as);
				return opened && "missing" in opened ? null : opened;
			};
			return ctx.waitUntil(hearer.follow(open));
		}
		const hear = async (): Promise<void> => {
			const answer = await there[kind](wanted);
			if (!("missing" in answer)) hearer.hear(answer.event, answer.status);
		};
		ctx.waitUntil(hear());
	}

	/** A dead limit whose requests live on elsewhere is not forgotten before the last of them. */
	#lead(): void {
		const [row] = this.#rows<{ last: At }>("SELECT max(until) AS last FROM moved HAVING count(*) > 0");
		this.#deps.lifecycle.leadsUntil = row?.last ?? null;
	}

	/** The requests of another object, with answers that can be handed on. */
	#ledOn(name: string): RequestCalls {
		type Calls = Record<keyof RequestCalls, (...args: unknown[]) => Promise<unknown>>;
		const there = this.#there(name) as unknown as Calls;
		// Called as a method of the stub: anything else that is done with one of its methods would be a call as well.
		const answering =
			(method: keyof RequestCalls) =>
			async (...args: unknown[]) =>
				withoutDisposer(await there[method](...args));
		return new Proxy({} as RequestCalls, { get: (_, method) => answering(method as keyof RequestCalls) });
	}

	#there(name: string, region?: Region | null): There {
		return this.#deps.limitNamed(name, region) as unknown as There;
	}

	#hasTable(): boolean {
		return this.#rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'moved'").length > 0;
	}

	#rows<T extends Record<string, SqlStorageValue>>(query: string, ...bindings: SqlStorageValue[]): T[] {
		return this.#deps.ctx.storage.sql.exec<T>(query, ...bindings).toArray();
	}
}

/**
 * The runtime gives each answer of a call a disposer. An answer that is handed on with it leaves a call of this object open at
 * its caller, which knows of nothing to dispose of, until that one collects its garbage.
 */
function withoutDisposer(answer: unknown): unknown {
	if (Array.isArray(answer)) return [...answer];
	const isRecord = typeof answer === "object" && answer !== null && !(answer instanceof ReadableStream);
	return isRecord ? { ...answer } : answer;
}

function requestOf(entry: Entry, limit: Limit): Request {
	const { id, mode, leaseMs, holder, held, print, remember, others, standing, giveUpAt, settleMs, key, priority } =
		entry;
	const turn = { ...(key !== null && { key }), ...(priority > 0 && { priority }) };
	const wished = { slots: entry.atMost ?? entry.slots, ...(entry.atMost !== null && { atMost: true }) };
	const ifBusy = standing === "parked" ? ("park" as const) : ("wait" as const);
	const waitMs = Math.max(0, giveUpAt - limit.clock.lastAt);
	const estimate = settleMs !== null && { settleMs };
	return { id, ...wished, ...turn, mode, leaseMs, waitMs, ifBusy, holder, held, print, remember, others, ...estimate };
}
