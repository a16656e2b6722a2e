/** The Worker's own entrypoint of Headgate: a binding that needs no line in wrangler.toml. */

import { exports } from "cloudflare:workers";
import { Headgate, type HeadgateBinding } from "headgate";

/** Made for each request: what it holds ends with that request. */
export const ownGate = (): Headgate =>
	new Headgate({ binding: (exports as unknown as { HeadgateService: HeadgateBinding }).HeadgateService });
