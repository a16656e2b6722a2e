/**
 * The object that knows which limits and policies exist: a Durable Object namespace cannot be listed. It is told by
 * the limits themselves, and it is asked only for names never seen before and for lists.
 */

import { DurableObject } from "cloudflare:workers";
import type { Policy, Settings } from "../protocol.ts";
import type { Env } from "./env.ts";
import { migrate } from "./store.ts";
import { NamesWatchers } from "./watch.ts";

/** Each entry brings the schema from the version of its index to the next. Never change one that was released. */
const MIGRATIONS: ((sql: SqlStorage) => void)[] = [
	(sql) => {
		sql.exec(`
			CREATE TABLE known (name TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
			CREATE UNIQUE INDEX known_id ON known (id);
			CREATE TABLE policy (prefix TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
		`);
	},
];

export class DirectoryObject extends DurableObject<Env> {
	readonly #sql: SqlStorage;
	/** By prefix. There are few of them, and every name never seen before asks for the best match. */
	readonly #policies = new Map<string, Policy>();
	readonly #watchers = new NamesWatchers();

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		this.#sql = ctx.storage.sql;
		migrate(this.#sql, MIGRATIONS, true);
		for (const { data } of this.#sql.exec<{ data: string }>("SELECT data FROM policy")) {
			const policy = JSON.parse(data) as Policy;
			this.#policies.set(prefixOf(policy.pattern), policy);
		}
	}

	register({ name, id }: { name: string; id: string }): void {
		this.#sql.exec("INSERT OR REPLACE INTO known (name, id) VALUES (?, ?)", name, id);
		this.#watchers.appeared(name);
	}

	/** Lines that list names that are new and start with `prefix`. Null: too many watch already. */
	watch(prefix: string): ReadableStream | null {
		return this.#watchers.add(prefix);
	}

	unregister(name: string): void {
		this.#sql.exec("DELETE FROM known WHERE name = ?", name);
	}

	/** The name of a limit's id, or null. */
	nameOf(id: string): string | null {
		return this.#sql.exec<{ name: string }>("SELECT name FROM known WHERE id = ?", id).toArray()[0]?.name ?? null;
	}

	/** Names that start with `prefix`, after `after`, in the order of their code points. */
	names(prefix: string, after: string, count: number): { names: string[]; next: string | null } {
		const rows = this.#sql
			.exec<{ name: string }>(
				"SELECT name FROM known WHERE name > ?1 AND name >= ?2 AND substr(name, 1, length(?2)) = ?2 ORDER BY name LIMIT ?3",
				after,
				prefix,
				count + 1,
			)
			.toArray();
		const names = rows.slice(0, count).map(({ name }) => name);
		return { names, next: rows.length > count ? (names.at(-1) ?? null) : null };
	}

	/** The policy of a name: the one with the longest prefix. */
	match(name: string): Policy | null {
		let best: Policy | null = null;
		for (const [prefix, policy] of this.#policies) {
			if (name.startsWith(prefix) && prefix.length >= (best?.pattern.length ?? 0)) best = policy;
		}
		return best;
	}

	/** Sets a policy; answers whether it is a new one. */
	setPolicy(pattern: string, settings: Settings): { created: boolean; policy: Policy } {
		const prefix = prefixOf(pattern);
		const created = !this.#policies.has(prefix);
		const policy: Policy = { pattern, ...settings, updatedAt: new Date().toISOString() };
		this.#sql.exec("INSERT OR REPLACE INTO policy (prefix, data) VALUES (?, ?)", prefix, JSON.stringify(policy));
		this.#policies.set(prefix, policy);
		return { created, policy };
	}

	policy(pattern: string): Policy | null {
		return this.#policies.get(prefixOf(pattern)) ?? null;
	}

	deletePolicy(pattern: string): boolean {
		const prefix = prefixOf(pattern);
		this.#sql.exec("DELETE FROM policy WHERE prefix = ?", prefix);
		return this.#policies.delete(prefix);
	}

	policies(): Policy[] {
		return [...this.#policies.values()].sort((a, b) => (a.pattern < b.pattern ? -1 : 1));
	}
}

/** A pattern without its closing `*`. */
const prefixOf = (pattern: string): string => pattern.slice(0, -1);
