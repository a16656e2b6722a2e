/** What callers are answered, as the reference shows it. The compiler holds each to its type of `protocol.ts`. */

import * as z from "zod";
import type {} from "zod-openapi"; // What `meta` may say.
import { CALENDAR_UNITS, WEEKDAYS } from "../../../core/calendar.ts";
import {
	type BatchAnswer,
	type CheckAnswer,
	type Code,
	type DeniedKeys,
	type DeniedLimit,
	type HistorySample,
	type HouseTotals,
	type LastMinute,
	type LeaseInfo,
	type LeasesPage,
	type LimitHistory,
	type LimitInfo,
	type LimitStatus,
	type LimitSummary,
	type LimitsPage,
	type PoliciesPage,
	type Policy,
	PROBLEMS,
	type Problem,
	type Lease as ProtocolLease,
	type Receipt as ProtocolReceipt,
	type Window as ProtocolWindow,
	REGIONS,
	type Released,
	type Renewed,
	SCOPES,
	type ServerHealth,
	type Settled,
	type StreamEvent,
	type TokenInfo,
	type Totals,
	VERSION,
	type WaiterInfo,
	type WaitingFor,
	type WaitingKey,
	type WatchEvent,
} from "../../../protocol.ts";

/** A schema of exactly this type: a field that one has and the other has not does not compile. */
type Says<T> = <S extends z.ZodType>(schema: S & (Same<z.output<S>, T> extends true ? unknown : never)) => S;
type Same<A, B> = [A, Full<A>, Full<B>] extends [B, Full<B>, Full<A>] ? true : false;
type Full<T> = T extends readonly (infer E)[] ? Full<E>[] : T extends object ? { [K in keyof T]-?: Full<T[K]> } : T;
const says =
	<T>(): Says<T> =>
	(schema) =>
		schema;

const moment = (description: string) => z.iso.datetime().meta({ description, example: "2026-11-22T17:00:00.000Z" });
const count = (description: string) => z.int().min(0).meta({ description });
const seconds = (description: string) => z.number().min(0).meta({ description });

const name = z.string().meta({ example: "database" });
const id = z.string().meta({ example: "7c6a5b0e-6a3f-4c59-9a53-0d5c2b8f1e11" });
const shownId = id.meta({
	description: "To tokens below `admin` a digest of it: `sha256~` and 16 hexadecimal digits.",
});
const holder = z.string().nullable().meta({ description: "Who asked, in its own words." });

const slotsPerName = z.record(z.string(), count("Slots.")).meta({
	description: "Slots taken of each name. Names that were skipped are not in it.",
	example: { database: 1 },
});

const statusShape = {
	name,
	limit: count("Capacity in slots."),
	activeSlots: count("Slots in use, rounded up when they decay."),
	remaining: count("Whole slots that are free."),
	enforced: z
		.boolean()
		.meta({ description: "False when the limit is switched off or does not exist: nothing was counted." }),
	slotDecayPerSecond: z
		.number()
		.min(0)
		.exactOptional()
		.meta({ description: "Present when slots come back by themselves." }),
	windowSeconds: seconds("Present with a window: how long it is, or the period that it is in.").exactOptional(),
	resetsAt: moment("Present with a window of the calendar: when its period ends.").exactOptional(),
	nextSlotSeconds: seconds(
		"Present with decay or a window, when a slot is in use: until one more whole slot is free.",
	).exactOptional(),
	pausedUntil: moment("Present while the limit is paused: nothing is granted before.").exactOptional(),
	wouldDeny: z
		.literal(true)
		.exactOptional()
		.meta({ description: "Present, and true, when the limit is not enforced and would have denied this request." }),
	missing: z
		.literal(true)
		.exactOptional()
		.meta({ description: "Present, and true, when the name does not exist and was skipped." }),
	configured: z.literal(false).exactOptional().meta({
		description: "Present, and false, when nobody has configured the name, neither itself nor by a policy.",
	}),
};
const status = says<LimitStatus>()(z.object(statusShape)).meta({ id: "LimitStatus" });

const receiptShape = {
	id,
	names: slotsPerName,
	waitedSeconds: seconds("How long the request stood in line."),
	limits: z.array(status),
};
export const receipt = says<ProtocolReceipt>()(z.object(receiptShape)).meta({
	id: "Receipt",
	description: "What an acquire in rate-limit mode is answered with.",
});
export const lease = says<ProtocolLease>()(
	z.object({
		...receiptShape,
		expiresAt: moment("When the slots come back unless the lease is renewed."),
		fence: z
			.record(z.string(), z.int().min(0))
			.exactOptional()
			.meta({
				description:
					"Of each limit a number that rises with every lease of that name and with no renewal, for stores that refuse the holder of an older one.",
				example: { database: 1795712400000000 },
			}),
		rate: slotsPerName
			.exactOptional()
			.meta({ description: "Slots taken by rate in the same request. They are not renewed or released." }),
	}),
).meta({ id: "Lease", description: "Slots that are held. It can be sent back as it is to renew and release." });
export const granted = z.union([lease, receipt]);

