/** The API of `quotas.ts` in a Worker that embeds Headgate. */

import { ownGate } from "../loopback.ts";
import { LIMITS, quotas } from "./quotas.ts";

export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";

const api = quotas(ownGate);

api.post("/setup", async (c) => {
	await ownGate().configurePolicy("key:*", LIMITS["key:*"]);
	await ownGate().configure("all", LIMITS.all);
	return c.text("ready\n");
});

export default api;
