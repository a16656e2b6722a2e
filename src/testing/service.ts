/**
 * The service in memory, as the library calls it over a binding: the same requests, checked by the same schemas, decided by
 * the same core, answered in the same words. There is no network, no storage and no token.
 */

import { byAttention, conditionOf } from "../attention.ts";
import type { BindingRequest, HeadgateBinding, Rpc } from "../client/binding.ts";
import {
	type AcquireRequest,
	type BatchOutcome,
	BOUNDS,
	type CheckAnswer,
	type HouseTotals,
	type LimitPatch,
	type LimitSummary,
	type Policy,
	type PolicySettings,
	type Problem,
	type Settings,
	type Settled,
	type StreamEvent,
	type TokenInfo,
	type Window,
} from "../protocol.ts";
import { toIso } from "../server/contract/answers.ts";
import { DEFAULT_SETTINGS, PolicyTable, settingsOf } from "../server/contract/policies.ts";
import { problem, unknownLimits } from "../server/contract/problems.ts";
import * as requests from "../server/front/requests.ts";
import { checkAnswer, coreRequest, type Foreseen, foreseeUnmade, settleAnswer } from "../server/front/verdict.ts";
import * as views from "../server/limit/views.ts";
import { Asking, type House, type Verdict } from "./acquire.ts";
import type { Clock } from "./clock.ts";
import { MemoryLimit } from "./memory-limit.ts";

/** How often a stream says that it is there. */
const BEAT_MS = 5_000;

interface Reply {
	status: number;
	body: unknown;
}

/** What is refused is thrown, and answered. */
class Refused extends Error {
	readonly problem: Problem;
	constructor(refused: Problem) {
		super(refused.detail);
		this.problem = refused;
	}
}

export class MemoryService implements House, HeadgateBinding, Rpc {
	readonly clock: Clock;
	readonly #limits = new Map<string, MemoryLimit>();
	readonly #policies = new Map<string, Policy>();
	#table = new PolicyTable(0, []);
	readonly #listeners = new Set<() => void>();

	constructor(clock: Clock) {
		this.clock = clock;
	}

	// -------------------------------------------------------------------------------------- of limits

	find(name: string, createIfMissing: boolean, strict: boolean): MemoryLimit | null {
		const known = this.#limits.get(name);
		if (known) return strict && known.origin === "default" ? null : known;
		const policy = this.#table.match(name);
		if (policy) return this.#make(name, policy, "policy", policy);
		return createIfMissing ? this.#make(name, DEFAULT_SETTINGS, "default", null) : null;
	}

	limit(name: string): MemoryLimit | null {
		return this.#limits.get(name) ?? null;
	}

	onChange(call: () => void): () => void {
		this.#listeners.add(call);
		return () => this.#listeners.delete(call);
	}

	configure(name: string, settings: Settings): LimitSummary {
		const policy = this.#table.match(name);
		const known = this.#limits.get(name);
		if (known) known.configure(settingsOf(settings), "configured", policy);
		return (known ?? this.#make(name, settings, "configured", policy)).summary();
	}

	configurePolicy(pattern: string, settings: PolicySettings): Policy {
		const policy: Policy = { pattern, ...settings, updatedAt: toIso(this.clock.now()), updatedBy: null };
		this.#policies.set(pattern, policy);
		this.#policiesChanged();
		return policy;
	}

	#policiesChanged(): void {
		this.#table = new PolicyTable(this.#table.version + 1, this.#policies.values());
		for (const limit of this.#limits.values()) {
			if (limit.origin === "configured") continue;
			const policy = this.#table.match(limit.name);
			limit.configure(settingsOf(policy ?? DEFAULT_SETTINGS), policy ? "policy" : "default", policy);
		}
	}

