/**
 * The group commit. Calls that arrive while a commit is being written share the next one: each is decided in its order,
 * all is written once, and no caller is answered before the write is durable. Nothing else decides.
 */

import type { Command, Event } from "../../core/commands.ts";
import { decide } from "../../core/decide.ts";
import { createLimit, type Limit } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import type { Settings } from "../../protocol.ts";
import type { Status } from "../contract/outcomes.ts";
import { settingsOf } from "../contract/policies.ts";
import type { ConditionTeller } from "./condition-teller.ts";
import type { Doubt } from "./doubts.ts";
import type { Hearer, Hearers } from "./hearers.ts";
import type { Housework } from "./housework.ts";
import type { Lifecycle, Source } from "./lifecycle.ts";
import type { PolicyFollower } from "./policy-follower.ts";
import { type Span, spans, untraced } from "./spans.ts";
import type { LimitStore } from "./store.ts";
import type { TotalsReporter } from "./totals-reporter.ts";
import * as views from "./views.ts";
import type { LimitWatchers } from "./watchers.ts";

/** What a command came to. */
export interface Answer {
	events: Event[];
	status: Status;
}

interface Job {
	/** What is done before the command is decided, in the same transaction: the limit is made, or its settings' source noted. */
	first?: (() => void) | undefined;
	command: Command;
	/** Who hears the answer; events of other requests go to their own hearers. */
	hearer: Hearer | null;
	answered: (answer: Answer) => void;
	failed: (error: unknown) => void;
}

/** Whether a caller asks for something, and time does not merely pass. */
const isAsked = ({ command }: Job): boolean => command.kind !== "tick" && command.kind !== "inspect";

/** Tells what was decided: first to calls, which the output gate holds back, and after the commit to the `ungated`. */
type Tell = (ungated: boolean) => Promise<void> | undefined;

interface Deps {
	storage: DurableObjectStorage;
	store: LimitStore;
	lifecycle: Lifecycle;
	hearers: Hearers;
	watchers: LimitWatchers;
	follower: PolicyFollower;
	totals: TotalsReporter;
	conditions: ConditionTeller;
	housework: Housework;
	/** The name of this object. */
	name(): string;
	/** Leases are in doubt: their peers are to be asked. */
	doubted(doubts: Doubt[]): void;
	/** A write failed: memory is ahead of storage, and must be thrown away. */
	abort(reason: string): void;
}

export class Committer {
	/** The limit as it was decided last. Null: there is none here. */
	limit: Limit | null = null;
	/** When time alone changes something of it. */
	wakeAt: At | null = null;
	readonly #deps: Deps;
	#jobs: Job[] = [];
	#writing = false;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	submit(command: Command, hearer: Hearer | null = null, first?: () => void): Promise<Answer> {
		const span = spans();
		const asked = () =>
			new Promise<Answer>((answered, failed) => {
				this.#jobs.push({ first, command, hearer, answered, failed });
				if (!this.#writing) void this.#write(span);
			});
		return span("commit", asked);
	}

	/** All that `submit` submits at once is decided and written together. */
	together<T>(submit: () => T): T {
		if (this.#writing) return submit();
		this.#writing = true;
		try {
			return submit();
		} finally {
			void this.#write(spans());
		}
	}

	/** A command whose answer no caller waits for. */
	run(command: Command, first?: () => void): void {
		// A failure has thrown the object away already.
		this.submit(command, null, first).catch(() => undefined);
	}

	/** Done when everything decided so far is written, and told. */
	async idle(): Promise<void> {
		while (this.#writing) await this.#deps.storage.sync();
	}

	// --------------------------------------------------------------------------------- deciding, writing

	/**
	 * Decides and writes all that waits, then what arrived meanwhile, until nothing is left. `begun`: the spans of the call that it
	 * begins with; what arrived meanwhile is in other traces.
	 */
	async #write(begun: Span): Promise<void> {
		const { storage, store, abort } = this.#deps;
		this.#writing = true;
		for (let span = begun; this.#jobs.length > 0; span = untraced) {
			const jobs = this.#jobs;
			this.#jobs = [];
			try {
				const { tell, written } = span("decide", () => store.together(() => this.#decide(jobs, Date.now())));
				const committed = written ? span("write", () => storage.sync()) : null;
				// Calls may be answered now: the output gate lets no answer out before the commit.
				for (const each of tell) {
					const telling = each(false);
					if (telling) await telling;
				}
				if (committed) await committed;
				for (const each of tell) {
					const telling = each(true);
					if (telling) await telling;
				}
			} catch (error) {
				for (const job of [...jobs, ...this.#jobs]) job.failed(error);
				return abort(`A write failed: ${error instanceof Error ? error.message : String(error)}`);
			}
		}
		this.#writing = false;
	}

	/** Decides all of these, in their order, and writes once. Answers whether there is a commit to wait for. */
	#decide(jobs: Job[], now: At): { tell: Tell[]; written: boolean } {
		const { store, lifecycle, hearers, watchers, follower, totals, conditions, housework } = this.#deps;
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
			this.wakeAt = wakeAt;
			store.remember(events);
			all.push(...events);
			const status = views.status(lifecycle.identity, this.limit);
			if (events.length > 0 || command.kind === "absorbed") {
				news = true;
				store.history.note(now, views.reading(this.limit, status.activeSlots), this.limit.totals);
			}
			tell.push((ungated) => {
				if (!ungated) answered({ events, status });
				return hearers.tell(events, status, hearer, ungated);
			});
			if (command.kind === "close") this.end(now);
		}
		const written = !this.limit || store.write(this.limit, all, now);
		if (written) lifecycle.usedAt = now;
		else if (news) store.writeSoon();
		if (news) watchers.changed();
		const doubts = all.filter((event) => event.kind === "doubted");
		if (doubts.length > 0) this.#deps.doubted(doubts);
		lifecycle.after(now, jobs.some(isAsked));
		if (news) totals.after(now);
		if (news) conditions.after(now);
		follower.watch();
		housework.set(now);
		return { tell, written };
	}

	// ------------------------------------------------------------------------------- beginning and ending

	/** The limit comes to be, unless it is there by now. Part of the transaction of the command that it is made for. */
	begin(settings: Settings, source: Source): void {
		if (this.limit) return;
		const { store, lifecycle, name } = this.#deps;
		const now = Date.now();
		this.limit = createLimit(settingsOf(settings), now, store.recall);
		lifecycle.begin(name(), source, this.limit, now);
	}

	/**
	 * The limit is no more; its storage follows, `vanishing` at once. `endedAt`: when there was last anything that a caller
	 * could miss.
	 */
	end(endedAt: At, vanishing = false): void {
		this.#deps.totals.end(endedAt);
		this.cease(endedAt, vanishing);
	}

	/** The limit is no more, or no more here. */
	cease(endedAt: At, vanishing = false): void {
		const { lifecycle, watchers, name } = this.#deps;
		this.limit = null;
		this.wakeAt = null;
		lifecycle.end(endedAt, vanishing);
		watchers.ended(name());
	}
}
