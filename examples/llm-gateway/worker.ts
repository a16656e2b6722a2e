/** The gateway of `gateway.ts` in a Worker that embeds Headgate, before a model at `MODEL_URL` or one that stands in for it. */

import { ownGate } from "../loopback.ts";
import { gatewayTo, LIMITS } from "./gateway.ts";
import { standIn } from "./model.ts";

export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";

const gateway = gatewayTo(({ MODEL_URL }, chat, signal) => {
	if (MODEL_URL === undefined) return standIn(chat);
	return fetch(MODEL_URL, { method: "POST", body: JSON.stringify(chat), ...(signal && { signal }) });
}, ownGate);

gateway.post("/setup", async (c) => {
	for (const [name, settings] of Object.entries(LIMITS)) await ownGate().configure(name, settings);
	return c.text("ready\n");
});

export default gateway;
