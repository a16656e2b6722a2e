/** The same thing of each peer, round after round, each time in another order, so that noise falls on all of them alike. */

import { ascending, median } from "../numbers.ts";

/** Measures each in every round, beginning with another one each time. What failed is left out of `measured`, and told. */
export async function inRounds<P extends { name: string }, T>(
	peers: P[],
	rounds: number,
	measure: (peer: P, round: number) => Promise<T>,
): Promise<{ measured: Map<P, T[]>; failed: Map<P, string> }> {
	const measured = new Map<P, T[]>(peers.map((peer) => [peer, []]));
	const failed = new Map<P, string>();
	for (let round = 0; round < rounds; round += 1) {
		const from = Math.floor((round * peers.length) / rounds);
		for (const peer of [...peers.slice(from), ...peers.slice(0, from)]) {
			if (failed.has(peer)) continue;
			try {
				(measured.get(peer) as T[]).push(await measure(peer, round));
			} catch (error) {
				failed.set(peer, error instanceof Error ? error.message : String(error));
				measured.delete(peer);
			}
		}
	}
	return { measured, failed };
}

/** The median of the rounds, with the least and the most of them. */
export interface Spread {
	median: number;
	least: number;
	most: number;
}

export function spreadOf(values: number[]): Spread {
	const sorted = ascending(values);
	return { median: median(sorted), least: sorted[0] as number, most: sorted.at(-1) as number };
}

/** Ratios of the rounds' own. */
export const against = (values: number[], own: number[]): Spread =>
	spreadOf(values.map((value, round) => value / (own[round] as number)));

export function inWords({ median: middle, least, most }: Spread, digits = 2): string {
	const text = (value: number): string =>
		value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(digits);
	return `${text(middle)} × (${text(least)}–${text(most)})`;
}

/** A row as long as the head. */
export const filled = (row: string[], head: string[]): string[] => head.map((_, column) => row[column] ?? "");
