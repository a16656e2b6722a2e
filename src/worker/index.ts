/**
 * Headgate inside of a Worker of your own: its classes, exported from the Worker's main module, and its routes.
 *
 * @example
 * export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";
 */

import type { Env } from "../server/contract/env.ts";
import service from "../server/worker.ts";

export { DirectoryObject } from "../server/directory/directory-object.ts";
export {
	type BindingProps,
	HeadgateService,
	type HoldOptions,
	type LeaseReference,
	type WaitOptions,
} from "../server/front/rpc/entrypoint.ts";
export type { HeldLease } from "../server/front/rpc/held-lease.ts";
export { LimitObject } from "../server/limit/limit-object.ts";
export type { Env as HeadgateEnv };

/** The HTTP interface. Its type is written out, so that no declaration of a package that is bundled is needed. */
export const app: {
	fetch(request: Request, env: Env, ctx: ExecutionContext): Response | Promise<Response>;
} = service;
