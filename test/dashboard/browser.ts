/** A real Chromium, and pages that fail a test when they break their content security policy or throw. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright";
import { findChromium } from "../support/chromium.ts";

const FLAGS = [
	...["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
	...["--disable-component-update", "--no-first-run", "--hide-scrollbars"],
];

export async function launch(flags: string[] = []): Promise<Browser> {
	const executablePath = findChromium();
	if (executablePath === undefined) throw new Error("There is no Chromium to look at the page with.");
	return chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
}

export interface Watched {
	page: Page;
	/** What went wrong on the page: broken policies, exceptions, errors on its console. */
	faults: string[];
	/** Hosts that the page called. */
	hosts: Set<string>;
	close(): Promise<void>;
}

export async function newPage(browser: Browser, options: BrowserContextOptions = {}): Promise<Watched> {
	const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
	const page = await context.newPage();
	const faults: string[] = [];
	const hosts = new Set<string>();
	page.on("pageerror", (error) => faults.push(`exception: ${error.message}`));
	page.on("console", (message) => {
		// A refused call is the server's answer, and shown on the page.
		const expected = message.text().startsWith("Failed to load resource");
		if (message.type() === "error" && !expected) faults.push(`console: ${message.text()}`);
	});
	page.on("request", (request) => hosts.add(new URL(request.url()).host));
	await page.addInitScript(() => {
		document.addEventListener("securitypolicyviolation", (event) => {
			console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
		});
	});
	return { page, faults, hosts, close: () => context.close() };
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds wrong, in one line each; of all its rules, or of those named. */
export async function accessibilityFaults(page: Page, rules?: readonly string[]): Promise<string[]> {
	const options = { resultTypes: ["violations"], ...(rules && { runOnly: rules }) };
	// Through the debugger: as a script of the page it would break the page's own policy.
	const session = await page.context().newCDPSession(page);
	await session.send("Runtime.evaluate", { expression: axeSource });
	const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
		expression: `axe.run(document, ${JSON.stringify(options)}).then(({ violations }) => JSON.stringify(
			violations.map(({ id, help, nodes }) => id + ": " + help + " — " + nodes.map(({ target }) => target).join(", "))))`,
		awaitPromise: true,
	});
	await session.detach();
	if (exceptionDetails) throw new Error(`axe did not run: ${exceptionDetails.exception?.description}`);
	return JSON.parse(result.value as string) as string[];
}
