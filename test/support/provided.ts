/** What projects are given by `client-server.ts`, `built.ts` and `packed.ts` beside this file; read with `inject("url")`. */

import type {} from "vitest";

declare module "vitest" {
	export interface ProvidedContext {
		/** Of a real server, open, without a slash at its end. */
		url: string;
		/** Origins whose pages the server lets in; set by `vitest.config.ts` for the browser run. */
		corsOrigins: string[];
		/** The command's file, as it is built. */
		headgate: string;
		/** The file that npm would publish. */
		tarball: string;
	}
}
