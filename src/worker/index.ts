/**
 * Headgate inside of a Worker of your own: its classes, exported from the Worker's main module, and its routes.
 *
 * @example
 * export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";
 */

export type { HeldLease } from "../server/asking.ts";
export type { BindingProps, HoldOptions, LeaseReference, WaitOptions } from "../server/entrypoint.ts";
export type { Env as HeadgateEnv } from "../server/env.ts";
/** The classes, and the HTTP interface: `app.fetch(request, env, ctx)`. */
export { DirectoryObject, default as app, HeadgateService, LimitObject } from "../server/worker.ts";
