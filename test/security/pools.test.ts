/** What all callers share is emptied by none of them. */

import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { expect, test } from "vitest";
import { BOUNDS } from "../../src/protocol.ts";
import { freshServer } from "../support/server.ts";
import { tenants } from "./tenant.ts";

const many = <T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> =>
	Promise.all(Array.from({ length: count }, (_, index) => work(index)));

test.each(["/v1/watch", "/v1/watch?name=shared"])("%s: one token's streams leave room for another's", async (path) => {
	const { server, of } = await tenants({ admin: { scope: "admin" }, a: { scope: "read" }, b: { scope: "read" } });
	await using _ = server;
	await of.admin.call("PUT", "/v1/limits/shared", { limit: 1 });
	const over = new AbortController();
	const all = await many(BOUNDS.perToken.streams, () => of.a.open(path, over.signal));
	expect(new Set(all.map(({ status }) => status))).toEqual(new Set([200]));
	const refused = await of.a.call("GET", path);
	expect({ status: refused.status, code: refused.body.code }).toEqual({ status: 429, code: "too_many_streams" });
	expect(refused.body.detail).toContain(String(BOUNDS.perToken.streams));
	expect(refused.headers.get("Retry-After")).toBe("30");
	expect((await of.b.open(path, over.signal)).status).toBe(200);
	over.abort();
});

test("one token's waiters leave room in the line for another's; its bounds say how many", async () => {
	const { server, of } = await tenants({
		admin: { scope: "admin" },
		a: { scope: "use", bounds: { waiters: 3 } },
		b: { scope: "use" },
	});
	await using _ = server;
	await of.admin.call("PUT", "/v1/limits/shared", { limit: 1 });
	await of.admin.call("PUT", "/v1/limits/beside", { limit: 1 });
	await of.admin.call("POST", "/v1/acquire", { names: ["shared", "beside"], id: "holds" });
	const over = new AbortController();
	await many(3, (index) => of.a.open("/v1/acquire", over.signal, { names: "shared", id: `a${index}` }));
	const plain = await of.a.call("POST", "/v1/acquire", { names: "shared", waitSeconds: 5 });
	expect({ status: plain.status, code: plain.body.code }).toEqual({ status: 429, code: "too_many_waiters" });
	const several = await of.a.call("POST", "/v1/acquire", { names: ["shared", "beside"], waitSeconds: 5 });
	expect(several.body.code).toBe("too_many_waiters");
	const stream = await (await of.a.open("/v1/acquire", over.signal, { names: "shared" })).text();
	expect(stream).toContain('"code":"too_many_waiters"');
	// Who does not wait takes no place.
	expect((await of.a.call("POST", "/v1/acquire", { names: "shared" })).body.code).toBe("denied");
	const other = of.b.call<{ id: string }>("POST", "/v1/acquire", { names: "shared", waitSeconds: 20 });
	over.abort();
	await of.admin.call("POST", "/v1/release", { names: ["shared", "beside"], id: "holds" });
	expect((await other).status).toBe(200);
	// Those that left take no room any more.
	const again = new AbortController();
	await many(3, (index) => of.a.open("/v1/acquire", again.signal, { names: "shared", id: `again${index}` }));
	again.abort();
});

test("one tenant's policies leave room for another's", async () => {
	const { server, of } = await tenants({
		a: { scope: "admin", prefix: "a:", bounds: { policies: 2 } },
		b: { scope: "admin", prefix: "b:" },
	});
	await using _ = server;
	for (const name of ["x", "y"]) {
		expect((await of.a.call("PUT", `/v1/policies/a:${name}*`, { limit: 1 })).status).toBe(201);
	}
	const refused = await of.a.call("PUT", "/v1/policies/a:z*", { limit: 1 });
	expect({ status: refused.status, code: refused.body.code }).toEqual({ status: 429, code: "too_many_policies" });
	expect((await of.a.call("PUT", "/v1/policies/a:x*", { limit: 2 })).status).toBe(200);
	expect((await of.b.call("PUT", "/v1/policies/b:x*", { limit: 1 })).status).toBe(201);
});

