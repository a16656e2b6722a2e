/** Under which name a request is found again: in its caller's traces, or in the logs of Cloudflare. */

import type { Problem } from "../../../protocol.ts";

/** W3C Trace Context; of later versions, what begins like this one. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)/;
/** A Ray ID, with or without where it was given. */
const RAY = /^[0-9a-f]{16}(?:-[A-Z]{3})?$/;

/** The id of the trace that the caller has begun, else the Ray ID of Cloudflare; undefined: the request has neither. */
export const traceIdOf = ({ headers }: Request): string | undefined =>
	TRACEPARENT.exec(headers.get("traceparent") ?? "")?.[1] ?? RAY.exec(headers.get("cf-ray") ?? "")?.[0];

/** A problem as its caller is told it. */
export const traced = (refusal: Problem, traceId: string | undefined): Problem =>
	traceId === undefined ? refusal : { ...refusal, traceId };