	#make(name: string, settings: Settings, origin: MemoryLimit["origin"], policy: Policy | null): MemoryLimit {
		const changed = (): void => {
			for (const listener of [...this.#listeners]) listener();
		};
		const limit = new MemoryLimit(name, settings, origin, policy, this.clock, changed);
		this.#limits.set(name, limit);
		return limit;
	}

	// ---------------------------------------------------------------------------------- as it is called

	async invoke(method: string, path: string, body?: unknown): Promise<Reply> {
		try {
			return await this.#answer(method, new URL(path, "http://headgate.test"), copy(body));
		} catch (error) {
			if (!(error instanceof Refused)) throw error;
			return { status: error.problem.status, body: copy(error.problem) };
		}
	}

	ask(request: AcquireRequest): Promise<BindingRequest> & BindingRequest {
		const asking = this.#asking(request, true);
		const over = asking.then(
			({ verdict }) => verdict,
			(error: unknown): Verdict => {
				if (error instanceof Refused) return { lease: null, problem: error.problem };
				throw error;
			},
		);
		const call = async (path: string, more: object = {}) => {
			const { lease } = await over;
			return this.invoke("POST", path, { id: lease?.id, names: lease?.names ?? {}, ...more });
		};
		const tether: BindingRequest = {
			verdict: async () => copy(await over),
			release: async () => (await call("/v1/release")).body as { released: number },
			renew: async () => {
				const { status, body } = await call("/v1/renew");
				return status === 200 ? (body as { expiresAt: string }).expiresAt : null;
			},
			[Symbol.dispose]: () => void asking.then((asked) => asked.leave()).catch(() => undefined),
		};
		// By RPC a promise of a target is called like the target. This one answers to `then` with the target alone.
		const { verdict, release, renew } = tether;
		const promised = Promise.resolve(tether);
		return Object.assign(promised, { verdict, release, renew, [Symbol.dispose]: tether[Symbol.dispose] as () => void });
	}

	/** A stream, which only those read who want to be told their place in line. */
	async fetch(request: Request): Promise<Response> {
		const { pathname } = new URL(request.url);
		if (pathname !== "/v1/acquire") throw new Error(`Not to be fetched: ${pathname}`);
		try {
			return await this.#stream((await request.json()) as AcquireRequest, request.signal);
		} catch (error) {
			if (!(error instanceof Refused)) throw error;
			const { problem: refused } = error;
			return Response.json(refused, { status: refused.status });
		}
	}

	async #stream(body: AcquireRequest, signal: AbortSignal): Promise<Response> {
		const asking = await this.#asking(body, true);
		const encoder = new TextEncoder();
		let beat: unknown;
		const stream = new ReadableStream<Uint8Array>({
			start: (controller) => {
				const say = (event: StreamEvent) => controller.enqueue(encoder.encode(`${JSON.stringify(event)}\n`));
				const again = (): void => {
					say({ event: "heartbeat" });
					beat = this.clock.start(again, BEAT_MS);
				};
				asking.onQueued = (position, waitingFor) => say({ event: "queued", position, waitingFor });
				const { position, waitingFor } = asking;
				if (position !== null && waitingFor) say({ event: "queued", position, waitingFor });
				beat = this.clock.start(again, BEAT_MS);
				void asking.verdict.then(({ lease, problem: refused }) => {
					this.clock.stop(beat);
					if (signal.aborted) return;
					say(lease ? { event: "granted", lease } : { event: "denied", problem: refused as Problem });
					controller.close();
				});
			},
			cancel: () => asking.leave(),
		});
		signal.addEventListener("abort", () => asking.leave());
		return new Response(stream, { headers: { "Content-Type": "application/x-ndjson" } });
	}

	// ------------------------------------------------------------------------------------------- routes

