/**
 * Promises 5 and 10, from outside: a process that holds and waits at once, and ends. What it held comes free within the
 * second in which its waiting is noticed, so its waiter may be granted before anybody knows, and must not keep the slot.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { caller, type Stream, server, startOne, until, within } from "./support.ts";

startOne();

/** Ends what hangs: below every lease and every wait here, so that none of those is what brings the slots back. */
const ANSWER_MS = 45_000;
const ROUNDS = 12;

/** How a process waits beside the stream by which it holds. */
const WAITS: [string, (names: string[]) => Wait][] = [
	[
		"a stream",
		(names) => ({ path: "/v1/acquire", body: { names, leaseSeconds: 600, id: randomUUID() }, stream: true }),
	],
	[
		"a held stream",
		(names) => ({
			path: "/v1/acquire",
			body: { names, hold: true, leaseSeconds: 600, id: randomUUID() },
			stream: true,
		}),
	],
	[
		"a plain wait",
		(names) => ({ path: "/v1/acquire", body: { names, waitSeconds: 60, leaseSeconds: 600, id: randomUUID() } }),
	],
	[
		"a lease of Prefect's",
		(names) => ({
			path: "/api/v2/concurrency_limits/increment-with-lease",
			body: { names, slots: 1, lease_duration: 600 },
		}),
	],
	[
		"an increment of Prefect's",
		(names) => ({ path: "/api/v2/concurrency_limits/increment", body: { names, slots: 1 } }),
	],
];

interface Wait {
	path: string;
	body: object;
	stream?: boolean;
}

/** Asks for a held stream and for a wait behind it, and says when each is there; then it does nothing but live. */
const PROGRAM = `
	import { request } from "node:http";
	const [url, holds, waits] = process.argv.slice(1).map((each, index) => (index === 0 ? each : JSON.parse(each)));
	const send = ({ path, body, stream }) => new Promise((resolve) => {
		const headers = { "content-type": "application/json", prefer: "wait=60", ...(stream && { accept: "application/x-ndjson" }) };
		const sent = request(url + path, { method: "POST", headers, agent: false });
		sent.end(JSON.stringify(body));
		if (stream) sent.on("response", (answer) => answer.once("data", resolve).resume());
		else sent.on("finish", resolve);
	});
	await send(holds);
	await send(waits);
	process.stdout.write("there");
`;

interface Ends {
	cut(): void | Promise<void>;
}

/** A process of its own, which is killed. */
async function killed(holds: Wait, waits: Wait): Promise<Ends> {
	const args = ["--input-type=module", "-e", PROGRAM, server.url, JSON.stringify(holds), JSON.stringify(waits)];
	const child: ChildProcess = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
	const there = new Promise((resolve) => child.stdout?.once("data", resolve));
	const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
	await within("a process that holds and waits", ANSWER_MS, there);
	return {
		cut() {
			child.kill("SIGKILL");
			return within("the end of the process", ANSWER_MS, ended);
		},
	};
}

/** Connections of this process, which are closed or reset in the same moment. */
function closed(how: "FIN" | "RST") {
	return async (holds: Wait, waits: Wait): Promise<Ends> => {
		const holder = caller.stream(holds.body as Stream["body"]);
		await within("the held lease", ANSWER_MS, holder.granted);
		const headers = { prefer: "wait=60", ...(waits.stream && { accept: "application/x-ndjson" }) };
		const { request, response } = caller.send("POST", waits.path, waits.body, headers, false);
		response.then((answer) => answer.on("error", () => undefined).resume()).catch(() => undefined);
		return {
			cut() {
				if (how === "RST") request.socket?.resetAndDestroy();
				else request.destroy();
				if (how === "RST") holder.reset();
				else holder.close();
			},
		};
	};
}

describe.concurrent.each([
	["killed with -9", killed],
	["that closes its connections (FIN)", closed("FIN")],
	["that resets its connections (RST)", closed("RST")],
])("a process %s", (_, start) => {
	test.each(WAITS.flatMap(([what, wait]) => [1, 2].map((count) => ({ what, count, wait }))))(
		"promise 10: $what for $count names behind what it holds itself takes nothing",
		async ({ what, count, wait }) => {
			await Promise.all(
				Array.from({ length: start === killed ? 3 : ROUNDS }, async () => {
					const names = await caller.fresh(count);
					const [first = ""] = names;
					const holds: Wait = { path: "/v1/acquire", body: { names, hold: true, leaseSeconds: 600 }, stream: true };
					const ends = await start(holds, wait(names));
					await until("its place in line", ANSWER_MS, async () => (await caller.inspect(first)).waitingCount === 1);
					const next = caller.stream({ names, leaseSeconds: 600 });
					await within("a place behind", ANSWER_MS, next.queued);
					await ends.cut();
					const lease = await within(`the slots behind ${what} of the dead`, ANSWER_MS, next.granted);
					for (const name of names) {
						const { activeSlots, leases } = await caller.inspect(name);
						expect([activeSlots, leases.map(({ id }) => id)]).toEqual([1, [lease.id]]);
					}
					next.close();
				}),
			);
		},
	);
});
