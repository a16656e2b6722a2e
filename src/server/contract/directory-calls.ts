/** What can be asked of the directory, by limits and by Workers, and what it answers. */

import type { Condition } from "../../attention.ts";
import type { Totals } from "../../core/totals.ts";
import type { DeniedKeys, HouseTotals, Policy, PolicySettings } from "../../protocol.ts";
import type { Share } from "./outcomes.ts";

/** What one limit tells: what it counted since it told last, and how it is. */
export interface Told {
	totals: Totals;
	inUse: number;
	waiting: number;
	/** What the key is called. */
	name: string;
}

/** In what condition a limit is. `isKey`: it is a key of a policy, so what it counts is in the sum of its policy. */
export interface Telling {
	condition: Condition;
	isKey: boolean;
}

/** Limits that need a look, worst first, filled up with others by name; and all of them together. */
export interface AttentionPage {
	names: string[];
	/** How many of them need a look. */
	needing: number;
	totals: HouseTotals;
}

/** A line for those who watch the list: names that are new; or names that need a look, and the sums. */
export type ListNews = { appeared: string[] } | { worst: string[]; totals: HouseTotals };

/** What is known of a policy. The figures of the moment are of its keys that told within the last whole minute. */
export interface PolicySum extends Omit<Told, "name"> {
	pattern: string;
	keys: number;
	/** Requests, within that minute. */
	granted: number;
	denied: number;
}

/** A stretch of the policies, and how many there may be in it. */
export interface PolicyShare {
	prefix: string;
	most: number;
}

export interface DirectoryCalls {
	// --------------------------------------------------------------------------------- told by limits

	/** `own`: it has settings of its own, and is no key of a policy. Answers when this directory began. */
	register(limit: { name: string; id: string; own: boolean }): Promise<number>;
	/** The limit of this name is no more. Answers when this directory began. */
	unregister(name: string): Promise<number>;
	/** In what condition a limit is. Answers for how long, in milliseconds, it is to tell nothing more. */
	tell(name: string, condition: Condition, isKey: boolean): number;
	/** A key of this policy tells what it counted. Kept by other objects of this class than the directory itself. */
	addTotals(pattern: string, told: Told): void;
	/** What keys told this object, by policy. */
	totals(): PolicySum[];
	/** The keys of this policy that told this object of the most denials lately. */
	deniedKeys(pattern: string): DeniedKeys["keys"];

	// ------------------------------------------------------------------------------- which limits exist

	/** The id of a limit, or null. */
	idOf(name: string): string | null;
	/** The name of a limit's id, or null. */
	nameOf(id: string): string | null;
	/** `listed`: there is a limit of this name. `maybe`: it may be a key of a policy that is not listed yet. */
	knows(name: string): "listed" | "maybe" | null;
	/** The names of the limits whose ids start so; where many digits are given, seldom more than one. */
	namesByIdPrefix(start: string): string[];
	/** A page of names by its place: `count` of them after the first `offset`. */
	namesAt(prefix: string, offset: number, count: number): string[];
	/** Names that start with `prefix`, after `after`, in the order of their code points. */
	names(prefix: string, after: string, count: number): { names: string[]; next: string | null };
	/** Names of limits that are no keys of a policy, as many as `count`, and how many there are. */
	ownNames(prefix: string, count: number): { names: string[]; total: number };
	/** Those that start with `prefix`, the ones that need a look first. */
	attention(prefix: string, count: number): Promise<AttentionPage>;
	/** A stream of `ListNews` of names that start with `prefix`; or why there is none. */
	watch(prefix: string, share: Share | undefined): ReadableStream | "full" | "share";

	// ----------------------------------------------------------------------------------------- policies

	/** What the policies say of a name. */
	match(name: string): { version: number; since: number; policy: Policy | null };
	/** All policies, and which version of them that is; null: the asker has this version. */
	policiesAfter(version: number | null): { version: number; since: number; policies: Policy[] } | null;
	policies(): Policy[];
	policy(pattern: string): Policy | null;
	/** Sets a policy, and answers whether it is a new one; or of which prefix there are as many as there may be. */
	setPolicy(
		pattern: string,
		settings: PolicySettings,
		by: string | null,
		share?: PolicyShare,
	): { created: boolean; policy: Policy; version: number } | { full: PolicyShare };
	/** Deletes a policy, and answers the version without it. Null: there was none. */
	deletePolicy(pattern: string): number | null;
}
