/** The entry of the Worker: its routes, the door for other Workers, and the classes of its Durable Objects. */

import { service } from "./app.ts";
import { withinDescriptors } from "./descriptors.ts";

export { DirectoryObject } from "./directory-object.ts";
export { HeadgateService } from "./entrypoint.ts";
export { MovableLimit as LimitObject } from "./limit/moving.ts";

export default withinDescriptors(service);
