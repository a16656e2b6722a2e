/** What cannot be meant is refused with a problem that says why, and nothing is taken. */

import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { BOUNDS, type LimitInfo, type Problem } from "../../src/protocol.ts";
import {
	type Answer,
	call,
	expectProblem,
	granted,
	inspect,
	newId,
	newLimit,
	newName,
	newNames,
	path,
	read,
	release,
	renew,
} from "./support.ts";

/** A limit with room for everything, so that only the request itself can be at fault. */
const roomy = (): Promise<string> => newLimit({ limit: 1_000, slotDecayPerSecond: 0 });

/** What a refused request must leave as it was. */
const standing = ({ activeSlots, leases, waiting, totals, updatedAt }: LimitInfo) => ({
	...{ activeSlots, leases, waiting, totals, updatedAt },
});

/** The limit at which nearly everything here is aimed; somebody holds slots of it. */
let target: Promise<string> | null = null;
const aim = (): Promise<string> => {
	target ??= roomy().then(async (name) => {
		await granted({ names: name, occupy: 7, leaseSeconds: 3_600 });
		return name;
	});
	return target;
};

/** Fails unless what is done to a limit leaves it as it stood. */
async function untouched<T>(name: string, work: () => Promise<T>): Promise<T> {
	const before = standing(await inspect(name));
	const result = await work();
	expect(standing(await inspect(name))).toEqual(before);
	return result;
}

/** Sends `text` to a route of a limit's, and fails unless it is refused and the limit stands as it stood. */
async function refused(
	method: string,
	route: (name: string) => string,
	text: (name: string) => string | undefined,
	status: number,
	code: Problem["code"],
	headers: Record<string, string> = {},
): Promise<Problem> {
	const name = await aim();
	const answer = await untouched(name, () => call(method, route(name), text(name), headers));
	return expectProblem(answer, status, code);
}

const badAcquire = (text: (name: string) => string, headers?: Record<string, string>) =>
	refused("POST", () => "/v1/acquire", text, 422, "invalid", headers);

/** The fields that a problem names. */
const fields = (problem: Problem): string[] => [...new Set((problem.errors ?? []).map(({ field }) => field))];

/** A body as text: the name of the limit stands for NAME, so that also what JSON.stringify cannot say is sent. */
const json = (text: string) => (name: string) => text.replaceAll("NAME", name);

