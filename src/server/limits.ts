/**
 * A limit as a Worker calls it. Every call of a Worker to a limit's object goes through here: it brings what this
 * Worker knows of the policies, so that a name that is first seen costs one hop; and what may free slots makes the
 * Worker forget the denials that it remembers.
 */

import type { Mode } from "../core/limit.ts";
import type { LimitPatch, Settings } from "../protocol.ts";
import type { Ask, Missing, Outcome } from "./answers.ts";
import { denialsOf } from "./denials/memory.ts";
import type { Env } from "./env.ts";
import type { ByHand } from "./limit/limit-views.ts";
import { rulingsOf } from "./policies/rulings.ts";

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
		return this.#follow(this.#acquireText(ask));
	}

	reserve(ask: Ask): Promise<Outcome | Missing> {
		return this.#follow(this.#object.reserve(this.#known(ask)));
	}

	async open(ask: Ask, kind: "acquire" | "reserve", as: "wire" | "outcomes") {
		const rulings = rulingsOf(this.#env);
		// What the limit is like is not heard of here; once names of policies are used, they are asked for with it.
		rulings.refreshSoon(this.#env, rulings.known);
		return this.#object.open(this.#known(ask), kind, as);
	}

	/** A request, or by its id a lease, that ends with the stub of its caller. */
	tether(asked: Ask | string) {
		return this.#object.tether(typeof asked === "string" ? asked : this.#known(asked));
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
		return this.#object.renew(id, leaseMs);
	}

	release(id: string, by: "caller" | "operator" | "unheard") {
		return this.#change(this.#object.release(id, by));
	}

	leave(id: string, call: string) {
		return this.#change(this.#object.leave(id, call));
	}

	stepBack(id: string, call: string) {
		return this.#change(this.#object.stepBack(id, call));
	}

	// ------------------------------------------------------------------------------------------ settings

	/** `token`: who does it, for the record. */
	configure(settings: Settings, token: string | null) {
		return this.#change(this.#object.configure(settings, { token, ruling: this.#ruling }));
	}

	patch(change: LimitPatch & ByHand, token: string | null) {
		return this.#change(this.#object.patch(change, { token, ruling: this.#ruling }));
	}

	/** Null: there is one of this name. */
	create(settings: Settings, byHand: ByHand, token: string | null) {
		return this.#change(this.#object.create(settings, byHand, { token, ruling: this.#ruling }));
	}

	/** `taken`: another limit has that name. Null: this one does not exist. */
	rename(name: string) {
		return this.#change(this.#object.rename(name));
	}

	takeBack(slots: number, heldMs: number | null) {
		return this.#change(this.#object.takeBack(slots, heldMs));
	}

	remove() {
		return this.#change(this.#object.remove());
	}

	// ------------------------------------------------------------------------------------------- looking

	inspect() {
		return this.#object.inspect(this.#ruling);
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
		return this.#object.leases(after, count);
	}

	history() {
		return this.#object.history();
	}

	watch(full: boolean) {
		return this.#object.watch(full);
	}

	describe() {
		return this.#object.describe(this.#ruling);
	}

	others(id: string) {
		return this.#object.others(id);
	}

	peek(id: string, slots: number, mode: Mode) {
		return this.#object.peek(id, slots, mode);
	}

	// ------------------------------------------------------------------------------------------- helpers

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
		if (ask.request.waitMs === Number.POSITIVE_INFINITY) return this.#object.acquire(this.#known(ask));
		const answer = await this.#object.acquireText(JSON.stringify(this.#known(ask)));
		return JSON.parse(answer) as Outcome | Missing;
	}

	/** A request, with what this Worker knows of the directory. */
	#known(ask: Ask): Ask {
		return { ...ask, ruling: this.#ruling, since: rulingsOf(this.#env).since };
	}

	/** After an answer of a limit that follows policies: the next one is to find a fresh copy of them. */
	async #follow(answer: Promise<Outcome | Missing>): Promise<Outcome | Missing> {
		const given = await answer;
		rulingsOf(this.#env).refreshSoon(this.#env, !("missing" in given) && given.status.follows);
		return given;
	}
}
