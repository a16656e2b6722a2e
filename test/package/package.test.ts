/**
 * The package as its user has it: packed by npm, and installed by npm into an empty folder.
 *
 * The library installs nothing else; `headgate start` needs `workerd` beside it, and says so where it is missing.
 */

import { execFile, spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, inject, onTestFinished, test, vi } from "vitest";
import { tsc } from "../../scripts/types.ts";
import { VERSION } from "../../src/protocol.ts";
import { outside } from "../support/packed.ts";
import "../support/provided.ts";
import { freshServer } from "../support/server.ts";
import { read, root } from "../support/sources.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";

/** The library, minified and gzipped, is no larger: a page that loads it shall not notice. */
const CLIENT_BYTES_MAX = 9_000;

let work: TemporaryFolder;
const tarball = inject("tarball");
/** Folders with nothing in them but the installed package, and with `workerd` beside it. */
let bare: string;
let whole: string;

beforeAll(async () => {
	work = await temporaryFolder();
	bare = await installed("bare", [tarball, "--offline"]);
	const { version } = JSON.parse(readFileSync(path.join(root, "node_modules/workerd/package.json"), "utf8"));
	whole = await installed("whole", [tarball, `workerd@${version}`, "--prefer-offline"]);
});
afterAll(() => work[Symbol.asyncDispose]());

async function installed(name: string, what: string[]): Promise<string> {
	const folder = path.join(work.path, name);
	mkdirSync(folder);
	writeFileSync(path.join(folder, "package.json"), '{ "type": "module", "private": true }');
	const { code, stderr } = await execute("npm", ["install", "--no-audit", "--no-fund", ...what], folder);
	expect(code, stderr).toBe(0);
	return folder;
}

function execute(program: string, args: string[], cwd: string, env: Record<string, string> = {}) {
	return new Promise<{ code: number; stdout: string; stderr: string }>((resolve, reject) => {
		execFile(program, args, { cwd, env: { ...outside(), ...env }, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
			const code = error === null ? 0 : error.code;
			if (typeof code === "number") resolve({ code, stdout, stderr });
			else reject(error);
		});
	});
}

/** `npx` without a question, and without looking anywhere but here. */
const npx = (cwd: string, args: string[], env: Record<string, string> = {}) =>
	execute("npx", ["--no-install", "headgate", ...args], cwd, env);

/** What `npx` runs, without the second that it takes. */
const headgate = (cwd: string, args: string[], env: Record<string, string> = {}) =>
	execute(path.join(cwd, "node_modules/.bin/headgate"), args, cwd, env);

test("the library installs nothing else", () => {
	const folders = readdirSync(path.join(bare, "node_modules")).filter((name) => !name.startsWith("."));
	expect(folders).toEqual(["headgate"]);
	const manifest = JSON.parse(readFileSync(path.join(bare, "node_modules/headgate/package.json"), "utf8"));
	expect(manifest.dependencies).toBeUndefined();
});

test("the package has no sources, tests or tools in it", () => {
	const inside = readdirSync(path.join(bare, "node_modules/headgate")).sort();
	expect(inside).toEqual(["CHANGELOG.md", "LICENSE", "NOTICE", "README.md", "dist", "package.json"]);
});

test("installed into an empty folder: the library, ls and run work", async () => {
	await using server = await freshServer();
	const env = { HEADGATE_URL: server.url };
	const use = `
		import { concurrency, Headgate } from "headgate";
		await new Headgate({ url: process.env.HEADGATE_URL }).configure("database", { limit: 2 });
		await concurrency("database", (lease) => console.log(Object.keys(lease.names)[0]));`;
	writeFileSync(path.join(bare, "use.js"), use);
	expect(await execute(process.execPath, ["use.js"], bare, env)).toEqual({ code: 0, stdout: "database\n", stderr: "" });
	expect(await npx(bare, ["--version"])).toMatchObject({ code: 0, stdout: `${VERSION}\n` });
	expect((await headgate(bare, ["ls"], env)).stdout).toContain("database\t0/2");
	const run = await headgate(bare, ["run", "--limit", "database", "--", "sh", "-c", "echo ran; exit 3"], env);
	expect(run).toMatchObject({ code: 3, stdout: "ran\n" });
	writeFileSync(path.join(bare, "limits.toml"), "[limits.database]\nlimit = 5\n");
	expect((await headgate(bare, ["apply", "limits.toml", "--yes"], env)).stdout).toContain("Applied 1 change.");
});

