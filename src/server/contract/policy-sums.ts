/**
 * What all keys of a policy told of their totals. It is kept by a few objects of the directory's class, beside the
 * directory itself: which of them a limit tells follows from its name, and the sum is of all of them.
 */

import { combine } from "../../core/totals.ts";
import { BOUNDS, type DeniedKeys } from "../../protocol.ts";
import type { PolicySum } from "./directory-calls.ts";
import type { Env } from "./env.ts";
import { directoryObject } from "./placement.ts";

/** Objects that share the keys: each adds up some hundred tellings a second. */
const SHARDS = 8;

/** The figures of the moment. */
export type Figures = Pick<PolicySum, "inUse" | "waiting" | "keys" | "granted" | "denied">;
export const NO_FIGURES: Figures = { inUse: 0, waiting: 0, keys: 0, granted: 0, denied: 0 };

const shardNamed = (env: Env, shard: number) => directoryObject(env, `totals:${shard}`);

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

export const both = (a: Figures, b: Figures): Figures => ({
	...{ inUse: a.inUse + b.inUse, waiting: a.waiting + b.waiting, keys: a.keys + b.keys },
	...{ granted: a.granted + b.granted, denied: a.denied + b.denied },
});

/** The keys of a policy that were denied most lately. */
export async function deniedKeys(env: Env, pattern: string): Promise<DeniedKeys> {
	const shards = Array.from({ length: SHARDS }, (_, shard) => shardNamed(env, shard).deniedKeys(pattern));
	const keys = (await Promise.all(shards)).flat().sort((a, b) => b.denied - a.denied || (a.name < b.name ? -1 : 1));
	return { keys: keys.slice(0, BOUNDS.deniedKeys) };
}
