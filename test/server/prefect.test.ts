/** Prefect's wire: every route, with its statuses, bodies and errors. */

import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import * as prefect from "./prefect-support.ts";
import {
	call,
	crash,
	inspect,
	newName,
	newNames,
	open,
	read,
	stopClock,
	until,
	untilActive,
	untilWaiting,
} from "./support.ts";

const { LIMITS } = prefect;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
const notFound = { detail: "Concurrency Limit not found" };

describe("limits", () => {
	test("are created with everything that Prefect shows, in its order", async () => {
		const name = newName();
		const { status, body } = await prefect.post<object>("/", { name, limit: 2, active_slots: 1, denied_slots: 3 });
		expect(status).toBe(201);
		expect(Object.entries(body)).toEqual([
			...[
				["id", expect.stringMatching(UUID)],
				["created", expect.stringMatching(MOMENT)],
				["updated", expect.stringMatching(MOMENT)],
			],
			...[
				["active", true],
				["name", name],
				["limit", 2],
				["active_slots", 1],
				["denied_slots", 3],
			],
			...[
				["slot_decay_per_second", 0],
				["avg_slot_occupancy_seconds", 2],
			],
		]);
	});

	test("are the same limits as those of /v1", async () => {
		const name = newName();
		const { id } = await prefect.create(name, { limit: 3, slot_decay_per_second: 0.5, active: false });
		expect(await inspect(name)).toMatchObject({ id, limit: 3, slotDecayPerSecond: 0.5, active: false });
		await call("PUT", `/v1/limits/${name}`, { limit: 7 });
		expect(await prefect.shown(name)).toMatchObject({ id, limit: 7, slot_decay_per_second: 0, active: true });
	});

	test("are read by name and by id, in any form that Python takes", async () => {
		const name = newName("read ");
		const { id } = await prefect.create(name);
		for (const text of [name, id, id.toUpperCase(), id.replaceAll("-", ""), `{${id}}`, `urn:uuid:${id}`]) {
			expect(await prefect.shown(text)).toMatchObject({ id, name });
		}
		expect(await call("GET", prefect.at(newName()))).toMatchObject({ status: 404, body: notFound });
		expect(await call("GET", `${LIMITS}/%zz`)).toMatchObject({ status: 404, body: notFound });
	});

	test("a name that is taken is 409, to any number of callers at once but one", async () => {
		const name = newName();
		const answers = await Promise.all([1, 2, 3].map((limit) => prefect.post("/", { name, limit })));
		expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409]);
		expect(answers.find(({ status }) => status === 409)?.body).toEqual({
			detail:
				"Data integrity conflict. This usually means a unique or foreign key constraint was violated. See server logs for details.",
		});
	});

	test("are updated field by field", async () => {
		const name = newName();
		const { id } = await prefect.create(name);
		const { status, body } = await prefect.update(name, { limit: "4", active: "off", slot_decay_per_second: 2 });
		expect({ status, body }).toEqual({ status: 204, body: "" });
		expect(await prefect.shown(id)).toMatchObject({ limit: 4, active: false, slot_decay_per_second: 2, name });
		expect((await prefect.update(id, {})).status).toBe(204);
		expect((await prefect.update(newName(), { limit: 1 })).status).toBe(404);
	});

	test("are deleted, once", async () => {
		const name = newName();
		await prefect.create(name);
		expect(await call("DELETE", prefect.at(name))).toMatchObject({ status: 204, body: "" });
		expect(await call("DELETE", prefect.at(name))).toMatchObject({ status: 404, body: notFound });
	});

	test("are listed by name, by page", async () => {
		const names = newNames(5);
		await Promise.all(names.map((name) => prefect.create(name)));
		const all = async (body?: unknown) => (await prefect.post<prefect.Global[]>("/filter", body)).body;
		await until(async () => (await all()).filter(({ name }) => names.includes(name)).length === 5);
		const listed = (await all()).map(({ name }) => name);
		expect(listed).toEqual([...listed].sort(byCodePoints));
		const offset = listed.indexOf(names[1] as string);
		expect((await all({ offset, limit: 2 })).map(({ name }) => name)).toEqual(names.slice(1, 3));
		expect(await all({ limit: 0 })).toEqual([]);
		expect(await all({ offset: 100_000 })).toEqual([]);
	});

	test.each([
		[201, "Invalid limit: must be less than or equal to 200."],
		[-1, "Invalid limit: must be greater than or equal to 0."],
	])("a page of %d is refused", async (limit, detail) => {
		expect(await prefect.post("/filter", { limit })).toMatchObject({ status: 422, body: { detail } });
	});

	test("a body that is wrong is told everything that is wrong with it", async () => {
		const body = { name: "a/b", limit: -1, extra: 1 };
		const answer = await prefect.post<prefect.Invalid>("/", body);
		expect(answer.status).toBe(422);
		expect(answer.body).toEqual({
			exception_message: "Invalid request received.",
			exception_detail: [
				{
					...{ type: "string_pattern_mismatch", loc: ["body", "name"] },
					...{ msg: "String should match pattern '^[^/%&><]+$'", input: "a/b", ctx: { pattern: "^[^/%&><]+$" } },
				},
				{
					...{ type: "greater_than_equal", loc: ["body", "limit"], input: -1, ctx: { ge: 0 } },
					msg: "Input should be greater than or equal to 0",
				},
				{
					...{ type: "extra_forbidden", loc: ["body", "extra"], input: 1 },
					msg: "Extra inputs are not permitted",
				},
			],
			request_body: body,
		});
	});

	test.each<[string, Record<string, unknown>, string, string]>([
		["no limit", {}, "missing", "limit"],
		["a fraction", { limit: 1.5 }, "int_from_float", "limit"],
		["a word", { limit: "x" }, "int_parsing", "limit"],
		["nothing", { limit: null }, "int_type", "limit"],
		["no switch", { limit: 1, active: null }, "bool_type", "active"],
		["a decay below 0", { limit: 1, slot_decay_per_second: -1 }, "greater_than_equal", "slot_decay_per_second"],
		["the mean", { limit: 1, avg_slot_occupancy_seconds: 1 }, "extra_forbidden", "avg_slot_occupancy_seconds"],
	])("create is refused with %s", async (_, body, type, field) => {
		const { status, body: answer } = await prefect.post<prefect.Invalid>("/", { name: newName(), ...body });
		expect(status).toBe(422);
		expect(answer.exception_detail).toMatchObject([{ type, loc: ["body", field] }]);
	});

	test.each([
		["not JSON", "{bad", "json_invalid"],
		["no body", "", "missing"],
		["a list", "[1]", "model_attributes_type"],
	])("%s is refused", async (_, text, type) => {
		const { status, body } = await prefect.post<prefect.Invalid>("/", text);
		expect(status).toBe(422);
		expect(body.exception_detail).toMatchObject([{ type }]);
	});

	test("a body says that it is JSON, as every client says", async () => {
		const send = (headers: Record<string, string>) => {
			const body = new TextEncoder().encode(JSON.stringify({ name: newName(), limit: 1 }));
			return exports.default.fetch(new Request(`http://headgate.test${LIMITS}/`, { method: "POST", body, headers }));
		};
		expect((await send({ "Content-Type": "application/json" })).status).toBe(201);
		expect((await send({ "Content-Type": "application/vnd.prefect+json; charset=utf-8" })).status).toBe(201);
		for (const headers of [{}, { "Content-Type": "text/plain" }]) {
			const { status, body } = await read<{ detail: string }>(await send(headers));
			expect({ status, detail: body.detail }).toEqual({
				status: 415,
				detail: expect.stringContaining("Content-Type: application/json"),
			});
		}
	});
});

