import { createServer } from "node:net";
import path from "node:path";
import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { buildDashboard } from "./scripts/build-dashboard.ts";
import { findChromium } from "./test/support/chromium.ts";
import "./test/support/provided.ts";
import { patience, run, shareBundle, shown } from "./test/support/runs.ts";
import { filesWithoutTools } from "./test/support/tools.ts";

/** The same file shows that the library works on every runtime it is made for. */
const everyRuntime = "test/client/headgate.test.ts";
const clientServer = "test/support/client-server.ts";
const wrangler = { configPath: "./wrangler.toml" };
/** They count every row and alarm, or speak of all limits that there are, so no other test may have been there before. */
const alone = ["lives", "placement", "prefect", "prefect-flaws"].map((file) => `test/server/${file}.test.ts`);
const serverPlugin = () =>
	cloudflareTest({
		wrangler,
		miniflare: { bindings: { HEADGATE_OPEN: "true", HEADGATE_HOSTS: "headgate.test" } },
	});

const inExamples = [
	{ find: /^headgate$/, replacement: path.resolve("src/client/index.ts") },
	{ find: "headgate/hono", replacement: path.resolve("src/middleware/hono.ts") },
	{ find: "headgate/testing", replacement: path.resolve("src/testing/index.ts") },
];

export default defineConfig(async () => {
	// `wrangler.toml` names the folder, so it has to be there.
	await Promise.all([buildDashboard(), shareBundle()]);
	return config();
});

const config = async () => ({
	test: {
		...run,
		projects: [
			{ test: { name: "core", include: ["test/core/**/*.test.ts"], isolate: false, ...patience } },
			{
				plugins: [serverPlugin()],
				// One runtime for all of them: they take names of their own, and starting it costs more than most files.
				test: { name: "server", include: ["test/server/**/*.test.ts"], exclude: alone, isolate: false, ...patience },
			},
			{
				plugins: [serverPlugin()],
				test: { name: "server-alone", include: alone, ...patience },
			},
			{
				test: {
					// Real Workers beside each other, in wrangler's test harness and on workerd itself.
					name: "edge",
					isolate: false,
					include: ["test/edge/**/*.test.ts"],
					exclude: shown,
					...patience,
				},
			},
			{
				test: {
					name: "house",
					isolate: false,
					include: ["test/house/**/*.test.ts"],
					exclude: [
						...shown,
						...filesWithoutTools({
							"test/house/metrics.test.ts": ["python3"],
							"test/house/deploy.test.ts": ["promtool", "nginx", "systemd"],
						}),
					],
					...patience,
				},
			},
			{
				// In the examples the package is its sources.
				resolve: { alias: inExamples },
				test: {
					name: "testing",
					isolate: false,
					include: ["test/testing/**/*.test.ts", "examples/**/*.test.ts"],
					...patience,
				},
			},
			{
				test: {
					name: "client-node",
					include: ["test/client/**/*.test.ts"],
					isolate: false,
					globalSetup: clientServer,
					...patience,
				},
			},
			{
				plugins: [cloudflareTest({ wrangler })],
				test: {
					name: "client-workerd",
					include: [everyRuntime],
					globalSetup: clientServer,
					...patience,
				},
			},
			...(await browserProjects()),
			{
				test: {
					name: "security",
					include: ["test/security/**/*.test.ts"],
					isolate: false,
					...patience,
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
				...patience,
			},
		},
		{
			test: {
				// The project that runs is the one instance below.
				name: "client-browser",
				include: [everyRuntime],
				globalSetup: clientServer,
				...patience,
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