test("the licence of every package whose code is in it is in its NOTICE, in its own words", async () => {
	const entries = ["client/index.ts", "middleware/hono.ts", "middleware/fetch.ts", "cli/main.ts", "server/worker.ts"];
	const { metafile } = await build({
		entryPoints: [...entries, "dashboard/app.tsx"].map((entry) => path.join(root, "src", entry)),
		...{ absWorkingDir: root, outdir: work.path, write: false, metafile: true, bundle: true, format: "esm" },
		...{ platform: "node", target: "esnext", jsx: "automatic", jsxImportSource: "preact", logLevel: "silent" },
		external: ["esbuild", "cloudflare:*"],
	});
	const inputs = Object.values(metafile.outputs).flatMap((output) => Object.keys(output.inputs));
	const bundled = inputs.flatMap((file) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []);
	const notice = readFileSync(path.join(bare, "node_modules/headgate/NOTICE"), "utf8");
	const parts = notice.split(/^-{80}$/m).slice(1);
	const titles = parts.map((part) => /^(\S+) \d+\.\d+\.\d+ \([\w.-]+\)$/.exec(part.trim().split("\n")[0] ?? "")?.[1]);
	expect(titles).toEqual([...new Set(bundled)].sort());
	for (const part of parts) expect(part).toMatch(/copyright/i);
	expect(readFileSync(path.join(bare, "node_modules/headgate/LICENSE"), "utf8")).toContain("MIT");
});

test("start without the runtime explains it in one line, with the command that mends it", async () => {
	const end = await headgate(bare, ["start", "--port", "0"]);
	expect(end).toMatchObject({ code: 1, stdout: "" });
	expect(end.stderr).toBe(
		"headgate: A server needs the runtime of Workers, which is not installed here: npm install workerd\n",
	);
});

test("with workerd beside it, start runs the Worker that came with the package", async () => {
	const child = spawn("npx", ["--no-install", "headgate", "start", "--port", "0"], {
		cwd: whole,
		env: outside(),
		detached: true,
	});
	onTestFinished(() => {
		try {
			process.kill(-(child.pid ?? 0), "SIGKILL");
		} catch (error) {
			// It has ended already.
			if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
		}
	});
	let output = "";
	const collect = (chunk: Buffer): void => {
		output += chunk;
	};
	for (const stream of [child.stdout, child.stderr]) stream.on("data", collect);
	const url = await vi.waitFor(
		() => /ready on (http\S+)/.exec(output)?.[1] ?? Promise.reject(new Error(output)),
		30_000,
	);
	const env = { HEADGATE_URL: url };
	expect((await headgate(whole, ["configure", "database", "--limit", "1"], env)).stdout).toBe(
		"Created database: 1 slot\n",
	);
	const held = "headgate ls --json";
	const run = await headgate(whole, ["run", "-l", "database", "--", "npx", "--no-install", ...held.split(" ")], env);
	expect(JSON.parse(run.stdout)).toMatchObject([{ name: "database", activeSlots: 1 }]);
	expect((await headgate(whole, ["doctor"], env)).code).toBe(0);
	const page = await fetch(`${url}/`, { headers: { accept: "text/html" } });
	expect([page.status, page.headers.get("content-type")]).toEqual([200, expect.stringContaining("text/html")]);
	const gone = new Promise((resolve) => child.once("close", resolve));
	process.kill(-(child.pid ?? 0), "SIGTERM");
	await gone;
});

/** What a user of each platform has around the library. */
const PLATFORMS: Record<string, object> = {
	Node: { lib: ["es2023"], types: ["node"] },
	Workers: { lib: ["es2023"], types: ["@cloudflare/workers-types"] },
	DOM: { lib: ["es2023", "dom", "dom.iterable"], types: [] },
};

const USE = `
	import { Headgate, type Lease, concurrency, isTimeoutError, rateLimit } from "headgate";
	const gate = new Headgate({ url: "https://limits.example", token: undefined });
	export async function use(signal?: AbortSignal): Promise<string> {
		const lease: Lease = await gate.acquire({ a: 1, b: 2 }, { timeoutSeconds: 5, signal });
		await lease.release();
		for await (const limit of gate.limits()) await gate.update(limit.name, { active: true });
		try {
			return await concurrency(["a", "b"], { occupy: 2 }, (held) => held.id);
		} catch (error) {
			if (!isTimeoutError(error)) throw error;
			return String((await rateLimit("c")).enforced);
		}
	}`;

