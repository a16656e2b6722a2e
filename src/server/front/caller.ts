/** What a request needs to know of its caller. */
export interface Caller {
	/** Aborts when the caller has gone, where that is noticed at all. */
	signal(): AbortSignal;
	/** Lets work go on after the answer, or after the caller has gone. */
	waitUntil(work: Promise<unknown>): void;
	/** Under which name the request is found again in traces and logs; undefined: it has none. */
	traceId(): string | undefined;
}
