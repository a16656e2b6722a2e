/**
 * The wire: what a caller sends, what it is told, and every bound and error code between.
 *
 * Durations on the wire are seconds (fractions allowed, a millisecond is the finest step) and say so
 * in their names; moments are ISO 8601 UTC strings. Requests are parsed by `server/front/requests.ts`, which is
 * held to these types by the compiler.
 */

/** The version of this Headgate, as in `package.json`. */
export const VERSION = "0.1.0";

// ---------------------------------------------------------------------------------------------- bounds

/** Every bound on what a caller can ask for, with the reason for its number. */
export const BOUNDS = {
	/** Names in one request. Each costs two calls to its object, and a free Workers plan allows 50 a request. */
	namesPerRequest: 16,
	/** Requests of one batch: in 64 kB each has room for a few names and an id. */
	batch: 100,
	/** Names of all requests of a batch. Each costs up to two calls to its object, and a paid Workers plan allows 1,000. */
	namesPerBatch: 400,
	/** Characters of a limit's name; a row key that still fits a log line. */
	nameLength: 255,
	/** Largest `limit`, and largest number of slots in one request: what a signed 32-bit integer of any client holds. */
	limit: 2 ** 31 - 1,
	/** Slots a second. Above it a limit decays within a millisecond and limits nothing. */
	slotDecayPerSecond: 1_000_000_000,
	/** The slowest decay that is not zero: one slot in 31 years. Slower ones are a typing error. */
	slotDecayPerSecondMin: 1e-9,
	/**
	 * How long a Worker may borrow slots: for less than a tenth of a second a call is as cheap, and for longer than ten what was
	 * granted would be heard of too late.
	 */
	lendSeconds: { min: 0.1, max: 10 },
	/** Highest priority; 0 is the lowest. Ten of them: who can tell more apart? */
	priority: 9,
	/** Characters of a key, whose turn a request takes in the line: a tenant's id, with a prefix. */
	keyLength: 128,
	/** Keys of one limit that have a weight, and the highest weight. Any other key has 1. */
	weights: 1_000,
	weight: 1_000,
	/** Longest patience of a waiter with higher priorities that can be set: a day, as the longest lease. */
	starveAfterSeconds: 86_400,
	/** Keys whose turns a limit remembers in one priority while none of them waits: as many as may wait. */
	keys: 10_000,
	/** Loans of one limit: as many Workers' as one object answers calls, each once or twice a second. */
	loans: 1_000,
	/** Shortest and longest lease: a second survives a slow network, a day is longer than a holder should be unheard. */
	leaseSeconds: { min: 1, max: 86_400 },
	/** Longest `waitSeconds` of a plain answer: as long as callers keep a quiet connection. A stream has no such cap. */
	waitSeconds: 60,
	/** A plain answer comes after this much waiting, whatever was asked: common proxies cut what is quiet for 60 s. */
	plainWaitSeconds: 55,
	/** Longest bounded wait of a stream: a year. Leave `waitSeconds` out to wait for ever. */
	streamWaitSeconds: 31_536_000,
	/** Waiters in one limit's line. Each costs up to 100 kB while it is connected. */
	queueLength: 10_000,
	/**
	 * Ids that a limit remembers after their requests ended, its live requests among them: 25 MB of the 128 that an object
	 * has. That is 3,300 grants a second by rate, and 660 leases; one object answers about a thousand calls.
	 */
	rememberedIds: 200_000,
	/** How long what is taken by rate may be an estimate: an hour is a long answer of a model. */
	settleSeconds: { min: 1, max: 3_600 },
	/** Shortest and longest window in seconds: decay is for what is shorter, and a year for what is longer. */
	windowSeconds: { min: 1, max: 31_536_000 },
	/** Characters of a time zone's name: the longest of the IANA database has 32, and a wrong one is compared with all of them. */
	timeZoneLength: 40,
	/** Longest pause that one call can ask for: ten minutes, and an upstream that wants more is asked again by then. */
	pauseSeconds: 600,
	/** Characters of a request id: room for two UUIDs and a prefix. */
	idLength: 128,
	/** Characters of `holder`: a host, a process and a job. */
	holderLength: 256,
	/** Bytes of a request body: sixteen names of the longest kind, four times over. */
	bodyBytes: 65_536,
	/** Characters of a URL: a prefix, an `after` and a name of the longest kind, each character of them percent-encoded. */
	urlLength: 16_384,
	/** Characters of a token at least: a shorter one can be guessed, and its digest searched for. Ours have 46. */
	tokenLength: 20,
	/** Characters of a header that is parsed here, such as `Authorization` or `Prefer`. None that is meant is as long. */
	headerLength: 2_048,
	/** Faults that one refusal tells: as many as there may be names. */
	faults: 16,
	/** Characters of what was sent that a refusal shows of each fault: a name of the longest kind still shows whole. */
	faultLength: 512,
	/** Characters of fields and details that the problems of one batch tell: twice sixteen faults, as a refusal alone. */
	batchWords: 16_384,
	/** Characters that each of them tells in any case: what is wrong, where the name before it is not long. */
	batchWordsEach: 128,
	/** Characters of a number, a yes or no, or a UUID that Prefect's wire takes as text: all its spellings are shorter. */
	spelledLength: 64,
	/** Lines a minute that a Worker logs of callers that it refuses: a flood of them is counted and not told. */
	refusalsLogged: 60,
	/** Entries of one page of limits; each asks one object for its live figures. */
	limitsPage: 100,
	/** Entries of one page of leases. */
	leasesPage: 1_000,
	/** Leases and waiters shown by `inspect` before paging is needed. */
	inspectList: 100,
	/** Longest time that middleware holds slots for one answer: longer than a stream of a model, shorter than a leak of a day. */
	bodySeconds: 3_600,
	/** Longest time that middleware holds slots for an answer that no reader begins to read: ten minutes of a slow program. */
	unreadSeconds: 600,
	/** Longest time that middleware holds slots for a reader that takes nothing: as long as for one that does. */
	stalledSeconds: 3_600,
	/** Names of which middleware remembers that it has complained of them. */
	namesComplained: 1_000,
	/** Characters of the `RateLimit` headers in all. Clients and proxies take 4 to 8 kB of headers, the program's included. */
	rateLimitHeadersLength: 3_072,
	/** Characters of names in the header that tells on Prefect's wire which limits a list leaves out, for the same reason. */
	unavailableLength: 2_048,
	/** Characters of a limit's name that are made of one text: room for a prefix, and another one. */
	namePart: 128,
	/** Characters of a policy's pattern. */
	patternLength: 255,
	/** Policies. Every Worker that serves names of policies keeps a copy of them all. */
	policies: 1_000,
	/** How long an idle and empty key of a policy may be kept: longer than a week, no operator remembers why. */
	idleSeconds: { min: 1, max: 604_800 },
	/** Limits that `/metrics` asks one by one; further ones are left out, and counted. A request has 1,000 calls. */
	limitsMeasured: 500,
	/** Keys with weights that `/metrics` shows, of all limits together; further ones are left out, and counted. */
	keysMeasured: 1_000,
	/** Limits that one `watch` follows: a page of them, and as many that appear while it is read. */
	limitsPerWatch: 200,
	/** Limits that one `watch` has ever followed before it ends and is asked for again; a request has 1,000 calls. */
	followedPerWatch: 800,
	/** Streams that watch one limit, or the list: each costs a few lines a second while it is read. */
	watchers: 256,
	/** Sockets of Prefect's events in one Worker, whose 128 MB they share: each took up to 190 kB. */
	eventSockets: 512,
	/** Of those, sockets that have not said who they are: not yet, or because their client has only an API key. */
	eventStrangers: 32,
	/** How long such a socket may stay: a round trip or two. */
	eventHelloSeconds: 5,
	/** A socket that said nothing for so long is ended; its client connects anew with its next event. */
	eventIdleSeconds: 300,
	/** The same for one that has not said who it is: no longer than the events of one piece of work. */
	eventStrangerIdleSeconds: 30,
	/** Keys that are shown of those that a policy denied most: further ones are seldom looked at. */
	deniedKeys: 20,
	/** How long one text of `/metrics` is given to all who ask: no scraper comes more often. */
	metricsSeconds: 1,
	/** How long a caller waits for a text of `/metrics` that another one has made; scrapers give up at ten. */
	metricsWaitSeconds: 5,
	/** What one token may take of what all callers share. Its `bounds` in `HEADGATE_TOKENS` say otherwise. */
	perToken: {
		/** Streams that watch, in one Worker and of one limit or list: a quarter of `watchers`. */
		streams: 64,
		/** Requests in the line of one limit, and streams that hold it: a quarter of `queueLength`. */
		waiters: 2_500,
		/** Policies within its prefix, if it has one: a quarter of `policies`. */
		policies: 250,
		/** Names that were not used before, through one Worker: ten to twenty new users a second, of 45 kB each. */
		newNamesPerMinute: 1_000,
		/** Sockets of Prefect's events: a process has one. */
		sockets: 128,
	},
	/**
	 * The same for callers that share with no other: those of an open server, and those of a binding without a prefix. They may have
	 * what there is; of streams more than one limit may have, for these are all streams of one Worker.
	 */
	alone: { streams: 1_024, waiters: 10_000, policies: 1_000, newNamesPerMinute: 60_000, sockets: 512 },
	/** How often the local server starts its runtime again within a minute: one that dies at once is not worth a sixth try. */
	restartsPerMinute: 5,
	/** Share of a local server's descriptors for callers; the rest is for who renews, releases, or has not asked yet. */
	descriptorShare: 0.85,
} as const;

