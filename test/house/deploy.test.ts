/** What `docs/deploy/` has for an operator, by the programs that it is for. */

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { validate } from "dockerfile-utils";
import { expect, onTestFinished, test, vi } from "vitest";
import { freshServer } from "../support/server.ts";
import { read, root } from "../support/sources.ts";

const folder = path.join(root, "docs/deploy");

/** Runs a program in the folder; what it says is the failure where it fails. */
const run = (program: string, ...args: string[]): string => {
	try {
		return execFileSync(program, args, { cwd: folder, encoding: "utf8", stdio: "pipe" });
	} catch (error) {
		const { stdout, stderr } = error as { stdout?: string; stderr?: string };
		throw new Error(`${(error as Error).message}\n${stdout}${stderr}`);
	}
};

test("the alert rules are rules, and each rings when it should and not before", () => {
	run("promtool", "check", "rules", "alerts.yml");
	run("promtool", "test", "rules", "alerts.test.yml");
	const rules = [...read("docs/deploy/alerts.yml").matchAll(/alert: (\w+)/g)].map(([, name]) => name);
	const tested = new Set(
		[...read("docs/deploy/alerts.test.yml").matchAll(/alertname: (\w+)/g)].map(([, name]) => name),
	);
	expect(rules.filter((name) => !tested.has(name))).toEqual([]);
});

test("the alert rules speak of metrics that there are", () => {
	const said = new Set(read("docs/deploy/alerts.yml").match(/headgate_\w+/g));
	const documented = read("docs/metrics.md");
	expect(said.size).toBeGreaterThan(5);
	expect([...said].filter((name) => !documented.includes(`\`${name.replace(/_bucket$/, "")}\``))).toEqual([]);
});

test("the unit is one that systemd takes", () => {
	const unit = read("docs/deploy/headgate.service");
	const at = mkdtempSync(path.join(tmpdir(), "headgate-unit-"));
	onTestFinished(() => rmSync(at, { recursive: true }));
	// Where it is installed to is not there; what runs it is.
	writeFileSync(
		path.join(at, "headgate.service"),
		unit.replace("/opt/headgate/node_modules/.bin/headgate", process.execPath),
	);
	run("systemd-analyze", "verify", path.join(at, "headgate.service"));
	expect(unit).toContain("ExecStart=/opt/headgate/node_modules/.bin/headgate start");
});

test("the site of nginx serves, and passes a stream on as it comes", async () => {
	await using server = await freshServer();
	const at = mkdtempSync(path.join(tmpdir(), "headgate-nginx-"));
	const port = 20_000 + (process.pid % 20_000);
	const site = read("docs/deploy/nginx.conf")
		.replace("http://127.0.0.1:8787", server.url)
		.replace("listen 80;", `listen 127.0.0.1:${port};`);
	mkdirSync(path.join(at, "temp"));
	const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path temp;`).join(" ");
	writeFileSync(
		path.join(at, "nginx.conf"),
		`daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {}\nhttp { access_log off; ${temp}\n${site}\n}`,
	);
	const nginx = spawn("nginx", ["-p", at, "-c", "nginx.conf", "-e", "stderr"], { stdio: "ignore" });
	onTestFinished(async () => {
		const ended = new Promise((resolve) => nginx.once("close", resolve));
		nginx.kill();
		await ended;
		rmSync(at, { recursive: true });
	});
	const url = `http://127.0.0.1:${port}`;
	await vi.waitUntil(async () => (await fetch(`${url}/health`).catch(() => null))?.ok, { timeout: 30_000 });
	const acquire = (accept: string) =>
		fetch(`${url}/v1/acquire`, {
			method: "POST",
			headers: { "Content-Type": "application/json", Accept: accept },
			body: JSON.stringify({ names: "printer" }),
		});
	await fetch(`${url}/v1/limits/printer`, {
		...{ method: "PUT", headers: { "Content-Type": "application/json" }, body: '{"limit":1}' },
	});
	expect((await acquire("application/json")).status).toBe(200);
	const reader = ((await acquire("application/x-ndjson")).body as ReadableStream<Uint8Array>).getReader();
	expect(new TextDecoder().decode((await reader.read()).value)).toContain('"queued"');
	await reader.cancel();
});

test("the image is one that a linter finds nothing in, and its composition is of it", () => {
	const [dockerfile, compose] = [read("docs/deploy/Dockerfile"), read("docs/deploy/compose.yaml")];
	const found = validate(dockerfile, {}).map(({ range, message }) => `line ${range.start.line + 1}: ${message}`);
	expect(found).toEqual([]);
	expect(validate(dockerfile.replace("USER node", "USR node"), {})).toHaveLength(1);
	const { version } = JSON.parse(read("package.json")) as { version: string };
	expect(dockerfile).toContain(`headgate-${version}.tgz`);
	expect(dockerfile).toMatch(/^USER node$/m);
	expect(dockerfile).toMatch(/^HEALTHCHECK /m);
	expect(compose).toContain("dockerfile: docs/deploy/Dockerfile");
});
