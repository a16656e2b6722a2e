/** One limit in memory: the real core, and who is told what it decides. */

import type { Command, Event } from "../core/commands.ts";
import { decide } from "../core/decide.ts";
import { type Asked, foresee } from "../core/granting.ts";
import { History } from "../core/history.ts";
import { createLimit, type Ended, type Limit } from "../core/limit.ts";
import { positions } from "../core/line.ts";
import type { LimitInfo, LimitSummary, Origin, Policy, Settings } from "../protocol.ts";
import type { Answered } from "../server/contract/answers.ts";
import type { Outcome, Status } from "../server/contract/outcomes.ts";
import { settingsOf } from "../server/contract/policies.ts";
import type { Identity } from "../server/limit/store.ts";
import * as views from "../server/limit/views.ts";
import type { Clock } from "./clock.ts";

/** What a request that has no line of its own waits for. A place that is kept or given up is none: they would wake each other. */
const freesSlots = (event: Event): boolean =>
	event.kind === "configured" ||
	event.kind === "settled" ||
	(event.kind === "released" && event.slots > 0 && event.by !== "lapse");

export class MemoryLimit {
	readonly limit: Limit;
	readonly #identity: Identity;
	readonly #clock: Clock;
	readonly #history: History;
	readonly #ended = new Map<string, Ended>();
	/** By the id of a request: who hears what becomes of it. */
	readonly #hearers = new Map<string, (event: Event) => void>();
	readonly #changed: () => void;
	#timer: unknown;

	/** `changed`: slots may have come free. */
	constructor(
		name: string,
		settings: Settings,
		origin: Origin,
		policy: Policy | null,
		clock: Clock,
		changed: () => void,
	) {
		const now = clock.now();
		this.#clock = clock;
		this.#changed = changed;
		this.limit = createLimit(settingsOf(settings), now, (id) => this.#ended.get(id));
		this.#history = new History(this.limit.totals);
		this.#identity = {
			...{ name, id: crypto.randomUUID(), origin, policy: policy?.pattern ?? null, version: 0, idleMs: null },
			...{ createdAt: now, updatedAt: now, updatedBy: null, region: null, alive: true, listed: true, reported: true },
		};
	}

	get name(): string {
		return this.#identity.name;
	}

	get origin(): Origin {
		return this.#identity.origin;
	}

	get policy(): string | null {
		return this.#identity.policy;
	}

	/** Its settings have another source from now on. */
	configure(settings: Partial<Settings>, origin: Origin, policy: Policy | null, activeSlots?: number): void {
		Object.assign(this.#identity, { origin, policy: policy?.pattern ?? null, updatedAt: this.#clock.now() });
		this.run({ kind: "configure", settings, ...(activeSlots !== undefined && { activeSlots }) });
	}

	/** Decides, tells everybody else, and answers with what happened. */
	run(command: Command): Event[] {
		const now = this.#clock.now();
		const { events, wakeAt } = decide(this.limit, command, now);
		for (const event of events) {
			if (event.kind === "ended") this.#ended.set(event.id, event.record);
			else if ("id" in event) this.#hearers.get(event.id)?.(event);
		}
		if (events.length > 0) {
			const { totals, settings, sums } = this.limit;
			const { activeSlots } = this.status();
			const { limit, slotDecayPerSecond } = settings;
			this.#history.note(now, { limit, activeSlots, waiting: sums.waiting, slotDecayPerSecond }, totals);
			for (const [{ id }, position] of positions(this.limit)) this.#hearers.get(id)?.({ kind: "queued", id, position });
			if (events.some(freesSlots)) this.#changed();
		}
		this.#clock.stop(this.#timer);
		this.#timer =
			wakeAt === null ? null : this.#clock.start(() => this.run({ kind: "tick" }), Math.max(0, wakeAt - now));
		return events;
	}

	/** What a request would be answered now. Nothing changes. */
	foresee(asked: Asked): Omit<Answered, "slots"> {
		this.run({ kind: "inspect" });
		const { denied, wouldDeny } = foresee(this.limit, asked);
		return { status: { ...this.status(), ...(wouldDeny && { wouldDeny }) }, denied };
	}

	settle(id: string, actual: number): Outcome {
		const events = this.run({ kind: "settle", id, actual });
		const event = events.findLast((each) => "id" in each && each.id === id && each.kind !== "ended");
		return { event: event as Event, status: this.status() };
	}

	hear(id: string, told: (event: Event) => void): () => void {
		this.#hearers.set(id, told);
		return () => {
			if (this.#hearers.get(id) === told) this.#hearers.delete(id);
		};
	}

	status(): Status {
		return views.status(this.#identity, this.limit);
	}

	summary(): LimitSummary {
		this.run({ kind: "inspect" });
		return views.summary(this.#identity, this.limit, this.#history, this.#clock.now());
	}

	info(): LimitInfo {
		return views.info(this.summary(), this.limit);
	}

	/** Everything ends; it wakes no more. */
	close(): void {
		this.run({ kind: "close" });
		this.#clock.stop(this.#timer);
	}
}
