/** A slot's way from one job to the next, from what the jobs themselves noted. */

export interface Job {
	/** In milliseconds of one clock. */
	began: number;
	ended: number;
}

/** From a slot's being given back to the start of the next job on it, for each time that the limit was no longer full. */
export function handoffs(jobs: Job[], limit: number): number[] {
	const edges = jobs.flatMap(({ began, ended }) => [
		{ at: began, step: 1 },
		{ at: ended, step: -1 },
	]);
	edges.sort((a, b) => a.at - b.at || a.step - b.step);
	const free: number[] = [];
	const waits: number[] = [];
	let inside = 0;
	for (const { at, step } of edges) {
		inside += step;
		if (step < 0) free.push(at);
		else if (inside <= limit && free.length > 0) waits.push(at - (free.shift() as number));
	}
	return waits;
}
