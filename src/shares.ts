/** Bounds on what all callers share, and on what each of them may take of it: a part of `BOUNDS`. */

export const SHARED_BOUNDS = {
	/** Limits that `/metrics` asks one by one; further ones are left out, and counted. A request has 1,000 calls. */
	limitsMeasured: 500,
	/** Limits that one `watch` follows: a page of them, and as many that appear while it is read. */
	limitsPerWatch: 200,
	/** Limits that one `watch` has ever followed before it ends and is asked for again; a request has 1,000 calls. */
	followedPerWatch: 800,
	/** Streams that watch one limit, or the list: each costs a few lines a second while it is read. */
	watchers: 256,
	/** Sockets of Prefect's events in one Worker, whose 128 MB they share: each took up to 190 kB. */
	eventSockets: 512,
	/** Of those, sockets that have not said yet who they are. Clients of today say it as they connect. */
	eventStrangers: 32,
	/** How long such a socket may stay: a round trip or two. */
	eventHelloSeconds: 5,
	/** A socket that said nothing for so long is ended; its client connects anew with its next event. */
	eventIdleSeconds: 300,
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
		/** Names that nobody used before, through one Worker: ten to twenty new users a second, of 45 kB each. */
		newNamesPerMinute: 1_000,
		/** Sockets of Prefect's events: a process has one. */
		sockets: 128,
	},
	/**
	 * The same for whoever shares with nobody: callers of an open server, and of a binding without a prefix. They may have
	 * what there is; of streams more than one limit may have, for these are all streams of one Worker.
	 */
	alone: { streams: 1_024, waiters: 10_000, policies: 1_000, newNamesPerMinute: 60_000, sockets: 512 },
} as const;

/** What one token may take: the fields of `BOUNDS.perToken`. */
export type TokenBounds = Record<keyof (typeof SHARED_BOUNDS)["perToken"], number>;
