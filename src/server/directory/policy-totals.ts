/**
 * The sums of policies: what all keys of a policy told of their totals, kept by a few objects beside the directory, for
 * a policy may have 100,000 keys. Their number is that of the policies, however many keys there are.
 */

import type { At, Ms } from "../../core/time.ts";
import { combine, completed, newTotals, type Totals } from "../../core/totals.ts";
import { BOUNDS } from "../../protocol.ts";
import type { Env } from "../contract/env.ts";

/** Objects that share the keys: each adds up some hundred tellings a second. */
const SHARDS = 8;
/** Keys that told within the last whole minute are those that are in use. */
const WINDOW_MS: Ms = 60_000;
/** Patterns that one object remembers; those of policies that are no more are forgotten first. */
const PATTERNS_MAX = 2 * BOUNDS.policies;

/** What one limit tells: what it counted since it told last, and how it stands. */
export interface Told {
	totals: Totals;
	inUse: number;
	waiting: number;
}

/** What is known of a policy. The figures of the moment are of its keys that told within the last whole minute. */
export interface PolicySum extends Told {
	pattern: string;
	keys: number;
}

type Standing = Pick<PolicySum, "inUse" | "waiting" | "keys">;
const NOBODY: Standing = { inUse: 0, waiting: 0, keys: 0 };

const shardNamed = (env: Env, shard: number) => env.DIRECTORY.getByName(`totals:${shard}`);

/** The object that adds up what this limit tells. */
export function totalsShard(env: Env, name: string) {
	let sum = 0;
	for (let index = 0; index < name.length; index += 1) sum = (Math.imul(sum, 31) + name.charCodeAt(index)) | 0;
	return shardNamed(env, Math.abs(sum % SHARDS));
}

/** The sums of all policies. */
export async function policySums(env: Env): Promise<PolicySum[]> {
	const shards = Array.from({ length: SHARDS }, (_, shard) => shardNamed(env, shard).totals());
	const sums = new Map<string, PolicySum>();
	for (const sum of (await Promise.all(shards)).flat()) {
		const known = sums.get(sum.pattern);
		sums.set(sum.pattern, known ? { ...sum, ...both(known, sum), totals: combine(known.totals, sum.totals, 1) } : sum);
	}
	return [...sums.values()].sort((a, b) => (a.pattern < b.pattern ? -1 : 1));
}

const both = (a: Standing, b: Standing): Standing => ({
	...{ inUse: a.inUse + b.inUse, waiting: a.waiting + b.waiting, keys: a.keys + b.keys },
});

/** One of the objects: sums by pattern, written with each telling. */
export class PolicyTotals {
	readonly #sql: SqlStorage;
	/** By pattern, the one that told last at the end. */
	readonly #sums: Map<string, Totals>;
	#window = { startsAt: 0, now: new Map<string, Standing>(), before: new Map<string, Standing>() };

	constructor(sql: SqlStorage) {
		this.#sql = sql;
		const rows = sql.exec<{ pattern: string; data: string }>("SELECT pattern, data FROM totals").toArray();
		this.#sums = new Map(rows.map(({ pattern, data }) => [pattern, completed(JSON.parse(data) as Partial<Totals>)]));
	}

	add(pattern: string, told: Told, now: At): void {
		const sum = combine(this.#sums.get(pattern) ?? newTotals(), told.totals, 1);
		this.#sums.delete(pattern);
		this.#sums.set(pattern, sum);
		this.#sql.exec("INSERT OR REPLACE INTO totals (pattern, data) VALUES (?, ?)", pattern, JSON.stringify(sum));
		this.#turn(now);
		this.#window.now.set(pattern, both(this.#window.now.get(pattern) ?? NOBODY, { ...told, keys: 1 }));
		const [oldest] = this.#sums.keys();
		if (this.#sums.size <= PATTERNS_MAX || oldest === undefined) return;
		this.#sums.delete(oldest);
		this.#sql.exec("DELETE FROM totals WHERE pattern = ?", oldest);
	}

	all(now: At): PolicySum[] {
		this.#turn(now);
		return [...this.#sums].map(([pattern, totals]) => ({
			...{ pattern, totals },
			...(this.#window.before.get(pattern) ?? NOBODY),
		}));
	}

	#turn(now: At): void {
		const { startsAt, now: current } = this.#window;
		if (now < startsAt + WINDOW_MS && now >= startsAt) return;
		const isNext = now < startsAt + 2 * WINDOW_MS && now >= startsAt;
		this.#window = { startsAt: now, now: new Map(), before: isNext ? current : new Map() };
	}
}
