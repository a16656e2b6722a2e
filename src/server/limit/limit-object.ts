/**
 * The object of one limit: the only reader of the clock, the only writer of its rows. What it decides is in the core,
 * how it commits in `committer.ts`, whether it exists in `lifecycle.ts`, who waits in `hearers.ts`.
 */

import type { Command, Event } from "../../core/commands.ts";
import { decide } from "../../core/decide.ts";
import { createLimit, type Limit, type Request } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import type { LimitPatch, LimitSummary, Settings } from "../../protocol.ts";
import type { Ask, Missing, Outcome, Status } from "../contract/answers.ts";
import { clockFault } from "../contract/clock.ts";
import type { Env } from "../contract/env.ts";
import { type Ruling, settingsOf } from "../contract/policies.ts";
import { LimitWatchers } from "../contract/watchers.ts";
import { Commits, isAsked, type Job, type Tell } from "./committer.ts";
import { settleDoubts } from "./doubts.ts";
import { Line } from "./hearer-stream.ts";
import { Waiters } from "./hearers.ts";
import { Housework } from "./housework.ts";
import { Existence, type Source } from "./lifecycle.ts";
import { LimitLeases } from "./limit-leases.ts";
import type { ByHand, Present } from "./limit-views.ts";
import { type By, Following } from "./policy-follower.ts";
import { LimitStore, type NewerDataError } from "./store.ts";
import { Ledger } from "./totals-reporter.ts";
import * as views from "./views.ts";
import { Wakeups } from "./wakeups.ts";

/** How often an object whose data is newer than its code wakes to see whether the code has followed. */
const NEWER_AGAIN_MS = 3_600_000;