describe("acquire", () => {
	test.each([
		["no names", "names", `{}`],
		["names null", "names", `{"names":null}`],
		["names true", "names", `{"names":true}`],
		["names a number", "names", `{"names":1}`],
		["names an empty text", "names", `{"names":""}`],
		["names an empty list", "names", `{"names":[]}`],
		["names an empty object", "names", `{"names":{}}`],
		["an empty name in a list", "names.1", `{"names":["NAME",""]}`],
		["an empty name in an object", "names", `{"names":{"NAME":1,"":1}}`],
		["a name that is a number", "names.1", `{"names":["NAME",5]}`],
		["a name that is null", "names.1", `{"names":["NAME",null]}`],
		["a list in a list", "names.0", `{"names":[["NAME"]]}`],
		["an object in a list", "names.0", `{"names":[{"NAME":1}]}`],
		["a list as slots", "names.NAME", `{"names":{"NAME":[1]}}`],
		["text as slots", "names.NAME", `{"names":{"NAME":"1"}}`],
		["null as slots", "names.NAME", `{"names":{"NAME":null}}`],
		["true as slots", "names.NAME", `{"names":{"NAME":true}}`],
		["no slots", "names.NAME", `{"names":{"NAME":0}}`],
		["negative slots", "names.NAME", `{"names":{"NAME":-1}}`],
		["fractional slots", "names.NAME", `{"names":{"NAME":1.5}}`],
		["infinite slots", "names.NAME", `{"names":{"NAME":1e309}}`],
		["more slots than any limit may have", "names.NAME", `{"names":{"NAME":2147483648}}`],
		["occupy 0", "occupy", `{"names":"NAME","occupy":0}`],
		["occupy -0", "occupy", `{"names":"NAME","occupy":-0}`],
		["occupy negative", "occupy", `{"names":"NAME","occupy":-3}`],
		["occupy fractional", "occupy", `{"names":"NAME","occupy":0.5}`],
		["occupy just over a whole number", "occupy", `{"names":"NAME","occupy":1.0000001}`],
		["occupy infinite", "occupy", `{"names":"NAME","occupy":1e309}`],
		["occupy huge", "occupy", `{"names":"NAME","occupy":1e21}`],
		["occupy over the bound", "occupy", `{"names":"NAME","occupy":2147483648}`],
		["occupy a text", "occupy", `{"names":"NAME","occupy":"1"}`],
		["occupy true", "occupy", `{"names":"NAME","occupy":true}`],
		["occupy null", "occupy", `{"names":"NAME","occupy":null}`],
		["occupy a list", "occupy", `{"names":"NAME","occupy":[1]}`],
		["occupy per name", "occupy", `{"names":["NAME"],"occupy":{"NAME":1}}`],
		["an unknown mode", "mode", `{"names":"NAME","mode":"rate"}`],
		["mode null", "mode", `{"names":"NAME","mode":null}`],
		["mode a prototype's member", "mode", `{"names":"NAME","mode":"constructor"}`],
		["an empty id", "id", `{"names":"NAME","id":""}`],
		["an id with a space", "id", `{"names":"NAME","id":"a b"}`],
		["an id with a slash", "id", `{"names":"NAME","id":"a/b"}`],
		["an id with a line's end", "id", `{"names":"NAME","id":"a\\n"}`],
		["an id that is not ASCII", "id", `{"names":"NAME","id":"ä"}`],
		["an id that is a number", "id", `{"names":"NAME","id":1}`],
		["an id that is null", "id", `{"names":"NAME","id":null}`],
		["an id that is too long", "id", `{"names":"NAME","id":"${"x".repeat(BOUNDS.idLength + 1)}"}`],
		["leaseSeconds 0", "leaseSeconds", `{"names":"NAME","leaseSeconds":0}`],
		["leaseSeconds under the bound", "leaseSeconds", `{"names":"NAME","leaseSeconds":0.999}`],
		["leaseSeconds negative", "leaseSeconds", `{"names":"NAME","leaseSeconds":-60}`],
		["leaseSeconds over the bound", "leaseSeconds", `{"names":"NAME","leaseSeconds":86400.001}`],
		["leaseSeconds huge", "leaseSeconds", `{"names":"NAME","leaseSeconds":1e300}`],
		["leaseSeconds infinite", "leaseSeconds", `{"names":"NAME","leaseSeconds":1e309}`],
		["leaseSeconds a text", "leaseSeconds", `{"names":"NAME","leaseSeconds":"60"}`],
		["leaseSeconds null", "leaseSeconds", `{"names":"NAME","leaseSeconds":null}`],
		["waitSeconds negative", "waitSeconds", `{"names":"NAME","waitSeconds":-1}`],
		["waitSeconds over the bound", "waitSeconds", `{"names":"NAME","waitSeconds":60.001}`],
		["waitSeconds infinite", "waitSeconds", `{"names":"NAME","waitSeconds":1e309}`],
		["waitSeconds a text", "waitSeconds", `{"names":"NAME","waitSeconds":"1"}`],
		["waitSeconds null", "waitSeconds", `{"names":"NAME","waitSeconds":null}`],
		["createIfMissing a text", "createIfMissing", `{"names":"NAME","createIfMissing":"true"}`],
		["createIfMissing a number", "createIfMissing", `{"names":"NAME","createIfMissing":1}`],
		["strict null", "strict", `{"names":"NAME","strict":null}`],
		["holder a number", "holder", `{"names":"NAME","holder":5}`],
		["holder null", "holder", `{"names":"NAME","holder":null}`],
		["holder too long", "holder", `{"names":"NAME","holder":"${"x".repeat(BOUNDS.holderLength + 1)}"}`],
		["hold without a stream", "hold", `{"names":"NAME","hold":true}`],
		["hold a text", "hold", `{"names":"NAME","hold":"false"}`],
		["an unknown field", "ocupy", `{"names":"NAME","ocupy":3}`],
		["a field in snake case", "lease_seconds", `{"names":"NAME","lease_seconds":3}`],
		["a prototype as a field", "__proto__", `{"names":"NAME","__proto__":{"occupy":1}}`],
		["a constructor as a field", "constructor", `{"names":"NAME","constructor":1}`],
	])("%s", async (_, field, text) => {
		const problem = await badAcquire(json(text));
		const [first = ""] = fields(problem);
		expect(first.replace(/[0-9a-f-]{36}/, "NAME"), JSON.stringify(problem.errors)).toMatch(
			new RegExp(`^${field.replaceAll(".", "\\.")}(\\.|$)`),
		);
		expect(problem.errors?.[0]?.message).not.toMatch(/^Invalid input$|Invalid key/);
		expect(problem.detail).toContain(problem.errors?.[0]?.message as string);
	});

	test("several faults are told at once", async () => {
		const problem = await badAcquire(json(`{"names":"NAME","occupy":0,"leaseSeconds":-1,"mode":"x"}`));
		expect(fields(problem).sort()).toEqual(["leaseSeconds", "mode", "occupy"]);
	});

	test.each(["null", "true", "1", '"text"', "[]", `["NAME"]`, `[{"names":"NAME"}]`])(
		"a body that is %s",
		async (text) => {
			const problem = await badAcquire(json(text));
			expect(fields(problem)).toEqual(["body"]);
		},
	);

	const badNames: [what: string, name: string][] = [
		["too long", "x".repeat(BOUNDS.nameLength + 1)],
		["of 300 characters", "x".repeat(300)],
		["with /", "a/b"],
		["with %", "100%"],
		["with &", "a&b"],
		["with <", "a<b"],
		["with >", "a>b"],
		["with a NUL", "a\0b"],
		["with a line's end", "a\nb"],
		["with a tab", "\t"],
		["with DEL", "a\x7f"],
		["with a C1 control character", "a\x85"],
		["of a high surrogate alone", "\ud83d"],
		["of a low surrogate alone", "a\udea6b"],
		["that is .", "."],
		["that is ..", ".."],
	];

	test.each(badNames)("a name %s: alone, in a list, as a key", async (_, bad) => {
		const problems = [
			await badAcquire(() => JSON.stringify({ names: bad })),
			await badAcquire((name) => JSON.stringify({ names: [name, bad] })),
			await badAcquire((name) => JSON.stringify({ names: { [name]: 1, [bad]: 1 } })),
		];
		for (const problem of problems) {
			expect(fields(problem)[0]).toMatch(/^names/);
			expect(problem.errors?.[0]?.message).toMatch(/\bname\b|URL/);
		}
		expect(new Set(problems.map(({ errors }) => errors?.[0]?.message)).size).toBe(1);
	});

	test.each([
		["of 255 characters", "x".repeat(BOUNDS.nameLength - 36)],
		["of 255 signs beyond the basic plane", "🚦".repeat(BOUNDS.nameLength - 36)],
		["of a space", " "],
		["of a byte order mark", "\ufeff"],
		["with U+2028", "\u2028"],
		["like __proto__", "__proto__"],
	])("but a name %s is one", async (_, start) => {
		const name = start + newName();
		const lease = await granted({ names: name });
		expect((await release(lease)).status).toBe(200);
	});

	test("a fraction that is a whole number is one", async () => {
		const name = await roomy();
		const { status, body } = await call<{ names: object }>("POST", "/v1/acquire", `{"names":"${name}","occupy":2.0e0}`);
		expect({ status, names: body.names }).toEqual({ status: 200, names: { [name]: 2 } });
	});

	test("more names than the bound, counted without repetitions", async () => {
		const many = newNames(BOUNDS.namesPerRequest + 1);
		const most = many.slice(1);
		const problem = await badAcquire((name) => JSON.stringify({ names: [name, ...most] }));
		expect(fields(problem)).toEqual(["names"]);
		await badAcquire((name) => JSON.stringify({ names: Object.fromEntries([name, ...most].map((each) => [each, 1])) }));
		await badAcquire(() => JSON.stringify({ names: Array.from({ length: 5_000 }, (_, index) => `n${index}`) }));
		expectProblem(await call("GET", path(most[0] as string)), 404, "unknown_limit");
		const lease = await granted({ names: [...most, ...most] });
		expect(Object.keys(lease.names)).toEqual(most);
	});

	test("hold in rate-limit mode", async () => {
		const problem = await badAcquire(json(`{"names":"NAME","mode":"rate_limit","hold":true}`), {
			Accept: "application/x-ndjson",
		});
		expect(fields(problem)).toEqual(["hold"]);
	});

	test("over a stream the same is refused, with the status and not in a line", async () => {
		const headers = { Accept: "application/x-ndjson" };
		expect(fields(await badAcquire(json(`{"names":"NAME","occupy":0}`), headers))).toEqual(["occupy"]);
		expect(fields(await badAcquire(json(`{"names":"NAME","waitSeconds":-1}`), headers))).toEqual(["waitSeconds"]);
		expect(fields(await badAcquire(json(`{"names":"NAME","waitSeconds":1e309}`), headers))).toEqual(["waitSeconds"]);
		await badAcquire(json(`{"names":"NAME","waitSeconds":31536001}`), headers);
	});
});