describe("paths and methods", () => {
	test.each([
		["GET", `${LIMITS}/`, 405],
		["POST", `${LIMITS}/a`, 405],
		["PUT", `${LIMITS}/a`, 405],
		["GET", `${LIMITS}/leases/a/renew`, 405],
		["GET", "/api/nothing", 404],
		["GET", `${LIMITS}/filter`, 404],
	])("%s %s is %d", async (method, path, status) => {
		expect((await call(method, path)).status).toBe(status);
	});

	test("a slash too few, or too many, is redirected", async () => {
		const moved = async (method: string, path: string) => {
			const request = new Request(`http://headgate.test${path}`, { method, redirect: "manual" });
			const { status, headers } = await exports.default.fetch(request);
			return [status, headers.get("Location")];
		};
		expect(await moved("POST", LIMITS)).toEqual([307, `${LIMITS}/`]);
		expect(await moved("GET", `${LIMITS}/a/`)).toEqual([307, `${LIMITS}/a`]);
	});

	test.each([
		["/api/health", true],
		["/api/ready", { message: "OK" }],
		["/api/hello", "👋"],
		["/api/version", "0.8.4"],
		["/api/admin/version", expect.stringMatching(/^3\./)],
	])("%s is answered", async (path, body) => {
		expect(await call("GET", path)).toMatchObject({ status: 200, body });
	});

	test("clients learn that they need no csrf token", async () => {
		const { status, body } = await call("GET", "/api/csrf-token?client=x");
		expect({ status, body }).toEqual({ status: 422, body: { detail: "CSRF protection is disabled." } });
	});

	test.each([
		["abc", 400, "Invalid X-PREFECT-API-VERSION header format.Expected header in format 'x.y.z' but received abc"],
		["0.7.9", 400, "The request specified API version 0.7.9 but this server requires version 0.8.0 or higher."],
		["0.8.4", 404, notFound.detail],
		["1.0.0", 404, notFound.detail],
	])("version %s of the wire: %d", async (version, status, detail) => {
		const answer = await call("GET", prefect.at(newName()), undefined, { "X-PREFECT-API-VERSION": version });
		expect(answer).toMatchObject({ status, body: { detail } });
	});
});

