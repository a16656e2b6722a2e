/** Who may do what over Prefect's wire, and how it is refused there. */

import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { service } from "../../src/server/front/routes.ts";
import * as prefect from "./prefect-support.ts";
import { type Answer, bindings, configure, newName, read, rewrite, until } from "./support.ts";

const TOKENS = { admin: "a-secret-of-an-admin", use: "u-secret-of-a-program", read: "r-secret-of-a-reader" } as const;
const PREFIX = newName("team-");

async function ask<Body>(
	method: string,
	path: string,
	authorization: string | null,
	body?: unknown,
): Promise<Answer<Body>> {
	const entries = Object.entries(TOKENS).map(async ([scope, token]) => {
		const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token)));
		const sha256 = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
		return { scope, sha256, prefix: PREFIX };
	});
	const { LIMITS, DIRECTORY } = bindings;
	const env = { LIMITS, DIRECTORY, HEADGATE_TOKENS: JSON.stringify(await Promise.all(entries)) };
	const context = createExecutionContext();
	const headers = {
		"Content-Type": "application/json",
		...(authorization !== null && { Authorization: authorization }),
	};
	const text = body === undefined ? {} : { body: JSON.stringify(body) };
	const request = new Request(`http://headgate.test${path}`, { method, headers, ...text });
	const answer = await read<Body>(await service.fetch(request, env, context));
	await waitOnExecutionContext(context);
	return answer;
}

const bearer = (scope: keyof typeof TOKENS): string => `Bearer ${TOKENS[scope]}`;

test.each([
	["no token", null],
	["another token", "Bearer x"],
	["another password", `Basic ${btoa("me:x")}`],
])("%s is 401, as Prefect's server says it", async (_, authorization) => {
	for (const path of ["/api/v2/concurrency_limits/a", "/api/admin/version", "/api/csrf-token?client=x"]) {
		const { status, body } = await ask("GET", path, authorization);
		expect({ status, body }).toEqual({ status: 401, body: { exception_message: "Unauthorized" } });
	}
	for (const path of ["/api/health", "/api/ready"]) expect((await ask("GET", path, authorization)).status).toBe(200);
});

test.each([
	["a bearer", bearer("admin")],
	["the password of a name", `Basic ${btoa(`me:${TOKENS.admin}`)}`],
	["a password alone", `Basic ${btoa(TOKENS.admin)}`],
])("%s opens", async (_, authorization) => {
	expect((await ask("GET", prefect.at(`${PREFIX}-none`), authorization)).status).toBe(404);
});

describe("scopes", () => {
	const name = `${PREFIX}-a`;
	const lease = { names: [name], slots: 1 };
	test.each<[keyof typeof TOKENS, string, string, unknown]>([
		["admin", "POST", `${prefect.LIMITS}/`, { name: `${PREFIX}-b`, limit: 1 }],
		["admin", "PATCH", prefect.at(name), { limit: 2 }],
		["admin", "DELETE", prefect.at(name), undefined],
		["use", "POST", `${prefect.LIMITS}/increment`, lease],
		["use", "POST", `${prefect.LIMITS}/increment-with-lease`, lease],
		["use", "POST", `${prefect.LIMITS}/decrement`, lease],
		["read", "GET", prefect.at(name), undefined],
		["read", "POST", `${prefect.LIMITS}/filter`, {}],
	])("%s: %s %s", async (scope, method, path, body) => {
		const weaker = ({ admin: "use", use: "read", read: null } as const)[scope];
		if (weaker) {
			const { status, body: said } = await ask<{ detail: string }>(method, path, bearer(weaker), body);
			expect(status).toBe(403);
			expect(said.detail).toContain(`scope "${scope}"`);
		}
		expect([200, 201, 204, 404]).toContain((await ask(method, path, bearer(scope), body)).status);
	});
});

test("a token for some names sees and moves no others", async () => {
	const other = newName("other-");
	await prefect.create(other);
	const admin = bearer("admin");
	expect((await ask("GET", prefect.at(other), admin)).status).toBe(403);
	expect((await ask("PATCH", prefect.at(other), admin, { limit: 5 })).status).toBe(403);
	expect((await ask("POST", `${prefect.LIMITS}/increment`, admin, { names: [other], slots: 1 })).status).toBe(403);
	const listed = await ask<prefect.Global[]>("POST", `${prefect.LIMITS}/filter`, admin, {});
	expect(listed.body.every(({ name }) => name.startsWith(PREFIX))).toBe(true);
	const mine = `${PREFIX}-${crypto.randomUUID()}`;
	await prefect.create(mine);
	expect((await ask("PATCH", prefect.at(mine), admin, { name: other.slice(0, 8) })).status).toBe(403);
	expect((await prefect.shown(other)).active_slots).toBe(0);
});

