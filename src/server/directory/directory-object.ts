/**
 * The object that knows which limits and policies exist: a Durable Object namespace cannot be listed. It is told by
 * the limits themselves, and it is asked only for names never seen before and for lists.
 */

import { DurableObject } from "cloudflare:workers";
import type { Condition } from "../../attention.ts";
import type { At } from "../../core/time.ts";
import { BOUNDS, type DeniedKeys, type HouseTotals, type Policy, type PolicySettings } from "../../protocol.ts";
import { CONDITION_AGAIN_MS } from "../contract/conditions.ts";
import type { AttentionPage, DirectoryCalls, PolicyShare, PolicySum, Told } from "../contract/directory-calls.ts";
import type { Env } from "../contract/env.ts";
import type { Share } from "../contract/outcomes.ts";
import { limitObject } from "../contract/placement.ts";
import { PolicyTable } from "../contract/policies.ts";
import { policySums } from "../contract/policy-sums.ts";
import { migrate } from "../contract/schema.ts";
import { Attention } from "./attention.ts";
import { PolicyTotals } from "./policy-totals.ts";
import { ListWatchers } from "./watchers.ts";

/** Each entry brings the schema from the version of its index to the next. Never change one that was released. */
const MIGRATIONS: ((sql: SqlStorage) => void)[] = [
	(sql) => {
		sql.exec(`
			CREATE TABLE known (name TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
			CREATE UNIQUE INDEX known_id ON known (id);
			CREATE TABLE policy (prefix TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
		`);
	},
	// Policies for exact names came, so their key is the whole pattern; and their changes are counted.
	(sql) => {
		sql.exec(`
			CREATE TABLE policies (pattern TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
			INSERT INTO policies SELECT prefix || '*', data FROM policy;
			DROP TABLE policy;
			CREATE TABLE policies_version (version INTEGER NOT NULL);
			INSERT INTO policies_version VALUES ((SELECT count(*) FROM policies));
		`);
	},
	// Which limits are their own and no keys of a policy; and the sums of policies, where this object keeps them.
	(sql) => {
		sql.exec(`
			ALTER TABLE known ADD COLUMN own INTEGER NOT NULL DEFAULT 1;
			CREATE INDEX known_own ON known (name) WHERE own = 1;
			CREATE TABLE totals (pattern TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
		`);
	},
	// When the directory began.
	(sql) => {
		sql.exec("ALTER TABLE policies_version ADD COLUMN since INTEGER NOT NULL DEFAULT 0");
	},
	// Which limits needed a look.
	(sql) => {
		sql.exec("CREATE TABLE attention (names TEXT NOT NULL); INSERT INTO attention VALUES ('[]');");
	},
];

/** What a policy says that was stored before these fields came. */
const EARLIER: Pick<Policy, "idleSeconds" | "updatedBy" | "region" | "enforce"> = {
	idleSeconds: 300,
	updatedBy: null,
	region: null,
	enforce: true,
};

/** Prefixes for which the number of limits is kept: as many as tokens that look on. */
const PREFIXES_COUNTED = 1_000;

const ALL_POLICIES: PolicyShare = { prefix: "", most: BOUNDS.policies };

/** A name that came to be, with its limit's id, or that is no more. */
interface Change {
	name: string;
	id: string | null;
	own?: boolean;
}

