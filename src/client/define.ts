/** Limits as code: one file that `headgate apply` carries out, and whose names the compiler knows. */

import type { LimitSettings, PolicySettings } from "../protocol.ts";

type Some<T extends { limit: number }> = Pick<T, "limit"> & Partial<T>;

/** Limits by name, and policies by pattern, as a file for `headgate apply` has them. */
export interface LimitsAsCode {
	limits?: Record<string, Some<LimitSettings>>;
	policies?: Record<string, Some<PolicySettings>>;
}

/**
 * The limits of a program, as the default export of a file: `headgate apply limits.ts` sets them, and `NamesOf` are the
 * names that its calls may have.
 *
 * @example
 * import { defineLimits, Headgate, type NamesOf } from "headgate";
 *
 * const limits = defineLimits({
 * 	limits: { database: { limit: 20 }, openai: { limit: 100, slotDecayPerSecond: 5 } },
 * 	policies: { "login:*": { limit: 5, slotDecayPerSecond: 0.1 } },
 * });
 * export default limits;
 *
 * const gate = new Headgate<NamesOf<typeof limits>>({ url: "https://limits.example.workers.dev" });
 * await gate.rateLimit("login:alice"); // and not "logn:alice"
 */
export const defineLimits = <const T extends LimitsAsCode>(limits: T): T => limits;

/** A pattern with a closing `*` stands for every name that starts so. */
type NameOf<Pattern> = Pattern extends `${infer Prefix}*` ? `${Prefix}${string}` : Pattern;
type KeyOf<T> = T extends object ? Extract<keyof T, string> : never;

/** The names that limits and policies of `defineLimits` are for. */
export type NamesOf<T extends LimitsAsCode> = KeyOf<T["limits"]> | NameOf<KeyOf<T["policies"]>>;
