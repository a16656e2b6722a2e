/**
 * A limit that gets another name. Its object is found by its name, so everything moves into the object of the new one:
 * settings, leases, the line, the id. Whoever waits goes on waiting there, at the same place; whoever holds a lease
 * under the old name is led to the new one, by the old one's object, for as long as the lease may live.
 *
 * A crash in the middle leaves a limit that either has not begun to move or finishes its move when it wakes: where it
 * goes is written down first, and the other object takes the same limit once.
 */

import type { Ended, Entry, Limit } from "../../core/limit.ts";
import { rebuild, type SavedEntry, type SavedLimit, saveEntry, saveLimit } from "../../core/saved.ts";
import type { At } from "../../core/time.ts";
import type { Ask, Missing, Outcome } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import { Line } from "./hearer-stream.ts";
import type { Hearer } from "./hearers.ts";
import { SharedLimit } from "./shared.ts";
import { DamagedDataError, type Identity } from "./store.ts";

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

type Stub = DurableObjectStub<MovableLimit>;

export class MovableLimit extends SharedLimit {
	/** Names that requests of this object went to. */
	readonly #moved = new Map<string, string>();

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		if (!this.#hasTable()) return;
		for (const { id, name } of this.#rows<{ id: string; name: string }>("SELECT id, name FROM moved")) {
			this.#moved.set(id, name);
		}
		this.#lead();
		const [moving] = this.#rows<{ name: string }>("SELECT name FROM moving");
		if (moving) void ctx.blockConcurrencyWhile(() => this.#move(moving.name));
	}

	/** Gives the limit another name. `taken`: another limit has it. Null: this limit does not exist. */
	async rename(name: string): Promise<"moved" | "taken" | null> {
		if (!(await this.summary())) return null;
		// Nothing else is decided here until everything is there.
		return this.ctx.blockConcurrencyWhile(() => this.#move(name));
	}

	/** Takes a limit in; false: there is another one of this name. */
	async moveIn({ identity, state, entries, ended, usedAt }: Cargo): Promise<boolean> {
		const { store, existence } = this;
		if (this.limit) return existence.identity?.id === identity.id;
		try {
			await existence.checkNew(this.ctx.id.name ?? identity.name, identity.id);
		} catch (error) {
			// Another limit has the name, and its data is lost.
			if (error instanceof DamagedDataError) return false;
			throw error;
		}
		const now = Date.now();
		const limit = rebuild(state, entries, now, store.recall);
		existence.identity = { ...identity, name: this.ctx.id.name ?? identity.name, listed: true, reported: false };
		existence.usedAt = usedAt;
		store.create(existence.identity, limit, usedAt);
		store.remember(ended.map((record) => ({ kind: "ended", id: record.id, record })));
		store.write(limit, [...entries.map(({ id }) => ({ kind: "rewritten" as const, id }))], now);
		this.limit = limit;
		for (const { id } of entries) this.#moved.delete(id);
		this.commits.run({ kind: "tick" });
		await this.ctx.storage.sync();
		await existence.report();
		return true;
	}

	async #move(name: string): Promise<"moved" | "taken" | null> {
		const { limit, existence, store } = this;
		const { sql } = this.ctx.storage;
		const { identity } = existence;
		if (!limit || !identity) return null;
		if (!this.#hasTable()) {
			sql.exec("CREATE TABLE moved (id TEXT PRIMARY KEY, name TEXT NOT NULL, until INTEGER NOT NULL)");
			sql.exec("CREATE TABLE moving (name TEXT NOT NULL)");
		}
		sql.exec("DELETE FROM moving");
		sql.exec("INSERT INTO moving VALUES (?)", name);
		await this.ctx.storage.sync();
		const cargo: Cargo = {
			...{ identity, state: saveLimit(limit), usedAt: existence.usedAt },
			entries: [...limit.entries.values()].map((entry) => saveEntry(limit, entry)),
			ended: store.remembered(),
		};
		const there = this.env.LIMITS.getByName(name);
		if (!(await there.moveIn(cargo))) {
			sql.exec("DELETE FROM moving");
			return "taken";
		}
		const now = Date.now();
		this.ctx.storage.transactionSync(() => {
			for (const id of limit.entries.keys()) {
				sql.exec("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", id, name, now + LED_ON_MS);
				this.#moved.set(id, name);
			}
			sql.exec("DELETE FROM moving");
			store.dropEntries();
			this.ceased(now);
		});
		this.#lead();
		for (const hearer of this.waiters.moveOut()) this.#handOn(hearer, limit, there);
		await this.ctx.storage.sync();
		this.ctx.waitUntil(existence.report());
		return "moved";
	}

	/** Somebody who waits, or holds, hears from there from now on. */
	#handOn(hearer: Hearer, limit: Limit, there: Stub): void {
		const entry = limit.entries.get(hearer.id);
		if (!entry) return;
		const kind = entry.wants === "lease" ? "acquire" : "reserve";
		const ask: Ask = {
			request: requestOf(entry, limit),
			createIfMissing: false,
			...(hearer.call && { call: hearer.call }),
		};
		const holds = entry.held && entry.state !== "waiting";
		if (hearer instanceof Line) {
			const open = async (as: "wire" | "outcomes") => {
				const opened = holds ? await there.hold(entry.id) : await there.open(ask, kind, as);
				return opened && "missing" in opened ? null : opened;
			};
			return this.ctx.waitUntil(hearer.follow(open));
		}
		const hear = async (): Promise<void> => {
			const answer = await there[kind](ask);
			if (!("missing" in answer)) hearer.hear(answer.event, answer.status);
		};
		this.ctx.waitUntil(hear());
	}