describe("renew and release", () => {
	test.each([
		["no id", "id", `{"names":"NAME"}`],
		["no names", "names", `{"id":"ID"}`],
		["an id that is a number", "id", `{"id":7,"names":"NAME"}`],
		["an id with a slash", "id", `{"id":"../x","names":"NAME"}`],
		["an empty id", "id", `{"id":"","names":"NAME"}`],
		["an id that is too long", "id", `{"id":"${"x".repeat(BOUNDS.idLength + 1)}","names":"NAME"}`],
		["an empty name", "names", `{"id":"ID","names":""}`],
		["a bad name", "names", `{"id":"ID","names":"a/b"}`],
		["a bad name in a list", "names.1", `{"id":"ID","names":["NAME","a%b"]}`],
		["a bad name as a key", "names", `{"id":"ID","names":{"NAME":1,"a&b":1}}`],
		["names null", "names", `{"id":"ID","names":null}`],
		["a body that is a list", "body", "[]"],
		["a body that is null", "body", "null"],
	])("%s", async (_, field, text) => {
		for (const route of ["/v1/renew", "/v1/release"]) {
			const name = await roomy();
			const lease = await granted({ names: name, occupy: 3 });
			const before = standing(await inspect(name));
			const answer = await call("POST", route, text.replaceAll("NAME", name).replaceAll("ID", lease.id));
			const problem = expectProblem(answer, 422, "invalid");
			expect(fields(problem)[0]).toMatch(new RegExp(`^${field.replaceAll(".", "\\.")}(\\.|$)`));
			expect(standing(await inspect(name))).toEqual(before);
		}
	});

	test.each(["0", "-1", "0.5", "86401", "1e309", '"60"', "true", "null", "[60]"])(
		"renewing for %s seconds",
		async (seconds) => {
			const name = await roomy();
			const lease = await granted({ names: name });
			const before = standing(await inspect(name));
			const text = `{"id":"${lease.id}","names":"${name}","leaseSeconds":${seconds}}`;
			const problem = expectProblem(await call("POST", "/v1/renew", text), 422, "invalid");
			expect(fields(problem)).toEqual(["leaseSeconds"]);
			expect(standing(await inspect(name))).toEqual(before);
		},
	);

	test("more names than the bound", async () => {
		const names = newNames(BOUNDS.namesPerRequest + 1);
		for (const send of [renew, release]) {
			expect(fields(expectProblem(await send({ id: newId(), names }), 422, "invalid"))).toEqual(["names"]);
		}
	});

	test("ids that nobody has, and those of other names", async () => {
		const [name, other] = [await roomy(), await roomy()];
		const lease = await granted({ names: name });
		const before = standing(await inspect(name));
		for (const id of [newId(), "__proto__", "constructor", "toString"]) {
			expectProblem(await renew({ id, names: name }), 410, "lease_gone");
			expect((await release({ id, names: name })).body).toEqual({ released: 0 });
		}
		expectProblem(await renew({ id: lease.id, names: other }), 410, "lease_gone");
		expect((await release({ id: lease.id, names: other })).body).toEqual({ released: 0 });
		expect(standing(await inspect(name))).toEqual(before);
	});
});

