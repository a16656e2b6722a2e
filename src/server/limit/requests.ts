/** What is done with a request that is here, by its id. A request that went to another name is out of its reach. */

import type { Account, Borrowing, Command } from "../../core/commands.ts";
import type { Request } from "../../core/limit.ts";
import type { At, Ms } from "../../core/time.ts";
import type { RequestCalls, StreamFor } from "../contract/limit-calls.ts";
import type { Lent, LimitRequest, Missing, Outcome, Status } from "../contract/outcomes.ts";
import type { Committer, Answer as Decided } from "./committer.ts";
import { HearerStream } from "./hearer-stream.ts";
import type { Hearer, Hearers } from "./hearers.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { PolicyFollower } from "./policy-follower.ts";
import type { Presence } from "./presence.ts";
import type { Shares } from "./shares.ts";
import { spans } from "./spans.ts";
import type { LimitStore } from "./store.ts";
import * as views from "./views.ts";

interface Deps {
	store: LimitStore;
	committer: Committer;
	presence: Presence;
	follower: PolicyFollower;
	hearers: Hearers;
	shares: Shares;
	lifecycle: Lifecycle;
}

/** When a request is worth asking again for which there is no room to remember it. */
const AGAIN_MS = 1_000;

export class Requests implements RequestCalls {
	readonly #deps: Deps;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	acquire(wanted: LimitRequest): Promise<Outcome | Missing> {
		return this.#ask({ kind: "acquire", request: wanted.request, borrow: wanted.borrow }, wanted);
	}

	reserve(wanted: LimitRequest): Promise<Outcome | Missing> {
		return this.#ask({ kind: "reserve", request: wanted.request }, wanted);
	}

	async open(wanted: LimitRequest, kind: "acquire" | "reserve", as: StreamFor): Promise<ReadableStream | Missing> {
		const { committer, presence, follower, hearers, shares } = this.#deps;
		const { request, call } = wanted;
		const refusal = shares.refusal(wanted, committer.limit) ?? this.#unremembered(request);
		if (refusal) {
			const stream = new HearerStream(hearers, request, as, wanted);
			stream.hear(refusal.event, refusal.status);
			return stream.readable;
		}
		presence.rightClock(wanted.sentAt);
		const first = await follower.ready(presence.exists(), wanted, Date.now());
		if (!first) return { missing: true };
		if (call) hearers.asks(request.id, call);
		const stream = new HearerStream(hearers, request, as, wanted);
		const told = async (): Promise<void> => {
			committer.submit({ kind, request }, stream, first).catch((error) => stream.fail(error));
			await stream.told;
		};
		void (request.waitMs > 0 ? spans()("wait", told) : told());
		return stream.readable;
	}

	async hold(id: string): Promise<ReadableStream | null> {
		const { committer, hearers } = this.#deps;
		const entry = committer.limit?.entries.get(id);
		return entry?.held ? HearerStream.holding(hearers, entry).readable : null;
	}

	async commit(id: string, peers: string[]): Promise<Outcome | Missing> {
		if (!this.#deps.committer.limit) return { missing: true };
		return this.#answer({ kind: "commit", id, peers }, id);
	}

	async cancel(id: string, keepPlace: boolean): Promise<Outcome | Missing> {
		if (!this.#deps.committer.limit) return { missing: true };
		return this.#answer({ kind: "cancel", id, keepPlace }, id);
	}

	async touch(id: string, sentAt?: At): Promise<boolean> {
		const { committer, presence } = this.#deps;
		presence.rightClock(sentAt);
		if (!committer.limit) return false;
		const { events } = await committer.submit({ kind: "touch", id });
		return !events.some((event) => event.kind === "gone" && event.id === id);
	}

	async renew(id: string, leaseMs: Ms | null, sentAt?: At): Promise<Outcome | null> {
		if (!(await this.#deps.presence.isHere(sentAt))) return null;
		return this.#answer({ kind: "renew", id, leaseMs }, id);
	}

	async release(
		id: string,
		by: "caller" | "operator" | "unheard",
		sentAt?: At,
	): Promise<(Outcome & { found: boolean }) | null> {
		const { committer, presence } = this.#deps;
		if (!(await presence.isHere(sentAt))) return null;
		const found = committer.limit?.entries.has(id) ?? false;
		return { ...(await this.#answer({ kind: "release", id, by }, id)), found };
	}

	async settle(id: string, actual: number, sentAt?: At): Promise<Outcome | null> {
		if (!(await this.#deps.presence.isHere(sentAt))) return null;
		return this.#answer({ kind: "settle", id, actual }, id);
	}

	async borrow(id: string, loan: Omit<Borrowing, "id">, sentAt?: At): Promise<{ lent: Lent; status: Status } | null> {
		if (!(await this.#deps.presence.isHere(sentAt))) return null;
		const { events, status } = await this.#deps.committer.submit({ kind: "borrow", id, ...loan });
		return { lent: views.lentIn(events) ?? { slots: loan.used, lentMs: 0 }, status };
	}

	async repay(id: string, account: Omit<Account, "id">, sentAt?: At): Promise<void> {
		if (await this.#deps.presence.isHere(sentAt)) {
			await this.#deps.committer.submit({ kind: "repay", id, ...account });
		}
	}

	async leave(id: string, call: string): Promise<void> {
		const { committer, hearers } = this.#deps;
		if (hearers.leave(id, call) && committer.limit) await committer.submit({ kind: "release", id, by: "unheard" });
	}

	async stepBack(id: string, call: string): Promise<void> {
		if (this.#deps.hearers.speaks(id, call)) await this.leave(id, call);
	}

	others(id: string): Promise<string[] | null> {
		return this.#deps.presence.look((limit) => {
			const entry = limit.entries.get(id);
			return entry ? [...(entry.others ?? [])] : null;
		});
	}

	async vouch(ids: string[]): Promise<boolean[]> {
		const { store, presence } = this.#deps;
		const exists = await presence.isHere();
		return Promise.all(
			ids.map(async (id) => {
				// A limit that was deleted still knows whom it had granted, also when its name is used again.
				const past = store.recallOf(id, exists ? "before" : "last");
				if (past && past.kind !== "cancelled") return true;
				if (!exists) return false;
				const { event } = await this.#answer({ kind: "vouch", id }, id);
				return event.kind === "vouched" && event.committed;
			}),
		);
	}

	async #ask(command: Extract<Command, { request: Request }>, wanted: LimitRequest): Promise<Outcome | Missing> {
		const { committer, presence, follower, hearers, shares } = this.#deps;
		const { call } = wanted;
		const { id } = command.request;
		const refusal = shares.refusal(wanted, committer.limit) ?? this.#unremembered(command.request);
		if (refusal) return refusal;
		const existed = committer.limit !== null;
		if (call && command.kind === "reserve") hearers.asks(id, call);
		presence.rightClock(wanted.sentAt);
		const ready = follower.ready(presence.exists(), wanted, Date.now());
		const first = ready instanceof Promise ? await ready : ready;
		if (!first) return { missing: true };
		let decided: Promise<Decided> | undefined;
		const submit = (hearer: Hearer): Promise<Decided> => {
			decided = committer.submit(command, hearer, first);
			return decided;
		};
		const outcome = () => hearers.outcome(id, call, submit);
		const answer = await (command.request.waitMs > 0 ? spans()("wait", outcome) : outcome());
		const lent = wanted.borrow && decided ? views.lentIn((await decided).events) : undefined;
		return { ...answer, ...(lent && { lent }), ...(!existed && { made: true as const }) };
	}

	/** Refuses a request whose id could not be remembered after its end; null: there is room, or it is known. */
	#unremembered({ id, mode, remember, settleMs }: Request): Outcome | null {
		const { store, committer, lifecycle } = this.#deps;
		const { limit } = committer;
		if (
			!limit ||
			(mode === "rate_limit" && !remember && settleMs === undefined) ||
			store.hasRoom(limit.entries.size, Date.now())
		)
			return null;
		if (limit.entries.has(id) || store.recall(id)) return null;
		const position = limit.sums.inTurn + 1;
		return {
			event: { kind: "denied", id, code: "overloaded", retryAfterMs: AGAIN_MS, position },
			status: views.status(lifecycle.identity, limit),
		};
	}

	async #answer(command: Command, id: string): Promise<Outcome> {
		const { events, status } = await this.#deps.committer.submit(command);
		const event = views.answerTo(events, id);
		if (!event) throw new Error(`No answer to ${command.kind} of ${id}.`);
		return { event, status };
	}
}