export const renewed = says<Renewed>()(z.object({ id, expiresAt: moment("The new end of the lease.") })).meta({
	id: "Renewed",
});
export const released = says<Released>()(
	z.object({ released: count("Slots given back; 0 when there was nothing left to give.") }),
).meta({ id: "Released" });

export const settled = says<Settled>()(
	z.object({
		id,
		actual: z.record(z.string(), count("Slots.")).meta({ description: "What each name is settled with." }),
		limits: z.array(status),
	}),
).meta({ id: "Settled" });

const leaseInfo = says<LeaseInfo>()(
	z.object({
		...{ id: shownId, slots: count("Slots it took."), holder },
		fence: z
			.int()
			.min(0)
			.nullable()
			.meta({ description: "As its holder has it; null of a lease that is older than fences." }),
		since: moment("When it was granted."),
		expiresAt: moment("When it ends unless it is renewed."),
	}),
).meta({ id: "LeaseInfo" });
const waitingFor = says<WaitingFor>()(
	z.object({
		name,
		reason: z.enum(["slots", "rate", "window", "paused"]).meta({
			description:
				"`slots`: until they are given back. `rate`: until they come back by themselves. `window`: until a period ends. `paused`: until the pause is over.",
		}),
	}),
).meta({ id: "WaitingFor", description: "What a waiter waits for: the limit that stands in its way, and why." });
const turnKey = z.string().nullable().meta({ description: "Whose turn it takes; null: the common one." });
const waiterInfo = says<WaiterInfo>()(
	z.object({
		...{ id: shownId, slots: count("Slots it asks for."), holder },
		since: moment("When it joined the line."),
		position: count("Its place in line; 1 is next."),
		priority: count("The higher are served first."),
		key: turnKey,
		waitingFor,
	}),
).meta({ id: "WaiterInfo" });

const waitingKey = says<WaitingKey>()(
	z.object({
		priority: count("The higher are served first."),
		key: turnKey,
		weight: count("What it is given beside other keys."),
		waiting: count("Its requests in line."),
		slots: count("Their slots."),
	}),
).meta({ id: "WaitingKey" });

const totals = says<Totals>()(
	z.object({
		grantedAtOnce: count("Requests granted without a wait."),
		grantedAfterWait: count("Requests granted after a wait."),
		denied: count("Requests refused for want of free slots."),
		timedOut: count("Of the denied, those who gave up in line at the end of their time."),
		released: count("Leases given back by their holder or an operator."),
		expired: count("Leases that ended by themselves."),
		wouldDeny: count("Requests granted though they would have been denied, for the limit was not enforced."),
	}),
).meta({ id: "Totals", description: "What the limit has done since it was made." });

const lastMinute = says<LastMinute>()(
	z.object({ granted: count("Requests granted."), denied: count("Requests refused for want of free slots.") }),
).meta({ id: "LastMinute", description: "What the limit did within the last minute, to 5 s." });

const window = says<ProtocolWindow>()(
	z.object({
		every: z.union([z.enum(CALENDAR_UNITS), z.number()]).meta({ description: "A unit of the calendar, or seconds." }),
		timeZone: z.string().meta({ description: "By its IANA name.", example: "Europe/Berlin" }),
		at: z.string().meta({ description: "The time of day at which periods begin.", example: "00:00" }),
		startsOn: z
			.union([z.enum(WEEKDAYS), z.number(), z.string(), z.null()])
			.meta({ description: "The day on which periods begin; null where they are shorter." }),
		sliding: z.boolean().meta({ description: "Each slot comes back exactly so long after it was taken." }),
	}),
).meta({ id: "Window", description: "When slots come back that are taken by rate. Present when there is one." });
const settingsShape = {
	limit: count("Capacity in slots."),
	slotDecayPerSecond: z.number().min(0).meta({ description: "Slots that come back by themselves each second." }),
	window: window.nullable().exactOptional(),
	active: z.boolean().meta({ description: "Off: grants at once and holds nothing." }),
	enforce: z.boolean().meta({ description: "False: it says what it would deny, and denies nothing." }),
	lendSeconds: z.number().min(0).exactOptional().meta({
		description: "For how long a Worker may borrow slots, and grant them without asking the limit; 0: not at all.",
	}),
	weights: z.record(z.string(), z.int().min(1)).exactOptional().meta({
		description: "What keys are given beside each other while they wait; of others 1. Present where there are any.",
	}),
	starveAfterSeconds: z.number().min(0).exactOptional().meta({
		description: "How long a waiter is patient with those of a higher priority. Present where it is not 60.",
	}),
};
const region = (description: string) => z.enum(REGIONS).nullable().meta({ description });
const setter = z
	.string()
	.nullable()
	.meta({ description: "The token that gave the settings, by its name; null: nobody did, or none was needed." });
