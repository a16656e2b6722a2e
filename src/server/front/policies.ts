/** The routes of policies, and what a change of one makes this Worker forget. */

import type { Hono } from "hono";
import { deniedKeys } from "../contract/policy-sums.ts";
import { denialsOf } from "./denials/memory.ts";
import { body } from "./http/body.ts";
import { refuse } from "./http/refused.ts";
import { type App, accept, by, type C, directory, patterned, route } from "./http/route.ts";
import { repayAll } from "./lending/lending.ts";
import { audit } from "./log.ts";
import { rulingsOf } from "./policy-copy.ts";
import { parsePolicy } from "./requests.ts";

export function policyRoutes(app: Hono<App>): void {
	route(app, { GET: "read" }, "/v1/policies", {
		GET: async (c) => {
			const { prefix } = c.get("grant");
			const policies = await directory(c).policies();
			return c.json({ policies: policies.filter(({ pattern }) => pattern.startsWith(prefix)) });
		},
	});

	route(app, { GET: "read" }, "/v1/policies/:pattern/denied", {
		GET: async (c) => {
			const pattern = patterned(c, "read");
			if ((await directory(c).policy(pattern)) === null) unknownPolicy(pattern);
			return c.json(await deniedKeys(c.env, pattern));
		},
	});

	route(app, { GET: "read", PUT: "admin", DELETE: "admin" }, "/v1/policies/:pattern", {
		GET: async (c) => {
			const pattern = patterned(c, "read");
			return c.json((await directory(c).policy(pattern)) ?? unknownPolicy(pattern));
		},
		PUT: async (c) => {
			const pattern = patterned(c, "admin");
			const settings = accept(parsePolicy(await body(c.req.raw)));
			const from = await directory(c).policy(pattern);
			const set = await directory(c).setPolicy(pattern, settings, by(c), c.env.caller?.policies);
			if ("full" in set) return tooManyPolicies(set.full);
			audit({ action: "configure", policy: pattern, by: by(c), from, to: settings });
			await policiesChanged(c, pattern, set.version);
			return c.json(set.policy, set.created ? 201 : 200);
		},
		DELETE: async (c) => {
			const pattern = patterned(c, "admin");
			const from = await directory(c).policy(pattern);
			const version = (await directory(c).deletePolicy(pattern)) ?? unknownPolicy(pattern);
			audit({ action: "delete", policy: pattern, by: by(c), from, to: null });
			await policiesChanged(c, pattern, version);
			return c.body(null, 204);
		},
	});
}

const unknownPolicy = (pattern: string): never => refuse("unknown_policy", `No policy has the pattern "${pattern}".`);

/** `prefix`: those within it are as many as may be; empty: all are. */
const tooManyPolicies = ({ prefix, most }: { prefix: string; most: number }): never =>
	refuse(
		"too_many_policies",
		prefix === ""
			? `There are ${most} policies already: delete one, or choose a shorter prefix for several.`
			: `There are ${most} policies already that start with "${prefix}", as many as your token may have: delete one, choose a shorter prefix for several, or raise \`policies\` in the token's bounds.`,
	);

/** What this Worker knew of the policies, what it borrowed by them and every denial that it remembers is of no use any more. */
async function policiesChanged(c: C, pattern: string, version: number): Promise<void> {
	repayAll(c.env, pattern);
	const denials = denialsOf(c.env);
	denials.changedAll();
	await rulingsOf(c.env).changed(c.env, version);
	denials.changedAll();
}
