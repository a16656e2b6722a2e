/** A bound is one number: where two layers must both know it, they agree. */

import { expect, test } from "vitest";
import { QUEUE_MAX } from "../../src/core/commands.ts";
import { BOUNDS } from "../../src/protocol.ts";

test("promise 12: the core and the wire know the same longest line", () => {
	expect(QUEUE_MAX).toBe(BOUNDS.queueLength);
});
