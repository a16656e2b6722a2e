/**
 * One client of the demo, in a process of its own, as a program that uses the library would be. It is told what to
 * run, says that it is ready, starts when it is told to, and reports every job.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { Headgate } from "../../src/client/index.ts";
import { monotonicMs } from "./clock.ts";

/** Work for one client. */
export interface Assignment {
	url: string;
	teams: Team[];
	jobMs: number;
	leaseSeconds: number;
}

/** Workers that share a number of jobs; each takes the next one when it has done its last. */
export interface Team {
	names: string[];
	jobs: number;
	workers: number;
}

/** What became of one job. Times are those of the machine's monotonic clock, unless said otherwise. */
export interface JobReport {
	id: string;
	names: string[];
	/** The client heard that it has its slots. */
	heardAt: number;
	/** The work was done; the slots are given back right after. */
	doneAt: number;
	/** The server's wall clock, in milliseconds. */
	grantedAt: number;
	/** The same clock, when the request got its place in line. */
	arrivedAt: number;
}

export type ClientNews =
	| { news: "ready" }
	| { news: "job"; job: JobReport }
	| { news: "finished" }
	| { news: "failed"; why: string };

const tell = (news: ClientNews): void => void process.send?.(news);

async function run({ url, teams, jobMs, leaseSeconds }: Assignment): Promise<void> {
	const gate = new Headgate({ url });
	const work = async (team: Team): Promise<void> => {
		const { names } = team;
		while (team.jobs-- > 0) {
			await gate.concurrency(names, { leaseSeconds }, async ({ id, expiresAt, waitedSeconds }) => {
				const heardAt = monotonicMs();
				// A lease is read before it is renewed, so it began a full length before its end.
				const grantedAt = Date.parse(expiresAt ?? "") - leaseSeconds * 1_000;
				const arrivedAt = grantedAt - Math.round(waitedSeconds * 1_000);
				await sleep(jobMs);
				tell({ news: "job", job: { id, names, heardAt, doneAt: monotonicMs(), grantedAt, arrivedAt } });
			});
		}
	};
	await Promise.all(teams.flatMap((team) => Array.from({ length: team.workers }, () => work(team))));
}

let assignment: Assignment | undefined;
process.once("disconnect", () => process.exit());
process.on("message", async (message: Assignment | "go") => {
	if (message !== "go") {
		assignment = message;
		// The first call of `fetch` loads and compiles what it needs, which is no part of any hand-off.
		await fetch(`${message.url}/health`).then((response) => response.text());
		tell({ news: "ready" });
		return;
	}
	try {
		await run(assignment as Assignment);
		tell({ news: "finished" });
	} catch (error) {
		tell({ news: "failed", why: error instanceof Error ? (error.stack ?? error.message) : String(error) });
	}
});