	async #answer(method: string, { pathname, searchParams }: URL, body: unknown): Promise<Reply> {
		const [, , kind = "", encoded = "", part, id = ""] = pathname.split("/");
		const name = decodeURIComponent(encoded);
		const route = `${method} ${kind}${encoded === "" ? "" : "/"}${part ?? ""}`;
		switch (route) {
			case "POST acquire": {
				const { lease, problem: refused } = await (await this.#asking(body, false)).verdict;
				if (refused) throw new Refused(refused);
				return ok(lease);
			}
			case "POST acquire/":
				return ok({ answers: await this.#batch(body) });
			case "POST check": {
				const request = accept(requests.parseCheck(body));
				return answered(
					checkAnswer(
						request.id,
						request.names.map(([name, slots]) => this.#foresee(request, name, slots)),
					),
				);
			}
			case "POST settle": {
				const { id, actual } = accept(requests.parseSettle(body));
				return answered(this.#settle(id, actual));
			}
			case "POST renew":
				return ok(this.#renew(accept(requests.parseRenew(body))));
			case "POST release": {
				const { actual, ...lease } = accept(requests.parseRelease(body));
				const released = this.#release(lease);
				if (actual.length > 0) answered(this.#settle(lease.id, actual));
				return ok({ released });
			}
			case "GET token":
				return ok({ name: "", scope: "admin", prefix: "" } satisfies TokenInfo);
			case "GET limits":
				return ok(this.#list(accept(requests.parseLimitsQuery(Object.fromEntries(searchParams)))));
			case "GET limits/":
				return ok(this.#known(name).info());
			case "PUT limits/": {
				check(requests.nameFault(name), "name");
				const isNew = !this.#limits.has(name);
				return { status: isNew ? 201 : 200, body: copy(this.configure(name, accept(requests.parseSettings(body)))) };
			}
			case "POST limits/pause": {
				const limit = this.#known(name);
				limit.run({ kind: "pause", ms: accept(requests.parsePause(body)).ms });
				return ok(limit.summary());
			}
			case "PATCH limits/":
				return ok(this.#patch(this.#known(name), accept(requests.parsePatch(body))));
			case "DELETE limits/":
				this.#known(name).close();
				this.#limits.delete(name);
				return { status: 204, body: undefined };
			case "GET limits/leases": {
				const { after, count } = accept(requests.parseLeasesQuery(Object.fromEntries(searchParams)));
				return ok(views.leasesPage(this.#known(name).limit, after, count));
			}
			case "DELETE limits/leases": {
				const events = this.#known(name).run({ kind: "release", id: decodeURIComponent(id), by: "operator" });
				const released = events.find((event) => event.kind === "released");
				if (!released || released.slots === 0) refuse(problem("lease_gone", `"${name}" has no lease "${id}".`));
				return ok({ released: released?.slots });
			}
			case "GET policies":
				return ok({ policies: [...this.#policies.values()].sort((a, b) => (a.pattern < b.pattern ? -1 : 1)) });
			case "GET policies/denied":
				return ok({ keys: this.#deniedKeys(this.#policyOf(name).pattern) });
			case "GET policies/":
				return ok(this.#policyOf(name));
			case "PUT policies/": {
				check(requests.patternFault(name), "pattern");
				const isNew = !this.#policies.has(name);
				const policy = this.configurePolicy(name, accept(requests.parsePolicy(body)));
				return { status: isNew ? 201 : 200, body: policy };
			}
			case "DELETE policies/":
				this.#policies.delete(this.#policyOf(name).pattern);
				this.#policiesChanged();
				return { status: 204, body: undefined };
			default:
				return refuse(problem("not_found", `The testing gate has no ${method} ${pathname}.`));
		}
	}

	async #asking(body: unknown, stream: boolean): Promise<Asking> {
		return new Asking(this, accept(requests.parseAcquire(copy(body), stream, crypto.randomUUID())));
	}

	async #batch(body: unknown): Promise<BatchOutcome[]> {
		const wishes = accept(requests.parseBatch(body, () => crypto.randomUUID()));
		const outcomes = wishes.map(async (wish): Promise<BatchOutcome> => {
			if (!wish.ok) {
				const refused = problem(wish.fault.code, wish.fault.detail, wish.fault.errors && { errors: wish.fault.errors });
				return { status: refused.status, problem: refused };
			}
			const { lease, problem: refused } = await new Asking(this, wish.value).verdict;
			return lease ? { status: 200, lease } : { status: (refused as Problem).status, problem: refused as Problem };
		});
		return Promise.all(outcomes);
	}

	#renew({ id, names, leaseMs }: requests.LeaseRef) {
		const ends = names.map((name) => {
			const events = this.#limits.get(name)?.run({ kind: "renew", id, leaseMs }) ?? [];
			const renewed = events.find((event) => event.kind === "renewed" && event.id === id);
			if (renewed?.kind === "renewed") return renewed.expiresAt;
			return refuse(
				problem(
					"lease_gone",
					`The lease "${id}" holds nothing of "${name}": it expired, was released, or was taken back.`,
				),
			);
		});
		const asked = this.clock.now() + (leaseMs ?? 60_000);
		return { id, expiresAt: toIso(ends.length > 0 ? Math.min(...ends) : asked) };
	}

	/** The first name last, as the service does. */
	#release({ id, names }: requests.LeaseRef): number {
		let sum = 0;
		for (const name of [...names.slice(1), ...names.slice(0, 1)]) {
			for (const event of this.#limits.get(name)?.run({ kind: "release", id, by: "caller" }) ?? []) {
				if (event.kind === "released" && event.id === id) sum += event.slots;
			}
		}
		return sum;
	}

	#settle(id: string, actual: requests.Actual): Settled | Problem {
		const settled = actual.map(([name, slots]) => ({
			...{ name, slots, answer: this.#limits.get(name)?.settle(id, slots) ?? null },
		}));
		return settleAnswer(id, settled);
	}

	#foresee(request: requests.Acquire, name: string, slots: number): Foreseen {
		const known = this.#limits.get(name);
		if (known && !(request.strict && known.origin === "default")) {
			return { slots, ...known.foresee(coreRequest(request, name, slots)) };
		}
		const policy = known || !request.createIfMissing ? null : this.#table.match(name);
		return foreseeUnmade(request, name, slots, policy, this.clock.now());
	}

	#patch(limit: MemoryLimit, { activeSlots, region: _, ...settings }: LimitPatch<Window>) {
		const own = Object.keys(settings).length > 0;
		const policy = this.#table.match(limit.name);
		const origin = own ? "configured" : limit.origin;
		limit.configure(settings, origin, policy, activeSlots);
		return limit.summary();
	}

	#list({
		order,
		prefix,
		after,
		count,
	}: {
		order: "name" | "attention";
		prefix: string;
		after: string;
		count: number;
	}) {
		const all = [...this.#limits.values()]
			.filter(({ name }) => name.startsWith(prefix))
			.map((limit) => limit.summary());
		all.sort((a, b) => (a.name < b.name ? -1 : 1));
		if (order === "attention") {
			const worst = all.toSorted((a, b) => byAttention(conditionOf(a), conditionOf(b)));
			return { limits: worst.slice(0, count), next: null, totals: totalsOf(all) };
		}
		const rest = all.filter(({ name }) => name > after);
		const limits = rest.slice(0, count);
		return { limits, next: rest.length > count ? limits.at(-1)?.name : null };
	}

	#deniedKeys(pattern: string) {
		const keys = [...this.#limits.values()].filter(({ policy }) => policy === pattern);
		return keys
			.map((limit) => ({ name: limit.name, denied: limit.summary().lastMinute.denied }))
			.filter(({ denied }) => denied > 0)
			.sort((a, b) => b.denied - a.denied)
			.slice(0, BOUNDS.deniedKeys);
	}

	#known(name: string): MemoryLimit {
		return this.#limits.get(name) ?? refuse(unknownLimits([name]));
	}

	#policyOf(pattern: string): Policy {
		return this.#policies.get(pattern) ?? refuse(problem("unknown_policy", `No policy has the pattern "${pattern}".`));
	}
}

/** What is answered, unless it is a refusal. */
function answered(answer: CheckAnswer | Settled | Problem): Reply {
	return "status" in answer ? refuse(answer) : ok(answer);
}

const ok = (body: unknown): Reply => ({ status: 200, body: copy(body) });

/** As it would come over a wire: nobody else's, and without what JSON has not. */
const copy = <T>(value: T): T => (value === undefined ? value : (JSON.parse(JSON.stringify(value)) as T));

function refuse(refused: Problem): never {
	throw new Refused(refused);
}

function accept<T>(parsed: requests.Parsed<T>): T {
	if (parsed.ok) return parsed.value;
	const { code, detail, errors } = parsed.fault;
	return refuse(problem(code, detail, errors && { errors }));
}

function check(fault: string | null, field: string): void {
	if (fault !== null) refuse(problem("invalid", `${field}: ${fault}.`, { errors: [{ field, message: fault }] }));
}

function totalsOf(all: LimitSummary[]): HouseTotals {
	const totals: HouseTotals = { limits: all.length, full: 0, waiting: 0, lastMinute: { granted: 0, denied: 0 } };
	for (const { active, remaining, waitingCount, lastMinute } of all) {
		if (active && remaining === 0) totals.full += 1;
		totals.waiting += waitingCount;
		totals.lastMinute.granted += lastMinute.granted;
		totals.lastMinute.denied += lastMinute.denied;
	}
	return totals;
}
