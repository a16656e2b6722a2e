/** The entry of the Worker: its routes, and the classes of its Durable Objects. */

import { service } from "./app.ts";

export { DirectoryObject } from "./directory-object.ts";
export { LimitObject } from "./limit-object.ts";

export default service;