test("one token's new names are bounded, and names that exist are served all the same", async () => {
	const { server, of } = await tenants({
		admin: { scope: "admin" },
		a: { scope: "use", bounds: { newNamesPerMinute: 5 } },
		b: { scope: "use" },
	});
	await using _ = server;
	for (const name of ["there", "beside"]) await of.admin.call("PUT", `/v1/limits/${name}`, { limit: 1_000 });
	const codes: (string | undefined)[] = [];
	for (let index = 0; index < 20; index += 1) {
		codes.push((await of.a.call("POST", "/v1/acquire", { names: `new-${index}` })).body.code);
	}
	expect(codes.slice(0, 5)).toEqual(Array(5).fill(undefined));
	expect(codes.filter((code) => code === "too_many_names").length).toBeGreaterThan(10);
	expect((await of.a.call("POST", "/v1/acquire", { names: "there" })).status).toBe(200);
	expect((await of.a.call("POST", "/v1/acquire", { names: ["there", "beside"] })).status).toBe(200);
	expect((await of.a.call("POST", "/v1/acquire", { names: ["there", "new-y"] })).body.code).toBe("too_many_names");
	expect(
		(
			await of.a.call("POST", "/api/v2/concurrency_limits/increment", {
				names: ["new-z"],
				slots: 1,
				create_if_missing: true,
			})
		).status,
	).toBe(429);
	expect((await of.b.call("POST", "/v1/acquire", { names: "new-of-b" })).status).toBe(200);
});

test("reading names that do not exist makes no file", async () => {
	const { server, of } = await tenants({ looks: { scope: "admin" } });
	await using _ = server;
	const files = () =>
		readdirSync(server.data, { recursive: true }).filter((file) => /LimitObject.+\.sqlite$/.test(String(file))).length;
	const before = files();
	await many(20, async (index) => {
		const name = `none-${index}`;
		for (const path of ["", "/leases", "/history"]) {
			expect((await of.looks.call("GET", `/v1/limits/${name}${path}`)).status).toBe(404);
		}
		expect((await of.looks.call("GET", `/v1/watch?name=${name}`)).status).toBe(404);
		expect((await of.looks.call("DELETE", `/v1/limits/${name}`)).status).toBe(404);
		expect((await of.looks.call("GET", `/api/v2/concurrency_limits/${name}`)).status).toBe(404);
	});
	expect(files()).toBe(before);
});

test("whoever scrapes at once gets one text, and /health is answered meanwhile", async () => {
	await using server = await freshServer();
	const put = (name: string) =>
		fetch(`${server.url}/v1/limits/${name}`, {
			method: "PUT",
			headers: { "Content-Type": "application/json" },
			body: '{"limit":1}',
		});
	await many(50, (index) => put(`limit-${index}`));
	const scraping = many(8, async () => (await fetch(`${server.url}/metrics`)).text());
	expect((await fetch(`${server.url}/health`)).status).toBe(200);
	const texts = await scraping;
	expect(texts[0]).toContain("# EOF");
	expect(new Set(texts).size).toBe(1);
});

