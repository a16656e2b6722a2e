import { existsSync } from "node:fs";

/** Where systems put it; `CHROMIUM_PATH` goes before. */
const USUAL_PATHS = [
	"/usr/bin/chromium",
	"/usr/bin/chromium-browser",
	"/usr/bin/google-chrome",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/**
 * The browser for the client's tests. A contributor without one gets every other test and is told so;
 * in CI its absence is an error, so that the run cannot be left out unnoticed.
 */
export function findChromium(): string | undefined {
	const chosen = process.env.CHROMIUM_PATH;
	const candidates = chosen ? [chosen] : USUAL_PATHS;
	const found = candidates.find((path) => existsSync(path));
	if (found !== undefined) return found;
	const where = candidates.join(", ");
	if (process.env.CI === "true") {
		throw new Error(`No Chromium found at ${where}. Install one, or set CHROMIUM_PATH; CI does not go without.`);
	}
	process.stderr.write(`browser run left out: no Chromium found at ${where} (set CHROMIUM_PATH to run it)\n`);
	return undefined;
}
