/**
 * A request that went to another name with its limit is led on there, whatever is asked of it: by the id of a request an
 * object answers nothing before it has looked where the request is.
 */

import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import type { LimitCalls, RequestCalls } from "../../src/server/contract/limit-calls.ts";
import type { LimitRequest } from "../../src/server/contract/outcomes.ts";
import type { MovingCalls } from "../../src/server/limit/relocation.ts";
import { callsOf, limitObject, newLimit, newNames } from "./support.ts";

type Limit = ReturnType<typeof limitObject>;

const ask = (id: string): LimitRequest => ({
	request: {
		...{ id, slots: 1, mode: "concurrency", leaseMs: 60_000, waitMs: 0, ifBusy: "deny" },
		...{ holder: null, held: true, print: "", remember: true },
	},
	createIfMissing: false,
});

/** What is asked by the id of a request. The compiler says when one is missing. */
const BY_ID: Record<keyof RequestCalls, (limit: Limit, id: string) => Promise<unknown>> = {
	acquire: (limit, id) => limit.acquire(ask(id)),
	reserve: (limit, id) => limit.reserve(ask(id)),
	open: async (limit, id) => {
		const opened = (await limit.open(ask(id), "acquire", "outcomes")) as ReadableStream;
		await opened.cancel();
	},
	hold: async (limit, id) => (await limit.hold(id))?.cancel(),
	commit: (limit, id) => limit.commit(id, []),
	cancel: (limit, id) => limit.cancel(id, false),
	touch: (limit, id) => limit.touch(id),
	renew: (limit, id) => limit.renew(id, null),
	release: (limit, id) => limit.release(id, "caller"),
	settle: (limit, id) => limit.settle(id, 0),
	borrow: (limit, id) => limit.borrow(id, { used: 0, grants: 0, wanted: 1, least: 1 }),
	repay: (limit, id) => limit.repay(id, { used: 0, grants: 0 }),
	leave: (limit, id) => limit.leave(id, "another call"),
	stepBack: (limit, id) => limit.stepBack(id, "another call"),
	others: (limit, id) => limit.others(id),
	vouch: (limit, id) => limit.vouch([id]),
};

/** Ties, and does what is asked before the tether is let go. */
async function tied(limit: Limit, asked: LimitRequest | string, then?: "renew" | "release"): Promise<unknown> {
	using answer = await limit.tether(asked);
	return then && (await answer.tether?.[then]());
}

/** What comes to one of those, and which. */
const BY_ANOTHER: Record<string, [as: keyof RequestCalls, (limit: Limit, id: string) => Promise<unknown>]> = {
	acquireText: ["acquire", (limit, id) => limit.acquireText(JSON.stringify(ask(id)))],
	acquireManyText: ["acquire", (limit, id) => limit.acquireManyText(JSON.stringify([ask(id)]))],
	"a request that is tied": ["acquire", (limit, id) => tied(limit, ask(id))],
	"a tether that renews": ["renew", (limit, id) => tied(limit, id, "renew")],
	"a tether that releases": ["release", (limit, id) => tied(limit, id, "release")],
};

/** What is asked of the limit as a whole, by its name. */
const OF_THE_LIMIT: Record<
	Exclude<keyof LimitCalls | keyof MovingCalls, keyof RequestCalls | "acquireText" | "acquireManyText" | "tether">,
	true
> = {
	...{
		absorbed: true,
		clockWasSet: true,
		configure: true,
		create: true,
		patch: true,
		takeBack: true,
		remove: true,
		rename: true,
	},
	...{ moveIn: true, inspect: true, summary: true, describe: true, watch: true, leases: true, history: true },
	...{ condition: true, measure: true, peek: true, idOf: true, pause: true },
};

const rows = [
	...Object.entries(BY_ID).map(([how, run]) => ({ how, as: how as keyof RequestCalls, run })),
	...Object.entries(BY_ANOTHER).map(([how, [as, run]]) => ({ how, as, run })),
];

test.each(rows)("of a request that went to another name, $how is asked there", async ({ as, run }) => {
	const name = await newLimit();
	const [other] = newNames(1) as [string];
	const id = `${name}-request`;
	await limitObject(name).acquire(ask(id));
	expect(await limitObject(name).rename(other, null)).toBe("moved");
	expect(await callsOf(limitObject(other), [as], () => run(limitObject(name), id))).toBe(1);
});

test.each(Object.entries(BY_ID))(
	"what $0 answers is handed on without the disposer of the call behind it",
	async (_, run) => {
		const name = await newLimit();
		const [other] = newNames(1) as [string];
		const id = `${name}-request`;
		await limitObject(name).acquire(ask(id));
		expect(await limitObject(name).rename(other, null)).toBe("moved");
		const hasDisposer = await runInDurableObject(limitObject(name), async (object) => {
			const answer = await run(object as unknown as Limit, id);
			return typeof answer === "object" && answer !== null && Symbol.dispose in answer;
		});
		expect(hasDisposer).toBe(false);
	},
);

test("these are all that can be asked of the object of a limit", async () => {
	const methods = await runInDurableObject(limitObject(await newLimit()), (object) => {
		const found: string[] = [];
		for (
			let from = Object.getPrototypeOf(object);
			"acquire" in from && Object.hasOwn(from, "constructor");
			from = Object.getPrototypeOf(from)
		)
			found.push(...Object.getOwnPropertyNames(from));
		return [...new Set(found)];
	});
	const apart = ["acquireText", "acquireManyText", "tether", "alarm", "constructor"];
	const named = [...Object.keys(BY_ID), ...Object.keys(OF_THE_LIMIT), ...apart];
	expect(methods.sort()).toEqual(named.sort());
});