describe("leases", () => {
	test("are answered with the limits, and show their holder", async () => {
		stopClock();
		const name = newName();
		const { id } = await prefect.create(name, { limit: 2 });
		const run = crypto.randomUUID();
		const { status, body } = await prefect.lease(name, { slots: 2, holder: { type: "flow_run", id: run } });
		expect({ status, body }).toEqual({
			status: 200,
			body: { lease_id: expect.stringMatching(UUID), limits: [{ id, name, limit: 2 }] },
		});
		const { leases } = await inspect(name);
		expect(leases).toMatchObject([{ id: body.lease_id, slots: 2, holder: `flow_run:${run}` }]);
		expect(Date.parse(leases[0]?.expiresAt ?? "") - Date.now()).toBe(300_000);
		expect((await prefect.release(body.lease_id)).status).toBe(204);
		expect(await prefect.shown(name)).toMatchObject({ active_slots: 0, lease_count: 0 });
	});

	test("lead back to their limit by the id alone, also after a restart and with upper-case letters", async () => {
		const name = newName();
		await prefect.create(name);
		const id = await prefect.leased(name);
		await crash(name);
		expect(await prefect.renew(id.toUpperCase(), { lease_duration: 120 })).toMatchObject({ status: 204, body: "" });
		expect((await prefect.release(id.toUpperCase())).status).toBe(204);
		expect((await prefect.shown(name)).active_slots).toBe(0);
	});

	test("are renewed for five minutes when nothing else is said", async () => {
		stopClock();
		const name = newName();
		await prefect.create(name);
		const id = await prefect.leased(name, { lease_duration: 60 });
		expect((await prefect.renew(id)).status).toBe(204);
		const [held] = (await inspect(name)).leases;
		expect(Date.parse(held?.expiresAt ?? "") - Date.now()).toBe(300_000);
	});

	test("that are over are 410 to renew and 204 to release", async () => {
		const name = newName();
		await prefect.create(name);
		const id = await prefect.leased(name);
		await prefect.release(id);
		const gone = { status: 410, body: { detail: "Lease not found - it may have expired or been revoked" } };
		for (const each of [id, crypto.randomUUID()]) {
			expect(await prefect.renew(each, {})).toMatchObject(gone);
			expect((await prefect.release(each)).status).toBe(204);
		}
	});

	test("of several limits are taken, renewed and released as one", async () => {
		const [a, b, c] = newNames(3) as [string, string, string];
		for (const name of [a, b, c]) await prefect.create(name);
		const id = await prefect.leased([c, a, b, a]);
		expect((await prefect.lease([b])).status).toBe(423);
		expect((await prefect.renew(id)).status).toBe(204);
		await crash(a);
		expect((await prefect.release(id)).status).toBe(204);
		for (const name of [a, b, c]) expect((await prefect.shown(name)).active_slots).toBe(0);
	});

	test("of several limits are all or nothing", async () => {
		const [a, b] = newNames(2) as [string, string];
		for (const name of [a, b]) await prefect.create(name);
		await prefect.leased(b);
		prefect.retryAfter(await prefect.lease([a, b]));
		expect((await prefect.shown(a)).active_slots).toBe(0);
	});

	test("one part that was taken back makes the whole lease unrenewable", async () => {
		const [a, b] = newNames(2) as [string, string];
		for (const name of [a, b]) await prefect.create(name);
		const id = await prefect.leased([a, b]);
		await call("DELETE", `/v1/limits/${b}/leases/${id}`);
		expect((await prefect.renew(id)).status).toBe(410);
	});

	test("names that do not exist are passed over, and make no lease", async () => {
		const [a, b] = newNames(2) as [string, string];
		await prefect.create(a);
		const { body } = await prefect.lease([a, b]);
		expect(body.limits.map(({ name }) => name)).toEqual([a]);
		for (const names of [[b], []]) expect((await prefect.lease(names)).body.limits).toEqual([]);
		expect((await call("GET", prefect.at(b))).status).toBe(404);
	});

	test("inactive limits are named and count nothing", async () => {
		const name = newName();
		await prefect.create(name, { active: false });
		const { body } = await prefect.lease(name, { slots: 99 });
		expect(body.limits.map((limit) => limit.name)).toEqual([name]);
		expect((await prefect.increment(name, { mode: "rate_limit" })).status).toBe(200);
		expect((await prefect.shown(name)).active_slots).toBe(0);
	});

	test("more slots than there are is 422, before anything else", async () => {
		const [a, b] = newNames(2) as [string, string];
		await prefect.create(a, { limit: 1 });
		await prefect.create(b, { limit: 5 });
		const detail = "Slots requested is greater than the limit";
		for (const mode of ["concurrency", "rate_limit"]) {
			expect(await prefect.lease([a, b], { slots: 2, mode })).toMatchObject({ status: 422, body: { detail } });
			expect(await prefect.increment([a, b], { slots: 2, mode })).toMatchObject({ status: 422, body: { detail } });
		}
	});

	test("rate limits need decay, and every limit without it is named", async () => {
		const [a, b, c] = newNames(3) as [string, string, string];
		for (const name of [a, b]) await prefect.create(name);
		await prefect.create(c, { slot_decay_per_second: 1 });
		const detail =
			"Only concurrency limits with slot decay can be used for rate limiting. " +
			`The following limits do not have a decay configured: '${a},${b}'`;
		for (const ask of [prefect.lease, prefect.increment]) {
			expect(await ask([a, b, c], { mode: "rate_limit" })).toMatchObject({ status: 422, body: { detail } });
		}
	});

	test.each<[string, Record<string, unknown>, string, (string | number)[]]>([
		["slots", { slots: 0 }, "greater_than", ["body", "slots"]],
		["names", { names: "a" }, "list_type", ["body", "names"]],
		["a name", { names: [1] }, "string_type", ["body", "names", 0]],
		["mode", { mode: "x" }, "literal_error", ["body", "mode"]],
		["lease_duration", { lease_duration: 59 }, "greater_than_equal", ["body", "lease_duration"]],
		["holder", { holder: { type: "x" } }, "literal_error", ["body", "holder", "type"]],
		["too many names", { names: newNames(17) }, "too_long", ["body", "names"]],
	])("%s that is wrong is refused", async (_, wrong, type, loc) => {
		const { status, body } = await prefect.post<prefect.Invalid>("/increment-with-lease", {
			...{ names: ["a"], slots: 1, unknown: "is passed over" },
			...wrong,
		});
		expect(status).toBe(422);
		expect(body.exception_detail[0]).toMatchObject({ type, loc });
	});
});

