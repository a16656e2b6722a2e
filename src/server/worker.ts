/** The entry of the Worker: its routes, the door for other Workers, and the classes of its Durable Objects. */

import { service } from "./front/routes.ts";

export { DirectoryObject } from "./directory/directory-object.ts";
export { HeadgateService } from "./front/rpc/entrypoint.ts";
export { LimitObject } from "./limit/limit-object.ts";

export default service;
