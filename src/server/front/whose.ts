/** Whose turn a request takes: that of the key that its caller's token or binding fixes, if it does. */

import type { Problem, Scope } from "../../protocol.ts";
import { problem } from "../contract/problems.ts";
import { forbidden, type Grant } from "./auth.ts";
import type { Acquire } from "./requests.ts";

/** The request as this caller may make it, or why it may not. */
export function asGranted(grant: Grant, scope: Scope, request: Acquire): Acquire | Problem {
	const names = request.names.map(([name]) => name);
	const outside = forbidden(grant, scope, names);
	if (outside) return outside;
	if (grant.key === undefined || grant.key === request.key) return request;
	if (request.key === null) return { ...request, key: grant.key };
	return problem("forbidden", `Your token takes the turns of the key "${grant.key}", and not of "${request.key}".`);
}