describe("what is outside of a prefix is answered like what does not exist", () => {
	/** Status, headers and body, without the text that the caller sent itself. */
	const said = async (sent: string, asked: Promise<Answer<unknown>>) => {
		const { status, headers, body } = await asked;
		return JSON.stringify({ status, headers: [...headers], body }).replaceAll(sent, "<sent>");
	};
	const scopes = ["admin", "use", "read"] as const;

	test.each(
		scopes.flatMap((scope) => [
			[scope, "GET", undefined] as const,
			[scope, "PATCH", { limit: 7 }] as const,
			[scope, "DELETE", undefined] as const,
		]),
	)("%s: %s of an id, and of a name that looks like one", async (scope, method, body) => {
		const outside = newName("other-");
		const { id } = await prefect.create(outside);
		const idLike = crypto.randomUUID();
		await prefect.create(idLike);
		const nowhere = crypto.randomUUID();
		const unknown = await said(nowhere, ask(method, prefect.at(nowhere), bearer(scope), body));
		for (const text of [id, id.toUpperCase(), idLike]) {
			expect(await said(text, ask(method, prefect.at(text), bearer(scope), body))).toBe(unknown);
		}
		expect(await prefect.shown(outside)).toMatchObject({ limit: 1 });
		expect(await prefect.shown(idLike)).toMatchObject({ limit: 1 });
	});

	test.each(scopes)("%s: a name that the caller wrote is refused whether it exists or not", async (scope) => {
		const [there, nowhere] = [newName("other-"), newName("other-")];
		await prefect.create(there);
		for (const method of ["GET", "PATCH", "DELETE"]) {
			const [one, two] = await Promise.all(
				[there, nowhere].map((name) =>
					said(name, ask(method, prefect.at(name), bearer(scope), method === "PATCH" ? {} : undefined)),
				),
			);
			expect(one).toBe(two);
			expect(one).toContain("403");
		}
	});

	/** Which names a lease is over, and whether the token may speak of it. */
	const leases: [what: string, of: (mine: string, also: string, theirs: string) => string[], allowed: boolean][] = [
		["its own name", (mine) => [mine], true],
		["two of its own", (mine, also) => [mine, also], true],
		["another's name", (_, __, theirs) => [theirs], false],
		["its own and another's", (mine, _, theirs) => [mine, theirs], false],
		["another's, that leads, and its own", (mine, _, theirs) => [mine, theirs.replace("z-", "a-")], false],
	];
	test.each(leases)("a lease over %s", async (_, of, allowed) => {
		const [mine, also, theirs] = [`${PREFIX}-${newName()}`, `${PREFIX}-${newName()}`, newName("z-")];
		const names = of(mine, also, theirs);
		for (const name of names) await prefect.create(name);
		const held = await prefect.leased(names);
		// One that leads to the same limit, and one that leads nowhere.
		const fakes = [`${held.slice(0, -4)}0000`, `${crypto.randomUUID().slice(0, 13)}${held.slice(13)}`];
		const use = bearer("use");
		const renew = (id: string) => said(id, ask("POST", `${prefect.LIMITS}/leases/${id}/renew`, use, {}));
		const release = (id: string) =>
			said(id, ask("POST", `${prefect.LIMITS}/decrement-with-lease`, use, { lease_id: id }));
		const slots = () => Promise.all(names.map(async (name) => (await prefect.shown(name)).active_slots));
		for (const fake of fakes) {
			if (allowed) expect(await renew(held)).toContain("204");
			else expect(await renew(held)).toBe(await renew(fake));
		}
		expect(await slots()).toEqual(names.map(() => 1));
		const gone = await Promise.all(fakes.map(release));
		expect(await slots()).toEqual(names.map(() => 1));
		for (const one of gone) expect(await release(held)).toBe(one);
		expect(await slots()).toEqual(names.map(() => (allowed ? 0 : 1)));
		expect((await prefect.renew(held)).status).toBe(allowed ? 410 : 204);
	});
});

test("one limit with newer data hides no other from the list, and a header says which ones it leaves out", async () => {
	// The list of a prefix that no other test has, by its own tokens.
	const names = ["a", "b, \u00e9", "c", "d"].map((end) => `${PREFIX}-listed-${end}`);
	await Promise.all(names.map((name) => configure(name, { limit: 1 })));
	const list = async (limit: number, offset: number) => {
		const body = { limit, offset };
		const answer = await ask<{ name: string }[]>("POST", `${prefect.LIMITS}/filter`, bearer("read"), body);
		return { ...answer, names: answer.status === 200 ? answer.body.map(({ name }) => name) : [] };
	};
	let all: string[] = [];
	await until(async () => {
		all = (await list(200, 0)).names;
		return names.every((name) => all.includes(name));
	});
	const offset = all.indexOf(names[0] as string);
	expect((await list(4, offset)).headers.get("Headgate-Unavailable")).toBeNull();
	for (const broken of names.slice(1, 3)) await rewrite(broken, "UPDATE schema SET version = 99");
	const page = await list(4, offset);
	expect(page).toMatchObject({ status: 200, names: [names[0], names[3]] });
	expect(page.headers.get("Headgate-Unavailable")).toBe(names.slice(1, 3).map(encodeURIComponent).join(", "));
	// Where none of a page can be asked, an empty list would say that there is none.
	expect((await list(2, offset + 1)).status).toBe(503);
});
