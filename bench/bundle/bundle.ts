/** Streams that one connection carries. */
export interface Bundle {
	/** What each asks for, under an id of its own. */
	asks: { id: string; names: string; hold?: boolean; waitSeconds?: number }[];
	/** The event of its stream with which each is where it is to be. */
	event: "granted" | "queued";
}
