/**
 * A limit as a Worker calls it. Every call of a Worker to a limit's object goes through here: it brings what this
 * Worker knows of the policies, so that a name that is first seen costs one hop; what may free slots makes the Worker
 * forget the denials that it remembers; and a name that nobody used before is counted as its caller's.
 */

import type { Mode } from "../core/limit.ts";
import type { LimitPatch, LimitSummary, Settings } from "../protocol.ts";
import { ifThere, inAnyCase } from "./admission/names.ts";
import type { Ask, Missing, Outcome, Peeked } from "./answers.ts";
import { denialsOf } from "./denials/memory.ts";
import { isDigest } from "./digests.ts";
import type { Env } from "./env.ts";
import type { ByHand } from "./limit/limit-views.ts";
import { rulingsOf } from "./policies/rulings.ts";
import type { Watched } from "./watch/watchers.ts";

export const limitOf = (env: Env, name: string): LimitCalls => new LimitCalls(env, name);

export class LimitCalls {
	readonly #env: Env;
	readonly #name: string;

	constructor(env: Env, name: string) {
		this.#env = env;
		this.#name = name;
	}

	get #object() {
		return this.#env.LIMITS.getByName(this.#name);
	}

	get #ruling() {
		return rulingsOf(this.#env).rule(this.#name);
	}

	// ------------------------------------------------------------------------------------------ requests

	acquire(ask: Ask): Promise<Outcome | Missing> {
		return this.#first(() => this.#follow(this.#acquireText(this.#asked(ask))));
	}

	reserve(ask: Ask): Promise<Outcome | Missing> {
		return this.#first(() => this.#follow(this.#object.reserve(this.#asked(ask)) as Promise<Outcome | Missing>));
	}

	async open(ask: Ask, kind: "acquire" | "reserve", as: "wire" | "outcomes"): Promise<ReadableStream | Missing> {
		const rulings = rulingsOf(this.#env);
		// What the limit is like is not heard of here; once names of policies are used, they are asked for with it.
		if (rulings.known) rulings.refreshSoon(this.#env);
		// Nothing but a stream comes back, which does not say whether the name was there before.
		const call = () => this.#object.open(this.#asked(ask), kind, as) as Promise<ReadableStream | Missing>;
		return inAnyCase(this.#env, this.#name, call, isMissing, (opened) => !isMissing(opened));
	}

	/** A request, or by its id a lease, that ends with the stub of its caller. */
	tether(asked: Ask | string) {
		if (typeof asked === "string") return this.#object.tether(asked);
		const call = async () => this.#object.tether(this.#asked(asked));
		// One that waits has yet to ask, and is counted then.
		if (asked.request.waitMs > 0) return call();
		return inAnyCase(
			...([this.#env, this.#name, call] as const),
			({ answer }) => answer !== null && !isMissing(answer) && !answer.made,
			({ answer }) => answer !== null && !isMissing(answer),
		);
	}

	hold(id: string) {
		return this.#object.hold(id);
	}

	commit(id: string, peers: string[]) {
		return this.#object.commit(id, peers);
	}

	cancel(id: string, keepPlace: boolean) {
		return this.#change<Outcome | Missing>(this.#object.cancel(id, keepPlace) as Promise<Outcome | Missing>);
	}

	touch(id: string) {
		return this.#object.touch(id);
	}

	renew(id: string, leaseMs: number | null) {
		return this.#inAnyCase(() => this.#object.renew(id, leaseMs));
	}

	release(id: string, by: "caller" | "operator" | "unheard") {
		return this.#inAnyCase(() => this.#change(this.#object.release(id, by)));
	}

	/** Takes a lease back, or a place in line, by its id or by the digest that is shown of it. */
	async forceRelease(idOrDigest: string) {
		if (!isDigest(idOrDigest)) return this.release(idOrDigest, "operator");
		const id = await this.#ifThere(() => this.#object.idOf(idOrDigest));
		return this.release(id ?? idOrDigest, "operator");
	}

	leave(id: string, call: string) {
		return this.#change(this.#object.leave(id, call));
	}

	stepBack(id: string, call: string) {
		return this.#change(this.#object.stepBack(id, call));
	}

	// ------------------------------------------------------------------------------------------ settings

	/** `token`: who does it, for the record. */
	configure(settings: Settings, token: string | null): Promise<{ created: boolean; summary: LimitSummary }> {
		const call = () => this.#change(this.#object.configure(settings, { token, ruling: this.#ruling }));
		return inAnyCase(
			...([this.#env, this.#name, call] as const),
			({ created }) => !created,
			() => true,
		);
	}

	patch(change: LimitPatch & ByHand, token: string | null) {
		return this.#ifThere(() => this.#change(this.#object.patch(change, { token, ruling: this.#ruling })));
	}

	/** Null: there is one of this name. */
	create(settings: Settings, byHand: ByHand, token: string | null): Promise<LimitSummary | null> {
		const call = () => this.#change(this.#object.create(settings, byHand, { token, ruling: this.#ruling }));
		return inAnyCase(
			...([this.#env, this.#name, call] as const),
			(made) => made === null,
			() => true,
		);
	}

	/** `taken`: another limit has that name. Null: this one does not exist. */
	rename(name: string) {
		return this.#ifThere(() => this.#change(this.#object.rename(name)));
	}

	takeBack(slots: number, heldMs: number | null) {
		return this.#inAnyCase(() => this.#change(this.#object.takeBack(slots, heldMs)));
	}

	/** Null: it does not exist. */
	remove() {
		return this.#ifThere(async () => (await this.#change(this.#object.remove())) || null);
	}

	// ------------------------------------------------------------------------------------------- looking

	inspect() {
		return this.#ifThere(() => this.#object.inspect(this.#ruling));
	}

	summary() {
		return this.#object.summary(this.#ruling);
	}

	measure() {
		return this.#object.measure();
	}

	/** Denials that were given in the limit's name. */
	absorbed(denials: number) {
		return this.#object.absorbed(denials);
	}

	leases(after: number, count: number) {
		return this.#ifThere(() => this.#object.leases(after, count));
	}

	history() {
		return this.#ifThere(() => this.#object.history());
	}

	watch(full: boolean): Promise<Watched | "full" | "share" | null> {
		type Answer = Promise<Watched | "full" | "share" | null>;
		return this.#ifThere(() => this.#object.watch(full, this.#env.caller?.share("streams")) as unknown as Answer);
	}

	/** For whoever will hold a lease of it: a limit that the directory has lost holds back all the same. */
	describe() {
		return this.#inAnyCase(() => this.#object.describe(this.#ruling));
	}

	/** The same for whoever only looks. */
	describeIfThere() {
		return this.#ifThere(() => this.#object.describe(this.#ruling));
	}

	others(id: string) {
		return this.#object.others(id);
	}

	async peek(id: string, slots: number, mode: Mode): Promise<Peeked | Missing> {
		const look = async () => {
			const peeked = (await this.#object.peek(id, slots, mode)) as Peeked | Missing;
			return "missing" in peeked ? null : peeked;
		};
		return (await this.#inAnyCase(look)) ?? { missing: true };
	}

	// ------------------------------------------------------------------------------------------- helpers

	#asked(ask: Ask): Ask {
		const { waitMs, held } = ask.request;
		const share = waitMs > 0 || held ? this.#env.caller?.share("waiters") : undefined;
		return { ...ask, ruling: this.#ruling, ...(share && { share }) };
	}

	/** A request by which the limit may come to be. */
	#first(call: () => Promise<Outcome | Missing>): Promise<Outcome | Missing> {
		return inAnyCase(
			...([this.#env, this.#name, call] as const),
			(answer) => !isMissing(answer) && !answer.made,
			(answer) => !isMissing(answer),
		);
	}

	#ifThere<T>(look: () => Promise<T | null>): Promise<T | null> {
		return ifThere(this.#env, this.#name, look);
	}

	/** What is said of slots: a limit has its say, also one that has another name now, or that the directory has lost. */
	#inAnyCase<T>(call: () => Promise<T | null>): Promise<T | null> {
		return inAnyCase(this.#env, this.#name, call, (answer) => answer !== null);
	}

	/** What may free slots: from before it is sent until after it is answered, no denial is remembered across it. */
	async #change<T>(answer: Promise<T>): Promise<T> {
		const denials = denialsOf(this.#env);
		denials.changed(this.#name);
		try {
			return await answer;
		} finally {
			denials.changed(this.#name);
		}
	}

	async #acquireText(ask: Ask): Promise<Outcome | Missing> {
		// JSON has no word for a wait without an end.
		if (ask.request.waitMs === Number.POSITIVE_INFINITY) return this.#object.acquire(ask);
		const answer = await this.#object.acquireText(JSON.stringify(ask));
		return JSON.parse(answer) as Outcome | Missing;
	}

	/** After an answer of a limit that follows policies: the next one is to find a fresh copy of them. */
	async #follow(answer: Promise<Outcome | Missing>): Promise<Outcome | Missing> {
		const given = await answer;
		if (!("missing" in given) && given.status.follows) rulingsOf(this.#env).refreshSoon(this.#env);
		return given;
	}
}

const isMissing = (answer: object): answer is Missing => "missing" in answer;
