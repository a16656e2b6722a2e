/**
 * The way to a limit's object. An object costs 45 kB of memory and a file from the moment it is called, whether its
 * limit exists or not. So this Worker remembers which names it has heard of; of another one the directory is asked before
 * anything is read, and its caller's new names are counted where the directory cannot know.
 */

import type { Env } from "../../contract/env.ts";
import { directoryObject } from "../../contract/placement.ts";
import { rulingsOf } from "../policy-copy.ts";
import { Recent } from "./recent.ts";

/** Names that one Worker remembers, as texts; of others it asks again. */
const REMEMBERED = 20_000;

/** One for each binding: a program may be bound to more than one Headgate. */
const ofLimits = new WeakMap<Env["LIMITS"], Recent<true>>();

function heardOf({ LIMITS }: Env): Recent<true> {
	let names = ofLimits.get(LIMITS);
	if (!names) {
		names = new Recent(REMEMBERED);
		ofLimits.set(LIMITS, names);
	}
	return names;
}

/** `listed`: the directory has it. `maybe`: a policy is for it, whose keys the directory hears of later. */
type Known = "listed" | "maybe" | null;

async function ask(env: Env, name: string): Promise<Known> {
	try {
		return await directoryObject(env).knows(name);
	} catch (error) {
		// The limit is the authority on itself: without the directory it is asked as it is.
		console.warn(`The directory did not answer whether it knows "${name}":`, error);
		return "listed";
	}
}

/** Asks a limit that is only to be asked if it exists. Null: it does not. */
export async function ifThere<T>(env: Env, name: string, look: () => Promise<T | null>): Promise<T | null> {
	const names = heardOf(env);
	if (!names.has(name)) await rulingsOf(env).first(env);
	if (!env.caller || names.has(name)) return noted(names, name, await look());
	const known = await ask(env, name);
	if (known === null) return null;
	if (known === "listed") return noted(names, name, await look());
	return counted(env, name, look, (answer) => answer !== null);
}

/** Asks a limit that comes to be by this, or that has to be asked whatever the directory knows. */
export async function inAnyCase<T>(
	env: Env,
	name: string,
	call: () => Promise<T>,
	existed: (answer: T) => boolean,
	exists: (answer: T) => boolean = existed,
): Promise<T> {
	const names = heardOf(env);
	if (!names.has(name)) await rulingsOf(env).first(env);
	if (!env.caller || names.has(name)) return noted(names, name, await call(), exists);
	return counted(env, name, call, existed, exists);
}

async function counted<T>(
	env: Env,
	name: string,
	call: () => Promise<T>,
	existed: (answer: T) => boolean,
	exists: (answer: T) => boolean = existed,
): Promise<T> {
	const { caller } = env;
	const names = heardOf(env);
	if (!caller) return call();
	if (!caller.takeName()) {
		if ((await ask(env, name)) !== "listed") throw caller.tooManyNames(name);
		return noted(names, name, await call(), exists);
	}
	const answer = await call();
	if (existed(answer)) caller.putNameBack();
	return noted(names, name, answer, exists);
}

function noted<T>(names: Recent<true>, name: string, answer: T, exists = (given: T): boolean => given !== null): T {
	if (exists(answer)) names.set(name, true);
	else names.delete(name);
	return answer;
}