describe("slots without a lease", () => {
	test("are taken and given back by name", async () => {
		const name = newName();
		const { id } = await prefect.create(name, { limit: 2 });
		expect(await prefect.increment(name, { slots: 2 })).toMatchObject({ status: 200, body: [{ id, name, limit: 2 }] });
		prefect.retryAfter(await prefect.increment(name));
		expect(await prefect.decrement(name, { occupancy_seconds: 6 })).toMatchObject({
			status: 200,
			body: [{ id, name }],
		});
		expect(await prefect.shown(name)).toMatchObject({ active_slots: 1, avg_slot_occupancy_seconds: 3 });
		expect(await prefect.decrement(newName())).toMatchObject({ status: 200, body: [] });
	});

	test("of several limits are taken together and given back one by one", async () => {
		const [a, b] = newNames(2) as [string, string];
		for (const name of [a, b]) await prefect.create(name);
		expect((await prefect.increment([a, b])).body).toHaveLength(2);
		prefect.retryAfter(await prefect.increment([a, b]));
		await prefect.decrement(a);
		expect((await prefect.shown(a)).active_slots).toBe(0);
		expect((await prefect.shown(b)).active_slots).toBe(1);
		await prefect.decrement([a, b]);
		expect((await prefect.increment([a, b])).status).toBe(200);
	});

	test("with create_if_missing, as of 2024, a missing limit is made, inactive", async () => {
		const name = newName();
		const { status, body } = await prefect.increment(name, { slots: 7, create_if_missing: true });
		expect({ status, body }).toEqual({ status: 200, body: [{ id: expect.stringMatching(UUID), name, limit: 1 }] });
		expect(await prefect.shown(name)).toMatchObject({ active: false, active_slots: 0 });
		expect(await prefect.increment(newName(), { create_if_missing: null })).toMatchObject({ status: 200, body: [] });
	});

	test("rate limits come back by decay alone", async () => {
		const clock = stopClock();
		const name = newName();
		await prefect.create(name, { limit: 2, slot_decay_per_second: 1 });
		for (let index = 0; index < 2; index += 1) {
			expect((await prefect.increment(name, { mode: "rate_limit" })).status).toBe(200);
		}
		const seconds = prefect.retryAfter(await prefect.increment(name, { mode: "rate_limit" }));
		expect(seconds).toBeLessThanOrEqual(1);
		await prefect.decrement(name, { slots: 2 });
		clock.pass(seconds * 1_000);
		expect((await prefect.increment(name, { mode: "rate_limit" })).status).toBe(200);
	});
});

