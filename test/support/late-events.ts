/**
 * What happens to an object after its tests have ended.
 *
 * In Cloudflare's test runtime an object outlives its file, and its alarms go on ringing; before each event the runtime
 * asks Vitest where the Worker's module is. An alarm that rings in the instant in which a file ends gets no answer: it
 * rejects, in no test and with nobody to hear it, and Vitest would end a run with every test passed as failed. What a test
 * itself still waits for is not told in this way: that test has not ended.
 */

const LATE_EVENT = '[vitest-worker]: Closing rpc while "resolve" was pending';

/** Whether an error that belongs to no test, or what a runtime printed of it, tells of such an alarm and of nothing else. */
export const isLateEvent = (text: string): boolean => text.includes(LATE_EVENT);
