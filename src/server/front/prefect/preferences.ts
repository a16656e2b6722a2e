/** How a caller wants its request handled: `Prefer: wait=30, handling=strict` (RFC 7240). */

import { BOUNDS } from "../../../protocol.ts";

export interface Preferences {
	/** How long to wait in line; the client itself gives a call up after 60 s. */
	waitMs: number;
	/** It would rather fail than run without a limit. */
	strict: boolean;
	/** Those that are followed, as `Preference-Applied` says them. */
	applied: string;
}

export function preferences({ headers }: Request): Preferences {
	const prefer = (headers.get("Prefer") ?? "").slice(0, BOUNDS.headerLength);
	const asked = Number(/(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})/i.exec(prefer)?.[1] ?? 0);
	const seconds = Math.min(BOUNDS.plainWaitSeconds, asked);
	const strict = /(?:^|[,;\s])handling\s*=\s*"?strict/i.test(prefer);
	const applied = [...(seconds > 0 ? [`wait=${seconds}`] : []), ...(strict ? ["handling=strict"] : [])].join(", ");
	return { waitMs: seconds * 1_000, strict, applied };
}
