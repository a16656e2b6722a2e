/** The entry of the Worker: its routes, the door for other Workers, and the classes of its Durable Objects. */

import { problem } from "./answers.ts";
import { service } from "./app.ts";
import { charge, DESCRIPTORS, outOfDescriptors } from "./descriptors.ts";
import { answerProblem } from "./http.ts";
import type { Service } from "./origins.ts";

export { DirectoryObject } from "./directory-object.ts";
export { HeadgateService } from "./entrypoint.ts";
export { MovableLimit as LimitObject } from "./limit/moving.ts";

/** Calls that free something, or keep what is held; and the one that tells whether the server lives. */
const givesBack = ({ url }: Request): boolean =>
	/^\/health$|\/(renew|release|decrement|decrement-with-lease)$/.test(new URL(url).pathname);

const entry: Service = {
	async fetch(request, env, context) {
		charge(DESCRIPTORS.connection);
		if (givesBack(request) || !(await outOfDescriptors(env))) return service.fetch(request, env, context);
		const few = `This server may open ${env.HEADGATE_DESCRIPTORS} files (\`ulimit -n\`), and nearly all are in use.`;
		return answerProblem({ ...problem("overloaded", `${few} Nothing was taken.`), retryAfterSeconds: 1 });
	},
};

export default entry;
