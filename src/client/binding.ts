/** A service binding inside of Workers: the whole service by RPC, without HTTP. */

import type { AcquireRequest, Lease, Problem, Receipt, Released } from "../protocol.ts";
import { Interruption } from "./interruption.ts";

/** A request in the hands of the service: it ends with this stub, however its caller ends. */
export interface BindingRequest {
	verdict(): Promise<{ lease: Lease | Receipt | null; problem: Problem | null }>;
	release(): Promise<Released>;
	/** Renews for its whole length, and ties itself again to a limit that was restarted; null: it is gone. */
	renew(): Promise<string | null>;
	[Symbol.dispose]?(): void;
}

/** An answer without HTTP; a problem where `status` is 400 or more. */
interface Reply {
	status: number;
	body: unknown;
}

/** What of `HeadgateService` is called here. */
export interface Rpc {
	invoke(method: string, path: string, body?: unknown): Promise<Reply>;
	ask(request: AcquireRequest): Promise<BindingRequest> & BindingRequest;
}

/** A service binding: of the entrypoint `HeadgateService`, or of anything that answers `fetch` as the service does. */
export interface HeadgateBinding {
	fetch(request: Request): Promise<Response>;
}

/** Bindings that turned out to have `fetch` alone; a Worker makes a gate for each request, and asks again for none. */
const fetchOnly = new WeakSet<object>();

/** What to write where, when there is no binding or a wrong one. */
export const HOW_TO_BIND =
	'add to wrangler.toml:\n[[services]]\nbinding = "LIMITS"\nservice = "headgate"\nentrypoint = "HeadgateService"\nand pass `binding: env.LIMITS`';

export class Binding {
	readonly #to: HeadgateBinding & Partial<Rpc>;

	/** @throws TypeError when it is no service binding. */
	constructor(binding: HeadgateBinding) {
		if (typeof binding?.fetch !== "function") {
			throw new TypeError(`Headgate was given a binding that is missing or is no service: ${HOW_TO_BIND}.`);
		}
		this.#to = binding;
	}

	fetch(url: string, init: RequestInit): Promise<Response> {
		return this.#to.fetch(new Request(url, init));
	}

	/** Null: it has `fetch` alone. A service binding seems to have every method: only a call tells. */
	get rpc(): Rpc | null {
		const isRpc = typeof this.#to.invoke === "function" && !fetchOnly.has(this.#to);
		return isRpc ? (this.#to as unknown as Rpc) : null;
	}

	/** One call; null: by RPC there is none, so fetch. */
	async invoke(method: string, path: string, body: unknown): Promise<Reply | null> {
		try {
			return (await this.rpc?.invoke(method, path, body)) ?? null;
		} catch (error) {
			return this.withoutRpc(error);
		}
	}

	/** Null when a call failed because there is no such method: from then on it is `fetch`. Throws what else it was. */
	withoutRpc(error: unknown): null {
		if (!(error instanceof Error && /does not implement the method/.test(error.message))) {
			throw new Interruption("the binding failed", error);
		}
		fetchOnly.add(this.#to);
		return null;
	}
}
