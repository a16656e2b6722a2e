/**
 * `npm run screenshots`: the dashboard in both schemes, into `docs/screenshots/`: a team's limits at three sizes; and at two sizes
 * 200 limits, one of them with a line of 150, and 10,000, which take some minutes to be made.
 */

import { mkdirSync } from "node:fs";
import path from "node:path";
import type { Browser } from "playwright";
import { launch, newPage } from "../test/dashboard/browser.ts";
import { busyNight, dayBefore, house, Scene } from "../test/dashboard/scene.ts";
import { freshServer } from "../test/support/server.ts";

const SIZES = {
	phone: { width: 390, height: 844 },
	tablet: { width: 834, height: 1112 },
	desktop: { width: 1440, height: 900 },
};
type Size = keyof typeof SIZES;
/** A hundred rows are many screens of a phone: so many of them are shown. */
const SCREENS_MOST = 2;

const folder = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, "../docs/screenshots"));
/** Seconds of a past for the plot. */
const rounds = Number(process.argv[3] ?? 180);
const large = Number(process.argv[4] ?? 10_000);

mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
	await Promise.all([
		ofServer(
			async (scene) => {
				await dayBefore(scene, rounds, 1_000);
				await busyNight(scene);
			},
			{ list: "#/", limit: "#/limits/gpu" },
			["phone", "tablet", "desktop"],
		),
		ofServer((scene) => house(scene, 200, 20, 150), { "200-list": "#/", "200-line": "#/limits/limit-00199" }),
		ofServer((scene) => house(scene, large, 50, 3), { "10000-list": "#/" }),
	]);
} finally {
	await browser.close();
}

/** Pictures of pages of one server, each as `<page>-<size>-<scheme>.png`. */
async function ofServer(
	make: (scene: Scene) => Promise<void>,
	pages: Record<string, string>,
	sizes: Size[] = ["phone", "desktop"],
): Promise<void> {
	await using server = await freshServer();
	using scene = new Scene(server.url);
	await make(scene);
	for (const size of sizes) {
		for (const colorScheme of ["light", "dark"] as const) {
			for (const [name, hash] of Object.entries(pages)) {
				await take(browser, `${server.url}/${hash}`, path.join(folder, `${name}-${size}-${colorScheme}.png`), {
					viewport: SIZES[size],
					colorScheme,
				});
			}
		}
	}
}

async function take(
	browser: Browser,
	url: string,
	file: string,
	options: { viewport: { width: number; height: number }; colorScheme: "light" | "dark" },
): Promise<void> {
	const { page, close } = await newPage(browser, options);
	await page.goto(url);
	await page.getByText("live", { exact: true }).waitFor();
	await page.getByRole("meter").first().waitFor();
	if (url.includes("#/limits/")) await page.locator(".chart canvas").first().waitFor();
	await page.waitForTimeout(600);
	const { width, height } = options.viewport;
	const whole = await page.evaluate(() => document.documentElement.scrollHeight);
	const clip = { x: 0, y: 0, width, height: Math.min(whole, SCREENS_MOST * height) };
	await page.screenshot({ path: file, fullPage: true, clip, animations: "disabled" });
	process.stdout.write(`${path.relative(process.cwd(), file)}\n`);
	await close();
}
