/** The Worker's fetch: the gate before all routes, and what every answer has. */

import { placementFault } from "../../../places.ts";
import type { Problem } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import { problem } from "../../contract/problems.ts";
import { outOfDescriptors } from "../descriptors.ts";
import { logRefusal } from "../log.ts";
import { fromProblem } from "../prefect/http.ts";
import { gate, pathOf } from "./gate.ts";
import { answerProblem } from "./refused.ts";

export interface Service {
	fetch(request: Request, env: Env, ctx: ExecutionContext): Response | Promise<Response>;
}

export function guarded(routes: Service): Service {
	return {
		async fetch(request, env, ctx) {
			// Only the local server counts its descriptors.
			const refusal =
				gate(request, env) ?? misplaced(env) ?? (env.DESCRIPTORS ? await outOfDescriptors(request, env) : null);
			const answer = refusal ? refused(request, refusal) : await routes.fetch(request, env, ctx);
			if (answer.status === 401 || answer.status === 403) logRefusal(request, answer.status, refusal?.code);
			// An answer that a WebSocket begins is not to be kept on the way.
			return answer.webSocket ? answer : finished(answer);
		},
	};
}

/** A deployment that says no place there is finds no object: not even an answer from memory is given as if all were well. */
function misplaced(env: Env): Problem | null {
	const fault = placementFault(env);
	return fault === null ? null : problem("misconfigured", fault);
}

const refused = (request: Request, refusal: Problem): Response =>
	pathOf(request.url).startsWith("/api/") ? fromProblem(refusal).response : answerProblem(request, refusal);

/** What a limit says is true for a moment and for its caller: no cache keeps it, and no browser takes it for something else. */
function finished(answer: Response): Response {
	// An answer that was made with both is left as it is: each look at headers crosses into the runtime.
	if (answer.headers.has("X-Content-Type-Options")) return answer;
	if (!answer.headers.has("Cache-Control")) answer.headers.set("Cache-Control", "no-store");
	answer.headers.set("X-Content-Type-Options", "nosniff");
	return answer;
}
