/** A Worker that uses Headgate through a service binding. Each path is one way to use it, or to go wrong. */

import { Headgate, type HeadgateBinding, refusalOf } from "../../../src/client/index.ts";
import type { HeadgateService } from "../../../src/server/worker.ts";

interface Env {
	LIMITS: Service<HeadgateService>;
	TEAM: Service<HeadgateService>;
	TYPO: Service<HeadgateService>;
	PLAIN: Fetcher;
	OTHER: Fetcher;
}

type Use = (env: Env, name: string, ctx: ExecutionContext) => Promise<unknown>;

const seconds = (count: number): Promise<void> => scheduler.wait(count * 1_000);

/** What an error says to whoever catches it. */
async function failure(work: () => Promise<unknown>): Promise<unknown> {
	try {
		return { value: await work() };
	} catch (error) {
		const { name, message, problem } = error as Error & { problem?: { code: string; status: number } };
		const refusal = refusalOf(error);
		return {
			name,
			message,
			...(problem && { code: problem.code, status: problem.status }),
			...(refusal && { refusal }),
		};
	}
}

const library = (env: Env): Headgate => new Headgate({ binding: env.LIMITS });

const uses: Record<string, Use> = {
	// ------------------------------------------------------------------------------------------- by RPC itself
	async using({ LIMITS }, name) {
		using lease = await LIMITS.concurrency(name, { holder: "caller" });
		const { leases } = await LIMITS.inspect(name);
		return { id: await lease.id, names: await lease.names, enforced: await lease.enforced, inside: leases };
	},
	async "using-then-on"({ LIMITS }, name) {
		{
			using lease = await LIMITS.concurrency(name);
			await lease.id;
		}
		// The block is over, the request is not.
		const until = Date.now() + 2_000;
		for (;;) {
			const { activeSlots } = await LIMITS.inspect(name);
			if (activeSlots === 0 || Date.now() > until) return { activeSlots };
			await scheduler.wait(10);
		}
	},
	async several({ LIMITS }, name) {
		using lease = await LIMITS.concurrency({ [name]: 1, [`${name}-b`]: 2 }, { rate: `${name}-c` });
		return { names: await lease.names, rate: await lease.rate };
	},
	async kinds({ LIMITS }, name) {
		const rated = `${name}-c`;
		const checked = await LIMITS.check(name, { occupy: 2 });
		using lease = await LIMITS.concurrency(name, { rate: { [rated]: 4 }, settleSeconds: 60 });
		const fence = await lease.fence;
		const settled = await LIMITS.settle(await lease.id, { [rated]: 1 });
		const { pausedUntil } = await LIMITS.pause(name, 60);
		const denied = await failure(() => LIMITS.concurrency(name, { timeoutSeconds: 0 }));
		const ended = (await LIMITS.pause(name, 0)).pausedUntil;
		const { activeSlots } = await LIMITS.inspect(rated);
		return { allowed: checked.allowed, fence, actual: settled.actual, pausedUntil, denied, ended, activeSlots };
	},
	async release({ LIMITS }, name) {
		using lease = await LIMITS.concurrency(name, { occupy: 2 });
		return [await lease.release(), await lease.release()];
	},
	/** Takes slots by rate, one after the other, by RPC and by the library, and says how many the limit has lent by then. */
	async borrows(env, name) {
		const gate = library(env);
		for (let n = 0; n < 20; n += 1) {
			await env.LIMITS.rateLimit(name, { timeoutSeconds: 0 });
			await gate.rateLimit(name, { timeoutSeconds: 0 });
		}
		const { lentSlots } = await env.LIMITS.inspect(name);
		return { lentSlots };
	},
	async throws({ LIMITS }, name) {
		await LIMITS.concurrency(name);
		throw new Error("the caller's own");
	},
	async forgets({ LIMITS }, name) {
		const lease = await LIMITS.concurrency([name, `${name}-b`]);
		return await lease.id;
	},
	/** Holds for as long as somebody else does not stop it. */
	async holds({ LIMITS }, name) {
		using lease = await LIMITS.concurrency(name, { leaseSeconds: 3 });
		await lease.id;
		await seconds(5);
		return { enforced: await lease.enforced, still: await lease.renew() };
	},
	async "holds-through-a-restart"({ LIMITS }, name) {
		// It is renewed after a third of its length, and has two thirds left for that on a machine that is slow.
		using lease = await LIMITS.concurrency(name, { leaseSeconds: 15 });
		await lease.id;
		await seconds(6);
		return { enforced: await lease.enforced };
	},
	async "holds-several"({ LIMITS }, name) {
		using lease = await LIMITS.concurrency([name, `${name}-b`], { leaseSeconds: 86_400 });
		await lease.id;
		await seconds(60);
	},
	async "learns-that-it-lost"({ LIMITS }, name) {
		using lease = await LIMITS.concurrency(name);
		await LIMITS.release({ id: await lease.id, names: name });
		return [await failure(() => lease.renew()), await lease.enforced];
	},
	async waits({ LIMITS }, name) {
		using lease = await LIMITS.concurrency(name, { timeoutSeconds: 30 });
		return { waitedSeconds: await lease.waitedSeconds };
	},
	/** Asks, and goes before there is an answer. */
	async "leaves-the-line"({ LIMITS }, name) {
		const asked = LIMITS.concurrency(name);
		asked.catch(() => undefined);
		await scheduler.wait(300);
		return (await LIMITS.inspect(name)).waitingCount;
	},
	async "leaves-the-lines-of-several"({ LIMITS }, name) {
		const asked = LIMITS.concurrency([name, `${name}-b`]);
		asked.catch(() => undefined);
		for (;;) {
			const { waitingCount } = await LIMITS.inspect(name);
			const { waitingCount: ofOther } = await LIMITS.inspect(`${name}-b`);
			if (waitingCount + ofOther === 2) return "waited";
			await scheduler.wait(10);
		}
	},
	async "in-the-background"({ LIMITS }, name, ctx) {
		const lease = await LIMITS.concurrency(name);
		ctx.waitUntil(
			(async () => {
				await seconds(1.5);
				await lease.id;
			})(),
		);
		return "answered";
	},
	async refused({ LIMITS }, name) {
		using held = await LIMITS.concurrency(name);
		return [
			await held.enforced,
			await failure(() => LIMITS.concurrency(name, { timeoutSeconds: 0.2 })),
			await failure(() => LIMITS.concurrency(name, { timeoutSeconds: 0 })),
			await failure(() => LIMITS.concurrency({ [name]: 99 })),
			await failure(() => LIMITS.concurrency("missing-one", { strict: true })),
			await failure(() => LIMITS.rateLimit(name)),
		];
	},
	async "bad-input"({ LIMITS }, name) {
		return [
			await failure(() => LIMITS.concurrency(undefined as unknown as string)),
			await failure(() => LIMITS.concurrency([])),
			await failure(() => LIMITS.concurrency("a/b")),
			await failure(() => LIMITS.concurrency(name, { occupy: 0 })),
			await failure(() => LIMITS.concurrency(name, { occupy: Number.NaN })),
			await failure(() => LIMITS.concurrency(name, { timeOut: 3 } as object)),
			await failure(() => LIMITS.concurrency(Array.from({ length: 10_000 }, (_, index) => `n${index}`))),
			await failure(() => LIMITS.concurrency((() => "x") as unknown as string)),
			await failure(() => LIMITS.release(undefined as unknown as { id: string; names: string })),
			await failure(() => LIMITS.inspect("")),
		];
	},
	async verbs({ LIMITS }, name) {
		await LIMITS.configure(name, { limit: 3, slotDecayPerSecond: 0.001 });
		const { lease } = await LIMITS.acquire({ names: name, occupy: 2 });
		if (!lease) throw new Error("not granted");
		const renewed = await LIMITS.renew(lease, 30);
		const { problem } = await LIMITS.acquire({ names: name, occupy: 2 });
		const receipt = await LIMITS.rateLimit(name);
		const released = await LIMITS.release(lease);
		const again = await failure(() => LIMITS.renew(lease));
		const { activeSlots } = await LIMITS.inspect(name);
		return { renewed, problem, receipt, released, again, activeSlots };
	},
	async "record-outlives-request"({ LIMITS }, name) {
		return (await LIMITS.acquire({ names: name })).lease;
	},
	async "without-a-token-by-fetch"({ LIMITS }, name) {
		return (await LIMITS.fetch(`https://headgate/v1/limits/${name}`)).status;
	},
	async team({ TEAM }, name) {
		using own = await TEAM.concurrency(`team-a:${name}`);
		return [
			await own.names,
			await failure(() => TEAM.concurrency(name)),
			await failure(() => TEAM.concurrency([`team-a:${name}`, "z"], { rate: name })),
			await failure(() => TEAM.configure(`team-a:${name}`, { limit: 1 })),
			await failure(() => TEAM.inspect(name)),
			(await TEAM.fetch(`https://headgate/v1/limits/${name}`)).status,
		];
	},
	typo: ({ TYPO }, name) => failure(() => TYPO.concurrency(name)),

	// ------------------------------------------------------------------------------------------ by the library
	async "library-all"(env, name) {
		const gate = library(env);
		await gate.configure(name, { limit: 2 });
		await gate.configure(`${name}-r`, { limit: 5, slotDecayPerSecond: 0.001 });
		const inside = await gate.concurrency(name, { occupy: 2, timeoutSeconds: 5 }, async () => {
			const { leaseCount } = await gate.inspect(name);
			const { denied } = await gate.tryAcquire(name);
			return { leaseCount, denied: denied?.code };
		});
		const receipt = await gate.rateLimit(`${name}-r`, { occupy: 2 });
		const { lease } = await gate.tryAcquire([name], { rate: `${name}-r` });
		const taken = { names: lease?.names, rate: lease?.rate, enforced: lease?.enforced };
		const reference = JSON.parse(JSON.stringify(lease));
		const renewed = await gate.renew(reference);
		const released = await gate.release(reference);
		await lease?.release();
		const names: string[] = [];
		for await (const limit of gate.limits({ prefix: name })) names.push(limit.name);
		const { activeSlots } = await gate.inspect(name);
		const after = await gate.inspect(`${name}-r`);
		return { inside, receipt, taken, renewed, released, names, activeSlots, spent: after.activeSlots };
	},
	async "library-forgets"(env, name) {
		const lease = await library(env).acquire([name, `${name}-b`]);
		return lease.names;
	},
	async "library-forgets-after-a-restart"(env, name) {
		const lease = await library(env).acquire(name, { leaseSeconds: 6 });
		const expiresAt = lease.expiresAt;
		while (lease.expiresAt === expiresAt) await seconds(0.1);
		return lease.enforced;
	},
	async "library-throws"(env, name) {
		await library(env).acquire(name);
		throw new Error("the caller's own");
	},
	async "library-waits"(env, name) {
		await using lease = await library(env).concurrency(name, { timeoutSeconds: 30 });
		return { waitedSeconds: lease.waitedSeconds };
	},
	async "library-times-out"(env, name) {
		const gate = library(env);
		await using _ = await gate.concurrency(name);
		return [
			await failure(() => gate.concurrency(name, { timeoutSeconds: 0.2 })),
			await failure(() => gate.concurrency(name, { maxRetries: 0 })),
			await failure(() => gate.concurrency(name, { signal: AbortSignal.timeout(200) })),
		];
	},
	async "library-loses"(env, name) {
		const gate = library(env);
		return failure(() =>
			gate.concurrency(name, { leaseSeconds: 1 }, async (lease) => {
				await gate.release({ id: lease.id, names: name });
				await new Promise((_, reject) => lease.signal.addEventListener("abort", () => reject(lease.signal.reason)));
			}),
		);
	},
	async "library-bad-bindings"(env, name) {
		const of = (binding: unknown) =>
			failure(async () => new Headgate({ binding: binding as HeadgateBinding }).inspect(name));
		return [await of(undefined), await of({}), await of(env.OTHER), await of(env.PLAIN), await of(env.TYPO)];
	},
	async "library-wrong-worker-acquires"({ OTHER, PLAIN }, name) {
		const of = (binding: HeadgateBinding) =>
			failure(() => new Headgate({ binding }).concurrency(name, { timeoutSeconds: 5 }));
		return [await of(OTHER), await of(PLAIN)];
	},
	/** A binding without the entrypoint is called by fetch, with a token. */
	async "library-by-fetch"({ PLAIN }, name) {
		const gate = new Headgate({ binding: PLAIN, token: "test-token-of-a-caller" });
		const first = await gate.concurrency(name, (lease) => lease.names);
		return [first, (await gate.inspect(name)).totals.released];
	},
};

export default {
	async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
		const { pathname, searchParams } = new URL(request.url);
		const use = uses[pathname.slice(1)];
		if (!use) return new Response("no such use", { status: 404 });
		return Response.json((await use(env, searchParams.get("name") ?? "", ctx)) ?? null);
	},
};
