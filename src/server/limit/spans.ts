/**
 * Where the time of a call went, for a trace: `wait` in line, and within it `commit`, from the call until it is decided and
 * written. Of the call that a commit begins with also `decide` and `write`; the others wait for it meanwhile.
 */

import { tracing } from "cloudflare:workers";

/** A span around `work`, or nothing around it. */
export type Span = <T>(name: "wait" | "commit" | "decide" | "write", work: () => T) => T;

const traced: Span = (name, work) => tracing.enterSpan(`headgate.${name}`, work);
export const untraced: Span = (_, work) => work();

/** The spans of this call. Asking costs a microsecond, and a span that no trace takes five: so a call asks once. */
export const spans = (): Span => (tracing.getActiveSpan()?.isTraced ? traced : untraced);
