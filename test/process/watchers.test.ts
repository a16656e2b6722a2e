/** Promises 5 and 12, from outside: watchers whose process was killed make room for others. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { BOUNDS } from "../../src/protocol.ts";
import { freshServer } from "../support/server.ts";
import { until } from "./support.ts";

const JSON_BODY = { "Content-Type": "application/json" };

/** Opens as many streams as are let in, and says so. */
const WATCHER = `
	const [url, count] = process.argv.slice(1);
	const responses = await Promise.all(Array.from({ length: Number(count) }, () => fetch(url)));
	for (const { body } of responses) void (async () => { for await (const _ of body); })();
	console.log(responses.map(({ status }) => status).join(" "));
`;

test.each(["/v1/watch?name=watched", "/v1/watch"])("%s: the streams of a killed process are let go", async (route) => {
	await using server = await freshServer();
	await fetch(`${server.url}/v1/limits/watched`, { method: "PUT", headers: JSON_BODY, body: '{"limit":1}' });
	const url = `${server.url}${route}`;
	const child = spawn(process.execPath, ["--input-type=module", "--eval", WATCHER, url, String(BOUNDS.watchers)], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	try {
		const [statuses] = (await once(child.stdout, "data")) as [Buffer];
		expect(new Set(statuses.toString().trim().split(" "))).toEqual(new Set(["200"]));
		const refused = await fetch(url);
		expect(refused.status).toBe(429);
		expect(refused.headers.get("Retry-After")).toBe("30");
	} finally {
		child.kill("SIGKILL");
	}
	await until("room for another watcher", 30_000, async () => {
		const over = new AbortController();
		const { status } = await fetch(url, { signal: over.signal });
		over.abort();
		return status === 200;
	});
});
