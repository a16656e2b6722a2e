/** A bound is one number: where two layers must both know it, they agree. */

import { expect, test } from "vitest";
import { LEASE_SECONDS, WAIT_MAX_SECONDS } from "../../src/client/wait.ts";
import { QUEUE_MAX } from "../../src/core/line.ts";
import { BOUNDS, DEFAULTS, VERSION } from "../../src/protocol.ts";
import { read } from "../support/sources.ts";

test("promise 12: the core and the wire know the same longest line", () => {
	expect(QUEUE_MAX).toBe(BOUNDS.queueLength);
});

test("the library knows the bounds that it has no room to take along", () => {
	expect(WAIT_MAX_SECONDS).toBe(BOUNDS.streamWaitSeconds);
	expect(LEASE_SECONDS).toBe(DEFAULTS.leaseSeconds);
});

test("the version is the one of the package", () => {
	expect(VERSION).toBe(JSON.parse(read("package.json")).version);
});
