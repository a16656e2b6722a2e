/** The recipes of docs/pipelines.md, run as they stand there, but for where the server is. */

import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { Headgate } from "../../src/client/index.ts";
import { type Block, blocks } from "../support/markdown.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { read } from "../support/sources.ts";
import type { Ended } from "../support/start.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { beginApart, main } from "./support.ts";

let server: FreshServer;
let folder: TemporaryFolder;

/** The programs that the recipes run: each says how full its limit is while it runs, and what it was given. */
const PROGRAMS = { deploy: "staging", compile: "licence", report: "nightly-report", train: "gpu" };

beforeAll(async () => {
	server = await freshServer();
	folder = await temporaryFolder();
	const gate = new Headgate({ url: server.url });
	const script = (name: string, lines: string[]): void => {
		const file = path.join(folder.path, name);
		writeFileSync(file, `#!/bin/sh\nset -e\n${lines.join("\n")}\n`);
		chmodSync(file, 0o755);
	};
	script("headgate", [`exec "${process.execPath}" "${main}" "$@"`]);
	for (const [name, limit] of Object.entries(PROGRAMS)) {
		await gate.configure(limit, { limit: 1 });
		script(`${name}.sh`, [`headgate inspect ${limit} --json > ${name}.json`, `echo "${name}" "$@"`]);
	}
	writeFileSync(path.join(folder.path, "model.src"), "");
});
afterAll(async () => {
	await folder[Symbol.asyncDispose]();
	await server[Symbol.asyncDispose]();
});

/** In the folder of the recipe's programs, with `headgate` among them, against the server of the test. */
function run(program: string, args: string[], env: Record<string, string> = {}): Promise<Ended> {
	const known = { PATH: `${folder.path}:${process.env.PATH}`, HEADGATE_URL: server.url };
	return beginApart("sh", ["-c", 'cd "$1"; shift; exec "$@"', "sh", folder.path, program, ...args], {
		...env,
		...known,
	}).ended;
}

const recipes = blocks(read("docs/pipelines.md")).filter(({ words }) => words.includes("run"));
const recipe = (language: string, contains: string): Block => {
	const found = recipes.find((block) => block.language === language && block.code.includes(contains));
	if (!found) throw new Error(`docs/pipelines.md has no ${language} of ${contains}`);
	return found;
};

/** How the limit of a program was while it ran. */
function held(name: keyof typeof PROGRAMS): unknown {
	return JSON.parse(readFileSync(path.join(folder.path, `${name}.json`), "utf8"));
}

test("every recipe is run here", () => {
	expect(recipes.map(({ language }) => language)).toEqual(["yaml", "make", "cron", "yaml"]);
});

test("the job of a CI service holds its slot, and says which job it is", async () => {
	const { jobs } = parse(recipe("yaml", "runs-on").code);
	const [command] = jobs.deploy.steps.flatMap((step: { run?: string }) =>
		step.run?.startsWith("headgate") ? [step.run] : [],
	);
	const env = { GITHUB_REPOSITORY: "acme/shop", GITHUB_RUN_ID: "42" };
	expect(await run("bash", ["-e", "-c", command], env)).toMatchObject({ code: 0, stdout: "deploy\n" });
	expect(held("deploy")).toMatchObject({ activeSlots: 1, leases: [{ holder: "acme/shop 42" }] });
});

test("the Makefile holds its slot while a target is made", async () => {
	writeFileSync(path.join(folder.path, "Makefile"), `${recipe("make", "licence").code}\n`);
	const made = await run("make", ["--silent", "model.bin"]);
	expect(made).toMatchObject({ code: 0, stdout: "compile model.src model.bin\n" });
	expect(held("compile")).toMatchObject({ activeSlots: 1 });
});

test("the line of cron runs once, and ends with 75 where another has the slot", async () => {
	const line = recipe("cron", "report").code;
	expect(line).toMatch(/^(\S+ ){5}HEADGATE_URL=\S+ headgate /);
	const command = line.replace(/^(\S+ ){5}/, "").replace(/HEADGATE_URL=\S+/, `HEADGATE_URL=${server.url}`);
	expect(await run("sh", ["-c", command])).toMatchObject({ code: 0, stdout: "report\n" });
	expect(held("report")).toMatchObject({ activeSlots: 1 });
	const lease = await new Headgate({ url: server.url }).acquire("nightly-report");
	expect(await run("sh", ["-c", command])).toMatchObject({ code: 75, stdout: "" });
	await lease.release();
});

test("the Kubernetes job holds its slot", async () => {
	const { spec } = parse(recipe("yaml", "kind: Job").code);
	const [{ command, env }] = spec.template.spec.containers;
	expect(env.map(({ name }: { name: string }) => name)).toEqual(["HEADGATE_URL", "HEADGATE_TOKEN"]);
	const [program, ...args] = command;
	expect(await run(program, args)).toMatchObject({ code: 0, stdout: "train --epochs 10\n" });
	expect(held("train")).toMatchObject({ activeSlots: 1 });
});