const summaryShape = {
	name,
	id: z.string().meta({ description: "Of the limit, made when it was created." }),
	...settingsShape,
	origin: z
		.enum(["configured", "policy", "default"])
		.meta({ description: "Where the settings come from: set by hand, by a matching policy, or by nobody." }),
	policy: z.string().nullable().meta({ description: "The pattern of the policy that it follows or overrides." }),
	region: region("Where it was asked to live when it was made; null: nowhere, so it lives near its first caller."),
	createdAt: moment("When it was made."),
	updatedAt: moment("Since when it has its settings."),
	updatedBy: setter,
	pausedUntil: moment("Nothing is granted before; null: it is not paused.").nullable(),
	resetsAt: moment(
		"With a window of the calendar: when its period ends, and all of its slots come back.",
	).exactOptional(),
	activeSlots: count("Slots in use, rounded up when they decay."),
	lentSlots: count(
		"Of the slots in use, those that are lent to Workers and not accounted for yet. Present where slots are lent.",
	).exactOptional(),
	remaining: count("Whole slots that are free."),
	leaseCount: count("Leases that hold slots."),
	waitingCount: count("Requests in line."),
	lastMinute,
	totals,
};
export const summary = says<LimitSummary>()(z.object(summaryShape)).meta({ id: "LimitSummary" });
export const info = says<LimitInfo>()(
	z.object({
		...summaryShape,
		settled: z.object({
			count: count("Estimates that were settled."),
			meanRatio: z
				.number()
				.min(0)
				.nullable()
				.meta({ description: "What they came to on average, as a part of the estimate." }),
		}),
		leases: z.array(leaseInfo).meta({ description: "The first hundred." }),
		waiting: z.array(waiterInfo).meta({ description: "The first hundred." }),
		waitingKeys: z.array(waitingKey).exactOptional().meta({
			description:
				"By whose turn it is, those with the most waiters first, up to a hundred. Absent where all are of one key and priority.",
		}),
	}),
).meta({ id: "LimitInfo" });

const houseTotals = says<HouseTotals>()(
	z.object({
		limits: count("How many limits there are."),
		full: count("Of them, those without a free slot."),
		waiting: count("Requests in all their lines."),
		lastMinute,
	}),
).meta({
	id: "HouseTotals",
	description:
		"All limits that start with the prefix that was asked for, whatever their number. Up to 5 s late where callers wait or are denied; what limits at rest and keys of policies counted, by a minute or two.",
});
const next = z.string().nullable().meta({ description: "The `after` of the next page; null at the end." });
export const limitsPage = says<LimitsPage>()(
	z.object({
		limits: z.array(summary),
		next,
		unavailable: z
			.array(z.string())
			.exactOptional()
			.meta({ description: "Names of this page whose limits could not be asked." }),
		totals: houseTotals.exactOptional().meta({ description: "With `order=attention`, and in a watch." }),
	}),
).meta({ id: "LimitsPage" });
const historySample = says<HistorySample>()(
	z.object({
		at: moment("When it began."),
		limit: count("Capacity in slots."),
		activeSlots: count("The most slots in use at one time, rounded up."),
		waiting: count("The most requests in line at one time."),
		...totals.omit({ timedOut: true }).shape,
	}),
).meta({ id: "HistorySample", description: "A few seconds of a limit's past." });
export const history = says<LimitHistory>()(
	z.object({
		name,
		sampleSeconds: seconds("The length of each sample."),
		samples: z.array(historySample).meta({ description: "Oldest first, without gaps; the last is still being taken." }),
	}),
).meta({ id: "LimitHistory" });

export const leasesPage = says<LeasesPage>()(z.object({ leases: z.array(leaseInfo), next })).meta({ id: "LeasesPage" });

export const policy = says<Policy>()(
	z.object({
		pattern: z.string().meta({ example: "login:*" }),
		...settingsShape,
		region: region("Where keys of it are to live, from their first use on; null: where the deployment says."),
		idleSeconds: z.number().min(0).meta({ description: "How long an idle and empty key of it is kept." }),
		updatedAt: moment("Of the policy."),
		updatedBy: setter,
	}),
).meta({ id: "Policy" });
export const deniedKeys = says<DeniedKeys>()(
	z.object({ keys: z.array(z.object({ name, denied: count("Requests refused for want of free slots.") })) }),
).meta({ id: "DeniedKeys" });
export const policiesPage = says<PoliciesPage>()(z.object({ policies: z.array(policy) })).meta({ id: "PoliciesPage" });