describe("settings", () => {
	const badSettings: [what: string, field: string, text: string][] = [
		["limit negative", "limit", `{"limit":-1}`],
		["limit fractional", "limit", `{"limit":1.5}`],
		["limit infinite", "limit", `{"limit":1e309}`],
		["limit over the bound", "limit", `{"limit":2147483648}`],
		["limit a text", "limit", `{"limit":"1"}`],
		["limit null", "limit", `{"limit":null}`],
		["limit true", "limit", `{"limit":true}`],
		["decay negative", "slotDecayPerSecond", `{"limit":1,"slotDecayPerSecond":-0.1}`],
		["decay infinite", "slotDecayPerSecond", `{"limit":1,"slotDecayPerSecond":1e309}`],
		["decay too slow to be meant", "slotDecayPerSecond", `{"limit":1,"slotDecayPerSecond":1e-10}`],
		["decay too fast to limit anything", "slotDecayPerSecond", `{"limit":1,"slotDecayPerSecond":1e10}`],
		["decay a text", "slotDecayPerSecond", `{"limit":1,"slotDecayPerSecond":"1"}`],
		["active a text", "active", `{"limit":1,"active":"yes"}`],
		["active a number", "active", `{"limit":1,"active":1}`],
		["active null", "active", `{"limit":1,"active":null}`],
		["an unknown field", "slots", `{"limit":1,"slots":1}`],
		["a body that is a list", "body", `[]`],
		["a body that is null", "body", `null`],
		["a body that is a number", "body", `5`],
	];

	test.each([
		...badSettings,
		["no limit", "limit", `{}`],
		["activeSlots", "activeSlots", `{"limit":1,"activeSlots":1}`],
	])("PUT of a limit and of a policy: %s", async (_, field, text) => {
		const problem = await refused("PUT", path, json(text), 422, "invalid");
		expect(fields(problem)).toEqual([field]);
		const missing = newName();
		expectProblem(await call("PUT", path(missing), text), 422, "invalid");
		expectProblem(await call("GET", path(missing)), 404, "unknown_limit");
		const route = `/v1/policies/${encodeURIComponent(`${newName()}*`)}`;
		expect(fields(expectProblem(await call("PUT", route, text), 422, "invalid"))).toEqual([field]);
		expectProblem(await call("GET", route), 404, "unknown_policy");
	});

	test.each([
		...badSettings,
		["activeSlots negative", "activeSlots", `{"activeSlots":-1}`],
		["activeSlots fractional", "activeSlots", `{"activeSlots":0.5}`],
		["activeSlots infinite", "activeSlots", `{"activeSlots":1e309}`],
		["activeSlots a text", "activeSlots", `{"activeSlots":"0"}`],
		["activeSlots null", "activeSlots", `{"activeSlots":null}`],
	])("PATCH: %s", async (_, field, text) => {
		expect(fields(await refused("PATCH", path, json(text), 422, "invalid"))).toEqual([field]);
	});

	test("a good field next to a bad one is not carried out", async () => {
		await refused("PATCH", path, () => `{"limit":5,"activeSlots":-1}`, 422, "invalid");
	});
});

