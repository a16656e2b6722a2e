/** What can be asked of a limit without changing it. Time is let run first, so that nothing shown is out of date. */

import { wouldDeny } from "../../core/granting.ts";
import type { History } from "../../core/history.ts";
import type { Limit, Mode } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import type { LeasesPage, LimitHistory, LimitInfo, LimitSummary } from "../../protocol.ts";
import type { Missing, Peeked, Share, Status } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import type { Ruling } from "../contract/policies.ts";
import type { LimitWatchers, Watched } from "../contract/watchers.ts";
import type { Existence } from "./lifecycle.ts";
import type { Identity } from "./store.ts";
import { TetheredObject } from "./tether.ts";
import { type Measured, measure } from "./totals-reporter.ts";
import * as views from "./views.ts";

/** A limit that exists, apart from its state. */
export interface Present {
	identity: Identity;
	existence: Existence;
	watchers: LimitWatchers;
	history: History;
	now: At;
}

/** Reads something off the limit as it is now. Null: it does not exist. */
export type Look = <T>(
	read: (limit: Limit, present: Present) => T,
	ruling?: Ruling,
	sentAt?: At,
) => Promise<Awaited<T> | null>;

/** What is set by hand beside the settings. */
export interface ByHand {
	activeSlots?: number;
	/** Slots denied to callers that poll. */
	deniedSlots?: number;
}

export abstract class LimitViews extends TetheredObject {
	readonly #look: Look;

	constructor(ctx: DurableObjectState, env: Env, look: Look) {
		super(ctx, env);
		this.#look = look;
	}

	/** Everything about the limit. Null: it does not exist. */
	inspect(ruling?: Ruling, sentAt?: At): Promise<LimitInfo | null> {
		return this.#look((limit, present) => views.info(summary(limit, present), limit), ruling, sentAt);
	}

	summary(ruling?: Ruling, sentAt?: At): Promise<LimitSummary | null> {
		return this.#look(summary, ruling, sentAt);
	}

	/** For whoever will come back by the limit's id: from now on the directory leads it here. */
	describe(ruling?: Ruling): Promise<{ summary: LimitSummary; status: Status } | null> {
		return this.#look(async (limit, present) => {
			const { existence, identity } = present;
			const described = { summary: summary(limit, present), status: views.status(identity, limit) };
			existence.list();
			await existence.report();
			return described;
		}, ruling);
	}

	/** How the limit stands, and from then on a line for each change, until the reader goes or the limit does. */
	watch(full: boolean, share?: Share): Promise<Watched | "full" | "share" | null> {
		return this.#look((_, { watchers }) => watchers.add(full, share));
	}

	leases(after: number, count: number): Promise<LeasesPage | null> {
		return this.#look((limit) => views.leasesPage(limit, after, count));
	}

	/** The other names of a lease. Null: there is no such lease here. */
	others(id: string): Promise<string[] | null> {
		return this.#look((limit) => {
			const entry = limit.entries.get(id);
			return entry ? [...(entry.others ?? [])] : null;
		});
	}

	/** What the limit did lately. */
	history(): Promise<LimitHistory | null> {
		return this.#look((limit, { identity, history, now }) => views.history(identity.name, history, limit, now));
	}

	/** How the limit stands and what it has done, for metrics. */
	measure(): Promise<Measured | null> {
		return this.#look((limit, { identity }) => measure(limit, identity));
	}

	/** How the limit stands, and whether it would refuse this request now. Nothing is asked for. */
	async peek(id: string, slots: number, mode: Mode): Promise<Peeked | Missing> {
		const refusal = (limit: Limit, { identity }: Present) => ({
			status: views.status(identity, limit),
			denied: wouldDeny(limit, id, slots, mode),
		});
		return (await this.#look(refusal)) ?? { missing: true };
	}
}

const summary = (limit: Limit, { identity, history, now }: Present): LimitSummary =>
	views.summary(identity, limit, history, now);