export class LimitObject extends LimitLeases {
	// Fields and not methods, for what inherits from this: they are out of reach of calls from outside.
	protected readonly store: LimitStore;
	protected readonly existence: Existence;
	readonly #following: Following;
	readonly #ledger: Ledger;
	readonly #housework: Housework;
	protected readonly commits: Commits;
	protected readonly waiters: Waiters;
	protected readonly wakeups: Wakeups;
	protected readonly watchers: LimitWatchers;
	/** Set when the stored data is newer than this code: then nothing is touched and nothing answered. */
	readonly #newer: NewerDataError | null;
	protected limit: Limit | null = null;
	#wakeAt: At | null = null;

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env, {
			look: (read, ruling, sentAt) => this.#look(read, ruling, sentAt),
			limit: () => this.limit,
			exists: () => this.#exists(),
			cameToBe: () => this.#cameToBe(),
			get waiters() {
				return waiters;
			},
			rightClock: (sentAt) => this.#rightClock(sentAt),
			submit: (command) => this.commits.submit(command),
			answer: (command, id) => this.#answer(command, id),
			recall: (id, whose) => this.store.recallOf(id, whose),
		});
		const { storage } = ctx;
		this.store = new LimitStore(storage.sql);
		this.existence = new Existence({
			storage,
			store: this.store,
			directory: () => env.DIRECTORY.getByName("directory"),
			reported: () => this.#housework.set(Date.now(), true),
		});
		this.commits = new Commits({
			decide: (jobs) => storage.transactionSync(() => this.#decide(jobs, Date.now())),
			sync: () => storage.sync(),
			abort: (reason) => ctx.abort(reason),
		});
		this.#following = new Following({
			existence: this.existence,
			limit: () => this.limit,
			checkNew: () => this.existence.checkNew(this.#name()),
			match: () => env.DIRECTORY.getByName("directory").match(this.#name()),
			begin: (settings, source) => this.#begin(settings, source),
			configure: (settings, source) => this.commits.run({ kind: "configure", settings }, source),
		});
		this.#ledger = new Ledger({
			...{ env, existence: this.existence, limit: () => this.limit },
			background: (work) => ctx.waitUntil(work),
		});
		const waiters = new Waiters({
			limit: () => this.limit,
			detach: (id) => this.commits.run({ kind: "detach", id }),
			renew: (id) => this.commits.run({ kind: "renew", id, leaseMs: null }),
			unheard: (id) => this.commits.run({ kind: "release", id, by: "unheard" }),
		});
		this.waiters = waiters;
		this.wakeups = new Wakeups({ storage, tick: () => this.commits.run({ kind: "tick" }) });
		this.#housework = new Housework({
			...{ store: this.store, existence: this.existence, ledger: this.#ledger, wakeups: this.wakeups },
			...{ limit: () => this.limit, wakeAt: () => this.#wakeAt, awaited: () => this.waiters.size > 0 },
			tick: () => this.commits.submit({ kind: "tick" }),
			end: (endedAt) => this.#end(endedAt),
		});
		this.watchers = new LimitWatchers({
			look: (full) =>
				this.#look((limit) => views.picture(this.#summary(), full ? limit : null, this.store.history, Date.now())),
			sync: () => storage.sync(),
		});
		this.#newer = this.store.open();
		if (!this.#newer) this.#wakeUp();
	}

	/** Rebuilds the limit. Connections are gone, and with them the leases that lived by one. */
	#wakeUp(): void {
		const stored = this.store.load(Date.now());
		if (!stored) return;
		const recalled = this.wakeups.recall();
		void this.ctx.blockConcurrencyWhile(() => recalled);
		this.existence.identity = stored.identity;
		this.existence.usedAt = stored.usedAt;
		this.#housework.begin();
		if (stored.identity.alive) {
			this.limit = stored.limit;
			for (const { id, held, state } of stored.limit.entries.values()) {
				if (held && state !== "waiting") this.commits.run({ kind: "detach", id });
			}
			this.commits.run({ kind: "tick" });
		}
		void this.existence.report();
	}

	// ------------------------------------------------------------------------------------------ requests

	/** Takes slots, or waits for them until the request gives up. */
	acquire(ask: Ask): Promise<Outcome | Missing> {
		return this.#ask({ kind: "acquire", request: ask.request }, ask);
	}

	/** `acquire` as JSON, both ways: over RPC a text costs a tenth less of the whole call than the objects in it. */
	async acquireText(ask: string): Promise<string> {
		return JSON.stringify(await this.acquire(JSON.parse(ask) as Ask));
	}

	/** Sets slots aside for a request of several names; parks it, or denies it, where there are none. */
	reserve(ask: Ask): Promise<Outcome | Missing> {
		if (ask.call) this.waiters.asks(ask.request.id, ask.call);
		return this.#ask({ kind: "reserve", request: ask.request }, ask);
	}

	/**
	 * A request as a stream of lines, while it waits and, with `held`, for as long as its lease lives. Its end takes
	 * the request out of the line. `as` says for whom: `wire` for callers, `outcomes` for the coordinator.
	 */
	async open(ask: Ask, kind: "acquire" | "reserve", as: "wire" | "outcomes"): Promise<ReadableStream | Missing> {
		await this.#rightClock(ask.sentAt);
		const first = await this.#following.ready(this.#exists(), ask, Date.now());
		if (!first) return { missing: true };
		if (ask.call) this.waiters.asks(ask.request.id, ask.call);
		const line = new Line(this.waiters, ask.request, as, ask.call);
		this.commits.submit({ kind, request: ask.request }, line, first).catch((error) => line.fail(error));
		return line.readable;
	}

	/** A stream that keeps a held lease alive: the lease ends with it. */
	async hold(id: string): Promise<ReadableStream | null> {
		const entry = this.limit?.entries.get(id);
		if (!entry?.held) return null;
		return Line.holding(this.waiters, entry).readable;
	}

	// ------------------------------------------------------------------------------------------ settings

	/** Creates the limit, or replaces its settings, by hand. */
	async configure(settings: Settings, by: By): Promise<{ created: boolean; summary: LimitSummary }> {
		await this.#rightClock(by.sentAt);
		if (!this.#exists()) await this.#cameToBe();
		const source = await this.#following.byHand(by);
		let created = false;
		await this.commits.submit({ kind: "configure", settings }, null, () => {
			created = this.limit === null;
			if (created) this.#begin(settings, source);
			else this.existence.change(source, Date.now());
		});
		return { created, summary: this.#summary() };
	}

	/** Creates the limit. Null: there is one of this name. */
	async create(settings: Settings, byHand: ByHand, by: By): Promise<LimitSummary | null> {
		if (this.#exists() || (await this.#cameToBe())) return null;
		const source = await this.#following.byHand(by);
		let created = false;
		await this.commits.submit({ kind: "inspect" }, null, () => {
			created = this.limit === null;
			if (created) this.#begin(settings, source);
		});
		if (created) await this.commits.submit({ kind: "configure", ...byHand });
		return created ? this.#summary() : null;
	}

	/** Changes some of the settings, which makes them the limit's own, or the slots in use. Null: it does not exist. */
	async patch({ activeSlots, deniedSlots, ...settings }: LimitPatch & ByHand, by: By): Promise<LimitSummary | null> {
		await this.#rightClock(by.sentAt);
		if (!this.#exists() && !(await this.#cameToBe())) return null;
		const source = Object.keys(settings).length > 0 ? await this.#following.byHand(by) : null;
		const byHand = {
			...(activeSlots !== undefined && { activeSlots }),
			...(deniedSlots !== undefined && { deniedSlots }),
		};
		const command = { kind: "configure" as const, settings, ...byHand };
		await this.commits.submit(command, null, () => {
			if (source) this.existence.change(source, Date.now());
		});
		return this.#summary();
	}

	/** Ends every lease and every wait, and deletes the limit with its storage. */
	async remove(): Promise<boolean> {
		if (!this.#exists()) return this.existence.forget(this.#name());
		await this.commits.submit({ kind: "close" });
		void this.existence.report();
		return true;
	}

	/** Gives back slots that were taken without a lease. Null: this limit does not exist. */
	async takeBack(slots: number, heldMs: number | null, sentAt?: At): Promise<Status | null> {
		await this.#rightClock(sentAt);
		if (!this.#exists() && !(await this.#cameToBe())) return null;
		return (await this.commits.submit({ kind: "takeBack", slots, heldMs })).status;
	}

	// ------------------------------------------------------------------------------------------- looking

	/** Throws the object away if its clock stands still, once nobody is owed an answer to what was decided. */
	#rightClock(sentAt: At | undefined): Promise<void> | undefined {
		if (!this.limit) return undefined;
		const fault = clockFault(this.ctx.storage.kv, sentAt, Date.now());
		return fault === null ? undefined : this.#reset(fault);
	}

	async #reset(reason: string): Promise<never> {
		console.warn(reason);
		await this.commits.idle();
		await this.ctx.storage.sync();
		this.ctx.abort(reason);
		throw new Error(reason);
	}

	/** Reads something off the limit as it is now. Null: it does not exist. */
	async #look<T>(
		read: (limit: Limit, present: Present) => T,
		ruling?: Ruling,
		sentAt?: At,
	): Promise<Awaited<T> | null> {
		await this.#rightClock(sentAt);
		if (!this.#exists() && !(await this.#cameToBe())) return null;
		await this.#following.look(ruling, Date.now());
		await this.commits.submit({ kind: "inspect" });
		const { identity } = this.existence;
		const [existence, watchers, { history }] = [this.existence, this.watchers, this.store];
		return (
			this.limit && identity && (await read(this.limit, { identity, existence, watchers, history, now: Date.now() }))
		);
	}

	// --------------------------------------------------------------------------------- deciding, writing

	async #ask(command: Extract<Command, { request: Request }>, ask: Ask): Promise<Outcome | Missing> {
		const { call } = ask;
		const righting = this.#rightClock(ask.sentAt);
		if (righting) await righting;
		const ready = this.#following.ready(this.#exists(), ask, Date.now());
		const first = ready instanceof Promise ? await ready : ready;
		if (!first) return { missing: true };
		const { id } = command.request;
		return this.waiters.outcome(id, call, (hearer) => this.commits.submit(command, hearer, first));
	}

	async #answer(command: Command, id: string): Promise<Outcome> {
		const { events, status } = await this.commits.submit(command);
		const event = views.answerTo(events, id);
		if (!event) throw new Error(`No answer to ${command.kind} of ${id}.`);
		return { event, status };
	}

	/** Decides all of these, in their order, and writes once. Runs inside a transaction. */
	#decide(jobs: Job[], now: At): { tell: Tell[]; written: boolean } {
		const tell: Tell[] = [];
		const all: Event[] = [];
		let news = false;
		for (const { first, command, hearer, answered, failed } of jobs) {
			first?.();
			if (!this.limit) {
				failed(new Error("The limit was deleted."));
				continue;
			}
			const { events, wakeAt } = decide(this.limit, command, now);
			this.#wakeAt = wakeAt;
			this.store.remember(events);
			all.push(...events);
			const status = this.#status();
			if (events.length > 0 || command.kind === "absorbed") {
				news = true;
				this.store.history.note(now, views.reading(this.limit, status.activeSlots), this.limit.totals);
			}
			tell.push((ungated) => {
				if (!ungated) answered({ events, status });
				return this.waiters.tell(events, status, hearer, ungated);
			});
			if (command.kind === "close") this.#end(now);
		}
		const written = !this.limit || this.store.write(this.limit, all, now);
		if (written) this.existence.usedAt = now;
		else if (news) this.store.writeSoon(() => this.limit && { limit: this.limit, usedAt: this.existence.usedAt });
		if (news) this.watchers.changed();
		this.#follow(all);
		this.existence.after(now, jobs.some(isAsked));
		if (news) this.#ledger.after(now);
		this.#following.watch();
		this.#housework.set(now);
		return { tell, written };
	}

	/** What follows from events beside answers and rows. */
	#follow(events: Event[]): void {
		this.#housework.ended(events);
		const doubts = events.filter((event) => event.kind === "doubted");
		if (doubts.length === 0) return;
		const settle = (id: string, committed: boolean) => this.commits.run({ kind: "settle", id, committed });
		this.ctx.waitUntil(settleDoubts(this.env.LIMITS, doubts, settle));
	}

	// --------------------------------------------------------------------------------------- waking again

	override async alarm(): Promise<void> {
		// The newer code will want to be woken when it is back.
		if (this.#newer) this.wakeups.alarm(Date.now() + NEWER_AGAIN_MS);
		else await this.#housework.ring(Date.now());
	}

	// ------------------------------------------------------------------------------- beginning and ending

	#exists(): boolean {
		if (this.#newer) throw this.#newer;
		return this.limit !== null;
	}

	/** Whether a limit that was not here is by now; thrown, where it has been and its data is lost. */
	async #cameToBe(): Promise<boolean> {
		await this.existence.checkNewIfPossible(this.#name());
		return this.limit !== null;
	}

	#begin(settings: Settings, source: Source): void {
		if (this.limit) return;
		const now = Date.now();
		this.limit = createLimit(settingsOf(settings), now, this.store.recall);
		this.existence.begin(this.#name(), source, this.limit, now);
	}

	/** The limit is no more; its storage follows. */
	#end(endedAt: At): void {
		this.#ledger.end(endedAt);
		this.ceased(endedAt);
	}

	/** It is no more, or no more here. */
	protected ceased(endedAt: At): void {
		this.limit = null;
		this.#wakeAt = null;
		this.existence.end(endedAt);
		this.watchers.ended(this.#name());
	}

	#name(): string {
		const name = this.ctx.id.name ?? this.existence.identity?.name;
		if (name === undefined) throw new Error("A limit's object is found by its name: use getByName or idFromName.");
		return name;
	}

	// --------------------------------------------------------------------------------------------- views

	#status(): Status {
		return views.status(this.existence.identity, this.limit);
	}

	#summary(): LimitSummary {
		return views.summary(this.existence.identity, this.limit, this.store.history, Date.now());
	}
}