describe("Prefer: wait=N", () => {
	const prefer = (seconds: number) => ({ Prefer: `wait=${seconds}` });

	test("waits in line, in order, and is handed the slot of whoever goes", async () => {
		const name = newName();
		await prefect.create(name);
		const first = await prefect.leased(name);
		const order: string[] = [];
		const wait = async (who: string): Promise<void> => {
			const answer = await prefect.lease(name, {}, prefer(20));
			expect(answer.status).toBe(200);
			expect(answer.headers.get("Preference-Applied")).toBe("wait=20");
			order.push(who);
			await prefect.release(answer.body.lease_id);
		};
		const waits: Promise<void>[] = [];
		for (const who of ["a", "b", "c"]) {
			waits.push(wait(who));
			await untilWaiting(name, waits.length);
		}
		await prefect.release(first);
		await Promise.all(waits);
		expect(order).toEqual(["a", "b", "c"]);
		expect((await prefect.shown(name)).active_slots).toBe(0);
	});

	test("stands in one line with callers of /v1", async () => {
		const name = newName();
		await prefect.create(name);
		const first = await prefect.leased(name);
		const native = await open({ names: name });
		await untilWaiting(name, 1);
		const late = prefect.lease(name, {}, prefer(20));
		await untilWaiting(name, 2);
		await prefect.release(first);
		await untilActive(name, 1);
		expect((await inspect(name)).waiting).toHaveLength(1);
		await call("DELETE", `/v1/limits/${name}/leases/${(await native.granted()).id}`);
		expect((await late).status).toBe(200);
	});

	test("is 423 when the time is over, for a caller that is to stand in line again at once", async () => {
		const [a, b, r] = newNames(3) as [string, string, string];
		for (const name of [a, b]) await prefect.create(name);
		await prefect.create(r, { slot_decay_per_second: 0.01 });
		await prefect.leased([a, b]);
		await prefect.increment(r, { mode: "rate_limit" });
		const short = { Prefer: "respond-async, wait=1" };
		const answers = await Promise.all([
			prefect.lease(a, {}, short),
			prefect.lease([a, b], {}, short),
			prefect.increment(a, {}, short),
			prefect.increment(r, { mode: "rate_limit" }, short),
		]);
		for (const answer of answers) expect(prefect.retryAfter(answer)).toBe(0);
		for (const name of [a, b, r]) expect((await inspect(name)).waitingCount).toBe(0);
		expect(prefect.retryAfter(await prefect.lease(a))).toBeGreaterThan(0);
	});

	test("works for several limits, for old callers and for rate limits", async () => {
		const [a, b, r] = newNames(3) as [string, string, string];
		for (const name of [a, b]) await prefect.create(name);
		await prefect.create(r, { slot_decay_per_second: 5 });
		const held = await prefect.leased(b);
		const both = prefect.lease([a, b], {}, prefer(20));
		await untilWaiting(b, 1);
		await prefect.release(held);
		const { body } = await both;
		const old = prefect.increment([a, b], {}, prefer(20));
		await untilWaiting(a, 1);
		await prefect.release(body.lease_id);
		expect((await old).body).toHaveLength(2);
		for (let index = 0; index < 3; index += 1) {
			expect((await prefect.increment(r, { mode: "rate_limit" }, prefer(20))).status).toBe(200);
		}
	});
});

describe("Prefer: handling=strict", () => {
	test.each([prefect.lease, prefect.increment])(
		"names that do not exist, or are switched off, are refused",
		async (ask) => {
			const [a, b, c] = newNames(3) as [string, string, string];
			await prefect.create(a);
			await prefect.create(c, { active: false });
			const headers = { Prefer: "handling=strict" };
			expect(await ask([a, b], {}, headers)).toMatchObject({
				status: 404,
				body: { detail: expect.stringContaining(b) },
			});
			expect(await ask([a, c], {}, headers)).toMatchObject({
				status: 422,
				body: { detail: expect.stringContaining(c) },
			});
			expect((await prefect.shown(a)).active_slots).toBe(0);
			expect((await ask([a], {}, headers)).status).toBe(200);
		},
	);
});

/** As the directory orders names. `sort()` alone goes by halves of what lies beyond U+FFFF. */
function byCodePoints(a: string, b: string): number {
	const [ours, theirs] = [[...a], [...b]];
	const at = ours.findIndex((character, index) => character !== theirs[index]);
	return at < 0 ? ours.length - theirs.length : (ours[at]?.codePointAt(0) ?? 0) - (theirs[at]?.codePointAt(0) ?? 0);
}