/** What one token may take: the fields of `BOUNDS.perToken`. */
export type TokenBounds = Record<keyof (typeof BOUNDS)["perToken"], number>;

/** What a request that leaves something out gets. */
export const DEFAULTS = {
	occupy: 1,
	leaseSeconds: 60,
	waitSeconds: 0,
	limitsPage: 100,
	leasesPage: 100,
	idleSeconds: 300,
	/** Longer than a caller waits whom a person waits for. */
	starveAfterSeconds: 60,
	/** Of middleware, as long as it may be. */
	bodySeconds: BOUNDS.bodySeconds,
	/** Servers begin to read an answer within milliseconds; what stands outside of the middleware may take a moment. */
	unreadSeconds: 10,
	/** As long as nginx waits for a client that takes nothing (`send_timeout`). */
	stalledSeconds: 60,
} as const;

// --------------------------------------------------------------------------------------------- requests

/**
 * How slots come back. `concurrency`: by release or at the end of the lease.
 * `rate_limit`: by themselves, at the limit's `slotDecayPerSecond`.
 */
export type Mode = "concurrency" | "rate_limit";

/** Slots per name. */
export type Slots = Record<string, number>;

/** `POST /v1/acquire`. */
export interface AcquireRequest {
	/** One name, several, or slots per name. Names are de-duplicated and taken in one fixed order. */
	names: string | string[] | Slots;
	/** Slots of each name when `names` does not say. Default 1. */
	occupy?: number;
	/** Default `concurrency`. */
	mode?: Mode;
	/**
	 * Limits to take in the same request, all or nothing, by rate: their slots come back by themselves and outlive the
	 * lease. One name, several (a slot of each), or slots per name; none of `names`.
	 */
	rate?: string | string[] | Slots;
	/** Chosen by the caller, so that asking twice gets one lease. Made by the server when absent. */
	id?: string;
	/**
	 * The id was never sent before, so nothing can have been granted under it, and a denial may be given again from a
	 * Worker's memory. Leave it out when the same request is sent again. Default false.
	 */
	firstAttempt?: boolean;
	/** Default 60; 1 to 86,400. */
	leaseSeconds?: number;
	/** How long to wait in line. Default 0, at most 60, answered after 55; in a stream without a cap, absent: for ever. */
	waitSeconds?: number;
	/**
	 * What is taken by rate is an estimate, and may be settled within so long (`POST /v1/settle`); 1 to 3,600. Left out: it is what
	 * it is.
	 */
	settleSeconds?: number;
	/** Take fewer slots where a limit could never grant so many: the answer says how many. Default false. */
	atMost?: boolean;
	/** Who waits for slots with a higher one is served first: 0 to 9. Default 0. */
	priority?: number;
	/**
	 * Whose turn it takes in the line, up to 128 characters: keys that wait take turns, each as its weight says. Default: one key for all
	 * that have none.
	 */
	key?: string;
	/** Create names that were not configured. Default true. */
	createIfMissing?: boolean;
	/**
	 * Refuse with 404 when a name was not configured, neither itself nor by a policy, and take nothing. A name that was
	 * only created by an earlier request is refused too; one that was configured and is switched off is not. Default false.
	 */
	strict?: boolean;
	/** Who asks, for the operator's eyes. */
	holder?: string;
	/** Streams only: keep the stream open after the grant, and the lease alive with it. Default false. */
	hold?: boolean;
}

