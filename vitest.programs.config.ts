/** `npm run test:programs`: what a user starts, kills, installs and types, in processes of its own. */

import { defineConfig } from "vitest/config";
import { buildDashboard } from "./scripts/build-dashboard.ts";
import { npmPatience, patience, run, shareBundle, shown } from "./test/support/runs.ts";
import { filesWithoutTools } from "./test/support/tools.ts";

export default defineConfig(async () => {
	await Promise.all([buildDashboard(), shareBundle()]);
	return config();
});

const config = () => ({
	test: {
		...run,
		projects: [
			{
				test: {
					name: "cli",
					include: ["test/cli/**/*.test.ts"],
					globalSetup: "test/support/built.ts",
					...patience,
				},
			},
			{
				test: {
					// Servers that are started and killed, and what happens to their files and their callers.
					name: "process",
					include: ["test/process/**/*.test.ts"],
					globalSetup: "test/support/built.ts",
					exclude: filesWithoutTools({
						"test/process/clock.test.ts": ["gcc"],
						"test/process/disk.test.ts": ["mount"],
						"test/process/full-disk.test.ts": ["mount"],
						"test/process/nginx.test.ts": ["nginx"],
					}),
					...patience,
				},
			},
			{
				test: {
					name: "shown",
					include: shown,
					exclude: filesWithoutTools({ "test/house/http-docs.test.ts": ["python3", "go"] }),
					...npmPatience,
				},
			},
			{
				test: {
					name: "package",
					include: ["test/package/**/*.test.ts"],
					globalSetup: "test/support/packed.ts",
					...npmPatience,
				},
			},
		],
	},
});
