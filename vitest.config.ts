import { createServer } from "node:net";
import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { buildDashboard } from "./scripts/build-dashboard.ts";
import { findChromium } from "./test/support/chromium.ts";
import "./test/support/provided.ts";
import { filesWithoutTools } from "./test/support/tools.ts";

/** The same file shows that the library works on every runtime it is made for. */
const everyRuntime = "test/client/headgate.test.ts";
const clientServer = "test/support/client-server.ts";
const wrangler = { configPath: "./wrangler.toml" };

/** Tests of servers that mostly wait for one, and measure nothing. */
const local = ["damage", "descriptors", "disk", "folder", "full-disk", "nginx", "one-server", "restart", "start"].map(
	(file) => `test/process/${file}.test.ts`,
);
/** Tests that start and kill servers take their time, above all on a loaded machine. */
const processTimeout = 60_000;
/** npm may have to fetch what a clone needs. */
const packageTimeout = 180_000;
/** Enough for a wait of seconds in a queue. */
const clientTimeout = 20_000;

export default defineConfig(async () => {
	// `wrangler.toml` names the folder, so it has to be there.
	await buildDashboard();
	return config();
});

const config = async () => ({
	test: {
		// Most tests wait for a server and not for a processor.
		maxWorkers: 3,
		// A server's log tells of each change and each refusal; of a test that passed nobody reads it.
		silent: "passed-only" as const,
		projects: [
			{ test: { name: "core", include: ["test/core/**/*.test.ts"], testTimeout: 60_000 } },
			{
				plugins: [
					cloudflareTest({
						wrangler,
						miniflare: { bindings: { HEADGATE_OPEN: "true", HEADGATE_HOSTS: "headgate.test" } },
					}),
				],
				test: { name: "server", include: ["test/server/**/*.test.ts"], testTimeout: 30_000 },
			},
			{
				test: {
					// Real Workers beside each other, in wrangler's test harness and on workerd itself.
					name: "edge",
					include: ["test/edge/**/*.test.ts"],
					testTimeout: 30_000,
					hookTimeout: processTimeout,
				},
			},
			{
				test: {
					name: "house",
					include: ["test/house/**/*.test.ts"],
					exclude: filesWithoutTools({
						"test/house/http-docs.test.ts": ["python3", "go"],
						"test/house/metrics.test.ts": ["python3"],
					}),
					testTimeout: processTimeout,
					hookTimeout: processTimeout,
				},
			},
			{
				test: {
					name: "cli",
					include: ["test/cli/**/*.test.ts"],
					testTimeout: processTimeout,
					hookTimeout: processTimeout,
				},
			},
			{
				test: {
					name: "client-node",
					include: ["test/client/**/*.test.ts"],
					globalSetup: clientServer,
					testTimeout: clientTimeout,
				},
			},
			{
				plugins: [cloudflareTest({ wrangler })],
				test: {
					name: "client-workerd",
					include: [everyRuntime],
					globalSetup: clientServer,
					testTimeout: clientTimeout,
				},
			},
			...(await browserProjects()),
			{
				test: {
					name: "security",
					include: ["test/security/**/*.test.ts"],
					testTimeout: processTimeout,
					hookTimeout: processTimeout,
				},
			},
			{
				test: {
					// The local server and what happens to it: its files, its descriptors, what stands before it.
					name: "local",
					include: [...local],
					exclude: filesWithoutTools({
						"test/process/disk.test.ts": ["mount"],
						"test/process/full-disk.test.ts": ["mount"],
						"test/process/nginx.test.ts": ["nginx"],
					}),
					testTimeout: processTimeout,
					hookTimeout: processTimeout,
				},
			},
			{
				test: {
					name: "process",
					include: ["test/process/**/*.test.ts"],
					exclude: [...local, ...filesWithoutTools({ "test/process/clock.test.ts": ["gcc"] })],
					// Crowds of callers, and servers that are killed: after all the others.
					sequence: { groupOrder: 1 },
					testTimeout: processTimeout,
					hookTimeout: processTimeout,
				},
			},
			{
				test: {
					name: "package",
					include: ["test/package/**/*.test.ts"],
					// They install packages, which keeps the whole machine busy.
					sequence: { groupOrder: 2 },
					fileParallelism: false,
					testTimeout: packageTimeout,
					hookTimeout: packageTimeout,
				},
			},
		] satisfies TestProjectInlineConfiguration[],
	},
});

async function browserProjects(): Promise<TestProjectInlineConfiguration[]> {
	const executablePath = findChromium();
	if (executablePath === undefined) return [];
	// Chosen here rather than by vitest, so that the server can be told which origin will call it.
	const port = await freePort();
	return [
		{
			test: {
				name: "dashboard",
				include: ["test/dashboard/**/*.test.ts"],
				testTimeout: processTimeout,
				hookTimeout: processTimeout,
			},
		},
		{
			test: {
				// The project that runs is the one instance below.
				name: "client-browser",
				include: [everyRuntime],
				globalSetup: clientServer,
				testTimeout: clientTimeout,
				provide: { corsOrigins: [`http://localhost:${port}`, `http://127.0.0.1:${port}`] },
				browser: {
					enabled: true,
					headless: true,
					screenshotFailures: false,
					api: { host: "127.0.0.1", port, strictPort: true },
					provider: playwright({ launchOptions: { executablePath, args: ["--no-sandbox", "--disable-gpu"] } }),
					instances: [{ browser: "chromium", name: "client-chromium" }],
				},
			},
		},
	];
}

function freePort(): Promise<number> {
	return new Promise((resolve, reject) => {
		const server = createServer();
		server.once("error", reject);
		server.listen(0, "127.0.0.1", () => {
			const address = server.address();
			server.close(() => {
				if (address !== null && typeof address === "object") resolve(address.port);
				else reject(new Error("No address for the browser's port"));
			});
		});
	});
}