	// ------------------------------------------------------------------------ what is asked of who has moved

	override acquire(ask: Ask): Promise<Outcome | Missing> {
		return this.#at(ask.request.id)?.acquire(ask) ?? super.acquire(ask);
	}

	override reserve(ask: Ask): Promise<Outcome | Missing> {
		return this.#at(ask.request.id)?.reserve(ask) ?? super.reserve(ask);
	}

	override async open(
		ask: Ask,
		kind: "acquire" | "reserve",
		as: "wire" | "outcomes",
	): Promise<ReadableStream | Missing> {
		return this.#at(ask.request.id)?.open(ask, kind, as) ?? super.open(ask, kind, as);
	}

	override async hold(id: string): Promise<ReadableStream | null> {
		return this.#at(id)?.hold(id) ?? super.hold(id);
	}

	override async commit(id: string, peers: string[]): Promise<Outcome | Missing> {
		return this.#at(id)?.commit(id, peers) ?? super.commit(id, peers);
	}

	override async cancel(id: string, keepPlace: boolean): Promise<Outcome | Missing> {
		return this.#at(id)?.cancel(id, keepPlace) ?? super.cancel(id, keepPlace);
	}

	override async touch(id: string, sentAt?: At): Promise<boolean> {
		return this.#at(id)?.touch(id, sentAt) ?? super.touch(id, sentAt);
	}

	override async renew(id: string, leaseMs: number | null, sentAt?: At): Promise<Outcome | null> {
		const there = this.#at(id);
		if (!there) return super.renew(id, leaseMs, sentAt);
		const until = Date.now() + LED_ON_MS;
		this.ctx.storage.sql.exec("UPDATE moved SET until = ? WHERE id = ?", until, id);
		this.existence.leadsUntil = until;
		return there.renew(id, leaseMs, sentAt);
	}

	override async release(
		id: string,
		by: "caller" | "operator" | "unheard",
		sentAt?: At,
	): Promise<(Outcome & { found: boolean }) | null> {
		return this.#at(id)?.release(id, by, sentAt) ?? super.release(id, by, sentAt);
	}

	override async leave(id: string, call: string): Promise<void> {
		return this.#at(id)?.leave(id, call) ?? super.leave(id, call);
	}

	override async stepBack(id: string, call: string): Promise<void> {
		return this.#at(id)?.stepBack(id, call) ?? super.stepBack(id, call);
	}

	override async others(id: string): Promise<string[] | null> {
		return this.#at(id)?.others(id) ?? super.others(id);
	}

	override async vouch(ids: string[]): Promise<boolean[]> {
		const answers = await Promise.all(
			ids.map(async (id) => (await this.#at(id)?.vouch([id])) ?? (await super.vouch([id]))),
		);
		return answers.map(([committed]) => committed ?? false);
	}

	override async alarm(): Promise<void> {
		if (this.#moved.size > 0) {
			const over = "DELETE FROM moved WHERE until <= ? RETURNING id";
			for (const { id } of this.#rows<{ id: string }>(over, Date.now())) this.#moved.delete(id);
			this.#lead();
		}
		return super.alarm();
	}

	/** A dead limit whose requests live on elsewhere is not forgotten before the last of them. */
	#lead(): void {
		const [row] = this.#rows<{ last: At }>("SELECT max(until) AS last FROM moved HAVING count(*) > 0");
		this.existence.leadsUntil = row?.last ?? null;
	}

	/** The object that a request of this one went to. */
	#at(id: string): Stub | undefined {
		const name = this.#moved.get(id);
		return name === undefined ? undefined : this.env.LIMITS.getByName(name);
	}

	#hasTable(): boolean {
		return this.#rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'moved'").length > 0;
	}

	#rows<T extends Record<string, SqlStorageValue>>(query: string, ...bindings: SqlStorageValue[]): T[] {
		return this.ctx.storage.sql.exec<T>(query, ...bindings).toArray();
	}
}

function requestOf(entry: Entry, limit: Limit) {
	const { id, slots, mode, leaseMs, holder, held, print, remember, others, standing, giveUpAt } = entry;
	const ifBusy = standing === "parked" ? ("park" as const) : ("wait" as const);
	const waitMs = Math.max(0, giveUpAt - limit.clock.lastAt);
	return { id, slots, mode, leaseMs, waitMs, ifBusy, holder, held, print, remember, others };
}
