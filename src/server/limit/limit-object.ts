/**
 * The object of one limit: the only reader of the clock, the only writer of its rows. It puts its parts together, and
 * says which of them answers what is asked. What it decides is in the core, and how that is written in `committer.ts`.
 *
 * Each call by the id of a request is made through `#relocation.of(id)`, and there is no other way to the requests: one
 * that went to another name with its limit is led on.
 */

import { DurableObject } from "cloudflare:workers";
import type { Account, Borrowing } from "../../core/commands.ts";
import { type Asked, foresee } from "../../core/granting.ts";
import type { Limit } from "../../core/limit.ts";
import type { At, Ms } from "../../core/time.ts";
import type {
	LeasesPage,
	LimitHistory,
	LimitInfo,
	LimitPatch,
	LimitSummary,
	Region,
	Settings,
	Window,
} from "../../protocol.ts";
import { digestOf } from "../contract/digests.ts";
import type { Telling } from "../contract/directory-calls.ts";
import type { Env } from "../contract/env.ts";
import type {
	By,
	ByHand,
	Configured,
	LimitCalls,
	Measured,
	NotLent,
	Placed,
	StreamFor,
	Tied,
	Watched,
} from "../contract/limit-calls.ts";
import type { Lent, LimitRequest, Missing, Outcome, Peeked, Share, Status } from "../contract/outcomes.ts";
import { directoryObject, type LimitNamed, limitObject, regionOf } from "../contract/placement.ts";
import type { Ruling } from "../contract/policies.ts";
import { Committer } from "./committer.ts";
import { ConditionTeller, conditionOf } from "./condition-teller.ts";
import { resolveDoubts } from "./doubts.ts";
import { Hearers } from "./hearers.ts";
import { Housework } from "./housework.ts";
import { Lifecycle } from "./lifecycle.ts";
import { PolicyFollower } from "./policy-follower.ts";
import { Presence, type Present } from "./presence.ts";
import { type Cargo, type MovingCalls, Relocation } from "./relocation.ts";
import { Requests } from "./requests.ts";
import { Shares } from "./shares.ts";
import { LimitStore, type Stored } from "./store.ts";
import { Tethers } from "./tether.ts";
import { measure, TotalsReporter } from "./totals-reporter.ts";
import * as views from "./views.ts";
import { Wakeups } from "./wakeups.ts";
import { LimitWatchers } from "./watchers.ts";

/** How often an object whose data is newer than its code wakes to see whether the code has followed. */
const NEWER_AGAIN_MS = 3_600_000;
/** Ids that are digested at once: a page of them takes a millisecond or two. */
const DIGESTS_AT_ONCE = 500;