/** `POST /v1/acquire/batch`: requests that neither wait nor hold a stream, each with its own outcome. */
export interface BatchRequest {
	/** 1 to 100. Those for one name reach it together and are decided in their order. */
	requests: Omit<AcquireRequest, "waitSeconds" | "hold">[];
}

/** `POST /v1/check`: whether the same acquire would be granted now. Nothing is taken, counted or created. */
export type CheckRequest = Omit<AcquireRequest, "id" | "firstAttempt" | "waitSeconds" | "hold">;

/** `POST /v1/limits/{name}/pause`. */
export interface PauseRequest {
	/** Nothing is granted for so long, or until an earlier pause ends, whichever is later; 0 to 600. 0 ends a pause, for admins. */
	seconds: number;
}

/** `POST /v1/renew`. A lease as it was answered is a valid request; other fields are ignored. */
export interface RenewRequest {
	id: string;
	names: string | string[] | Slots;
	/** Counted from now. Default: the length that the lease was acquired with. */
	leaseSeconds?: number;
}

/** `POST /v1/release`. A lease as it was answered is a valid request; other fields are ignored. */
export interface ReleaseRequest {
	id: string;
	names: string | string[] | Slots;
	/** What was taken by rate in the same request came to, as `POST /v1/settle` has it. */
	actual?: Slots;
}

