/**
 * The object of one limit: the only reader of the clock, the only writer of its rows.
 *
 * Calls that arrive while a commit is being written share the next one: each is decided in its order, all is
 * written once, and nobody is answered before the write is durable. A write that fails throws the object away; it
 * is rebuilt from storage, and nobody had been told.
 */

import { DurableObject } from "cloudflare:workers";
import type { Command, Event } from "../core/commands.ts";
import { decide } from "../core/decide.ts";
import type { At } from "../core/level.ts";
import { createLimit, isIdle, type Limit, type Mode, type Request } from "../core/limit.ts";
import type { LeaseInfo, LimitInfo, LimitPatch, LimitSummary, Settings } from "../protocol.ts";
import type { Outcome, Status } from "./answers.ts";
import type { Env } from "./env.ts";
import { type Hearer, Line, Waiters } from "./line.ts";
import { type Identity, LimitStore, NewerDataError } from "./store.ts";
import * as views from "./views.ts";

/** A request for one limit, and what to do when the limit does not exist. */
export interface Ask {
	request: Request;
	createIfMissing: boolean;
	/** Names this call, so that it can leave without the others that wait for the same request. */
	call?: string;
}

/** The answer to a request for a limit that does not exist and was not to be created. */
export interface Missing {
	missing: true;
}

/** What a request that is not made would find. */
export interface Peeked {
	status: Status;
	denied: Extract<Event, { kind: "denied" }> | null;
}

/** An idle limit that a policy made is deleted after this: as long as its last ids are remembered. */
export const POLICY_IDLE_MS = 300_000;
/** An idle limit that nobody configured is deleted after this: a day in which an operator could have seen it. */
export const DEFAULT_IDLE_MS = 86_400_000;
/** Settings of a name that nobody configured: it shows up for an operator and blocks nobody. */
const DEFAULT_SETTINGS: Settings = { limit: 1, slotDecayPerSecond: 0, active: false };
/** How often the directory is told again after it did not answer. */
const REPORT_AGAIN_MS = 2_000;
/** Counters of denials alone are written this much later, so that a denial costs no write. */
const COUNTERS_MS = 1_000;
/** How long a deleted limit still answers peers that doubt a lease; see `DOUBT_MS`. Then its storage goes. */
const GRAVE_MS = 10_000;
/** How often an object whose data is newer than its code wakes to see whether the code has followed. */
const NEWER_AGAIN_MS = 60_000;
/** A deadline that a timer watches gets its alarm this much later, as a backstop that is seldom moved. */
const ALARM_SLACK_MS = 5_000;

interface Job {
	command: Command;
	answered: (events: Event[], status: Status) => void;
	failed: (error: unknown) => void;
	/** Who hears the answer; events of other requests go to those who wait for them. */
	hearer: Hearer | null;
}

export class LimitObject extends DurableObject<Env> {
	readonly #store: LimitStore | null;
	readonly #newer: NewerDataError | null = null;
	#identity: Identity | null = null;
	#limit: Limit | null = null;

