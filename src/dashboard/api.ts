/** Calls of the server this page came from. The token is kept for the tab, and goes nowhere else. */

import { signal } from "@preact/signals";
import type {
	Given,
	LeasesPage,
	LimitHistory,
	LimitPatch,
	LimitSummary,
	PoliciesPage,
	Policy,
	PolicySettings,
	Problem,
	Released,
	Settings,
	TokenInfo,
} from "../protocol.ts";
import { safe } from "../visible.ts";

const KEPT_AS = "headgate-token";

export const token = signal<string | null>(sessionStorage.getItem(KEPT_AS));
/** Counts the tokens that were tried: what asks the server asks again. */
export const attempt = signal(0);
/** What the token allows; null while that is not known. */
export const granted = signal<TokenInfo | null>(null);
/** Why a token is asked for; null: it is not. */
export const asking = signal<string | null>(null);

export function useToken(text: string | null): void {
	if (text === null) sessionStorage.removeItem(KEPT_AS);
	else sessionStorage.setItem(KEPT_AS, text);
	granted.value = null;
	asking.value = null;
	token.value = text;
	attempt.value += 1;
}

/** A refusal of the server, in its own words. */
export class Refusal extends Error {
	override readonly name = "Refusal";
	readonly problem: Problem;
	constructor(problem: Problem) {
		super(safe(problem.detail));
		this.problem = problem;
	}
}

/** Asks, and answers with what is not an error. */
export async function ask(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
	const headers: Record<string, string> = {};
	if (token.value !== null) headers.Authorization = `Bearer ${token.value}`;
	if (body !== undefined) headers["Content-Type"] = "application/json";
	const response = await fetch(path, {
		...{ method, headers, cache: "no-store" },
		...(body !== undefined && { body: JSON.stringify(body) }),
		...(signal && { signal }),
	});
	if (response.ok) return response;
	const refusal = new Refusal(await problemOf(response));
	if (response.status === 401) {
		// The first time no token has been asked for yet, so nothing was wrong.
		asking.value = token.value === null ? "This server asks for a token." : refusal.message;
	}
	throw refusal;
}

async function problemOf(response: Response): Promise<Problem> {
	const problem = (await response.json().catch(() => null)) as Problem | null;
	if (problem?.detail) return problem;
	const detail = `The server answered ${response.status}, and not in Headgate's words. Is something between?`;
	return { type: "about:blank", title: response.statusText, status: response.status, code: "internal", detail };
}

const json = async <T>(method: string, path: string, body?: unknown): Promise<T> =>
	(await ask(method, path, body)).json() as Promise<T>;

const limit = (name: string): string => `/v1/limits/${encodeURIComponent(name)}`;
const policy = (pattern: string): string => `/v1/policies/${encodeURIComponent(pattern)}`;

export const inspectToken = () => json<TokenInfo>("GET", "/v1/token");
export const configure = (name: string, settings: Given<Settings>) => json<LimitSummary>("PUT", limit(name), settings);
export const patch = (name: string, change: LimitPatch) => json<LimitSummary>("PATCH", limit(name), change);
/** 0 ends a pause. */
export const pause = (name: string, seconds: number) => json<LimitSummary>("POST", `${limit(name)}/pause`, { seconds });
export const remove = (name: string) => ask("DELETE", limit(name));
export const history = (name: string) => json<LimitHistory>("GET", `${limit(name)}/history`);
export const leases = (name: string, after: string) =>
	json<LeasesPage>("GET", `${limit(name)}/leases?count=100&after=${encodeURIComponent(after)}`);
export const forceRelease = (name: string, id: string) =>
	json<Released>("DELETE", `${limit(name)}/leases/${encodeURIComponent(id)}`);
export const policies = () => json<PoliciesPage>("GET", "/v1/policies");
export const setPolicy = (pattern: string, settings: Given<PolicySettings>) =>
	json<Policy>("PUT", policy(pattern), settings);
export const deletePolicy = (pattern: string) => ask("DELETE", policy(pattern));

/** What went wrong, in words. */
export function inWords(error: unknown): string {
	if (error instanceof Refusal) return error.message;
	if (error instanceof TypeError) return "The server does not answer. Nothing may have been done: look, and try again.";
	return error instanceof Error ? error.message : String(error);
}
