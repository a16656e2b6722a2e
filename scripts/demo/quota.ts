/** The quota of an API: more requests than it allows, at a steady pace, each asking once and not waiting. */

import { setTimeout as sleep } from "node:timers/promises";
import { Headgate, isAcquisitionError } from "../../src/client/index.ts";
import { monotonicMs } from "./clock.ts";
import type { Act, Progress } from "./show.ts";

const LIMIT = 10;
const DECAY = 5;
const REQUESTS_PER_SECOND = 40;
const SECONDS = 10;
/** What an exact bucket grants at the same moments, less what comes back while the slowest answer is on its way. */
const SLACK = 1;

interface Answered {
	askedAt: number;
	heardAt: number;
}

export async function quota(url: string, progress: Progress): Promise<Act> {
	progress.begin("an API quota");
	const gate = new Headgate({ url });
	await gate.configure("quota", { limit: LIMIT, slotDecayPerSecond: DECAY });
	const grants: Answered[] = [];
	const all: Answered[] = [];
	const ask = async (): Promise<void> => {
		const askedAt = monotonicMs();
		try {
			await gate.rateLimit("quota", { maxRetries: 0 });
			grants.push({ askedAt, heardAt: monotonicMs() });
		} catch (error) {
			if (!isAcquisitionError(error) || error.code !== "denied") throw error;
		}
		all.push({ askedAt, heardAt: monotonicMs() });
	};
	const startedAt = monotonicMs();
	const asked: Promise<void>[] = [];
	for (let request = 0; request < REQUESTS_PER_SECOND * SECONDS; request++) {
		const dueAt = startedAt + (request * 1_000) / REQUESTS_PER_SECOND;
		await sleep(Math.max(0, dueAt - monotonicMs()));
		asked.push(ask());
		progress.at(`${grants.length} of ${asked.length} requests granted`);
	}
	await Promise.all(asked);
	const took = (monotonicMs() - startedAt) / 1_000;
	const most = LIMIT + DECAY * took;
	const possible = possibleAt(all.map(({ askedAt }) => askedAt));
	const slowestMs = Math.max(...all.map(({ askedAt, heardAt }) => heardAt - askedAt));
	const slack = SLACK + Math.ceil((DECAY * slowestMs) / 1_000);
	const excess = excessOf(grants);
	return {
		title: `${REQUESTS_PER_SECOND} requests a second on a limit of ${LIMIT} that decays at ${DECAY} a second, for ${SECONDS} s`,
		findings: [
			{
				what: "grants of all requests",
				measured: `${grants.length} of ${asked.length}`,
				aim: `≤ limit + decay × T = ${most.toFixed(1)}`,
				met: grants.length <= most,
			},
			{
				what: "grants missing of what a bucket of this process gives",
				measured: String(Math.max(0, possible - grants.length)),
				aim: `≤ ${slack}`,
				met: grants.length >= possible - slack,
			},
			{ what: "most above the bound in any interval", measured: excess.toFixed(2), aim: "≤ 0", met: excess <= 0 },
		],
	};
}

/** How many of requests at these moments an exact bucket grants. */
function possibleAt(moments: number[]): number {
	let [granted, level, at] = [0, 0, 0];
	for (const now of moments.toSorted((a, b) => a - b)) {
		level = Math.max(0, level - (DECAY * (now - at)) / 1_000);
		at = now;
		if (level + 1 > LIMIT) continue;
		level += 1;
		granted += 1;
	}
	return granted;
}

/**
 * The grants of an interval, less `limit + decay * T`, for the worst of all intervals. A grant was decided between
 * its question and its answer, so the interval from the first question to the last answer holds all of them.
 */
function excessOf(grants: Answered[]): number {
	const inOrder = grants.toSorted((a, b) => a.askedAt - b.askedAt);
	let worst = Number.NEGATIVE_INFINITY;
	inOrder.forEach((first, from) => {
		let lastHeardAt = 0;
		inOrder.slice(from).forEach((grant, index) => {
			lastHeardAt = Math.max(lastHeardAt, grant.heardAt);
			worst = Math.max(worst, index + 1 - (LIMIT + (DECAY * (lastHeardAt - first.askedAt)) / 1_000));
		});
	});
	return worst;
}