/** `POST /v1/settle`: what estimates came to. */
export interface SettleRequest {
	id: string;
	/** Slots of each name, from 0: below the estimate the rest comes back, above it the difference is taken too. */
	actual: Slots;
}

export type CalendarUnit = "minute" | "hour" | "day" | "week" | "month" | "year";
export type Weekday = "monday" | "tuesday" | "wednesday" | "thursday" | "friday" | "saturday" | "sunday";

/**
 * When slots come back that are taken by rate: all together at the end of a period of the calendar, or, with `sliding`,
 * each exactly so long after it was taken.
 */
export interface Window {
	/** A unit of the calendar, or seconds from 1 to 31,536,000. */
	every: CalendarUnit | number;
	/** Where the calendar hangs, by its IANA name. From days on. Default `UTC`. */
	timeZone: string;
	/** The time of day at which periods begin, `HH:MM`. From days on. Default `00:00`. */
	at: string;
	/**
	 * The day on which periods begin: of a week a weekday (default `monday`), of a month a number (default 1; one that a month
	 * does not have is its last), of a year `MM-DD` (default `01-01`). Null where periods are shorter.
	 */
	startsOn: Weekday | number | string | null;
	/** Every so long back from each moment, in place of periods. For seconds, minutes, hours and days. Default false. */
	sliding: boolean;
}

/** A window as it is set: what is left out is as by default. */
export type WindowRequest = Pick<Window, "every"> & Partial<Window>;

/** Settings as they are set: all but the limit has a default. */
export type Given<S extends Settings> = Pick<S, "limit"> &
	Partial<Omit<S, "window">> & { window?: WindowRequest | null };

/** What a limit and a policy have in common. */
export interface Settings {
	/** Capacity in slots, an integer from 0. */
	limit: number;
	/** Slots that come back by themselves each second; 0: only by release. */
	slotDecayPerSecond: number;
	/** In place of decay: when slots come back. Absent or null: not by a window. */
	window?: Window | null;
	/** Off: grants at once and holds nothing. */
	active: boolean;
	/** False: it decides and counts as ever, and says what it would deny; no caller is denied or waits. */
	enforce: boolean;
	/**
	 * For how long a Worker that is often asked may borrow slots that come back by themselves, and grant them without asking the limit.
	 * 0, or left out: not at all. At least 0.1, at most 10.
	 */
	lendSeconds?: number;
	/**
	 * What keys are given beside each other while they wait, 1 to 1,000 of up to 1,000 keys. Left out, or of a key that is not in it: 1.
	 * In answers only where there are any.
	 */
	weights?: Record<string, number>;
	/**
	 * How long a waiter is patient with those of a higher priority; older ones are given every second grant. 0: for ever. Default 60; in
	 * answers only another one.
	 */
	starveAfterSeconds?: number;
}

/** Where objects can be asked to live: the location hints of Cloudflare. */
export const REGIONS = [
	"wnam",
	"enam",
	"sam",
	"weur",
	"eeur",
	"apac",
	"apac-ne",
	"apac-se",
	"oc",
	"afr",
	"me",
] as const;
export type Region = (typeof REGIONS)[number];

/** Where Cloudflare promises to run objects and to keep their data. A region is a wish, and this is a bound. */
export const JURISDICTIONS = ["eu", "us", "fedramp", "fedramp-high"] as const;
export type Jurisdiction = (typeof JURISDICTIONS)[number];

/** `PUT /v1/limits/{name}`. */
export interface LimitSettings extends Settings {
	/**
	 * Where a limit that is made by this is to live; null: where its policy says, or the deployment. A limit never moves: of one
	 * that exists it is null, or the region that it was made with.
	 */
	region: Region | null;
}