	#usedAt: At = 0;
	#jobs: Job[] = [];
	#writing = false;
	#wakeAt: At | null = null;
	#alarmAt: At | null = null;
	#timer: ReturnType<typeof setTimeout> | null = null;
	#countersTimer: ReturnType<typeof setTimeout> | null = null;
	#purgeAt: At | null = null;
	#reporting = false;
	#creating: Promise<void> | null = null;
	readonly #waiters = new Waiters({
		limit: () => this.#limit,
		detach: (id) => this.#run({ kind: "detach", id }),
		renew: (id) => this.#run({ kind: "renew", id, leaseMs: null }),
		release: (id) => this.#run({ kind: "release", id, by: "unheard" }),
	});

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		try {
			this.#store = new LimitStore(ctx.storage.sql);
		} catch (error) {
			if (!(error instanceof NewerDataError)) throw error;
			this.#store = null;
			this.#newer = error;
			return;
		}
		const loaded = this.#store.load(Date.now());
		if (!loaded) return;
		this.#identity = loaded.identity;
		if (loaded.identity.alive) this.#limit = loaded.limit;
		this.#usedAt = loaded.usedAt;
		this.#purgeAt = this.#store.purgeAt();
		this.#wakeUp();
	}

	/** After a restart: connections are gone, and with them the leases that lived by one. */
	#wakeUp(): void {
		for (const entry of this.#limit?.entries.values() ?? []) {
			if (entry.held && entry.state !== "waiting") this.#run({ kind: "detach", id: entry.id });
		}
		if (this.#limit) this.#run({ kind: "tick" });
		void this.#report();
	}

	// ------------------------------------------------------------------------------------------ requests

	/** Takes slots, or waits for them until the request gives up. */
	acquire(ask: Ask): Promise<Outcome | Missing> {
		return this.#ask({ kind: "acquire", request: ask.request }, ask);
	}

	/** Sets slots aside for a request of several names; parks it, or denies it, where there are none. */
	reserve(ask: Ask): Promise<Outcome | Missing> {
		return this.#ask({ kind: "reserve", request: ask.request }, ask);
	}

	/**
	 * A request as a stream of lines, while it waits and, with `held`, for as long as its lease lives. Its end takes
	 * the request out of the line. `as` says for whom: `wire` for callers, `outcomes` for the coordinator.
	 */
	async open(ask: Ask, kind: "acquire" | "reserve", as: "wire" | "outcomes"): Promise<ReadableStream | Missing> {
		if (!(await this.#ensure(ask.createIfMissing))) return { missing: true };
		const line = new Line(this.#waiters, ask.request, as);
		this.#submit({ kind, request: ask.request }, line).catch((error) => line.fail(error));
		return line.readable;
	}

	/** A stream that keeps a held lease alive: the lease ends with it. */
	async hold(id: string): Promise<ReadableStream | null> {
		const entry = this.#limit?.entries.get(id);
		if (!entry?.held) return null;
		return Line.holding(this.#waiters, entry).readable;
	}

	async commit(id: string, peers: string[]): Promise<Outcome> {
		return this.#answer({ kind: "commit", id, peers }, id);
	}

	async cancel(id: string, keepPlace: boolean): Promise<Outcome | Missing> {
		if (!this.#limit) return { missing: true };
		return this.#answer({ kind: "cancel", id, keepPlace }, id);
	}

	/** Keeps a reservation or a parked place; false when it is gone. */
	async touch(id: string): Promise<boolean> {
		if (!this.#limit) return false;
		const { events } = await this.#submit({ kind: "touch", id });
		return !events.some((event) => event.kind === "gone" && event.id === id);
	}

	/** Null: this limit does not exist. */
	async renew(id: string, leaseMs: number | null): Promise<Outcome | null> {
		return this.#exists() ? this.#answer({ kind: "renew", id, leaseMs }, id) : null;
	}

	async release(id: string, by: "caller" | "operator" | "unheard"): Promise<(Outcome & { found: boolean }) | null> {
		if (!this.#exists()) return null;
		const found = this.#limit?.entries.has(id) ?? false;
		return { ...(await this.#answer({ kind: "release", id, by }, id)), found };
	}

	/** The caller of a held call has gone: its request leaves the line, or its lease ends, unless it came back. */
	async leave(id: string, call: string): Promise<void> {
		if (this.#waiters.leave(id, call) && this.#limit) await this.#submit({ kind: "release", id, by: "unheard" });
	}

	/** Whether each of these requests committed here. Those that did not never will. */
	async vouch(ids: string[]): Promise<boolean[]> {
		// A limit that was deleted still knows whom it had granted.
		if (!this.#exists()) return ids.map((id) => (this.#store?.recall(id)?.kind ?? "cancelled") !== "cancelled");
		const answers = await Promise.all(ids.map((id) => this.#answer({ kind: "vouch", id }, id)));
		return answers.map(({ event }) => event.kind === "vouched" && event.committed);
	}

	// ------------------------------------------------------------------------------------------ settings

	/** Creates the limit, or replaces its settings. */
	async configure(settings: Settings): Promise<{ created: boolean; summary: LimitSummary }> {
		this.#refuseNewer();
		const created = this.#limit === null;
		if (created) this.#create("configured", settings);
		await this.#submit({ kind: "configure", settings });
		this.#owned();
		return { created, summary: this.#summary() };
	}

	/** Changes some of the settings, or the slots in use. Null: this limit does not exist. */
	async patch({ activeSlots, ...settings }: LimitPatch): Promise<LimitSummary | null> {
		if (!this.#exists()) return null;
		await this.#submit({ kind: "configure", settings, ...(activeSlots !== undefined && { activeSlots }) });
		this.#owned();
		return this.#summary();
	}

	/** Ends every lease and every wait, and deletes the limit with its storage. */
	async remove(): Promise<boolean> {
		if (!this.#exists()) return false;
		await this.#submit({ kind: "close" });
		void this.#report();
		return true;
	}

	// ------------------------------------------------------------------------------------------- looking

	/** Everything about the limit. Null: it does not exist. */
	async inspect(): Promise<LimitInfo | null> {
		if (!this.#exists()) return null;
		await this.#submit({ kind: "inspect" });
		if (!this.#limit) return null;
		return { ...this.#summary(), leases: views.leases(this.#limit), waiting: views.waiting(this.#limit) };
	}

	async summary(): Promise<LimitSummary | null> {
		if (!this.#exists()) return null;
		await this.#submit({ kind: "inspect" });
		return this.#limit ? this.#summary() : null;
	}

	async leases(after: number, count: number): Promise<{ leases: LeaseInfo[]; next: string | null } | null> {
		if (!this.#exists()) return null;
		await this.#submit({ kind: "inspect" });
		return this.#limit ? views.leasesPage(this.#limit, after, count) : null;
	}

	/** How the limit stands, and whether it would refuse this request now. Nothing is asked for. */
	async peek(id: string, slots: number, mode: Mode): Promise<Peeked | Missing> {
		if (!this.#exists()) return { missing: true };
		await this.#submit({ kind: "inspect" });
		if (!this.#limit) return { missing: true };
		return { status: this.#status(), denied: views.refusal(this.#limit, id, slots, mode) };
	}

	// --------------------------------------------------------------------------------- deciding, writing

	async #ask(command: Extract<Command, { request: Request }>, { createIfMissing, call }: Ask): Promise<Outcome | Missing> {
		if (!this.#limit && !(await this.#ensure(createIfMissing))) return { missing: true };
		return new Promise((resolve, reject) => {
			const hearer: Hearer = {
				id: command.request.id,
				call,
				hear: (event, status) => {
					if (event.kind === "queued") return;
					this.#waiters.remove(hearer);
					resolve({ event, status });
				},
			};
			this.#waiters.add(hearer);
			this.#submit(command, hearer).catch((error) => {
				this.#waiters.remove(hearer);
				reject(error);
			});
		});
	}

	async #answer(command: Command, id: string): Promise<Outcome> {
		const { events, status } = await this.#submit(command);
		const event = views.answerTo(events, id);
		if (!event) throw new Error(`No answer to ${command.kind} of ${id}.`);
		return { event, status };
	}

	/** A command that nobody waits for. */
	#run(command: Command): void {
		// A failure has thrown the object away already; there is nobody to tell.
		this.#submit(command).catch(() => undefined);
	}

	#submit(command: Command, hearer: Hearer | null = null): Promise<{ events: Event[]; status: Status }> {
		return new Promise((resolve, reject) => {
			this.#jobs.push({
				command,
				hearer,
				answered: (events, status) => resolve({ events, status }),
				failed: reject,
			});
			if (!this.#writing) void this.#write();
		});
	}

	/** Decides and writes all that waits, then what arrived meanwhile, until nothing is left. */
	async #write(): Promise<void> {
		this.#writing = true;
		while (this.#jobs.length > 0) {
			const jobs = this.#jobs;
			this.#jobs = [];
			try {
				const { answers, durable } = this.#decideAll(jobs);
				const committed = durable ? this.ctx.storage.sync() : null;
				// Calls may be answered now: the output gate lets no answer out before the commit.
				for (const tell of answers) tell(false);
				if (committed) await committed;
				for (const tell of answers) tell(true);
			} catch (error) {
				for (const job of [...jobs, ...this.#jobs]) job.failed(error);
				this.ctx.abort(`A write failed: ${error instanceof Error ? error.message : String(error)}`);
				return;
			}
		}
		this.#writing = false;
	}

	#decideAll(jobs: Job[]): { answers: ((ungated: boolean) => void)[]; durable: boolean } {
		const answers: ((ungated: boolean) => void)[] = [];
		const doubts: Extract<Event, { kind: "doubted" }>[] = [];
		let durable = false;
		const now = Date.now();
		this.ctx.storage.transactionSync(() => {
			const all: Event[] = [];
			for (const job of jobs) {
				const limit = this.#limit;
				if (!limit) {
					job.failed(new Error("The limit was deleted."));
					continue;
				}
				const { events, wakeAt } = decide(limit, job.command, now);
				this.#wakeAt = wakeAt;
				this.#store?.remember(events);
				const status = this.#status();
				for (const event of events) {
					all.push(event);
					if (event.kind === "doubted") doubts.push(event);
					if (event.kind === "ended") this.#purgeAt ??= event.record.until;
				}
				if (job.command.kind === "close") this.#bury();
				answers.push((ungated) => {
					this.#waiters.tell(events, status, job.hearer, ungated);
					job.answered(events, status);
				});
			}
			if (!this.#limit) {
				durable = true;
			} else {
				durable = this.#store?.write(this.#limit, all, now) ?? false;
				if (durable) this.#usedAt = now;
				else if (all.length > 0) this.#saveCountersSoon();
			}
		});
		if (doubts.length > 0) this.ctx.waitUntil(this.#resolve(doubts));
		this.#setAlarm(now);
		return { answers, durable };
	}

	/** Asks the peers of doubtful leases whether they committed too, each peer once. */
	async #resolve(doubts: Extract<Event, { kind: "doubted" }>[]): Promise<void> {
		const byPeer = new Map<string, string[]>();
		for (const { id, peers } of doubts) for (const peer of peers) byPeer.set(peer, [...(byPeer.get(peer) ?? []), id]);
		const unsure = new Set<string>();
		const refused = new Set<string>();
		await Promise.all(
			[...byPeer].map(async ([peer, ids]) => {
				try {
					const committed = await this.env.LIMITS.getByName(peer).vouch(ids);
					ids.forEach((id, index) => {
						if (!committed[index]) refused.add(id);
					});
				} catch {
					// The peer is out of reach. The doubt stays, and is raised again.
					for (const id of ids) unsure.add(id);
				}
			}),
		);
		for (const { id } of doubts) {
			if (refused.has(id)) this.#run({ kind: "settle", id, committed: false });
			else if (!unsure.has(id)) this.#run({ kind: "settle", id, committed: true });
		}
	}

	#saveCountersSoon(): void {
		this.#countersTimer ??= setTimeout(() => {
			this.#countersTimer = null;
			if (this.#limit) this.#store?.writeLimit(this.#limit, this.#usedAt);
		}, COUNTERS_MS);
	}

	// --------------------------------------------------------------------------------------- waking again

	#setAlarm(now: At): void {
		if (this.#timer) clearTimeout(this.#timer);
		this.#timer = null;
		const wakeAt = this.#wakeAt;
		const timed = wakeAt !== null && this.#waiters.size > 0 && wakeAt - now < ALARM_SLACK_MS;
		if (timed) this.#timer = setTimeout(() => this.#run({ kind: "tick" }), Math.max(0, wakeAt - now));

		const at = Math.min(timed ? now + ALARM_SLACK_MS : (wakeAt ?? Number.POSITIVE_INFINITY), this.#houseworkAt(now));
		if (at === Number.POSITIVE_INFINITY || (this.#alarmAt !== null && this.#alarmAt <= at)) return;
		this.#alarmAt = at;
		void this.ctx.storage.setAlarm(at);
	}

	/** When something must be done that no request waits for. */
	#houseworkAt(now: At): At {
		const identity = this.#identity;
		if (!identity) return Number.POSITIVE_INFINITY;
		if (!identity.reported) return now + REPORT_AGAIN_MS;
		if (!identity.alive) return identity.updatedAt + GRAVE_MS;
		const idle = identity.origin === "policy" ? POLICY_IDLE_MS : identity.origin === "default" ? DEFAULT_IDLE_MS : null;
		const idleAt = idle === null ? Number.POSITIVE_INFINITY : this.#usedAt + idle;
		return Math.max(now + COUNTERS_MS, Math.min(idleAt, this.#purgeAt ?? Number.POSITIVE_INFINITY));
	}

	override async alarm(): Promise<void> {
		this.#alarmAt = null;
		if (this.#newer) {
			// The newer code will want to be woken when it is back.
			await this.ctx.storage.setAlarm(Date.now() + NEWER_AGAIN_MS);
			return;
		}
		const now = Date.now();
		this.#store?.purge(now);
		this.#purgeAt = this.#store?.purgeAt() ?? null;
		if (this.#limit) await this.#submit({ kind: "tick" });
		if (this.#isUnused(now)) this.#bury();
		await this.#report();
		const { alive = true, reported = false, updatedAt = now } = this.#identity ?? {};
		if (!alive && reported && now >= updatedAt + GRAVE_MS) await this.#vanish();
		this.#setAlarm(now);
	}

	/** Whether nobody would miss this limit: nobody configured it, nobody used it for long, and it holds nothing. */
	#isUnused(now: At): boolean {
		const origin = this.#identity?.origin ?? "configured";
		if (origin === "configured" || !this.#limit || !isIdle(this.#limit)) return false;
		return now - this.#usedAt >= (origin === "policy" ? POLICY_IDLE_MS : DEFAULT_IDLE_MS);
	}

	// ------------------------------------------------------------------------------ being made, being known

	#refuseNewer(): void {
		if (this.#newer) throw this.#newer;
	}

	#exists(): boolean {
		this.#refuseNewer();
		return this.#limit !== null;
	}

	/** Makes sure that the limit exists, creating it if asked to; false: it does not. */
	async #ensure(createIfMissing: boolean): Promise<boolean> {
		if (this.#exists()) return true;
		if (!createIfMissing) return false;
		this.#creating ??= this.#createByPolicy().finally(() => {
			this.#creating = null;
		});
		await this.#creating;
		return true;
	}

	async #createByPolicy(): Promise<void> {
		const policy = await this.#directory().match(this.#name());
		if (this.#limit) return;
		if (policy) this.#create("policy", { ...policy });
		else this.#create("default", DEFAULT_SETTINGS);
	}

	#create(origin: Identity["origin"], settings: Settings): void {
		const now = Date.now();
		const { limit, slotDecayPerSecond, active } = settings;
		this.#limit = createLimit({ limit, slotDecayPerSecond, active }, now, this.#store?.recall ?? (() => undefined));
		this.#identity = {
			...{ name: this.#name(), id: crypto.randomUUID(), origin },
			...{ createdAt: now, updatedAt: now, alive: true, reported: false },
		};
		this.#usedAt = now;
		this.#store?.create(this.#identity, this.#limit, now);
		void this.#report();
	}

	/** Settings were given by hand: from now on they are the limit's own. */
	#owned(): void {
		if (!this.#identity) return;
		this.#identity.origin = "configured";
		this.#identity.updatedAt = Date.now();
		this.#store?.writeIdentity(this.#identity);
	}

	/** The limit is no more; its storage follows once the directory has heard of it. */
	#bury(): void {
		this.#limit = null;
		if (!this.#identity) return;
		this.#identity = { ...this.#identity, alive: false, reported: false, updatedAt: Date.now() };
		this.#store?.writeIdentity(this.#identity);
	}

	/** Tells the directory whether this limit exists, until it has heard; then what is dead leaves no storage. */
	async #report(): Promise<void> {
		if (this.#reporting) return;
		this.#reporting = true;
		try {
			while (this.#identity && !this.#identity.reported) {
				const told = this.#identity;
				const { name, id, alive } = told;
				if (alive) await this.#directory().register({ name, id });
				else await this.#directory().unregister(name);
				if (this.#identity !== told) continue; // It changed while the directory was being told.
				told.reported = true;
				this.#store?.writeIdentity(told);
			}
		} catch {
			// The directory is out of reach: the alarm tries again.
			this.#setAlarm(Date.now());
		} finally {
			this.#reporting = false;
		}
	}

	/** Leaves no storage. All of it happens before the first await, for the name may be used again right after. */
	async #vanish(): Promise<void> {
		this.#identity = null;
		this.#alarmAt = null;
		this.#purgeAt = null;
		this.#store?.forget();
		await Promise.all([this.ctx.storage.deleteAlarm(), this.ctx.storage.deleteAll()]);
	}

	#directory() {
		return this.env.DIRECTORY.getByName("directory");
	}

	#name(): string {
		const name = this.ctx.id.name ?? this.#identity?.name;
		if (name === undefined) throw new Error("A limit's object is found by its name: use getByName or idFromName.");
		return name;
	}

	// --------------------------------------------------------------------------------------------- views

	#status(): Status {
		if (!this.#limit) throw new Error("The limit was deleted.");
		return views.status(this.#name(), this.#limit);
	}

	#summary(): LimitSummary {
		if (!this.#limit || !this.#identity) throw new Error("The limit was deleted.");
		return views.summary(this.#identity, this.#limit);
	}
}