export class LimitObject extends DurableObject<Env> implements LimitCalls, MovingCalls {
	readonly #store: LimitStore;
	readonly #lifecycle: Lifecycle;
	readonly #follower: PolicyFollower;
	readonly #committer: Committer;
	readonly #wakeups: Wakeups;
	readonly #housework: Housework;
	readonly #watchers: LimitWatchers;
	readonly #presence: Presence;
	readonly #relocation: Relocation;
	readonly #tethers: Tethers;
	/** Set when the stored data is newer than this code, or torn: then nothing is touched and nothing answered. */
	readonly #unread: Error | null;

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		const { storage } = ctx;
		const directory = () => directoryObject(env);
		const name = () => this.#name();
		const limitNamed: LimitNamed = (peer, region) => limitObject(env, peer, region);
		const limit = () => this.#committer.limit;
		const abort = (reason: string) => ctx.abort(reason);
		const background = (work: Promise<unknown>) => ctx.waitUntil(work);
		const store = new LimitStore(storage);
		const lifecycle = new Lifecycle({
			...{ storage, store, directory },
			region: () => regionOf(env),
			reported: () => this.#housework.set(Date.now(), true),
		});
		const follower = new PolicyFollower({
			...{ lifecycle, limit },
			checkNew: () => lifecycle.checkNew(name()),
			match: () => directory().match(name()),
			begin: (settings, source) => this.#committer.begin(settings, source),
			configure: (settings, source) => this.#committer.run({ kind: "configure", settings }, source),
		});
		const totals = new TotalsReporter({ env, lifecycle, limit, background });
		const conditions = new ConditionTeller({ lifecycle, store, limit, directory, background });
		const hearers = new Hearers({
			limit,
			waitingFor: (of) => views.waitingFor(of, name()),
			detach: (id) => this.#committer.run({ kind: "detach", id }),
			renew: (id) => this.#committer.run({ kind: "renew", id, leaseMs: null }),
			unheard: (id) => this.#committer.run({ kind: "release", id, by: "unheard" }),
		});
		const wakeups = new Wakeups({ storage, tick: () => this.#committer.run({ kind: "tick" }) });
		const housework = new Housework({
			...{ lifecycle, totals, wakeups, limit },
			wakeAt: () => this.#committer.wakeAt,
			awaited: () => hearers.size > 0,
			kept: () => limit()?.deadlines.first?.state !== "reserved",
			tick: () => this.#committer.submit({ kind: "tick" }),
			end: (endedAt) => this.#committer.end(endedAt, true),
		});
		const watchers = new LimitWatchers({
			look: (full) =>
				this.#presence.look((limit, { identity, history, now }) =>
					views.picture(views.summary(identity, limit, history, now), full ? limit : null, history, now),
				),
			sync: () => storage.sync(),
		});
		const resolve = (id: string, committed: boolean) => this.#committer.run({ kind: "resolve", id, committed });
		const committer = new Committer({
			...{ storage, store, lifecycle, hearers, watchers, follower, totals, conditions, housework, name, abort },
			doubted: (doubts) => background(resolveDoubts(limitNamed, doubts, resolve)),
		});
		const stored = store.load(Date.now());
		const unread = stored instanceof Error ? stored : null;
		const presence = new Presence({ storage, store, lifecycle, committer, follower, unread, name, abort });
		const shares = new Shares(lifecycle);
		const here = new Requests({ store, committer, presence, follower, hearers, shares, lifecycle });
		this.#relocation = new Relocation({ ctx, limitNamed, store, lifecycle, committer, hearers, here });
		this.#tethers = new Tethers(this);
		[this.#store, this.#lifecycle, this.#follower, this.#committer] = [store, lifecycle, follower, committer];
		[this.#wakeups, this.#housework, this.#watchers, this.#presence] = [wakeups, housework, watchers, presence];
		this.#unread = unread;
		if (stored && !(stored instanceof Error)) this.#wakeUp(stored);
		this.#relocation.wake();
	}

	/** Rebuilds the limit. Connections are gone, and with them the leases that lived by one. */
	#wakeUp(stored: Stored): void {
		const recalled = this.#wakeups.recall();
		void this.ctx.blockConcurrencyWhile(() => recalled);
		this.#lifecycle.identity = stored.identity;
		this.#lifecycle.usedAt = stored.usedAt;
		if (stored.identity.alive) {
			this.#committer.limit = stored.limit;
			for (const { id, held, state } of stored.limit.entries.values()) {
				if (held && state !== "waiting") this.#committer.run({ kind: "detach", id });
			}
			this.#committer.run({ kind: "tick" });
		}
		void this.#lifecycle.report();
	}

	override async alarm(): Promise<void> {
		this.#relocation.tidy(Date.now());
		// Newer code will want to be woken when it is back, and so will data that is whole.
		if (this.#unread) this.#wakeups.alarm(Date.now() + NEWER_AGAIN_MS);
		else await this.#housework.ring(Date.now());
	}

	// ------------------------------------------------------------------------------------------ requests

	acquire(wanted: LimitRequest): Promise<Outcome | Missing> {
		return this.#relocation.of(wanted.request.id).acquire(wanted);
	}

	async acquireText(wanted: string): Promise<string> {
		return JSON.stringify(await this.acquire(JSON.parse(wanted) as LimitRequest));
	}

	async acquireManyText(wanted: string): Promise<string> {
		const all = JSON.parse(wanted) as LimitRequest[];
		const answers = this.#committer.together(() => all.map((wanted) => this.acquire(wanted)));
		return JSON.stringify(await Promise.all(answers));
	}

	reserve(wanted: LimitRequest): Promise<Outcome | Missing> {
		return this.#relocation.of(wanted.request.id).reserve(wanted);
	}

	open(wanted: LimitRequest, kind: "acquire" | "reserve", as: StreamFor): Promise<ReadableStream | Missing> {
		return this.#relocation.of(wanted.request.id).open(wanted, kind, as);
	}

	tether(asked: LimitRequest | string): Promise<Tied> {
		return this.#tethers.tie(asked);
	}

	hold(id: string): Promise<ReadableStream | null> {
		return this.#relocation.of(id).hold(id);
	}

	commit(id: string, peers: string[]): Promise<Outcome | Missing> {
		return this.#relocation.of(id).commit(id, peers);
	}

	cancel(id: string, keepPlace: boolean): Promise<Outcome | Missing> {
		return this.#relocation.of(id).cancel(id, keepPlace);
	}

	touch(id: string, sentAt?: At): Promise<boolean> {
		return this.#relocation.of(id).touch(id, sentAt);
	}

	renew(id: string, leaseMs: Ms | null, sentAt?: At): Promise<Outcome | null> {
		this.#relocation.leadOn(id);
		return this.#relocation.of(id).renew(id, leaseMs, sentAt);
	}

	release(
		id: string,
		by: "caller" | "operator" | "unheard",
		sentAt?: At,
	): Promise<(Outcome & { found: boolean }) | null> {
		return this.#relocation.of(id).release(id, by, sentAt);
	}

	settle(id: string, actual: number, sentAt?: At): Promise<Outcome | null> {
		return this.#relocation.of(id).settle(id, actual, sentAt);
	}

	borrow(id: string, loan: Omit<Borrowing, "id">, sentAt?: At): Promise<{ lent: Lent; status: Status } | null> {
		return this.#relocation.of(id).borrow(id, loan, sentAt);
	}

	repay(id: string, account: Omit<Account, "id">, sentAt?: At): Promise<void> {
		return this.#relocation.of(id).repay(id, account, sentAt);
	}

	leave(id: string, call: string): Promise<void> {
		return this.#relocation.of(id).leave(id, call);
	}

	stepBack(id: string, call: string): Promise<void> {
		return this.#relocation.of(id).stepBack(id, call);
	}

	others(id: string): Promise<string[] | null> {
		return this.#relocation.of(id).others(id);
	}

	async vouch(ids: string[]): Promise<boolean[]> {
		const answers = await Promise.all(ids.map((id) => this.#relocation.of(id).vouch([id])));
		return answers.map(([committed]) => committed ?? false);
	}

	clockWasSet(workerAt: At): Promise<void> {
		return this.#presence.clockWasSet(workerAt);
	}

	async absorbed(denials: number): Promise<void> {
		if (this.#presence.exists()) await this.#committer.submit({ kind: "absorbed", denials });
	}

	// ------------------------------------------------------------------------------------------ settings

	async configure(settings: Settings, by: By): Promise<Configured | Placed> {
		await this.#presence.isHere(by.sentAt);
		const source = await this.#follower.byHand(by);
		const placed = this.#lifecycle.placedElsewhere(by.region);
		if (placed) return placed;
		let created = false;
		await this.#committer.submit({ kind: "configure", settings }, null, () => {
			created = this.#committer.limit === null;
			if (created) this.#committer.begin(settings, source);
			else this.#lifecycle.change(source, Date.now());
		});
		return { created, summary: this.#summary() };
	}

	async create(settings: Settings, byHand: ByHand, by: By): Promise<LimitSummary | null> {
		if (this.#presence.exists() || (await this.#presence.cameToBe())) return null;
		const source = await this.#follower.byHand(by);
		let created = false;
		await this.#committer.submit({ kind: "inspect" }, null, () => {
			created = this.#committer.limit === null;
			if (created) this.#committer.begin(settings, source);
		});
		if (created) await this.#committer.submit({ kind: "configure", ...byHand });
		return created ? this.#summary() : null;
	}

	async patch(change: LimitPatch<Window> & ByHand, by: By): Promise<LimitSummary | Placed | NotLent | null> {
		const { activeSlots, deniedSlots, region, ...settings } = change;
		if (!(await this.#presence.isHere(by.sentAt))) return null;
		const placed = this.#lifecycle.placedElsewhere(region);
		if (placed) return placed;
		const { slotDecayPerSecond = 0 } = { ...this.#committer.limit?.settings, ...settings };
		if (settings.lendSeconds && slotDecayPerSecond === 0) return { notLent: true };
		const source = Object.keys(settings).length > 0 ? await this.#follower.byHand(by) : null;
		const byHand = {
			...(activeSlots !== undefined && { activeSlots }),
			...(deniedSlots !== undefined && { deniedSlots }),
		};
		const command = { kind: "configure" as const, settings, ...byHand };
		await this.#committer.submit(command, null, () => {
			if (source) this.#lifecycle.change(source, Date.now());
		});
		return this.#summary();
	}

	pause(ms: Ms, ruling?: Ruling, sentAt?: At): Promise<LimitSummary | null> {
		const pause = async () => {
			await this.#committer.submit({ kind: "pause", ms });
			return this.#summary();
		};
		return this.#presence.look(pause, ruling, sentAt);
	}

	async takeBack(slots: number, heldMs: Ms | null, sentAt?: At): Promise<Status | null> {
		if (!(await this.#presence.isHere(sentAt))) return null;
		return (await this.#committer.submit({ kind: "takeBack", slots, heldMs })).status;
	}

	async remove(): Promise<boolean> {
		if (!this.#presence.exists()) return this.#lifecycle.forget(this.#name());
		await this.#committer.submit({ kind: "close" });
		void this.#lifecycle.report();
		return true;
	}

	async rename(name: string, region: Region | null): Promise<"moved" | "taken" | null> {
		return (await this.summary()) && this.#relocation.move(name, region);
	}

	moveIn(cargo: Cargo): Promise<boolean> {
		return this.#relocation.moveIn(cargo);
	}

	// ------------------------------------------------------------------------------------------- looking

	inspect(ruling?: Ruling, sentAt?: At): Promise<LimitInfo | null> {
		return this.#presence.look((limit) => views.info(this.#summary(), limit), ruling, sentAt);
	}

	summary(ruling?: Ruling, sentAt?: At): Promise<LimitSummary | null> {
		return this.#presence.look(() => this.#summary(), ruling, sentAt);
	}

	describe(ruling?: Ruling): Promise<{ summary: LimitSummary; status: Status } | null> {
		return this.#presence.look(async (limit, { identity }) => {
			const described = { summary: this.#summary(), status: views.status(identity, limit) };
			this.#lifecycle.list();
			await this.#lifecycle.report();
			return described;
		}, ruling);
	}

	watch(full: boolean, share?: Share): Promise<Watched | "full" | "share" | null> {
		return this.#presence.look(() => this.#watchers.add(full, share));
	}

	leases(after: number, count: number): Promise<LeasesPage | null> {
		return this.#presence.look((limit) => views.leasesPage(limit, after, count));
	}

	history(): Promise<LimitHistory | null> {
		return this.#presence.look((limit, { identity, history, now }) =>
			views.history(identity.name, history, limit, now),
		);
	}

	condition(): Promise<Telling | null> {
		return this.#presence.look((limit, { identity, history, now }) => ({
			...{ condition: conditionOf(limit, history, now), isKey: identity.origin === "policy" },
		}));
	}

	measure(): Promise<Measured | null> {
		return this.#presence.look((limit, { identity }) => measure(limit, identity));
	}

	async peek(asked: Asked, ruling?: Ruling): Promise<Peeked | Missing> {
		const peek = (limit: Limit, { identity }: Present) => {
			const { denied, wouldDeny } = foresee(limit, asked);
			return { status: { ...views.status(identity, limit), ...(wouldDeny && { wouldDeny }) }, denied };
		};
		const peeked = await this.#presence.look(peek, ruling);
		return peeked ?? { missing: true };
	}

	async idOf(digest: string): Promise<string | null> {
		const ids = [...(this.#committer.limit?.entries.keys() ?? [])];
		for (let from = 0; from < ids.length; from += DIGESTS_AT_ONCE) {
			const some = ids.slice(from, from + DIGESTS_AT_ONCE);
			const found = (await Promise.all(some.map(digestOf))).indexOf(digest);
			if (found >= 0) return some[found] as string;
		}
		return null;
	}

	// ------------------------------------------------------------------------------------------- helpers

	#summary(): LimitSummary {
		return views.summary(this.#lifecycle.identity, this.#committer.limit, this.#store.history, Date.now());
	}

	#name(): string {
		const name = this.ctx.id.name ?? this.#lifecycle.identity?.name;
		if (name === undefined) throw new Error("A limit's object is found by its name: use getByName or idFromName.");
		return name;
	}
}