/** `PUT /v1/policies/{pattern}`. */
export interface PolicySettings extends Settings {
	/** Where keys of this policy are to live, from their first use on; null: where the deployment says. */
	region: Region | null;
	/**
	 * How long a key of this policy is kept once it is idle and empty; then it deletes itself with its storage, and its
	 * next use makes it anew. Default 300; 1 to 604,800.
	 */
	idleSeconds: number;
}

/**
 * `PATCH /v1/limits/{name}`: any of the settings, or the slots in use, set by hand. A window takes the place of decay, and decay
 * that of a window.
 */
export interface LimitPatch<W = WindowRequest> extends Partial<Omit<Settings, "window">> {
	window?: W | null;
	/** Only the one that it has: a limit never moves. */
	region?: Region;
	activeSlots?: number;
}

// ---------------------------------------------------------------------------------------------- answers

/** A limit as an answer to `acquire` shows it. */
export interface LimitStatus {
	name: string;
	limit: number;
	/** Slots in use, rounded up when they decay. */
	activeSlots: number;
	/** Whole slots that are free. */
	remaining: number;
	/** False when the limit is switched off or does not exist: nothing was counted. */
	enforced: boolean;
	/** Present when slots come back by themselves. */
	slotDecayPerSecond?: number;
	/** Present with a window: how long it is, or the period that it is in. */
	windowSeconds?: number;
	/** Present with a window of the calendar: when its period ends. */
	resetsAt?: string;
	/** Present with decay or a window, when a slot is in use: until one more whole slot is free. */
	nextSlotSeconds?: number;
	/** Present while the limit is paused: nothing is granted before. */
	pausedUntil?: string;
	/** Present, and true, when the limit is not enforced and would have denied this request: it holds nothing of it. */
	wouldDeny?: true;
	/** Present, and true, when the name does not exist and was skipped. */
	missing?: true;
	/** Present, and false, when the name was not configured, neither itself nor by a policy: it was created switched off. */
	configured?: false;
}

/** What an acquire in rate-limit mode is answered with. */
export interface Receipt {
	id: string;
	/** Slots taken of each name. Names that were skipped are not in it. */
	names: Slots;
	waitedSeconds: number;
	limits: LimitStatus[];
}

/** What an acquire in concurrency mode is answered with. */
export interface Lease extends Receipt {
	/** When the slots come back unless the lease is renewed. */
	expiresAt: string;
	/**
	 * Of each limit a number that rises with every lease of that name and with no renewal, for stores that refuse the holder of
	 * an older one. Absent where nothing is held.
	 */
	fence?: Record<string, number>;
	/** Slots taken by rate in the same request. They come back by themselves, and are not renewed or released. */
	rate?: Slots;
}

/** What a check is answered with. */
export interface CheckAnswer {
	/** Whether every limit would grant its slots at once. */
	allowed: boolean;
	limits: DeniedLimit[];
	/** With `allowed: false`: the code, the detail and the retry of the problem that the acquire would have been answered with. */
	code?: Code;
	detail?: string;
	retryAfterSeconds?: number;
}

/** What became of one request of a batch. */
export type BatchOutcome =
	| { status: 200; lease: Lease | Receipt }
	/** `status`: what the request alone would have been answered with. */
	| { status: number; problem: Problem };

/** What a batch is answered with: an outcome for each request, in their order. */
export interface BatchAnswer {
	answers: BatchOutcome[];
}

/** The answer to `renew`. */
export interface Renewed {
	id: string;
	expiresAt: string;
}

/** The answer to `release`, and to a forced release. */
export interface Released {
	/** Slots given back; 0 when there was nothing left to give. */
	released: number;
}

/** The answer to `settle`. */
export interface Settled {
	id: string;
	/** What each name is settled with. */
	actual: Slots;
	limits: LimitStatus[];
}

/** One lease as `inspect` shows it. */
export interface LeaseInfo {
	/** To tokens below `admin` a digest of it: a caller that knows the id of a lease may end it. */
	id: string;
	slots: number;
	holder: string | null;
	/** As its holder has it; see `Lease`. Null: it was granted before there were fences. */
	fence: number | null;
	since: string;
	expiresAt: string;
}

/** One waiter as `inspect` shows it. */
export interface WaiterInfo {
	/** As of a lease, for it will be the lease's. */
	id: string;
	slots: number;
	holder: string | null;
	since: string;
	/** 1 is next. */
	position: number;
	priority: number;
	/** Whose turn it takes; null: the common one. */
	key: string | null;
	waitingFor: WaitingFor;
}

