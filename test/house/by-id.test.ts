/**
 * A request may have gone to another name with its limit, so what is asked of it by its id is asked through `of(id)`:
 * it is among `RequestCalls`, each of which `test/server/led-on.test.ts` calls of a request that went.
 */

import { expect, test } from "vitest";
import { codeOnly, read } from "../support/sources.ts";

/** `tether` calls those that are led on. What `peek` is asked of is no request that is made. */
const OTHERWISE = ["tether"];

/** The methods of an interface, or of a class, with their parameters as they are written. */
function methods(source: string, head: RegExp): Map<string, string> {
	const body = codeOnly(source).split(head)[1]?.split(/^\}/m)[0] ?? "";
	return new Map(
		Array.from(body.matchAll(/^\t(?:async )?(\w+)\(([^)]*)\)/gm), ([, name = "", given = ""]) => [name, given]),
	);
}

const namesRequest = (given: string): boolean => /\b(?:id|ids)\s*\??:|:\s*LimitRequest\b/.test(given);

const contract = read("src/server/contract/limit-calls.ts");
const byId = methods(contract, /^export interface RequestCalls \{/m);

test("what names a request by its id is among the calls that are led on", () => {
	expect(byId.size).toBeGreaterThan(10);
	expect([...byId].filter(([, given]) => !namesRequest(given))).toEqual([]);
	const others = methods(contract, /^export interface LimitCalls extends RequestCalls \{/m);
	expect(others.size).toBeGreaterThan(10);
	const named = [...others].filter(([, given]) => namesRequest(given)).map(([name]) => name);
	expect(named.sort()).toEqual(OTHERWISE.sort());
});

test("and so of the object itself", () => {
	const own = methods(read("src/server/limit/limit-object.ts"), /^export class LimitObject [^{]*\{/m);
	const named = [...own].filter(([, given]) => namesRequest(given)).map(([name]) => name);
	expect(named.sort()).toEqual([...byId.keys(), ...OTHERWISE].sort());
});