export const health = says<ServerHealth>()(
	z
		.object({
			status: z.literal("ok"),
			version: z.string().meta({ example: VERSION }),
			time: moment("The server's clock."),
		})
		.meta({ id: "ServerHealth" }),
);

export const token = says<TokenInfo>()(
	z
		.object({
			name: z.string().meta({ description: "Who it was made for.", example: "ci" }),
			scope: z.enum(SCOPES),
			prefix: z.string().meta({ description: "Names that it may speak of start with this; empty for all." }),
			key: z.string().exactOptional().meta({ description: "Its requests take the turns of this key alone." }),
		})
		.meta({ id: "TokenInfo" }),
);

const codes = Object.keys(PROBLEMS) as [Code, ...Code[]];
const deniedLimit = says<DeniedLimit>()(
	z.object({
		...statusShape,
		position: count("The place in line: the one it had, or the one it would have had.").nullable(),
		retryAfterSeconds: seconds("Null where nothing stood in the way.").nullable(),
	}),
).meta({ id: "DeniedLimit" });
export const checked = says<CheckAnswer>()(
	z.object({
		allowed: z.boolean().meta({ description: "Whether every limit would grant its slots at once." }),
		limits: z.array(deniedLimit),
		code: z.enum(codes).exactOptional().meta({ description: "Why not, as the acquire would have been told." }),
		detail: z.string().exactOptional().meta({ description: "The same in words." }),
		retryAfterSeconds: seconds("A retry after so long is worth it.").exactOptional(),
	}),
).meta({ id: "CheckAnswer" });
export const problem = says<Problem>()(
	z.object({
		type: z.string().meta({ description: "`about:blank`, or a registered problem type." }),
		title: z.string(),
		status: z.int(),
		code: z.enum(codes),
		detail: z.string().meta({ description: "What happened, with the numbers, and what to try next." }),
		errors: z
			.array(z.object({ field: z.string(), message: z.string() }))
			.exactOptional()
			.meta({ description: "`invalid`: which field, and why." }),
		retryAfterSeconds: seconds("A retry after so long is worth it.").exactOptional(),
		"violated-policies": z
			.array(z.string())
			.exactOptional()
			.meta({ description: "`denied` and the like: the names that stood in the way." }),
		limits: z.array(deniedLimit).exactOptional(),
		traceId: z
			.string()
			.exactOptional()
			.meta({ description: "The trace that the request's `traceparent` names, else its Ray ID of Cloudflare." }),
	}),
).meta({ id: "Problem", description: "An error (RFC 9457)." });

export const batchAnswer = says<BatchAnswer>()(
	z.object({
		answers: z.array(
			z.union([z.object({ status: z.literal(200), lease: granted }), z.object({ status: z.int().min(400), problem })]),
		),
	}),
).meta({ id: "BatchAnswer", description: "An outcome for each request, in their order." });

export const streamEvent = says<StreamEvent>()(
	z.discriminatedUnion("event", [
		z.object({
			event: z.literal("queued"),
			position: count("The place in line; told again when it changes."),
			waitingFor,
		}),
		z.object({ event: z.literal("heartbeat") }),
		z.object({ event: z.literal("granted"), lease: granted }),
		z.object({ event: z.literal("denied"), problem }),
	]),
).meta({ id: "StreamEvent", description: "One line of the stream." });

export const watchEvent = says<WatchEvent>()(
	z.discriminatedUnion("event", [
		limitsPage
			.extend({
				event: z.literal("limits"),
				following: count("Others of the page, each in a `limit` of its own: those that need no look.").exactOptional(),
			})
			.meta({ description: "The first line, unless one is watched." }),
		z.object({ event: z.literal("limit"), limit: z.union([summary, info]) }).meta({ description: "New, or changed." }),
		z.object({ event: z.literal("samples"), name, samples: z.array(historySample) }),
		z.object({ event: z.literal("deleted"), name }),
		z.object({ event: z.literal("unavailable"), name }),
		z.object({ event: z.literal("more") }).meta({ description: "New limits for which there is no room. Ask again." }),
		z
			.object({ event: z.literal("totals"), totals: houseTotals })
			.meta({ description: "All limits together, changed." }),
		z.object({ event: z.literal("heartbeat"), at: moment("The server's clock.") }),
	]),
).meta({ id: "WatchEvent", description: "One line of the stream. Pass over lines whose `event` you do not know." });