/** What a waiter waits for: the limit that stands in its way, and how it may end. */
export interface WaitingFor {
	name: string;
	/**
	 * `slots`: until they are given back. `rate`: until they come back by themselves. `window`: until the period ends, or the time of
	 * earlier ones. `paused`: until the pause is over.
	 */
	reason: "slots" | "rate" | "window" | "paused";
}

/** Who waits by whose turn it is: of one key and priority. */
export interface WaitingKey {
	priority: number;
	/** Null: the common one. */
	key: string | null;
	weight: number;
	/** Requests that wait, and their slots. */
	waiting: number;
	slots: number;
}

/** What a limit has done since it was made. */
export interface Totals {
	grantedAtOnce: number;
	grantedAfterWait: number;
	/** Refused for want of free slots, those who timed out among them. */
	denied: number;
	/** Gave up in line at the end of their `waitSeconds`. */
	timedOut: number;
	released: number;
	expired: number;
	/** Granted though they would have been denied, for the limit was not enforced. */
	wouldDeny: number;
}

/** Where a limit's settings come from: set by hand, by a matching policy, or the default. */
export type Origin = "configured" | "policy" | "default";

/** What a limit did within the last minute, to 5 s. */
export interface LastMinute {
	granted: number;
	denied: number;
}

/** One row of `GET /v1/limits`. */
export interface LimitSummary extends Settings {
	name: string;
	id: string;
	origin: Origin;
	/**
	 * The pattern of the policy that it follows, or of the one that its own settings override, as it was when they were
	 * set. Null: none is for this name.
	 */
	policy: string | null;
	/** Where it was asked to live when it was made; null: nowhere, so it lives near its first caller. */
	region: Region | null;
	createdAt: string;
	/** Since when it has these settings. */
	updatedAt: string;
	/** The token that set them, on the limit or on its policy, by its name. Null: they are the default, or no token was needed. */
	updatedBy: string | null;
	/** Nothing is granted before; null: it is not paused. */
	pausedUntil: string | null;
	/** With a window of the calendar: when its period ends, and all of its slots come back. */
	resetsAt?: string;
	/** Those that are lent among them. */
	activeSlots: number;
	/** Slots that are lent to Workers and not accounted for yet. Present where slots are lent. */
	lentSlots?: number;
	remaining: number;
	leaseCount: number;
	waitingCount: number;
	lastMinute: LastMinute;
	totals: Totals;
}

/** `GET /v1/limits/{name}`. */
export interface LimitInfo extends LimitSummary {
	/** How many estimates were settled, and what they came to on average, as a part of the estimate. */
	settled: { count: number; meanRatio: number | null };
	leases: LeaseInfo[];
	waiting: WaiterInfo[];
	/** By whose turn it is, those with the most waiters first, up to 100: who of them is shown above and who is not. Absent: all are of one key and priority. */
	waitingKeys?: WaitingKey[];
}

// ----------------------------------------------------------------------------------------------- tokens

