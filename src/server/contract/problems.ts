/** Problems as callers are told them, and what an exception of an object means to a caller. */

import { type Code, PROBLEMS, type Problem } from "../../protocol.ts";

const PROBLEM_TYPES = "https://iana.org/assignments/http-problem-types";

export function problem(code: Code, detail: string, more: Partial<Problem> = {}): Problem {
	const { status, title } = PROBLEMS[code];
	const type =
		code === "denied"
			? `${PROBLEM_TYPES}#quota-exceeded`
			: status === 503
				? `${PROBLEM_TYPES}#temporary-reduced-capacity`
				: "about:blank";
	return { type, title, status, code, detail, ...more };
}

/** A part of the service failed in the middle. What was set aside lapses; ask again. */
export const outOfReach = (): Problem =>
	problem("overloaded", "A limit did not answer. Nothing was taken; try again in a second.", { retryAfterSeconds: 1 });

/** Errors that say themselves what is wrong. They may come over RPC, where a class does not survive but a name does. */
const FORESEEN: Record<string, Code> = {
	NewerDataError: "newer_data",
	DamagedDataError: "damaged_data",
	PlacementError: "misconfigured",
};

/** What SQLite says of the disk, or of a file on it, and what that means to an operator. */
const STORAGE: [RegExp, Code, string][] = [
	[/\bSQLITE_FULL\b/, "storage_failed", "The disk of the server is full: make room on it."],
	[/\bSQLITE_READONLY\b/, "storage_failed", "The data of the server is read-only: let it write to its data folder."],
	[/\bSQLITE_(CORRUPT|NOTADB)\b/, "damaged_data", "A file of the server's data is broken: restore it from a copy."],
	[/\bSQLITE_[A-Z]+\b/, "storage_failed", "The disk of the server fails: its log says how."],
	[
		// All that is said of an object that could not even be opened.
		/^internal error; reference = /,
		"storage_failed",
		"The storage of a limit could not be opened: the disk is full or read-only, or a file is broken; the server's log says which. Make room, or restore the file from a copy.",
	],
];

/** What an exception of an object means to a caller; null: it is a bug. */
export function failure(error: Error): Problem | null {
	const refused = FORESEEN[error.name];
	if (refused) return problem(refused, error.message);
	const [, code, why] = STORAGE.find(([said]) => said.test(error.message)) ?? [];
	if (code === "damaged_data") return problem(code, `${why} Nothing was changed.`);
	if (code) return problem(code, `${why} Nothing was changed.`, { retryAfterSeconds: 1 });
	return ["durableObjectReset", "overloaded", "retryable", "remote"].some((mark) => mark in error)
		? outOfReach()
		: null;
}

export function unknownLimits(names: string[]): Problem {
	const list = names.map((name) => `"${name}"`).join(", ");
	return problem(
		"unknown_limit",
		`Nobody has configured ${list}: do so first, with PUT /v1/limits/{name}, or a policy, whose keys are there from their first request on.`,
		{
			"violated-policies": names,
		},
	);
}

/** The problem of a waiter whose place was given back by a release of the same id. */
export const withdrawn = (id: string): Problem =>
	problem("id_in_use", `The request "${id}" was withdrawn by a release while it waited.`);
