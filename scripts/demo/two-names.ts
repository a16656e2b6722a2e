/**
 * Two names at once: workers that need `database` and `api`, half of them in the one order and half in the other,
 * and workers that need only `database`. `api` is the bottleneck; whoever waits for it should not keep `database`.
 */

import { Headgate } from "../../src/client/index.ts";
import type { Assignment, JobReport, Team } from "./client.ts";
import { runClients } from "./clients.ts";
import { beside, judged } from "./control.ts";
import { mostAtOnce } from "./pile.ts";
import type { Act, Progress } from "./show.ts";

const DATABASE = 8;
const API = 2;
const JOB_MS = 100;
const SECONDS = 5;
/** Workers that need both, for each of the two orders: three times what `api` lets through. */
const BOTH = 3;
/** Workers that need only `database`: enough to fill it. */
const ONLY = 12;
const LEASE_SECONDS = 10;
/** Ends what hangs. */
const PATIENCE_MS = 600_000;
/** Of the slots of `database`, while everybody works and a hand-off takes no time. Two of eight would go to those who have `api` in any case. */
const LEAST_USE = 0.8;

export async function twoNames(url: string, progress: Progress): Promise<Act> {
	progress.begin("two names at once");
	const gate = new Headgate({ url });
	await gate.configure("database", { limit: DATABASE });
	await gate.configure("api", { limit: API });
	// As many jobs as it takes to be busy for the whole time, if nobody is held up by anything but the limits.
	const jobsOf = (slots: number): number => Math.round((SECONDS * 1_000 * slots) / JOB_MS);
	const teams: Team[] = [
		{ names: ["database", "api"], jobs: jobsOf(API / 2), workers: BOTH },
		{ names: ["api", "database"], jobs: jobsOf(API / 2), workers: BOTH },
		{ names: ["database"], jobs: jobsOf((DATABASE - API) / 2), workers: ONLY / 2 },
		{ names: ["database"], jobs: jobsOf((DATABASE - API) / 2), workers: ONLY / 2 },
	];
	const assignments = teams.map(
		(team): Assignment => ({ url, teams: [team], jobMs: JOB_MS, leaseSeconds: LEASE_SECONDS }),
	);
	const total = teams.reduce((sum, { jobs }) => sum + jobs, 0);

	const [{ jobs, startedAt }, control] = await beside(url, () =>
		runClients(assignments, PATIENCE_MS, (done) => progress.at(`${done} of ${total} done`)),
	);
	// Two names are handed on one after the other.
	const leastUse = (LEAST_USE * JOB_MS) / (JOB_MS + 2 * control.overheadMs);
	const both = jobs.filter(({ names }) => names.length === 2);
	const only = jobs.filter(({ names }) => names.length === 1);
	// As long as there is a line for each of the two limits: from then on somebody has run out of jobs.
	const until = Math.min(lastStart(both), lastStart(only));
	const use = useOf(jobs, startedAt, until) / DATABASE;
	const useApi = useOf(both, startedAt, until) / API;
	const [mostDatabase, mostApi] = [mostAtOnce(jobs), mostAtOnce(both)];
	return {
		title: `database (${DATABASE}) and api (${API}): ${2 * BOTH} workers need both, in both orders, ${ONLY} only database`,
		findings: [
			{
				what: "jobs done (no deadlock)",
				measured: `${jobs.length} of ${total}`,
				aim: "all",
				met: jobs.length === total,
			},
			{
				what: "use of database while api is the bottleneck",
				measured: percent(use),
				aim: `≥ ${percent(leastUse)}`,
				met: judged(control, use >= leastUse),
			},
			{ what: "use of api meanwhile", measured: percent(useApi) },
			{
				what: "highest concurrency: database, api",
				measured: `${mostDatabase}, ${mostApi}`,
				aim: `≤ ${DATABASE}, ${API}`,
				met: mostDatabase <= DATABASE && mostApi <= API,
			},
		],
	};
}

const lastStart = (jobs: JobReport[]): number => Math.max(...jobs.map(({ heardAt }) => heardAt));

/** Slots that were worked with, on average, between two moments. */
function useOf(jobs: JobReport[], from: number, until: number): number {
	const worked = jobs.reduce((sum, { heardAt, doneAt }) => {
		return sum + Math.max(0, Math.min(doneAt, until) - Math.max(heardAt, from));
	}, 0);
	return worked / (until - from);
}

const percent = (part: number): string => `${(part * 100).toFixed(0)} %`;