/** A WebSocket by hand: the status of the upgrade, and when it is over. */
function webSocket(url: string, headers: Record<string, string> = {}) {
	const { hostname, port } = new URL(url);
	const socket: Socket = connect(Number(port), hostname);
	const upgraded = Promise.withResolvers<number>();
	const ended = Promise.withResolvers<void>();
	let text = "";
	socket.on("data", (data) => {
		text += data.toString("latin1");
		if (text.includes("\r\n\r\n")) upgraded.resolve(Number(text.slice(9, 12)));
	});
	socket.on("error", () => undefined);
	socket.on("close", () => {
		upgraded.resolve(0);
		ended.resolve();
	});
	const lines = Object.entries({
		...{ Host: `${hostname}:${port}`, Upgrade: "websocket", Connection: "Upgrade", "Sec-WebSocket-Version": "13" },
		...{ "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "prefect", ...headers },
	}).map(([name, value]) => `${name}: ${value}\r\n`);
	socket.write(`GET /api/events/in HTTP/1.1\r\n${lines.join("")}\r\n`);
	return {
		upgraded: upgraded.promise,
		ended: ended.promise,
		/** One frame of text, masked with zeros. */
		send(message: string) {
			const bytes = Buffer.from(message);
			socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]));
		},
		until: async (part: string) => {
			while (!text.includes(part)) {
				await Promise.race([new Promise((more) => socket.once("data", more)), ended.promise]);
				if (socket.destroyed) throw new Error(`Closed before "${part}": ${text}`);
			}
		},
		/** Ends in its turn, as a client does that was sent a closing frame. */
		closed: async () => {
			while (!/\x88/.test(text.slice(text.indexOf("\r\n\r\n")))) {
				await Promise.race([new Promise((more) => socket.once("data", more)), ended.promise]);
				if (socket.destroyed) break;
			}
			socket.destroy();
		},
		leave: () => socket.destroy(),
	};
}

test("sockets of events: one with a wrong token is gone at once, whoever has a token stays", async () => {
	const { server, of } = await tenants({ a: { scope: "use" } });
	await using _ = server;
	const basic = (token: string) => `Basic ${Buffer.from(`me:${token}`).toString("base64")}`;
	expect(await webSocket(server.url, { Authorization: basic("wrong") }).upgraded).toBe(401);
	for (const token of ["", "wrong", 7]) {
		const socket = webSocket(server.url);
		expect(await socket.upgraded).toBe(101);
		socket.send(JSON.stringify({ type: "auth", token }));
		await socket.until("No token that is known here.");
		socket.leave();
	}
	const byHeader = webSocket(server.url, { Authorization: basic(of.a.token) });
	byHeader.send(JSON.stringify({ type: "auth", token: `me:${of.a.token}` }));
	await byHeader.until("auth_success");
	const byMessage = webSocket(server.url);
	expect(await byMessage.upgraded).toBe(101);
	byMessage.send(JSON.stringify({ type: "auth", token: `me:${of.a.token}` }));
	await byMessage.until("auth_success");
	byHeader.leave();
	byMessage.leave();
});

test("sockets of events: clients that have only an API key are let in, and are few strangers all the same", async () => {
	const { server } = await tenants({ a: { scope: "use" } });
	await using _ = server;
	const sockets = Array.from({ length: BOUNDS.eventStrangers }, () => webSocket(server.url));
	expect(new Set(await Promise.all(sockets.map(({ upgraded }) => upgraded)))).toEqual(new Set([101]));
	for (const [index, socket] of sockets.entries()) {
		socket.send(JSON.stringify({ type: "auth", ...(index % 2 === 0 && { token: null }) }));
		await socket.until("auth_success");
	}
	expect(await webSocket(server.url).upgraded).toBe(503);
	for (const socket of sockets) socket.leave();
});

test("sockets of events: strangers who say nothing are few, and not for long", async () => {
	const { server, of } = await tenants({ a: { scope: "use", bounds: { sockets: 2 } } });
	await using _ = server;
	const strangers = Array.from({ length: 1_500 }, () => webSocket(server.url));
	const statuses = await Promise.all(strangers.map(({ upgraded }) => upgraded));
	expect(statuses.filter((status) => status === 101)).toHaveLength(BOUNDS.eventStrangers);
	expect(new Set(statuses)).toEqual(new Set([101, 503]));
	// A client that says who it is as it connects is none of them; its token has its own bound.
	const known = { Authorization: `Bearer ${of.a.token}` };
	const mine = [webSocket(server.url, known), webSocket(server.url, known)];
	expect(await Promise.all(mine.map(({ upgraded }) => upgraded))).toEqual([101, 101]);
	expect(await webSocket(server.url, known).upgraded).toBe(503);
	await Promise.all(strangers.filter((_, index) => statuses[index] === 101).map(({ closed }) => closed()));
	const another = webSocket(server.url);
	expect(await another.upgraded).toBe(101);
	for (const socket of [...strangers, ...mine, another]) socket.leave();
});
