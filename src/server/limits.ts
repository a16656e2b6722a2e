/**
 * A limit as a Worker calls it. Every call of a Worker to a limit's object goes through here: it brings what this
 * Worker knows of the policies, so that a name that is first seen costs one hop; and what may free slots makes the
 * Worker forget the denials that it remembers.
 */

import type { Mode } from "../core/limit.ts";
import type { LimitPatch, LimitSummary, Settings } from "../protocol.ts";
import type { Ask, Missing, Outcome } from "./answers.ts";
import { denialsOf } from "./denials/memory.ts";
import type { Env } from "./env.ts";
import { withRightClock } from "./limit/clock.ts";
import type { ByHand } from "./limit/limit-views.ts";
import { audit } from "./log.ts";
import { rulingsOf } from "./policies/rulings.ts";

export const limitOf = (env: Env, name: string): LimitCalls => new LimitCalls(env, name);

const settingsOf = ({ limit, slotDecayPerSecond, active, origin, activeSlots }: LimitSummary) => ({
	...{ limit, slotDecayPerSecond, active, origin, activeSlots },
});

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
		const reserve = () => this.#object.reserve(this.#sent(ask)) as Promise<Outcome | Missing>;
		return this.#follow(withRightClock(reserve));
	}

	async open(ask: Ask, kind: "acquire" | "reserve", as: "wire" | "outcomes") {
		const rulings = rulingsOf(this.#env);
		// What the limit is like is not heard of here; once names of policies are used, they are asked for with it.
		if (rulings.known) rulings.refreshSoon(this.#env);
		return withRightClock(() => this.#object.open(this.#sent(ask), kind, as) as Promise<ReadableStream | Missing>);
	}

	/** A request, or by its id a lease, that ends with the stub of its caller. */
	tether(asked: Ask | string) {
		return withRightClock(() => this.#object.tether(typeof asked === "string" ? asked : this.#sent(asked)));
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
		return withRightClock(() => this.#object.touch(id, Date.now()));
	}

	renew(id: string, leaseMs: number | null) {
		return withRightClock(() => this.#object.renew(id, leaseMs, Date.now()));
	}

	release(id: string, by: "caller" | "operator" | "unheard") {
		return this.#change(withRightClock(() => this.#object.release(id, by, Date.now())));
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
		const work = () => withRightClock(() => this.#object.configure(settings, this.#by(token)));
		return this.#onRecord("configure", token, work, ({ summary }) => settingsOf(summary));
	}

	patch(change: LimitPatch & ByHand, token: string | null) {
		const work = () => withRightClock(() => this.#object.patch(change, this.#by(token)));
		return this.#onRecord("configure", token, work, (made) => (made ? { ...settingsOf(made), ...change } : undefined));
	}

	/** Null: there is one of this name. */
	create(settings: Settings, byHand: ByHand, token: string | null) {
		const work = () => this.#object.create(settings, byHand, this.#by(token));
		return this.#onRecord("configure", token, work, (made) => (made ? { ...settingsOf(made), ...byHand } : undefined));
	}

	/** `taken`: another limit has that name. Null: this one does not exist. */
	async rename(name: string, token: string | null) {
		const moved = await this.#change(this.#object.rename(name));
		if (moved === "moved") audit({ action: "rename", limit: this.#name, by: token, from: this.#name, to: name });
		return moved;
	}

	takeBack(slots: number, heldMs: number | null) {
		return this.#change(withRightClock(() => this.#object.takeBack(slots, heldMs, Date.now())));
	}

	remove(token: string | null) {
		return this.#onRecord(
			"delete",
			token,
			() => this.#object.remove(),
			(gone) => (gone ? null : undefined),
		);
	}

	/** Takes a lease from its holder. */
	async force(id: string, token: string | null) {
		const answer = await this.release(id, "operator");
		const slots = answer?.event.kind === "released" ? answer.event.slots : 0;
		if (answer?.found) audit({ action: "release", limit: this.#name, lease: id, by: token, from: slots, to: 0 });
		return answer;
	}

	// ------------------------------------------------------------------------------------------- looking

	inspect() {
		return withRightClock(() => this.#object.inspect(this.#ruling, Date.now()));
	}

	summary() {
		return withRightClock(() => this.#object.summary(this.#ruling, Date.now()));
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

	/** A request with what this Worker knows of the policies, and its time. */
	#sent(ask: Ask): Ask {
		return { ...ask, ruling: this.#ruling, sentAt: Date.now() };
	}

	/** The same of a change by hand. */
	#by(token: string | null) {
		return { token, ruling: this.#ruling, sentAt: Date.now() };
	}

	/** A change, and a line of the log that says who made it, and from what to what. `to` is undefined where nothing changed. */
	async #onRecord<T>(
		action: "configure" | "delete",
		by: string | null,
		work: () => Promise<T>,
		to: (answer: T) => unknown,
	): Promise<T> {
		const before = await this.#object.summary(this.#ruling);
		const answer = await this.#change(work());
		const after = to(answer);
		if (after !== undefined) audit({ action, limit: this.#name, by, from: before && settingsOf(before), to: after });
		return answer;
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
		if (ask.request.waitMs === Number.POSITIVE_INFINITY) {
			return withRightClock(() => this.#object.acquire(this.#sent(ask)) as Promise<Outcome | Missing>);
		}
		const answer = await withRightClock(() => this.#object.acquireText(JSON.stringify(this.#sent(ask))));
		return JSON.parse(answer) as Outcome | Missing;
	}

	/** After an answer of a limit that follows policies: the next one is to find a fresh copy of them. */
	async #follow(answer: Promise<Outcome | Missing>): Promise<Outcome | Missing> {
		const given = await answer;
		if (!("missing" in given) && given.status.follows) rulingsOf(this.#env).refreshSoon(this.#env);
		return given;
	}
}