/** What a token allows; each includes those before it. */
export const SCOPES = ["read", "use", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

/** `GET /v1/token`: what the token that was sent allows. On an open server: everything. */
export interface TokenInfo {
	/** Who it was made for, as `HEADGATE_TOKENS` says. */
	name: string;
	scope: Scope;
	/** Names that it may speak of start with this; empty for all. */
	prefix: string;
	/** Its requests take the turns of this key, and of no other. Absent: of any. */
	key?: string;
}

/** `GET /health`. */
export interface ServerHealth {
	status: "ok";
	version: string;
	/** The server's clock. */
	time: string;
}

// ----------------------------------------------------------------------------------------------- stream

/** A line of the answer to `POST /v1/acquire` with `Accept: application/x-ndjson`. */
export type StreamEvent =
	| { event: "queued"; position: number; waitingFor: WaitingFor }
	| { event: "heartbeat" }
	| { event: "granted"; lease: Lease | Receipt }
	| { event: "denied"; problem: Problem };

// --------------------------------------------------------------------------------------------- problems

/**
 * Every error code: the status that carries it, its title, and when a caller sees it. The reference is made of it, and a
 * test compares docs/http.md with it.
 */
export const PROBLEMS = {
	invalid: {
		status: 422,
		title: "The request is not valid",
		when: "A field is wrong: `errors` says which, and why.",
	},
	malformed: {
		status: 400,
		title: "The request cannot be read",
		when: "The body is not JSON, it or the URL is no UTF-8, or it was cut off.",
	},
	exceeds_limit: {
		status: 422,
		title: "More slots than the limit has",
		when: "More slots than the limit has: it can never fit.",
	},
	no_decay: {
		status: 422,
		title: "The limit does not decay",
		when: "Rate-limit mode on a limit whose slots do not come back by themselves.",
	},
	no_lease: {
		status: 422,
		title: "The limit has a window",
		when: "Concurrency mode on a limit with a window: its slots are taken by rate, and held by no lease.",
	},
	denied: {
		status: 429,
		title: "No free slots",
		when: "No free slots in time. Nothing was taken.",
	},
	unknown_limit: {
		status: 404,
		title: "No such limit",
		when: "There is no limit of this name; with `strict`, none that was configured, itself or by a policy.",
	},
	unknown_policy: {
		status: 404,
		title: "No such policy",
		when: "There is no policy of this pattern.",
	},
	id_in_use: {
		status: 409,
		title: "The id is in use",
		when: "The id belongs to a request with other parameters, or to one that has ended.",
	},
	lease_gone: {
		status: 410,
		title: "The lease has ended",
		when: "The lease has ended: it expired, was released or was taken back.",
	},
	receipt_gone: {
		status: 410,
		title: "There is nothing to settle",
		when: "There is no estimate of this id: none was granted, or its `settleSeconds` are over and it stands.",
	},
	already_settled: {
		status: 409,
		title: "It was settled otherwise",
		when: "The estimate was settled with another number before, which stands.",
	},
	too_many_streams: {
		status: 429,
		title: "Too many streams",
		when: "The token watches with as many streams as it may, or as many watch a limit as may.",
	},
	too_many_waiters: {
		status: 429,
		title: "Too many waiters",
		when: "The token has as many requests in the line of a limit as it may.",
	},
	too_many_names: {
		status: 429,
		title: "Too many new names",
		when: "The token used as many new names within a minute as it may. Names that exist are served.",
	},
	too_many_policies: {
		status: 429,
		title: "Too many policies",
		when: "There are as many policies as there may be, in all or within the token's prefix.",
	},
	queue_full: {
		status: 503,
		title: "The line is full",
		when: "The line is as long as it may get.",
	},
	overloaded: {
		status: 503,
		title: "The service is overloaded",
		when: "A part of the service did not answer. Nothing was taken.",
	},
	storage_failed: {
		status: 503,
		title: "The storage failed",
		when: "The disk is full, read-only or failing: `detail` says which. Nothing was changed.",
	},
	newer_data: {
		status: 503,
		title: "The data is of a newer version",
		when: "The stored data was written by a newer version of Headgate. It was left alone.",
	},
	damaged_data: {
		status: 503,
		title: "The data is lost or broken",
		when: "What is stored of a limit is lost or broken. It is refused until the data was restored, or the limit deleted.",
	},
	unauthorized: {
		status: 401,
		title: "A token is needed",
		when: "A token is missing, or is not known here.",
	},
	forbidden: {
		status: 403,
		title: "The token does not allow this",
		when: "The token lacks the scope, or its prefix does not cover a name: `detail` says which.",
	},
	forbidden_host: {
		status: 403,
		title: "Not a host name of this server",
		when: "An open server is asked under a host name that is not its own.",
	},
	forbidden_origin: {
		status: 403,
		title: "Not for pages of this origin",
		when: "A page of another origin asks, and its origin is not listed.",
	},
	not_found: {
		status: 404,
		title: "No such route",
		when: "There is no such route.",
	},
	method_not_allowed: {
		status: 405,
		title: "The method is not allowed",
		when: "The route does not take this method: `Allow` says which it takes.",
	},
	too_large: {
		status: 413,
		title: "The body is too large",
		when: "The body is too large.",
	},
	uri_too_long: {
		status: 414,
		title: "The URL is too long",
		when: "The URL is too long.",
	},
	unsupported_media_type: {
		status: 415,
		title: "The content type is not supported",
		when: "The body is not sent as JSON, or does not say what it is.",
	},
	misconfigured: {
		status: 500,
		title: "The deployment is misconfigured",
		when: "A variable of the deployment says what cannot be: `detail` says which, and what it may be. Nothing was changed.",
	},
	internal: {
		status: 500,
		title: "Internal error",
		when: "A bug of ours. The server's log says more.",
	},
} as const;

export type Code = keyof typeof PROBLEMS;

/** A limit as a denial shows it. */
export interface DeniedLimit extends LimitStatus {
	/** The place in line: the one it had, or the one it would have had. Null where nothing stood in the way. */
	position: number | null;
	/** Null where nothing stood in the way. */
	retryAfterSeconds: number | null;
}

/** An error, `application/problem+json` (RFC 9457). */
export interface Problem {
	/** `about:blank`, or a problem type of draft-ietf-httpapi-ratelimit-headers-11. */
	type: string;
	title: string;
	status: number;
	code: Code;
	detail: string;
	/** `invalid`: which field, and why. */
	errors?: { field: string; message: string }[];
	/** `denied`, `queue_full`, `overloaded`, `storage_failed`: a retry after so long is worth it. */
	retryAfterSeconds?: number;
	/** `denied` and the like: the names that stood in the way. */
	"violated-policies"?: string[];
	limits?: DeniedLimit[];
	/** The trace that the request's `traceparent` names, else its Ray ID of Cloudflare. Absent where it had neither. */
	traceId?: string;
}

// Lists of limits, leases and policies, as they are answered.

/** A page of anything; `next` is the `after` of the next page, or null at the end. */
export interface LimitsPage {
	limits: LimitSummary[];
	next: string | null;
	/** Names of this page whose limits could not be asked. */
	unavailable?: string[];
	/** With `order=attention`, and in the first line of a watch. */
	totals?: HouseTotals;
}

/** In which order limits are listed: by their names, page by page; or those first that need a look, without further pages. */
export const ORDERS = ["name", "attention"] as const;
export type Order = (typeof ORDERS)[number];

/** All limits together whose names start with the prefix that was asked for, whatever their number. */
export interface HouseTotals {
	limits: number;
	/** Of them, those without a free slot. */
	full: number;
	/** Requests in all their lines. */
	waiting: number;
	/** The keys of policies as they told within the last whole minute, if all keys of the policy have the prefix. */
	lastMinute: LastMinute;
}

/** `GET /v1/policies/{pattern}/denied`: the keys that were denied most within the last minute or two, most first. */
export interface DeniedKeys {
	keys: { name: string; denied: number }[];
}

export interface LeasesPage {
	leases: LeaseInfo[];
	next: string | null;
}

/** Settings for one name, or for every name that starts with a prefix. */
export interface Policy extends PolicySettings {
	/** A literal prefix and one closing `*`: `login:*`. Or the exact name of a limit, which counts before any prefix. */
	pattern: string;
	updatedAt: string;
	/** The token that set it, by its name. Null: no token was needed. */
	updatedBy: string | null;
}

export interface PoliciesPage {
	policies: Policy[];
}

// --------------------------------------------------------------------------------------------- watching

/** A few seconds of a limit's past. */
export interface HistorySample {
	/** When it began. */
	at: string;
	limit: number;
	/** The most at one time, rounded up. */
	activeSlots: number;
	/** The most at one time. */
	waiting: number;
	grantedAtOnce: number;
	grantedAfterWait: number;
	denied: number;
	released: number;
	expired: number;
	wouldDeny: number;
}

/** `GET /v1/limits/{name}/history`: the last 15 minutes, or all of a limit that is younger. */
export interface LimitHistory {
	name: string;
	/** The length of each sample. */
	sampleSeconds: number;
	/** Oldest first, without gaps; the last is still being taken. */
	samples: HistorySample[];
}

/**
 * A line of the answer to `GET /v1/watch`. Lines whose `event` is not known are to be passed over: others may follow.
 * - `limits`: first, unless one limit is watched: a page of them, as `GET /v1/limits` has it. With `order=attention`, where any
 *   needs a look, only those that do; so many others of the page are `following`, each in a `limit` of its own.
 * - `limit`: one as it is now: new, or changed; with `?name=` in full, as `GET /v1/limits/{name}` has it.
 * - `samples`: with `?name=`: the newest of its history, the last of them still being taken.
 * - `deleted`: a limit is no more. With `?name=` it is the last line.
 * - `unavailable`: a limit that could not be asked; it is tried again, and a `limit` follows when it answers.
 * - `more`: there are new limits that this stream has no room for. Ask again to see them.
 * - `totals`: all limits together, whether or not they are on the page; with the first line, and when they change.
 * - `heartbeat`: every few seconds, with the server's time.
 */
export type WatchEvent =
	| ({ event: "limits"; following?: number } & LimitsPage)
	| { event: "limit"; limit: LimitSummary | LimitInfo }
	| { event: "samples"; name: string; samples: HistorySample[] }
	| { event: "deleted"; name: string }
	| { event: "unavailable"; name: string }
	| { event: "more" }
	| { event: "totals"; totals: HouseTotals }
	| { event: "heartbeat"; at: string };
