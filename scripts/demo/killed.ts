/** A holder killed with `kill -9`: how long until the one who waits has its slots. */

import { fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Headgate } from "../../src/client/index.ts";
import { monotonicMs } from "./clock.ts";
import { beside, type Control, judged } from "./control.ts";
import type { Holding } from "./holder.ts";
import { type Act, type Finding, type Progress, s } from "./show.ts";

const SLOTS = 3;
const LEASE_SECONDS = 2;
/** Long enough for a lease of two seconds to have been renewed. */
const HELD_MS = 1_000;
/** From the end of a lease, or of a connection's last sign of life, to the one who waits; or what the control says. */
const HAND_OFF_MS = 100;
const STREAM_SECONDS = 2;

export async function killed(url: string, progress: Progress): Promise<Act> {
	progress.begin("a holder is killed");
	const [lease, byLease] = await beside(url, () => slotsBackAfter(url, "lease", progress));
	const [stream, byStream] = await beside(url, () => slotsBackAfter(url, "stream", progress));
	const finding = (what: string, tookMs: number, mostSeconds: number, control: Control): Finding => {
		const mostMs = mostSeconds * 1_000 + Math.max(HAND_OFF_MS, control.worstMs);
		return {
			what,
			measured: `${s(tookMs)} after kill -9`,
			aim: `≤ ${s(mostMs)}`,
			met: judged(control, tookMs <= mostMs),
		};
	};
	return {
		title: `A holder of ${SLOTS} slots is killed with kill -9; when the next one has them`,
		findings: [
			finding(`held by a lease of ${LEASE_SECONDS} s`, lease, LEASE_SECONDS, byLease),
			finding("held by a stream", stream, STREAM_SECONDS, byStream),
		],
	};
}

async function slotsBackAfter(url: string, as: Holding["as"], progress: Progress): Promise<number> {
	const gate = new Headgate({ url });
	const name = `killed-${as}`;
	await gate.configure(name, { limit: SLOTS });
	const child = fork(path.join(import.meta.dirname, "holder.ts"));
	try {
		const holding = once(child, "message");
		child.send({ url, name, slots: SLOTS, as, leaseSeconds: LEASE_SECONDS } satisfies Holding);
		await holding;
		progress.at(`it holds its slots by a ${as}`);
		const next = gate.acquire(name, { occupy: SLOTS, timeoutSeconds: 60 });
		await sleep(HELD_MS);
		const killedAt = monotonicMs();
		child.kill("SIGKILL");
		progress.at(`the one with a ${as} was killed`);
		const lease = await next;
		const tookMs = monotonicMs() - killedAt;
		await lease.release();
		return tookMs;
	} finally {
		child.kill("SIGKILL");
	}
}