describe("names in the path", () => {
	const methods: [string, string?][] = [["GET"], ["PUT", `{"limit":1}`], ["PATCH", `{"limit":1}`], ["DELETE"]];

	test.each([
		["a slash", "a%2Fb"],
		["a slash, encoded twice", "a%252Fb"],
		["a percent sign", "100%25"],
		["half of an encoding", "a%"],
		["what is no encoding", "a%ZZ"],
		["what is no UTF-8", "a%FF"],
		["a surrogate in UTF-8", "%ED%A0%80"],
		["an ampersand", "a%26b"],
		["<", "a%3Cb"],
		["a NUL", "a%00"],
		["a line's end", "a%0A"],
		["too much", "x".repeat(256)],
		["far too much", "%F0%9F%9A%A6".repeat(256)],
	])("%s", async (_, encoded) => {
		for (const [method, text] of methods) {
			const problem = expectProblem(await call(method, `/v1/limits/${encoded}`, text), 422, "invalid");
			expect(fields(problem)).toEqual(["name"]);
		}
		for (const [method, end] of [
			["GET", "leases"],
			["DELETE", "leases/x"],
		] as const) {
			expectProblem(await call(method, `/v1/limits/${encoded}/${end}`), 422, "invalid");
		}
	});

	test.each([".", "..", "%2e", "%2E%2e"])("%s, which every URL folds away", async (encoded) => {
		for (const [method, text] of methods) {
			expectProblem(await call(method, `/v1/limits/${encoded}`, text), 404, "not_found");
		}
	});
});