export class DirectoryObject extends DurableObject<Env> implements DirectoryCalls {
	readonly #sql: SqlStorage;
	/** By pattern. There are few of them. */
	readonly #policies = new Map<string, Policy>();
	readonly #attention: Attention;
	readonly #watchers: ListWatchers;
	/** How many limits there are, by the prefix of their names, since the last one came or went. */
	readonly #counts = new Map<string, number>();
	readonly #totals: PolicyTotals;
	#table: PolicyTable;
	readonly #since: number;
	/** What limits tell of themselves while a commit is being written: it is written with the next. */
	#batch: { changes: Change[]; written: Promise<void> } | null = null;
	#lastWritten: Promise<void> = Promise.resolve();

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		this.#sql = ctx.storage.sql;
		const isNew = !migrate(this.#sql, MIGRATIONS, false);
		if (isNew) {
			// Versions go on from the clock, so that those of a directory that was lost are smaller.
			migrate(this.#sql, MIGRATIONS, true);
			this.#sql.exec("UPDATE policies_version SET version = ?1, since = ?1", Date.now());
		}
		this.#totals = new PolicyTotals(this.#sql);
		this.#attention = new Attention({
			sql: this.#sql,
			ask: (name) => limitObject(env, name).condition(),
			policySums: () => policySums(env),
			changed: () => this.#watchers.changed(),
		});
		this.#watchers = new ListWatchers(async (prefix) => {
			const now = Date.now();
			await this.#attention.refresh(now);
			return { worst: this.#attention.names(prefix, BOUNDS.limitsPage, now), totals: this.#house(prefix, now) };
		});
		for (const { data } of this.#sql.exec<{ data: string }>("SELECT data FROM policies")) {
			// One that was set before a field came has its default.
			const saved = JSON.parse(data) as Omit<Policy, keyof typeof EARLIER>;
			const policy: Policy = { ...EARLIER, ...saved };
			this.#policies.set(policy.pattern, policy);
		}
		const counted = "SELECT version, since FROM policies_version";
		const { version, since } = this.#sql.exec<{ version: number; since: number }>(counted).one();
		this.#since = since;
		this.#table = new PolicyTable(version, this.#policies.values());
	}

	async register({ name, id, own }: { name: string; id: string; own: boolean }): Promise<number> {
		await this.#write({ name, id, own });
		return this.#since;
	}

	watch(prefix: string, share: Share | undefined): ReadableStream | "full" | "share" {
		return this.#watchers.add(prefix, share);
	}

	async unregister(name: string): Promise<number> {
		await this.#write({ name, id: null });
		return this.#since;
	}

	idOf(name: string): string | null {
		return this.#sql.exec<{ id: string }>("SELECT id FROM known WHERE name = ?", name).toArray()[0]?.id ?? null;
	}

	/** Names that come in droves share their commits: while one is being written, all that come are the next. */
	#write(change: Change): Promise<void> {
		if (!this.#batch) {
			const changes: Change[] = [];
			this.#batch = { changes, written: this.#lastWritten.then(() => this.#writeBatch(changes)) };
			// The limits of the batch hear of the failure, and tell again; the next batch is another attempt.
			this.#lastWritten = this.#batch.written.catch(() => undefined);
		}
		this.#batch.changes.push(change);
		return this.#batch.written;
	}

	async #writeBatch(changes: Change[]): Promise<void> {
		this.#batch = null;
		this.ctx.storage.transactionSync(() => {
			for (const { name, id, own = true } of changes) {
				if (id === null) this.#sql.exec("DELETE FROM known WHERE name = ?", name);
				else this.#sql.exec("INSERT OR REPLACE INTO known (name, id, own) VALUES (?, ?, ?)", name, id, own ? 1 : 0);
			}
		});
		this.#counts.clear();
		for (const { name, id } of changes) if (id === null) this.#attention.forget(name);
		await this.ctx.storage.sync();
		for (const { name, id } of changes) if (id !== null) this.#watchers.appeared(name);
		this.#watchers.changed();
	}

	tell(name: string, condition: Condition, isKey: boolean): number {
		// One that is told of after its end would stay for ever.
		if (this.idOf(name) === null) return CONDITION_AGAIN_MS;
		return this.#attention.tell(name, { condition, isKey }, Date.now());
	}

	async attention(prefix: string, count: number): Promise<AttentionPage> {
		const now = Date.now();
		await this.#attention.refresh(now);
		const worst = this.#attention.names(prefix, count, now);
		const known = new Set(worst);
		// As many as there is room for, though all the worst were among them.
		const others = this.names(prefix, "", count).names.filter((name) => !known.has(name));
		const names = [...worst, ...others].slice(0, count);
		return { names, needing: worst.length, totals: this.#house(prefix, now) };
	}

	#house(prefix: string, now: At): HouseTotals {
		if (this.#counts.size > PREFIXES_COUNTED) this.#counts.clear();
		const where = "FROM known WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1";
		const count = (): number =>
			this.#sql.exec<{ limits: number }>(`SELECT count(*) AS limits ${where}`, prefix).one().limits;
		const limits = this.#counts.get(prefix) ?? count();
		this.#counts.set(prefix, limits);
		return this.#attention.totals(prefix, limits, now);
	}

	knows(name: string): "listed" | "maybe" | null {
		if (this.#sql.exec("SELECT 1 FROM known WHERE name = ?", name).toArray().length > 0) return "listed";
		return this.#table.match(name) ? "maybe" : null;
	}

	nameOf(id: string): string | null {
		return this.#sql.exec<{ name: string }>("SELECT name FROM known WHERE id = ?", id).toArray()[0]?.name ?? null;
	}

	namesByIdPrefix(start: string): string[] {
		const rows = this.#sql.exec<{ name: string }>(
			"SELECT name FROM known WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 8",
			start,
		);
		return rows.toArray().map(({ name }) => name);
	}

	namesAt(prefix: string, offset: number, count: number): string[] {
		const rows = this.#sql.exec<{ name: string }>(
			"SELECT name FROM known WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1 ORDER BY name LIMIT ?2 OFFSET ?3",
			...[prefix, count, offset],
		);
		return rows.toArray().map(({ name }) => name);
	}

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

	ownNames(prefix: string, count: number): { names: string[]; total: number } {
		const where = "FROM known WHERE own = 1 AND name >= ?1 AND substr(name, 1, length(?1)) = ?1";
		const rows = this.#sql.exec<{ name: string }>(`SELECT name ${where} ORDER BY name LIMIT ?2`, prefix, count);
		const names = rows.toArray().map(({ name }) => name);
		const { total } = this.#sql.exec<{ total: number }>(`SELECT count(*) AS total ${where}`, prefix).one();
		return { names, total };
	}

	addTotals(pattern: string, told: Told): void {
		this.#totals.add(pattern, told, Date.now());
	}

	totals(): PolicySum[] {
		return this.#totals.all(Date.now());
	}

	deniedKeys(pattern: string): DeniedKeys["keys"] {
		return this.#totals.deniedKeys(pattern, Date.now());
	}

	match(name: string): { version: number; since: number; policy: Policy | null } {
		return { version: this.#table.version, since: this.#since, policy: this.#table.match(name) };
	}

	policiesAfter(version: number | null): { version: number; since: number; policies: Policy[] } | null {
		const { version: newest } = this.#table;
		return version === newest ? null : { version: newest, since: this.#since, policies: this.policies() };
	}

	setPolicy(
		pattern: string,
		settings: PolicySettings,
		by: string | null,
		share: PolicyShare = ALL_POLICIES,
	): { created: boolean; policy: Policy; version: number } | { full: PolicyShare } {
		const created = !this.#policies.has(pattern);
		for (const full of created ? [ALL_POLICIES, share] : []) {
			if (this.#countOf(full.prefix) >= full.most) return { full };
		}
		const policy: Policy = { pattern, ...settings, updatedAt: new Date().toISOString(), updatedBy: by };
		this.#sql.exec("INSERT OR REPLACE INTO policies (pattern, data) VALUES (?, ?)", pattern, JSON.stringify(policy));
		this.#policies.set(pattern, policy);
		return { created, policy, version: this.#changed() };
	}

	#countOf(prefix: string): number {
		let count = 0;
		for (const pattern of this.#policies.keys()) if (pattern.startsWith(prefix)) count += 1;
		return count;
	}

	policy(pattern: string): Policy | null {
		return this.#policies.get(pattern) ?? null;
	}

	deletePolicy(pattern: string): number | null {
		if (!this.#policies.delete(pattern)) return null;
		this.#sql.exec("DELETE FROM policies WHERE pattern = ?", pattern);
		return this.#changed();
	}

	policies(): Policy[] {
		return [...this.#policies.values()].sort((a, b) => (a.pattern < b.pattern ? -1 : 1));
	}

	#changed(): number {
		const version = this.#table.version + 1;
		this.#sql.exec("UPDATE policies_version SET version = ?", version);
		this.#table = new PolicyTable(version, this.#policies.values());
		return version;
	}
}