test.each(
	Object.keys(PLATFORMS).flatMap((platform) => ["nodenext", "bundler"].map((resolution) => [platform, resolution])),
)(
	"its types pass for a user of %s (%s), strict and with exact optional properties",
	async (platform = "", resolution = "") => {
		const folder = path.join(bare, `types-${platform}-${resolution}`);
		mkdirSync(folder);
		const packages = path.join(folder, "node_modules");
		mkdirSync(packages);
		for (const name of ["@types", "@cloudflare", "undici-types"]) {
			symlinkSync(path.join(root, "node_modules", name), path.join(packages, name));
		}
		const compilerOptions = {
			...{ target: "es2022", module: resolution === "bundler" ? "esnext" : "nodenext", moduleResolution: resolution },
			...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noEmit: true },
			// The declarations of the package are to be checked themselves; those of the platforms are checked in Node alone.
			...{ skipLibCheck: false, ...PLATFORMS[platform] },
		};
		writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
		writeFileSync(path.join(folder, "use.ts"), USE);
		writeFileSync(path.join(folder, "wrong.ts"), USE.replace("timeoutSeconds: 5", 'timeoutSeconds: "5"'));
		const { output } = await tsc(["--project", folder, "--pretty", "false"]);
		const errors = output.match(/^\S.*\berror TS\d+/gm);
		expect(errors, output).toEqual([expect.stringMatching(/wrong\.ts\(5,\d+\): error TS2322$/)]);
	},
);

test("publint finds nothing to say", async () => {
	const { code, stdout, stderr } = await execute(
		path.join(root, "node_modules/.bin/publint"),
		["--strict", tarball],
		root,
	);
	expect({ code, said: stdout + stderr }).toEqual({ code: 0, said: expect.stringContaining("All good!") });
});

test("attw finds no type that resolves wrongly", async () => {
	const args = ["--no-install", "attw", tarball, "--profile", "esm-only", "--no-color", "--format", "ascii"];
	const { code, stdout, stderr } = await execute("npx", args, root);
	expect(code, stdout + stderr).toBe(0);
	// Every entry that it looked at, and it looked at some.
	expect(stdout).toMatch(/node16 \(from ESM\): 🟢/u);
	expect(stdout).not.toMatch(/(node16 \(from ESM\)|bundler): (?!🟢)/u);
});

test("the library, minified and gzipped, is small", async () => {
	const { outputFiles } = await build({
		entryPoints: [path.join(bare, "node_modules/headgate/dist/client/index.js")],
		...{ bundle: true, minify: true, write: false, format: "esm", target: "es2022" },
	});
	const code = outputFiles[0]?.contents ?? new Uint8Array();
	const bytes = gzipSync(code).length;
	console.log(
		`The library: ${bytes} bytes minified and gzipped (${code.length} minified), of at most ${CLIENT_BYTES_MAX}.`,
	);
	expect(bytes).toBeGreaterThan(1_000);
	expect(bytes).toBeLessThanOrEqual(CLIENT_BYTES_MAX);
});

/** Its own code waits an hour for a slot, and works for another; `PASS` passes the framework's time. */
const AN_HOUR = `
	const { gate, clock, limits } = testGate({ limits: { database: 1 }, tick: PASS });
	const nightly = (holder) => gate.concurrency("database", { holder, leaseSeconds: 30 }, async ({ signal }) => {
		await new Promise((resolve) => setTimeout(resolve, 3_600_000));
		return signal.aborted;
	});
	const [first, second] = [nightly("first"), nightly("second")];
	await clock.advance(3_600_000);
	const half = limits.get("database");
	await clock.advance(3_600_000);
	const seen = [await first, await second, half.leases[0].holder, half.waitingCount, limits.get("database").totals.expired];
	if (seen.join() !== "false,false,second,0,0") throw new Error(seen.join());
`;

test("headgate/testing passes an hour on the fake timers of node:test", async () => {
	const file = path.join(bare, "hour.test.js");
	const code = AN_HOUR.replace("PASS", "(ms) => t.mock.timers.tick(ms)");
	writeFileSync(
		file,
		`import { test } from "node:test";
import { testGate } from "headgate/testing";
test("an hour", async (t) => {
	t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
	${code}
});`,
	);
	const { code: exit, stdout, stderr } = await execute(process.execPath, ["--test", file], bare);
	expect(exit, stdout + stderr).toBe(0);
	expect(stdout).toMatch(/pass 1/);
});

