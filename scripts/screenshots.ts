/** `npm run screenshots`: the dashboard at three sizes in both schemes, into `docs/screenshots/`. */

import { mkdirSync } from "node:fs";
import path from "node:path";
import { launch, newPage } from "../test/dashboard/browser.ts";
import { busyNight, dayBefore, Scene } from "../test/dashboard/scene.ts";
import { freshServer } from "../test/support/server.ts";

const SIZES = {
	phone: { width: 390, height: 844 },
	tablet: { width: 834, height: 1112 },
	desktop: { width: 1440, height: 900 },
};
const PAGES = { list: "#/", limit: "#/limits/gpu" };
const folder = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, "../docs/screenshots"));
/** Seconds of a past for the plot. */
const rounds = Number(process.argv[3] ?? 180);

mkdirSync(folder, { recursive: true });
await using server = await freshServer();
using scene = new Scene(server.url);
const browser = await launch();
try {
	await dayBefore(scene, rounds, 1_000);
	await busyNight(scene);
	for (const [size, viewport] of Object.entries(SIZES)) {
		for (const colorScheme of ["light", "dark"] as const) {
			const { page, close } = await newPage(browser, { viewport, colorScheme });
			for (const [name, hash] of Object.entries(PAGES)) {
				await page.goto(`${server.url}/${hash}`);
				await page.getByText("live", { exact: true }).waitFor();
				await page.getByRole("meter").first().waitFor();
				if (name === "limit") await page.locator(".chart canvas").first().waitFor();
				await page.waitForTimeout(600);
				const file = path.join(folder, `${name}-${size}-${colorScheme}.png`);
				await page.screenshot({ path: file, fullPage: true, animations: "disabled" });
				process.stdout.write(`${path.relative(process.cwd(), file)}\n`);
			}
			await close();
		}
	}
} finally {
	await browser.close();
}
