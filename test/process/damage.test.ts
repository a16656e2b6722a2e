/** Files of a real server that are empty, cut off, broken or gone when it starts again. */

import { globSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { RunningServer } from "../../src/cli/serve.ts";
import type { LimitsPage, Problem } from "../../src/protocol.ts";
import { startServer } from "../support/server.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { Caller, until } from "./support.ts";

let folder: TemporaryFolder;
let server: RunningServer;
let caller: Caller;

beforeEach(async () => {
	folder = await temporaryFolder();
	await start();
});

afterEach(async () => {
	caller.close();
	await server.stop();
	await folder[Symbol.asyncDispose]();
});

async function start(): Promise<void> {
	server = await startServer({ port: 0, data: folder.path });
	caller = new Caller(server.url);
}

/** Does something to files while the server is down. */
async function whileDown(harm: () => void): Promise<void> {
	caller.close();
	await server.stop();
	harm();
	await start();
}

const filesOf = (object: string): string[] =>
	globSync(`objects/headgate-${object}/*.sqlite*`, { cwd: folder.path })
		.filter((file) => !file.includes("metadata"))
		.map((file) => path.join(folder.path, file));

const databases = (object: string): string[] => filesOf(object).filter((file) => file.endsWith(".sqlite"));

/** What SQLite keeps beside a database would mend it. */
const dropLogs = (object: string): void => {
	for (const file of filesOf(object)) if (!file.endsWith(".sqlite")) rmSync(file);
};

const listed = async (name: string): Promise<boolean> => {
	const { body } = await caller.call<LimitsPage>("GET", `/v1/limits?prefix=${name}`);
	return body.limits.length + (body.unavailable?.length ?? 0) > 0;
};

test.each<[string, (file: string) => void, Problem["code"]]>([
	["empty", (file) => truncateSync(file, 0), "damaged_data"],
	["gone", (file) => rmSync(file), "damaged_data"],
	["cut off", (file) => truncateSync(file, Math.floor(statSync(file).size / 2) + 100), "storage_failed"],
	["no database", (file) => writeFileSync(file, "not a database at all, ".repeat(1_000)), "storage_failed"],
])("a limit whose file is %s is refused, and what is wrong is said", async (_, harm, code) => {
	await caller.limit("database", 1);
	await caller.take({ names: "database", leaseSeconds: 3_600 });
	await until("it is listed", 10_000, () => listed("database"));
	await whileDown(() => {
		dropLogs("LimitObject");
		for (const file of databases("LimitObject")) harm(file);
	});
	for (const [method, route, body] of [
		["POST", "/v1/acquire", { names: "database" }],
		["GET", "/v1/limits/database", undefined],
		["PUT", "/v1/limits/database", { limit: 1 }],
	] as const) {
		const answer = await caller.call<Problem>(method, route, body);
		expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 503, body: { code } });
		expect(answer.body.detail).toMatch(/restore/i);
	}
	expect(await listed("database")).toBe(true);
	expect((await caller.acquire({ names: "another" })).status).toBe(200);
});

test("limits that are used are listed again after the directory's file was lost", async () => {
	await caller.limit("used", 2);
	await caller.limit("quiet", 2);
	await until("both are listed", 10_000, async () => (await listed("used")) && (await listed("quiet")));
	await whileDown(() => {
		for (const file of filesOf("DirectoryObject")) rmSync(file);
	});
	expect(await listed("used")).toBe(false);
	await until("the used one is listed", 10_000, async () => {
		await caller.release(await caller.take({ names: "used" }));
		return listed("used");
	});
	expect(await listed("quiet")).toBe(false);
});
