/**
 * Where objects live. Each way to an object leads through here, because its first call decides that for ever: a location hint
 * is read once in its life, and a jurisdiction is part of its id. A house test holds the server to it.
 */

import { placementFault } from "../../places.ts";
import type { Jurisdiction, Region } from "../../protocol.ts";
import type { Env } from "./env.ts";

/** The lists are Cloudflare's; the compiler compares them. */
type Same<A extends B, B> = [A, B];
export type CheckedRegion = Same<Region, DurableObjectLocationHint> | Same<DurableObjectLocationHint, Region>;
export type CheckedJurisdiction =
	| Same<Jurisdiction, DurableObjectJurisdiction>
	| Same<DurableObjectJurisdiction, Jurisdiction>;

/** A variable of the deployment says no place there is. */
export class PlacementError extends Error {
	override readonly name = "PlacementError";
}

/** Where objects are to live for which nothing else is said. An empty variable counts as absent. */
export function regionOf(env: Env): Region | null {
	const fault = placementFault(env);
	if (fault !== null) throw new PlacementError(fault);
	return (env.HEADGATE_REGION as Region | undefined) || null;
}

/** `region`: where this one is to live if it is called for the first time. */
export const limitObject = (env: Env, name: string, region: Region | null = null) =>
	objectOf(env, env.LIMITS, name, region);

export type LimitNamed = (name: string, region?: Region | null) => ReturnType<typeof limitObject>;

/** Others of its class keep what policies counted. */
export const directoryObject = (env: Env, name = "directory") => objectOf(env, env.DIRECTORY, name, null);

function objectOf<T extends Rpc.DurableObjectBranded>(
	env: Env,
	namespace: DurableObjectNamespace<T>,
	name: string,
	region: Region | null,
): DurableObjectStub<T> {
	const usual = regionOf(env);
	const locationHint = region ?? usual;
	const within = env.HEADGATE_JURISDICTION ? confined(namespace, env.HEADGATE_JURISDICTION as Jurisdiction) : namespace;
	return locationHint === null ? within.getByName(name) : within.getByName(name, { locationHint });
}

function confined<T extends Rpc.DurableObjectBranded>(
	namespace: DurableObjectNamespace<T>,
	jurisdiction: Jurisdiction,
): DurableObjectNamespace<T> {
	try {
		return namespace.jurisdiction(jurisdiction);
	} catch (error) {
		// A runtime that has none, as every one outside of Cloudflare: nothing is kept where it was not to be.
		const why = error instanceof Error ? error.message : String(error);
		throw new PlacementError(`HEADGATE_JURISDICTION is "${jurisdiction}", and this runtime cannot keep to it: ${why}`);
	}
}