test("headgate/testing passes an hour on the fake timers of jest, and of vitest", async () => {
	const versions = ["jest@30", `vitest@${JSON.parse(read("node_modules/vitest/package.json")).version}`];
	const folder = await installed("frameworks", [tarball, ...versions, "--prefer-offline"]);
	const file = (framework: string, fake: string) =>
		`import { ${fake}, test } from "${framework}";
import { testGate } from "headgate/testing";
test("an hour", async () => {
	${fake}.useFakeTimers();
	${AN_HOUR.replace("PASS", `(ms) => ${fake}.advanceTimersByTimeAsync(ms)`)}
});`;
	mkdirSync(path.join(folder, "with-jest"));
	writeFileSync(path.join(folder, "with-jest/hour.test.js"), file("@jest/globals", "jest"));
	mkdirSync(path.join(folder, "with-vitest"));
	writeFileSync(path.join(folder, "with-vitest/hour.test.js"), file("vitest", "vi"));
	const jest = ["--experimental-vm-modules", "node_modules/jest/bin/jest.js", "with-jest"];
	const byJest = await execute(process.execPath, jest, folder);
	expect(byJest.code, byJest.stdout + byJest.stderr).toBe(0);
	expect(byJest.stderr).toMatch(/1 passed/);
	const byVitest = await execute(process.execPath, ["node_modules/vitest/vitest.mjs", "run", "with-vitest"], folder);
	expect(byVitest.code, byVitest.stdout + byVitest.stderr).toBe(0);
	expect(byVitest.stdout).toMatch(/1 passed/);
});

test("a Worker that is bound to Headgate is developed beside it, with wrangler's own command and the package alone", async () => {
	const app = path.join(work.path, "app");
	mkdirSync(path.join(app, "node_modules"), { recursive: true });
	symlinkSync(path.join(bare, "node_modules/headgate"), path.join(app, "node_modules/headgate"));
	writeFileSync(
		path.join(app, "wrangler.toml"),
		'name = "app"\nmain = "worker.js"\ncompatibility_date = "2026-10-20"\n\n[[services]]\nbinding = "LIMITS"\nservice = "headgate"\nentrypoint = "HeadgateService"\n',
	);
	writeFileSync(
		path.join(app, "worker.js"),
		`import { Headgate } from "headgate";
export default {
	async fetch(_request, env) {
		const gate = new Headgate({ binding: env.LIMITS });
		await gate.configure("database", { limit: 1 });
		const held = await gate.concurrency("database", async ({ enforced }) => [enforced, (await gate.tryAcquire("database")).denied?.code]);
		return Response.json(held);
	},
};`,
	);
	const wrangler = path.join(root, "node_modules/wrangler/bin/wrangler.js");
	const configs = ["-c", "wrangler.toml", "-c", "node_modules/headgate/dist/worker/wrangler.toml"];
	const env = { ...outside(), CI: "1", WRANGLER_SEND_METRICS: "false", CLOUDFLARE_CF_FETCH_ENABLED: "false" };
	// In a group of its own, for it starts others and does not end them when it is killed.
	const dev = spawn(process.execPath, [wrangler, "dev", ...configs, "--port", "0", "--inspector-port", "0"], {
		...{ cwd: app, env, stdio: ["ignore", "pipe", "pipe"], detached: true },
	});
	onTestFinished(() => void (dev.pid && dev.exitCode === null && process.kill(-dev.pid, "SIGKILL")));
	let said = "";
	for (const stream of [dev.stdout, dev.stderr]) stream?.on("data", (chunk) => (said += chunk));
	const port = await vi.waitUntil(
		() => {
			if (dev.exitCode !== null) throw new Error(said);
			return /Ready on http:\/\/[^:]+:(\d+)/.exec(said)?.[1];
		},
		{ timeout: 120_000 },
	);
	const answer = await fetch(`http://127.0.0.1:${port}`);
	expect(await answer.text(), said).toBe('[true,"denied"]');
});

test("the testing gate is a file of its own, and nothing of it is in the library", () => {
	const size = (file: string) => readFileSync(path.join(bare, "node_modules/headgate/dist", file));
	const testing = size("testing/index.js");
	console.log(`headgate/testing: ${gzipSync(testing).length} bytes gzipped (${testing.length} as it is).`);
	expect(testing.toString()).toContain("function testGate");
	expect(size("client/index.js").toString()).not.toMatch(/MemoryService|testGate|function decide\b/);
});

test("the package asks for the runtime that it was tested with, or a later one", () => {
	const { peerDependencies } = JSON.parse(read("package.json"));
	const { version } = JSON.parse(readFileSync(path.join(root, "node_modules/workerd/package.json"), "utf8"));
	expect(version).toMatch(/^1\.\d{8}\./);
	expect(peerDependencies.workerd).toBe(`>=${version.replace(/\.\d+$/, ".0")}`);
});
