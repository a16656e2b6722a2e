/** What a trace of a call tells, by a Worker that hears every span of Headgate while it is made. */

import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { expect, test } from "vitest";
import { once } from "../../bench/http.ts";
import { loadWorker } from "../../src/cli/bundle.ts";
import { workerdConfig } from "../../src/cli/workerd.ts";
import { temporaryFolder } from "../support/temporary.ts";
import { until } from "./support.ts";

/** Notes the names of spans, and tells them. */
const LISTENER = `
const names = [];
const hear = ({ event }) => { if (event.type === "spanOpen") names.push(event.name); };
export default {
	tailStream: () => hear,
	fetch: () => Response.json(names.splice(0)),
};
`;

const workerd = (): string =>
	createRequire(createRequire(import.meta.url).resolve("wrangler/package.json"))("workerd").default;

/** Headgate as `headgate start` runs it, and the listener beside it. Ended with `kill`. */
async function traced(folder: string) {
	const worker = { ...(await loadWorker()), page: {} };
	const bindings = { HEADGATE_OPEN: "true" };
	const config = workerdConfig(worker, { codeFile: "worker.js", page: folder }, bindings)
		.replace("services = [", 'services = [(name = "listener", worker = .listener), ')
		.replace("sockets = [", 'sockets = [(name = "listener", service = "listener", http = ()), ')
		.replace("  bindings = [", '  streamingTails = ["listener"],\n  bindings = [')
		.concat(`const listener :Workerd.Worker = (
  modules = [(name = "listener.js", esModule = embed "listener.js")],
  compatibilityDate = "2026-10-20",
  compatibilityFlags = ["streaming_tail_worker"],
);
`);
	writeFileSync(path.join(folder, "worker.js"), worker.code);
	writeFileSync(path.join(folder, "listener.js"), LISTENER);
	writeFileSync(path.join(folder, "config.capnp"), config);
	mkdirSync(path.join(folder, "objects"));
	const sockets = ["http", "listener"].map((name) => `--socket-addr=${name}=127.0.0.1:0`);
	const data = `--directory-path=objects=${path.join(folder, "objects")}`;
	const args = ["serve", "--experimental", path.join(folder, "config.capnp"), data, ...sockets, "--control-fd=3"];
	const child = spawn(workerd(), args, { stdio: ["ignore", "ignore", "inherit", "pipe"] });
	const ports = new Map<string, number>();
	createInterface(child.stdio[3] as Readable).on("line", (line) => {
		const { event, socket, port } = JSON.parse(line) as { event: string; socket: string; port: number };
		if (event === "listen") ports.set(socket, port);
	});
	const urlOf = (socket: string) =>
		until(`the port of ${socket}`, 30_000, () => ports.get(socket)).then((port) => `http://127.0.0.1:${port}`);
	const [url, listener] = [await urlOf("http"), await urlOf("listener")];
	const ended = new Promise((resolve) => child.once("close", resolve));
	return {
		url,
		/** Spans of Headgate's own since the last time. */
		spans: async () => (await once<string[]>(listener, "GET", "/")).filter((name) => name.startsWith("headgate.")),
		async [Symbol.asyncDispose]() {
			child.kill("SIGKILL");
			await ended;
		},
	};
}

test("a trace tells what was decided, written and waited for", async () => {
	await using folder = await temporaryFolder();
	await using server = await traced(folder.path);
	const { url, spans } = server;
	await once(url, "PUT", "/v1/limits/one", { limit: 1 });
	await spans();
	const lease = await once<{ id: string }>(url, "POST", "/v1/acquire", { names: "one" });
	expect(await spans()).toEqual(["headgate.commit", "headgate.decide", "headgate.write"]);
	const waits = once<{ waitedSeconds: number }>(url, "POST", "/v1/acquire", { names: "one", waitSeconds: 30 });
	const seen: string[] = [];
	const wait = async (): Promise<boolean> => {
		seen.push(...(await spans()));
		return seen.includes("headgate.write");
	};
	await until("the wait has begun", 30_000, wait);
	expect(seen).toEqual(["headgate.wait", "headgate.commit", "headgate.decide", "headgate.write"]);
	await once(url, "POST", "/v1/release", lease);
	expect((await waits).waitedSeconds).toBeGreaterThan(0);
	expect(await spans()).toContain("headgate.commit");

	seen.splice(0);
	const controller = new AbortController();
	const stream = fetch(`${url}/v1/acquire`, {
		method: "POST",
		headers: { "Content-Type": "application/json", Accept: "application/x-ndjson" },
		body: JSON.stringify({ names: "one" }),
		signal: controller.signal,
	});
	await until("the stream's wait has begun", 30_000, wait);
	expect(seen).toEqual(["headgate.wait", "headgate.commit", "headgate.decide", "headgate.write"]);
	controller.abort();
	await stream.catch(() => undefined);
});
