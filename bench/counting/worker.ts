/**
 * The Worker as it is, but for a limit that counts how often it is asked for slots and how often it came into memory, and that
 * has a line without connections, a directory that counts how often it is told of conditions, and routes that tell.
 */

import type { Env } from "../../src/server/contract/env.ts";
import service, { LimitObject as Plain, DirectoryObject as PlainDirectory } from "../../src/server/worker.ts";

/** How often limits told in what condition they are. */
let told = 0;

export class DirectoryObject extends PlainDirectory {
	override tell(...telling: Parameters<PlainDirectory["tell"]>): number {
		told += 1;
		return super.tell(...telling);
	}
}

/** By name. On one machine the objects and the Worker are in one isolate. */
const made = new Map<string, number>();

/** What waits in a line without connections: so many, of so many keys. */
interface Line {
	count: number;
	keys: number;
}

export class LimitObject extends Plain {
	#calls = 0;
	#keys = 0;
	#next = 0;
	#holder = "";
	#granted: (id: string) => void = () => undefined;

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		const name = ctx.id.name ?? "";
		made.set(name, (made.get(name) ?? 0) + 1);
	}

	override acquireText(ask: string): Promise<string> {
		this.#calls += 1;
		return super.acquireText(ask);
	}

	/** Calls since the last time. */
	async calls(): Promise<number> {
		const calls = this.#calls;
		this.#calls = 0;
		return calls;
	}

	/** One holds, and the others wait. Answers when all of them are in line. */
	async line({ count, keys }: Line): Promise<void> {
		this.#keys = keys;
		const first = new Promise<string>((resolve) => {
			this.#granted = resolve;
		});
		for (let waiter = 0; waiter <= count; waiter += 1) void this.#join();
		this.#holder = await first;
		await this.#inLine();
	}

	/** One more waits, and leaves. */
	async joinAndLeave(): Promise<void> {
		const left = this.#join();
		await this.release(`w${this.#next - 1}`, "caller");
		await left;
	}

	/** The holder gives its slot to the next, and one more waits. */
	async serve(): Promise<void> {
		const next = new Promise<string>((resolve) => {
			this.#granted = resolve;
		});
		await this.release(this.#holder, "caller");
		this.#holder = await next;
		void this.#join();
		await this.#inLine();
	}

	async #join(): Promise<void> {
		const at = this.#next++;
		const id = `w${at}`;
		const key = this.#keys > 0 ? { key: `tenant-${at % this.#keys}` } : {};
		const outcome = await this.acquire({
			request: {
				...{ id, slots: 1, mode: "concurrency", leaseMs: 86_400_000, waitMs: 86_400_000, ifBusy: "wait", ...key },
				...{ holder: null, held: false, print: "", remember: false },
			},
			createIfMissing: false,
		});
		if (!("missing" in outcome) && outcome.event.kind === "granted") this.#granted(id);
	}

	/** What was asked before this is decided before it. */
	async #inLine(): Promise<void> {
		await this.release("none", "operator");
	}
}

export default {
	async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
		const { pathname } = new URL(request.url);
		// The object itself is not asked, which would bring it back into memory.
		if (pathname.startsWith("/made/")) return Response.json({ made: made.get(pathname.slice(6)) ?? 0 });
		if (pathname === "/told") return Response.json({ told });
		const [, turn, name = ""] = /^\/(line|joinAndLeave|serve)\/(.+)$/.exec(pathname) ?? [];
		if (turn) {
			const limit = env.LIMITS.getByName(name) as unknown as Record<string, (line: Line) => Promise<void>>;
			await limit[turn]?.(await request.json());
			return Response.json({});
		}
		if (!pathname.startsWith("/calls/")) return service.fetch(request, env, ctx);
		const limit = env.LIMITS.getByName(pathname.slice(7)) as unknown as { calls(): Promise<number> };
		return Response.json({ calls: await limit.calls() });
	},
};
