/** Writes the dashboard into `dist/dashboard/`, where `wrangler.toml` has the Worker's static files. */

import path from "node:path";
import { bundlePage, writePage } from "../src/cli/page.ts";

export const dashboardFolder = path.resolve(import.meta.dirname, "../dist/dashboard");

export async function buildDashboard(): Promise<void> {
	writePage(dashboardFolder, await bundlePage());
}

if (import.meta.main) await buildDashboard();