describe("queries", () => {
	test.each([
		["/v1/limits?count=0", "count"],
		["/v1/limits?count=-1", "count"],
		["/v1/limits?count=1.5", "count"],
		["/v1/limits?count=101", "count"],
		["/v1/limits?count=many", "count"],
		["/v1/limits?count=", "count"],
		["/v1/limits?count=1e309", "count"],
		[`/v1/limits?prefix=${"x".repeat(256)}`, "prefix"],
		[`/v1/limits?after=${"x".repeat(256)}`, "after"],
	])("%s", async (route, field) => {
		expect(fields(expectProblem(await call("GET", route), 422, "invalid"))).toEqual([field]);
	});

	test.each(["count=0", "count=1001", "count=x", "after=-1", "after=x", "after=1.5", "after=1e309"])(
		"leases?%s",
		async (query) => {
			const name = await roomy();
			const problem = expectProblem(await call("GET", `${path(name)}/leases?${query}`), 422, "invalid");
			expect(fields(problem)).toEqual([query.split("=")[0]]);
		},
	);
});

describe("bodies", () => {
	const routes: [method: string, route: (name: string) => string][] = [
		["POST", () => "/v1/acquire"],
		["POST", () => "/v1/renew"],
		["POST", () => "/v1/release"],
		["PUT", path],
		["PATCH", path],
	];

	test.each([
		["empty", ""],
		["of spaces", "  "],
		["a form", "names=NAME"],
		["cut off", `{"names":"NAME"`],
		["with a comma too many", `{"names":"NAME",}`],
		["in single quotes", `{'names':'NAME'}`],
		["with NaN", `{"names":"NAME","occupy":NaN}`],
		["with Infinity", `{"names":"NAME","occupy":Infinity}`],
		["with undefined", `{"names":"NAME","occupy":undefined}`],
		["with a comment", `{"names":"NAME"} // mine`],
		["two of them", `{"names":"NAME"}{"names":"NAME"}`],
		["with a raw control character", `{"names":"NAME\n"}`],
		["open lists without end", "[".repeat(60_000)],
	])("that are not JSON: %s", async (_, text) => {
		for (const [method, route] of routes) {
			const problem = await refused(method, route, json(text), 400, "malformed");
			expect(problem.detail.length).toBeLessThan(300);
		}
	});

	test("that nest deep are refused like any other that is not meant", async () => {
		const deep = "[".repeat(30_000) + "]".repeat(30_000);
		for (const text of [deep, `{"names":${deep}}`, `{"names":["NAME",${deep}]}`, `{"names":"NAME","occupy":${deep}}`]) {
			await badAcquire(json(text));
		}
		await badAcquire(json(`{"names":"NAME","x":${'{"x":'.repeat(9_000)}1${"}".repeat(9_000)}}`));
	});

	test("of no method that takes none are read", async () => {
		const name = await roomy();
		const answer = await exports.default.fetch(
			new Request(`http://headgate.test${path(name)}`, { method: "DELETE", body: "not JSON" }),
		);
		expect((await read(answer)).status).toBe(204);
	});

	test("a byte order mark before the JSON is passed over", async () => {
		const name = await roomy();
		const { status } = await call("POST", "/v1/acquire", `\ufeff{"names":"${name}"}`);
		expect(status).toBe(200);
	});

	test.each([
		"text/plain",
		"application/x-www-form-urlencoded",
		"multipart/form-data; boundary=x",
		"application/xml",
		"application/json-seq",
		"application/jsonx",
		"text/json, application/json",
		"json",
	])("of the type %j are refused", async (type) => {
		for (const [method, route] of routes) {
			await refused(
				method,
				route,
				(name) => JSON.stringify({ names: name, id: "x", limit: 1 }),
				415,
				"unsupported_media_type",
				{
					"Content-Type": type,
				},
			);
		}
	});

	test.each([
		"application/json",
		"application/json; charset=utf-8",
		"Application/JSON;charset=UTF-8",
		"application/json ;x=y",
	])("of the type %j are read", async (type) => {
		const name = await roomy();
		const { status } = await call("POST", "/v1/acquire", JSON.stringify({ names: name }), { "Content-Type": type });
		expect(status).toBe(200);
	});

	/** Bytes whose length is not told beforehand. */
	const streamed = (text: string): ReadableStream<Uint8Array> => {
		const bytes = new TextEncoder().encode(text);
		let at = 0;
		return new ReadableStream({
			pull(controller) {
				if (at >= bytes.length) return controller.close();
				controller.enqueue(bytes.slice(at, at + 16_384));
				at += 16_384;
			},
		});
	};

	const send = async (body: string | ReadableStream): Promise<Answer<unknown>> =>
		read(
			await exports.default.fetch(
				new Request("http://headgate.test/v1/acquire", {
					...{ method: "POST", headers: { "Content-Type": "application/json" }, body },
				}),
			),
		);

	test("that are too large are refused, whether or not their length is told", async () => {
		const name = await roomy();
		const before = standing(await inspect(name));
		const padded = (length: number) => `{"names":"${name}"`.padEnd(length - 1, " ").concat("}");
		const over = padded(BOUNDS.bodyBytes + 1);
		expectProblem(await send(over), 413, "too_large");
		expectProblem(await send(streamed(over)), 413, "too_large");
		expectProblem(await send(streamed(padded(20 * BOUNDS.bodyBytes))), 413, "too_large");
		// Characters are not bytes.
		expectProblem(await send(`{"names":"${"é".repeat(BOUNDS.bodyBytes / 2)}"}`), 413, "too_large");
		expect(standing(await inspect(name))).toEqual(before);
		expect((await send(padded(BOUNDS.bodyBytes))).status).toBe(200);
		expect((await send(streamed(padded(BOUNDS.bodyBytes)))).status).toBe(200);
	});

	test("that are too large are refused on every route that takes one", async () => {
		for (const [method, route] of routes) {
			await refused(method, route, () => " ".repeat(BOUNDS.bodyBytes + 1), 413, "too_large");
		}
	});
});
