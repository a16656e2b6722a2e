/**
 * The door for other Workers: bound as a service, it is called without HTTP. A binding is a permission, given by the operator
 * who deploys the caller, so there are no tokens here; its `props` may confine it.
 *
 *     [[services]]
 *     binding = "LIMITS"
 *     service = "headgate"
 *     entrypoint = "HeadgateService"
 *     props = { prefix = "team-a:", scope = "use" }
 */

import { WorkerEntrypoint } from "cloudflare:workers";
import * as z from "zod";
import {
	type AcquireRequest,
	BOUNDS,
	type CheckAnswer,
	type CheckRequest,
	type Given,
	type LimitInfo,
	type LimitSummary,
	type Problem,
	type Receipt,
	type Released,
	type Renewed,
	SCOPES,
	type Scope,
	type Settings,
	type Settled,
	type Slots,
	type TokenBounds,
} from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import { problem } from "../../contract/problems.ts";
import { admitted } from "../admission/admission.ts";
import { boundsSchema, fixedKeySchema, type Grant, grantTo } from "../auth.ts";
import { type Acquire, parseAcquire } from "../requests.ts";
import { service } from "../routes.ts";
import { asGranted } from "../whose.ts";
import { BindingRequest, type Decided } from "./binding-request.ts";
import { HeldLease } from "./held-lease.ts";
import { refusal } from "./refusal.ts";

/** What a binding may do, in its `props`. Left out: everything. */
export interface BindingProps {
	/** Names it may speak of start with this. */
	prefix?: string;
	/** As for a token: `read`, `use` or `admin`. */
	scope?: Scope;
	/** As for a token: its requests take the turns of this key alone. */
	key?: string;
	/** As for a token: what it may take of what all share. Without a prefix, by default, all there is. */
	bounds?: Partial<TokenBounds>;
}

/** Options of `rateLimit`, as of the library's. */
export interface WaitOptions
	extends Pick<
		AcquireRequest,
		"occupy" | "createIfMissing" | "strict" | "holder" | "id" | "settleSeconds" | "atMost" | "key" | "priority"
	> {
	/** How long to wait for the slots; 0: not at all. Default: for ever. */
	timeoutSeconds?: number;
}

/** Options of `concurrency`, as of the library's. */
export interface HoldOptions extends WaitOptions, Pick<AcquireRequest, "leaseSeconds" | "rate"> {}

/** A lease by its id and names. */
export interface LeaseReference {
	id: string;
	names: string | string[] | Slots;
}

/** An answer of any call of the HTTP interface, without HTTP. */
export interface Reply {
	status: number;
	/** What the answer holds; a problem where `status` is 400 or more. */
	body: unknown;
}

const ALONE = { bounds: BOUNDS.alone };

const propsSchema = z.strictObject({
	prefix: z.string().default(""),
	scope: z.enum(SCOPES).default("admin"),
	key: fixedKeySchema.exactOptional(),
	bounds: boundsSchema.exactOptional(),
});

/** How often a wait that an object's restart broke is taken up again under its id, and after which pause. */
const RESUMES_MAX = 5;
const RESUME_PAUSE_MS = 250;

export class HeadgateService extends WorkerEntrypoint<Env, BindingProps | undefined> {
	/**
	 * Holds slots of all the names: all or none, in line, first come, first served. The lease is given back when its stub
	 * ends: at the end of the `using` block, of the request, or with its throw.
	 *
	 * Throws an error whose `problem` says why: its `name` is `TimeoutError` when `timeoutSeconds` passed, and
	 * `ConcurrencySlotAcquisitionError` when the slots are refused.
	 *
	 * @example
	 * using lease = await env.LIMITS.concurrency("database", { timeoutSeconds: 5 });
	 */
	async concurrency(names: AcquireRequest["names"], options: HoldOptions = {}): Promise<HeldLease> {
		const { bound, request, granted } = await this.#take(names, options, "concurrency");
		return new HeldLease(bound, { expiresAt: "", ...granted }, request.leaseMs);
	}

