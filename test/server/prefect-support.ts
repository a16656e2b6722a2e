/** Callers of Prefect's wire. */

import { expect } from "vitest";
import { type Answer, call } from "./support.ts";

export const LIMITS = "/api/v2/concurrency_limits";

export interface Mini {
	id: string;
	name: string;
	limit: number;
}

export interface Global extends Mini {
	created: string;
	updated: string;
	active: boolean;
	active_slots: number;
	slot_decay_per_second: number;
	denied_slots: number;
	avg_slot_occupancy_seconds: number;
	lease_count: number;
	waiting_count: number;
}

export interface Leased {
	lease_id: string;
	limits: Mini[];
}

export interface Invalid {
	exception_message: string;
	exception_detail: { type: string; loc: (string | number)[]; msg: string; input: unknown; ctx?: object }[];
	request_body: unknown;
}

type Headers = Record<string, string>;

export const post = <Body = unknown>(path: string, body?: unknown, headers?: Headers): Promise<Answer<Body>> =>
	call<Body>("POST", `${LIMITS}${path}`, body, headers);

export const at = (name: string): string => `${LIMITS}/${encodeURIComponent(name)}`;

/** Makes a limit. */
export async function create(name: string, settings: Record<string, unknown> = {}): Promise<Global> {
	const { status, body } = await post<Global>("/", { name, limit: 1, ...settings });
	expect(status, JSON.stringify(body)).toBe(201);
	return body;
}

export async function shown(nameOrId: string): Promise<Global> {
	const { status, body } = await call<Global>("GET", at(nameOrId));
	expect(status, JSON.stringify(body)).toBe(200);
	return body;
}

export const update = (name: string, change: Record<string, unknown>) => call<Invalid>("PATCH", at(name), change);

/** Asks for slots with a lease. */
export const lease = (names: string | string[], more: Record<string, unknown> = {}, headers?: Headers) =>
	post<Leased>("/increment-with-lease", { names: [names].flat(), slots: 1, ...more }, headers);

/** Asks for slots with a lease and fails unless it gets them. */
export async function leased(
	names: string | string[],
	more?: Record<string, unknown>,
	headers?: Headers,
): Promise<string> {
	const { status, body } = await lease(names, more, headers);
	expect(status, JSON.stringify(body)).toBe(200);
	return body.lease_id;
}

export const increment = (names: string | string[], more: Record<string, unknown> = {}, headers?: Headers) =>
	post<Mini[]>("/increment", { names: [names].flat(), slots: 1, ...more }, headers);

export const decrement = (names: string | string[], more: Record<string, unknown> = {}) =>
	post<Mini[]>("/decrement", { names: [names].flat(), slots: 1, ...more });

export const release = (lease_id: string) => post("/decrement-with-lease", { lease_id });

export const renew = (lease_id: string, body?: unknown) => post(`/leases/${lease_id}/renew`, body);

/** What `Retry-After` says. */
export function retryAfter({ status, headers, body }: Answer<unknown>): number {
	expect({ status, body }).toEqual({ status: 423, body: { detail: "Locked" } });
	const text = headers.get("Retry-After") ?? "";
	expect(text).toMatch(/^\d+(\.\d+)?(e-\d+)?$/);
	return Number(text);
}
