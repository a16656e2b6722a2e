/** What the client projects are given by `test/support/client-server.ts`; read with `inject("url")`. */

import type {} from "vitest";

declare module "vitest" {
	export interface ProvidedContext {
		/** Of a real server, open, without a slash at its end. */
		url: string;
		/** Origins whose pages the server lets in; set by `vitest.config.ts` for the browser run. */
		corsOrigins: string[];
	}
}