	/** Takes slots that come back by themselves; waits until they fit. Throws as `concurrency` does. */
	async rateLimit(names: AcquireRequest["names"], options: WaitOptions = {}): Promise<Receipt> {
		return (await this.#take(names, options, "rate_limit")).granted;
	}

	/**
	 * `POST /v1/acquire`: a lease as a record, which lives to its `expiresAt` whatever becomes of its caller, until
	 * it is renewed or released. A refusal is an answer.
	 */
	async acquire(request: AcquireRequest): Promise<Decided> {
		const { status, body } = await this.invoke("POST", "/v1/acquire", request);
		if (status < 400) return { lease: body as Receipt, problem: null };
		return { lease: null, problem: body as Problem };
	}

	/** Renews a lease that `acquire` answered. Throws when it is gone. */
	renew(lease: LeaseReference, leaseSeconds?: number): Promise<Renewed> {
		const { id, names } = lease ?? {};
		return this.#ask("POST", "/v1/renew", { id, names, ...(leaseSeconds !== undefined && { leaseSeconds }) });
	}

	/** Gives back a lease that `acquire` answered. */
	release(lease: LeaseReference): Promise<Released> {
		const { id, names } = lease ?? {};
		return this.#ask("POST", "/v1/release", { id, names });
	}

	/** Whether slots would be granted now: nothing is taken, counted or created. */
	check(names: AcquireRequest["names"], options: Omit<CheckRequest, "names"> = {}): Promise<CheckAnswer> {
		return this.#ask("POST", "/v1/check", { names, ...options });
	}

	/** Lets a limit grant nothing for so long; 0 ends a pause, for a binding of scope `admin`. Throws when it does not exist. */
	pause(name: string, seconds: number): Promise<LimitSummary> {
		return this.#ask("POST", `/v1/limits/${encodeURIComponent(name)}/pause`, { seconds });
	}

	/** Says what estimates came to, by the id of their receipt or lease. Throws when there is none, or it was settled otherwise. */
	settle(id: string, actual: Slots): Promise<Settled> {
		return this.#ask("POST", "/v1/settle", { id, actual });
	}

	/** Creates a limit, or replaces its settings. */
	configure(name: string, settings: Given<Settings>): Promise<LimitSummary> {
		return this.#ask("PUT", `/v1/limits/${encodeURIComponent(name)}`, settings);
	}

	/** Shows a limit: settings, slots in use, who holds and who waits. Throws when it does not exist. */
	inspect(name: string): Promise<LimitInfo> {
		return this.#ask("GET", `/v1/limits/${encodeURIComponent(name)}`);
	}

	/** Any call of the HTTP interface (docs/http.md), without HTTP. The library uses it. */
	async invoke(method: string, path: string, body?: unknown): Promise<Reply> {
		const init: RequestInit = { method };
		if (body !== undefined) {
			init.body = JSON.stringify(body);
			init.headers = { "Content-Type": "application/json" };
		}
		const response = await this.fetch(new Request(`https://headgate${path}`, init));
		const text = await response.text();
		return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
	}

	/** A request under the caller's stub: the library's door to waiting and holding. */
	ask(request: AcquireRequest): BindingRequest {
		return this.#bound(this.#parse(request));
	}

	/** The HTTP interface over the binding, without a token. */
	override async fetch(request: Request): Promise<Response> {
		const grant = this.#grant();
		if ("code" in grant) return Response.json(grant, { status: grant.status });
		return service.fetch(grantTo(request, grant), this.env, this.ctx);
	}

	// ------------------------------------------------------------------------------------------- helpers

	async #take(
		names: AcquireRequest["names"],
		{ timeoutSeconds, ...options }: HoldOptions,
		mode: "concurrency" | "rate_limit",
	): Promise<{ bound: BindingRequest; request: Acquire; granted: Receipt }> {
		const wait = timeoutSeconds === undefined ? {} : { waitSeconds: timeoutSeconds };
		const request = this.#parse({ names, mode, ...options, ...wait });
		if ("code" in request) throw refusal(request, "ConcurrencySlotAcquisitionError");
		const until = Date.now() + request.waitMs;
		for (let resumes = 0; ; resumes += 1) {
			const bound = this.#bound({ ...request, waitMs: Math.max(0, until - Date.now()) });
			const { lease, problem: refused } = await bound.verdict();
			if (lease) return { bound, request, granted: lease };
			const broken = refused.code === "overloaded" && request.waitMs > 0 && resumes < RESUMES_MAX;
			if (!broken) {
				const timedOut = refused.code === "denied" && request.waitMs > 0;
				throw refusal(refused, timedOut ? "TimeoutError" : "ConcurrencySlotAcquisitionError");
			}
			await scheduler.wait(RESUME_PAUSE_MS);
		}
	}

	#bound(request: Acquire | Problem): BindingRequest {
		const grant = this.#grant();
		return new BindingRequest("code" in grant ? this.env : admitted(this.env, grant), request);
	}

	/** A checked request that this binding may make, or why not. */
	#parse(wish: unknown): Acquire | Problem {
		const grant = this.#grant();
		if ("code" in grant) return grant;
		const parsed = parseAcquire(wish, true, crypto.randomUUID());
		if (!parsed.ok) {
			const { code, detail, errors } = parsed.fault;
			return problem(code, detail, errors && { errors });
		}
		return asGranted(grant, "use", parsed.value);
	}

	async #ask<T>(method: string, path: string, body?: unknown): Promise<T> {
		const { status, body: answer } = await this.invoke(method, path, body);
		if (status >= 400) throw refusal(answer as Problem);
		return answer as T;
	}

	/** What this binding may do: everything, unless its `props` say otherwise. */
	#grant(): Grant | Problem {
		const parsed = propsSchema.safeParse(this.ctx.props ?? {});
		if (parsed.success) return { name: "binding", ...(parsed.data.prefix === "" && ALONE), ...parsed.data };
		const why = z.prettifyError(parsed.error);
		return problem("forbidden", `The props of this service binding are not { prefix, scope, key }: ${why}`);
	}
}
