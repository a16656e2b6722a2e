/**
 * A limit as a Worker calls it. Every call of a Worker to a limit's object goes through here: it brings what this
 * Worker knows of the policies, so that a name that is first seen costs one hop; what may free slots makes the Worker
 * forget the denials that it remembers; and a name that no caller used before is counted as its caller's.
 */

import type { Account, Borrowing } from "../../core/commands.ts";
import type { Asked } from "../../core/granting.ts";
import type { At } from "../../core/time.ts";
import type { LimitPatch, LimitSettings, LimitSummary, Region, Settings, Window } from "../../protocol.ts";
import { withRightClock } from "../contract/clock.ts";
import { isDigest } from "../contract/digests.ts";
import type { Env } from "../contract/env.ts";
import type { By, ByHand, Configured, NotLent, Placed, Watched } from "../contract/limit-calls.ts";
import type { LimitRequest, Missing, Outcome, Peeked } from "../contract/outcomes.ts";
import { limitObject } from "../contract/placement.ts";
import { ifThere, inAnyCase } from "./admission/names.ts";
import { denialsOf } from "./denials/memory.ts";
import { charge, DESCRIPTORS } from "./descriptors.ts";
import { loansOf } from "./lending/memory.ts";
import { audit } from "./log.ts";
import { rulingsOf } from "./policy-copy.ts";

export function limitOf(env: Env, name: string): LimitStub {
	charge(DESCRIPTORS.name);
	return new LimitStub(env, name);
}

/** How the object of the only name is asked, where it is not by a plain call. */
export type AskLimit = (limit: LimitStub, wanted: LimitRequest) => Promise<Outcome | Missing>;

const settingsOf = (summary: LimitSummary) => {
	const { limit, slotDecayPerSecond, active, enforce, lendSeconds, origin, activeSlots } = summary;
	const { weights, starveAfterSeconds } = summary;
	return {
		...{ limit, slotDecayPerSecond, active, enforce, lendSeconds, origin, activeSlots },
		...(weights && { weights }),
		...(starveAfterSeconds !== undefined && { starveAfterSeconds }),
	};
};

export class LimitStub {
	readonly #env: Env;
	readonly name: string;
	/** Where the limit is to live if it comes to be by this stub. */
	#region: Region | null = null;

	constructor(env: Env, name: string) {
		this.#env = env;
		this.name = name;
	}

	get #object() {
		return limitObject(this.#env, this.name, this.#region ?? rulingsOf(this.#env).regionOf(this.name));
	}

	get #ruling() {
		return rulingsOf(this.#env).rule(this.name);
	}

	// ------------------------------------------------------------------------------------------ requests

	acquire(wanted: LimitRequest): Promise<Outcome | Missing> {
		return this.#first(() => this.#follow(this.#acquireText(wanted)));
	}

