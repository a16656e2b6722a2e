import type { Generator } from "./generator.ts";

/** What every section is given. */
export interface Context {
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
