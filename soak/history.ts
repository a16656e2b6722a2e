/** What callers asked for and what they were told, by the clock of this program, which never jumps. */

/** Settings of a limit, as its operator knows them. */
export interface Limit {
	name: string;
	/** How its slots come back. */
	kind: "lease" | "decay" | "sliding" | "calendar";
	slotDecayPerSecond: number;
	windowMs: number;
	/** Every capacity that it was given; one that nobody confirmed may have been in force since it was sent. */
	capacities: { limit: number; sentAt: number; answeredAt: number }[];
	pauses: { sentAt: number; answeredAt: number; seconds: number }[];
	/** Its level is what its grants make it, and nothing else: nobody settles or lends. */
	isPlain: boolean;
}

export interface Ask {
	/** Its place in the history. */
	number: number;
	id: string;
	mode: "concurrency" | "rate_limit";
	slots: Record<string, number>;
	leaseMs: number;
	/** The lease lives by the stream of its holder. */
	isHeld: boolean;
	/** Whether it was ready to stand in line. */
	waits: boolean;
	/** Sent first. */
	sentAt: number;
	/** Sent once more, because its connection broke. */
	tries: number;
	/** The first place in line that was heard, and when. */
	queuedAt: number;
	/** The grant was heard first. */
	grantedAt: number;
	/** Each fence that was told, by name. */
	fences: Record<string, number[]>;
	/** When periods of a calendar end, as they were told with the grant, by name. */
	resetsAt: Record<string, string>;
	renewals: { sentAt: number; answeredAt: number; status: number }[];
	/** The first thing was sent, or done, that may end the lease. Infinity: nothing was. */
	endSentAt: number;
	/** It is known to be over. */
	endedAt: number;
	/** What each release gave back. */
	released: number[];
	/** What was said of an estimate: the least that may be in use of it, by name. */
	settled: Record<string, number>;
	/** Its caller went without a word, at this moment. */
	leftAt: number;
	fate: "asked" | "granted" | "denied" | "refused" | "left";
	/** What happened, in words, for whoever has to read it. */
	log: { at: number; what: string }[];
}

export interface Violation {
	promise: number | string;
	what: string;
	/** The part of the history that shows it. */
	history: string[];
}

/** All that happened to one set of limits. */
export class History {
	readonly limits = new Map<string, Limit>();
	readonly asks: Ask[] = [];
	/** Jumps of the server's clock, in seconds. */
	readonly jumps: { at: number; seconds: number }[] = [];
	/** From when to when connections may break and answers may be 503. */
	readonly disturbed: { what: string; from: number; to: number }[] = [];
	readonly startedAt = performance.now();

	ask(of: Pick<Ask, "id" | "mode" | "slots"> & Partial<Ask>): Ask {
		const never = Number.POSITIVE_INFINITY;
		const ask: Ask = {
			...{
				number: this.asks.length,
				leaseMs: 60_000,
				isHeld: false,
				waits: false,
				sentAt: performance.now(),
				tries: 1,
			},
			...{ queuedAt: never, grantedAt: never, fences: {}, resetsAt: {}, renewals: [] },
			...{ endSentAt: never, endedAt: never, released: [], settled: {}, leftAt: never, fate: "asked", log: [] },
			...of,
		};
		this.asks.push(ask);
		this.note(ask, `asks for ${JSON.stringify(ask.slots)}${ask.waits ? ", and would wait" : ""}`);
		return ask;
	}

	note(ask: Ask, what: string): void {
		ask.log.push({ at: performance.now(), what });
	}

	/** Whether a broken connection, or a 503, at this moment is what a fault does. */
	isDisturbed(at: number): boolean {
		return this.disturbed.some(({ from, to }) => at >= from && at <= to);
	}

	/** The history of these requests, in the order in which it happened, among the faults of that time. */
	tell(asks: Ask[]): string[] {
		const lines = asks.flatMap(({ id, log }) => log.map(({ at, what }) => ({ at, text: `${id}: ${what}` })));
		const from = Math.min(...lines.map(({ at }) => at));
		const to = Math.max(...lines.map(({ at }) => at));
		for (const { what, from: began, to: ended } of this.disturbed) {
			if (ended < from || began > to) continue;
			lines.push({ at: began, text: `--- ${what} begins` });
			if (Number.isFinite(ended)) lines.push({ at: ended, text: `--- ${what} is over` });
		}
		for (const { at, seconds } of this.jumps) lines.push({ at, text: `--- the server's clock jumps by ${seconds} s` });
		return lines
			.sort((a, b) => a.at - b.at)
			.map(({ at, text }) => `${((at - this.startedAt) / 1000).toFixed(3)} ${text}`);
	}
}