	/** Requests that share one call, and a commit, in their order. None of them waits. */
	acquireMany(wanted: LimitRequest[]): Promise<(Outcome | Missing)[]> {
		const texts = (sentAt?: At): string => JSON.stringify(wanted.map((wanted) => this.#asked(wanted, sentAt)));
		const call = async () =>
			JSON.parse(await this.#timed((sentAt) => this.#object.acquireManyText(texts(sentAt)))) as (Outcome | Missing)[];
		return inAnyCase(
			...([this.#env, this.name, call] as const),
			(answers) => answers.some((answer) => !isMissing(answer)) && !answers.some((answer) => "made" in answer),
			(answers) => answers.some((answer) => !isMissing(answer)),
		);
	}

	reserve(wanted: LimitRequest): Promise<Outcome | Missing> {
		const reserve = (sentAt?: At) => this.#object.reserve(this.#asked(wanted, sentAt)) as Promise<Outcome | Missing>;
		return this.#first(() => this.#follow(this.#timed(reserve)));
	}

	async open(
		wanted: LimitRequest,
		kind: "acquire" | "reserve",
		as: "wire" | "outcomes",
	): Promise<ReadableStream | Missing> {
		const rulings = rulingsOf(this.#env);
		// What the limit is like is not heard of here; once names of policies are used, they are asked for with it.
		rulings.refreshSoon(this.#env, rulings.known);
		// Nothing but a stream comes back, which does not say whether the name was there before.
		const open = (sentAt?: At) =>
			this.#object.open(this.#asked(wanted, sentAt), kind, as) as Promise<ReadableStream | Missing>;
		return inAnyCase(
			...([this.#env, this.name, () => this.#timed(open)] as const),
			isMissing,
			(opened) => !isMissing(opened),
		);
	}

	/** A request, or by its id a lease, that ends with the stub of its caller. */
	tether(asked: LimitRequest | string) {
		if (typeof asked === "string") return this.#timed(() => this.#object.tether(asked));
		const call = async () => this.#timed((sentAt) => this.#object.tether(this.#asked(asked, sentAt)));
		// One that waits has yet to ask, and is counted then.
		if (asked.request.waitMs > 0) return call();
		return inAnyCase(
			...([this.#env, this.name, call] as const),
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
		return this.#timed((sentAt) => this.#object.touch(id, sentAt));
	}

	renew(id: string, leaseMs: number | null) {
		return this.#inAnyCase(() => this.#timed((sentAt) => this.#object.renew(id, leaseMs, sentAt)));
	}

	release(id: string, by: "caller" | "operator" | "unheard") {
		const release = () => this.#timed((sentAt) => this.#object.release(id, by, sentAt));
		return this.#inAnyCase(() => this.#change(release()));
	}

	/** Null: this limit does not exist. */
	settle(id: string, actual: number) {
		const settle = () => this.#timed((sentAt) => this.#object.settle(id, actual, sentAt));
		return this.#inAnyCase(() => this.#change(settle()));
	}

	borrow({ id, ...loan }: Borrowing) {
		return this.#timed((sentAt) => this.#object.borrow(id, loan, sentAt));
	}

	repay({ id, ...account }: Account) {
		return this.#change(this.#timed((sentAt) => this.#object.repay(id, account, sentAt)));
	}

	leave(id: string, call: string) {
		return this.#change(this.#object.leave(id, call));
	}

	stepBack(id: string, call: string) {
		return this.#change(this.#object.stepBack(id, call));
	}

	// ------------------------------------------------------------------------------------------ settings

	/** `token`: who does it, for the record. */
	configure({ region, ...settings }: LimitSettings, token: string | null): Promise<Configured | Placed> {
		this.#region = region;
		const send = (sentAt?: At) =>
			this.#object.configure(settings, { ...this.#by(token, sentAt), region }) as Promise<Configured | Placed>;
		const configure = () => this.#timed(send);
		const to = (answer: Configured | Placed) => ("placed" in answer ? undefined : settingsOf(answer.summary));
		return inAnyCase(
			...([this.#env, this.name, () => this.#onRecord("configure", token, configure, to)] as const),
			(answer) => "placed" in answer || !answer.created,
			() => true,
		);
	}

	patch(change: LimitPatch<Window> & ByHand, token: string | null): Promise<LimitSummary | Placed | NotLent | null> {
		const send = (sentAt?: At) =>
			this.#object.patch(change, this.#by(token, sentAt)) as Promise<LimitSummary | Placed | NotLent | null>;
		const patch = () => this.#timed(send);
		const to = (made: LimitSummary | Placed | NotLent | null) =>
			made && "name" in made ? { ...settingsOf(made), ...change } : undefined;
		return this.#ifThere(() => this.#onRecord("configure", token, patch, to));
	}

	/** Null: there is one of this name. */
	create(settings: Settings, byHand: ByHand, token: string | null): Promise<LimitSummary | null> {
		const create = () => this.#timed((sentAt) => this.#object.create(settings, byHand, this.#by(token, sentAt)));
		const to = (made: LimitSummary | null) => (made ? { ...settingsOf(made), ...byHand } : undefined);
		return inAnyCase(
			...([this.#env, this.name, () => this.#onRecord("configure", token, create, to)] as const),
			(made) => made === null,
			() => true,
		);
	}

	/** `taken`: another limit has that name. Null: this one does not exist. */
	async rename(name: string, token: string | null) {
		await this.#repayFirst();
		const moved = await this.#ifThere(() =>
			this.#change(this.#object.rename(name, rulingsOf(this.#env).regionOf(name))),
		);
		if (moved === "moved") audit({ action: "rename", limit: this.name, by: token, from: this.name, to: name });
		return moved;
	}

	/** Null: it does not exist. */
	async pause(ms: number, token: string | null): Promise<LimitSummary | null> {
		await this.#repayFirst();
		const pause = () => this.#timed((sentAt) => this.#object.pause(ms, this.#ruling, sentAt));
		const paused = await this.#ifThere(() => this.#change(pause()));
		// What is paused by every caller that an upstream refused is told by its end alone.
		if (paused && ms === 0) audit({ action: "unpause", limit: this.name, by: token, from: null, to: null });
		return paused;
	}

	takeBack(slots: number, heldMs: number | null) {
		const takeBack = () => this.#timed((sentAt) => this.#object.takeBack(slots, heldMs, sentAt));
		return this.#inAnyCase(() => this.#change(takeBack()));
	}

	/** Null: it does not exist. */
	remove(token: string | null) {
		const remove = async () => (await this.#object.remove()) || null;
		return this.#ifThere(() => this.#onRecord("delete", token, remove, (gone) => (gone ? null : undefined)));
	}

	/** Takes a lease back, or a place in line, by its id or by the digest that is shown of it. */
	async force(idOrDigest: string, token: string | null) {
		const id = isDigest(idOrDigest) ? await this.#ifThere(() => this.#object.idOf(idOrDigest)) : null;
		const answer = await this.release(id ?? idOrDigest, "operator");
		const slots = answer?.event.kind === "released" ? answer.event.slots : 0;
		if (answer?.found) audit({ action: "release", limit: this.name, lease: idOrDigest, by: token, from: slots, to: 0 });
		return answer;
	}

	// ------------------------------------------------------------------------------------------- looking

	inspect() {
		return this.#ifThere(() => this.#timed((sentAt) => this.#object.inspect(this.#ruling, sentAt)));
	}

	summary() {
		return this.#timed((sentAt) => this.#object.summary(this.#ruling, sentAt));
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

	/** For a caller that will hold a lease of it: a limit that the directory has lost holds back all the same. */
	describe() {
		return this.#inAnyCase(() => this.#object.describe(this.#ruling));
	}

	/** The same for a caller that only looks. */
	describeIfThere() {
		return this.#ifThere(() => this.#object.describe(this.#ruling));
	}

	others(id: string) {
		return this.#object.others(id);
	}

	async peek(asked: Asked): Promise<Peeked | Missing> {
		const look = async () => {
			const peeked = (await this.#object.peek(asked)) as Peeked | Missing;
			return "missing" in peeked ? null : peeked;
		};
		return (await this.#inAnyCase(look)) ?? { missing: true };
	}

	/** The same for a caller that has not asked for it: a limit that is not there does not come to be by this. */
	check(asked: Asked): Promise<Peeked | null> {
		return this.#ifThere(async () => {
			const peeked = (await this.#object.peek(asked, this.#ruling)) as Peeked | Missing;
			return "missing" in peeked ? null : peeked;
		});
	}

	// ------------------------------------------------------------------------------------------- helpers

	/** A request with what this Worker knows of the directory, its time, and what its caller may take. */
	#asked(wanted: LimitRequest, sentAt: At | undefined): LimitRequest {
		const { waitMs, held } = wanted.request;
		const share = waitMs > 0 || held ? this.#env.caller?.share("waiters") : undefined;
		const { since } = rulingsOf(this.#env);
		return { ...wanted, ruling: this.#ruling, since, ...(sentAt !== undefined && { sentAt }), ...(share && { share }) };
	}

	/** The same of a change by hand. */
	#by(token: string | null, sentAt?: At): By {
		return { token, ruling: this.#ruling, ...(sentAt !== undefined && { sentAt }) };
	}

	/** A call that brings this Worker's time. */
	#timed<T>(call: (sentAt?: At) => Promise<T>): Promise<T> {
		return withRightClock(call, (workerAt) => this.#object.clockWasSet(workerAt));
	}

	/** A change, and a line of the log that says who made it, and from what to what. `to` is undefined where nothing changed. */
	async #onRecord<T>(
		action: "configure" | "delete",
		by: string | null,
		work: () => Promise<T>,
		to: (answer: T) => unknown,
	): Promise<T> {
		await this.#repayFirst();
		// What cannot be read has nothing to be changed from; the change itself says what is wrong.
		const before = await this.#object.summary(this.#ruling).catch(() => null);
		const answer = await this.#change(work());
		const after = to(answer);
		if (after !== undefined) audit({ action, limit: this.name, by, from: before && settingsOf(before), to: after });
		return answer;
	}

	/** A change ends what this Worker has borrowed: nothing is granted by the old settings after it. */
	async #repayFirst(): Promise<void> {
		const account = loansOf(this.#env).end(this.name);
		// What is not accounted for is taken for used.
		if (account) await this.repay(account).catch((error) => console.warn(`Not repaid to "${this.name}":`, error));
	}

	/** A request by which the limit may come to be. */
	#first(call: () => Promise<Outcome | Missing>): Promise<Outcome | Missing> {
		return inAnyCase(
			...([this.#env, this.name, call] as const),
			(answer) => !isMissing(answer) && !answer.made,
			(answer) => !isMissing(answer),
		);
	}

	#ifThere<T>(look: () => Promise<T | null>): Promise<T | null> {
		return ifThere(this.#env, this.name, look);
	}

	/** What is said of slots: a limit has its say, also one that has another name now, or that the directory has lost. */
	#inAnyCase<T>(call: () => Promise<T | null>): Promise<T | null> {
		return inAnyCase(this.#env, this.name, call, (answer) => answer !== null);
	}

	/** What may free slots: from before it is sent until after it is answered, no denial is remembered across it. */
	async #change<T>(answer: Promise<T>): Promise<T> {
		const denials = denialsOf(this.#env);
		denials.changed(this.name);
		try {
			return await answer;
		} finally {
			denials.changed(this.name);
		}
	}

	async #acquireText(wanted: LimitRequest): Promise<Outcome | Missing> {
		// JSON has no word for a wait without an end.
		if (wanted.request.waitMs === Number.POSITIVE_INFINITY) {
			return this.#timed((sentAt) => this.#object.acquire(this.#asked(wanted, sentAt)) as Promise<Outcome | Missing>);
		}
		const answer = await this.#timed((sentAt) => this.#object.acquireText(JSON.stringify(this.#asked(wanted, sentAt))));
		return JSON.parse(answer) as Outcome | Missing;
	}

	/** After an answer of a limit that follows policies: the next one is to find a fresh copy of them. */
	async #follow(answer: Promise<Outcome | Missing>): Promise<Outcome | Missing> {
		const given = await answer;
		rulingsOf(this.#env).refreshSoon(this.#env, !("missing" in given) && given.status.follows);
		return given;
	}
}

const isMissing = (answer: object): answer is Missing => "missing" in answer;
