/** The arithmetic of measurements, and how they are shown. */

/** Of values in ascending order. */
export function percentile(sorted: number[], part: number): number {
	if (sorted.length === 0) return Number.NaN;
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] as number;
}

export const ascending = (values: number[]): number[] => [...values].sort((a, b) => a - b);

export function median(values: number[]): number {
	const sorted = ascending(values);
	const middle = sorted.length / 2;
	const upper = sorted[Math.floor(middle)] as number;
	return Number.isInteger(middle) ? ((sorted[middle - 1] as number) + upper) / 2 : upper;
}

/** The median over the rounds of something that was measured in each. */
export const medianOf = <T>(rounds: T[], value: (round: T) => number): number => median(rounds.map(value));

export const times = (ratio: number): string => `${ratio.toFixed(2)} ×`;

export const milliseconds = (ms: number): string => `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;

export const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

export const perSecond = (rate: number): string => Math.round(rate).toLocaleString("en");
