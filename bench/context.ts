import type { Generator } from "./generator.ts";

/** What every section is given. */
export interface Context {
	/** Whether it is only to be seen that everything still runs: nothing is judged, and nobody waits for a quiet moment. */
	short: boolean;
	rounds: number;
	/** How long each thing is measured in each round. */
	sliceMs: number;
	waiters: number;
	/** Keys of a policy that are used once each. */
	keys: number;
	generator: Generator;
	/** Says what is being done. */
	progress: (doing: string) => void;
}
