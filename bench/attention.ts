/**
 * The overview of a large house: thousands of limits, of which a few are busy. How soon the list shows those, how soon it
 * follows, and what the telling costs a minute.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Browser, Page } from "playwright";
import type { LimitsPage, WatchEvent } from "../src/protocol.ts";
import { launch, newPage } from "../test/dashboard/browser.ts";
import { findChromium } from "../test/support/chromium.ts";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import { median, seconds } from "./numbers.ts";
import type { Report } from "./report.ts";

/** More than a page has. */
const LIMITS = { full: 10_000, short: 150 };
const BUSY = { full: 50, short: 3 };
/** Requests that are made at once while the house is built. */
const BUILDERS = 16;
/** How long the busy ones are used while their tellings are counted. */
const MINUTE_MS = { full: 60_000, short: 1_000 };
const SHOWN_MS = 2_000;
const FOLLOWS_MS = 5_000;
/** Of one object, by Cloudflare's prices: a request of 0.15 USD a million. */
const USD_A_CALL = 0.15 / 1e6;
/** An object that is watched stays in memory, 128 MB of it, of which a GB costs 12.50 USD for a million seconds. */
const USD_A_MINUTE = 60 * 0.128 * (12.5 / 1e6);
/** Rows of the page. */
const PAGE = 100;
/** How often the page is opened, each time beside a bare one. Between, objects at rest leave memory. */
const OPENED = 5;
const REST_MS = 12_000;
/** How long an open page is looked at, for what it costs. */
const LOOK_MS = 30_000;
const MONTH_MINUTES = 30 * 24 * 60;

export async function attention({ short, progress }: Context): Promise<Report> {
	const limits = short ? LIMITS.short : LIMITS.full;
	const busy = short ? BUSY.short : BUSY.full;
	const minuteMs = short ? MINUTE_MS.short : MINUTE_MS.full;
	await using server = await freshServer({ config: `${import.meta.dirname}/counting/wrangler.toml` });
	using crowd = new Crowd(server.url);
	// The busy ones are the last by name, where no first page has them.
	const name = (index: number): string => `limit-${String(index).padStart(5, "0")}`;
	const worst = Array.from({ length: busy }, (_, index) => name(limits - busy + index));

	progress(`${limits} limits`);
	let made = 0;
	await Promise.all(
		Array.from({ length: BUILDERS }, async () => {
			while (made < limits) {
				made += 1;
				await once(server.url, "PUT", `/v1/limits/${name(made - 1)}`, { limit: 2 });
			}
		}),
	);

	progress(`${busy} of them busy`);
	for (const each of worst) {
		await once(server.url, "POST", "/v1/acquire", { names: each, occupy: 2, leaseSeconds: 3_600 });
		await crowd.wait(each);
	}
	// By then each has told; the short form makes do with those that have.
	await sleep(short ? 0 : FOLLOWS_MS + 1_000);

	progress("opening the list");
	const openedAt = performance.now();
	const first = await crowd.watch();
	const openedMs = performance.now() - openedAt;
	const shown = first.limits.filter((limit) => worst.includes(limit.name) && limit.waitingCount > 0).length;

	progress("one more becomes busy");
	const late = name(limits - busy - 1);
	await once(server.url, "POST", "/v1/acquire", { names: late, occupy: 2, leaseSeconds: 3_600 });
	const busyAt = performance.now();
	await crowd.wait(late);
	const followed = await crowd.sees(late);
	const followedMs = followed - busyAt;
	// A limit tells again five seconds after it told, for which the short form has no time.
	const sums = short ? null : crowd.sums(busy + 1);

	// The short form leaves the browser to the tests of the page.
	const inBrowser = short || findChromium() === undefined ? null : await browse(server.url, busy + 1, progress);

	progress("what it costs a minute");
	const tellings = async () => (await once<{ told: number }>(server.url, "GET", "/told")).told;
	const before = await tellings();
	const until = performance.now() + minuteMs;
	let calls = 0;
	await Promise.all(
		worst.map(async (each) => {
			while (performance.now() < until) {
				await (await ask(server.url, each)).text();
				calls += 1;
				await sleep(200);
			}
		}),
	);
	const told = (await tellings()) - before;
	const sumsAt = await sums;
	const most = (busy + 1) * Math.ceil(minuteMs / 5_000 + 1);
	return {
		title: "The overview of a large house",
		notes: [
			`${limits.toLocaleString("en")} limits, of which the last ${busy} by name are full, each with a waiter. \`GET /v1/watch?order=attention\` is what the dashboard opens.`,
			`In ${seconds(minuteMs)} the ${busy} busy limits were asked ${calls.toLocaleString("en")} times, and denied; they told the directory ${told.toLocaleString("en")} times, of at most ${most.toLocaleString("en")}. No telling writes a row. ` +
				`Used like this for a month they cost ${((told / minuteMs) * 60_000 * MONTH_MINUTES * USD_A_CALL).toFixed(2)} USD; ${limits.toLocaleString("en")} limits that rest cost nothing.`,
			...(inBrowser
				? [
						`The page was opened ${inBrowser.opened} times, each beside an empty one of the same server, ${seconds(REST_MS)} apart, in which limits at rest leave memory; the figures are medians. ` +
							`A minute of an open page, while nothing changes, is ${inBrowser.calls} calls, ${inBrowser.kilobytes.toFixed(0)} kB and ${inBrowser.busyMs.toFixed(0)} ms of the browser's processor; ` +
							`it keeps ${PAGE} limits in memory, which Cloudflare bills at most ${(PAGE * USD_A_MINUTE).toFixed(4)} USD for.`,
					]
				: []),
		],
		head: ["what", "measured", "wanted"],
		rows: [
			["the list is there", seconds(openedMs), `within ${seconds(SHOWN_MS)}`],
			["busy limits in its first line", `${shown} of ${busy}`, "all"],
			["another that becomes busy is seen after", seconds(followedMs), `within ${seconds(FOLLOWS_MS)}`],
			["the sums say so after", sumsAt === null ? "not awaited" : seconds(sumsAt - busyAt), ""],
			[
				"tellings a minute",
				((told / minuteMs) * 60_000).toFixed(0),
				`at most ${((most / minuteMs) * 60_000).toFixed(0)}`,
			],
			...(inBrowser
				? [
						["an empty page in Chromium", seconds(inBrowser.bareMs), ""],
						["the page in Chromium, with all that are busy", seconds(inBrowser.shownMs), `within ${seconds(SHOWN_MS)}`],
						["times the empty one", inBrowser.times.toFixed(1), ""],
						["the page follows after", seconds(inBrowser.followedMs), `within ${seconds(FOLLOWS_MS)}`],
					]
				: []),
		],
		targets: [
			{ what: "busy limits in the first line", aim: "all", measured: `${shown} of ${busy}`, met: shown === busy },
			{ what: "until the list is there", ...within(SHOWN_MS, openedMs) },
			{ what: "until it follows", ...within(FOLLOWS_MS, followedMs) },
			...(inBrowser
				? [
						{ what: "until the page shows them", ...within(SHOWN_MS, inBrowser.shownMs) },
						{ what: "until the page follows", ...within(FOLLOWS_MS, inBrowser.followedMs) },
					]
				: []),
			{ what: "tellings", aim: `at most ${most}`, measured: String(told), met: told <= most },
		],
	};
}

/** What a browser makes of it: how soon it has all busy rows, how soon it follows, and what an open page costs. */
async function browse(url: string, busy: number, progress: (doing: string) => void) {
	const browser = await launch();
	try {
		const bare: number[] = [];
		const shown: number[] = [];
		for (let round = 0; round < OPENED; round += 1) {
			progress(`opening the page, ${round + 1}`);
			await sleep(REST_MS);
			bare.push(await opens(browser, `${url}/health`, 0));
			shown.push(await opens(browser, url, busy));
		}
		const times = shown.map((ms, round) => ms / (bare[round] as number));
		const { page, close } = await newPage(browser);
		const devtools = await page.context().newCDPSession(page);
		await devtools.send("Network.enable");
		await devtools.send("Performance.enable");
		await page.goto(url);
		await rowsOf(page, busy);
		let bytes = 0;
		let calls = 0;
		devtools.on("Network.dataReceived", ({ dataLength }) => {
			bytes += dataLength;
		});
		devtools.on("Network.requestWillBeSent", () => {
			calls += 1;
		});
		const spent = async (): Promise<number> => {
			const { metrics } = await devtools.send("Performance.getMetrics");
			return metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0;
		};
		progress("an open page");
		const before = await spent();
		await sleep(LOOK_MS);
		const busyMs = 1_000 * ((await spent()) - before);
		const aMinute = 60_000 / LOOK_MS;
		const cost = { kilobytes: (bytes / 1024) * aMinute, calls: Math.round(calls * aMinute), busyMs: busyMs * aMinute };

		progress("the page follows");
		// Of those at rest, and on no page.
		const name = "limit-00120";
		await once(url, "POST", "/v1/acquire", { names: name, occupy: 2, leaseSeconds: 3_600 });
		const deniedAt = performance.now();
		await ask(url, name);
		await page.locator("table.limits tr", { hasText: name }).locator(".denied").waitFor({ state: "attached" });
		const followedMs = performance.now() - deniedAt;
		await close();
		return {
			...{ bareMs: median(bare), shownMs: median(shown), times: median(times), opened: shown.length },
			...{ followedMs, ...cost },
		};
	} finally {
		await browser.close();
	}
}

/** How long it takes from opening a page until it is there, with so many rows of those who wait. */
async function opens(browser: Browser, url: string, rows: number): Promise<number> {
	const { page, close } = await newPage(browser);
	const startedAt = performance.now();
	await page.goto(url);
	await rowsOf(page, rows);
	const ms = performance.now() - startedAt;
	await close();
	return ms;
}

async function rowsOf(page: Page, rows: number): Promise<void> {
	if (rows === 0) return;
	await page
		.locator("table.limits .waiting")
		.nth(rows - 1)
		.waitFor({ state: "attached" });
}

const within = (mostMs: number, ms: number) => ({
	...{ aim: `within ${seconds(mostMs)}`, measured: seconds(ms), met: ms <= mostMs },
});

/** Asks for a slot, and takes a denial for an answer. */
const ask = (url: string, names: string): Promise<Response> =>
	fetch(`${url}/v1/acquire`, {
		method: "POST",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify({ names }),
	});

/** Callers that wait in line, and a reader that watches, until it is over. */
class Crowd implements Disposable {
	readonly #url: string;
	readonly #over = new AbortController();
	/** When each limit was first seen with a waiter. */
	readonly #seen = new Map<string, number>();
	#waiting = { most: 0, at: 0 };

	constructor(url: string) {
		this.#url = url;
	}

	[Symbol.dispose](): void {
		this.#over.abort();
	}

	/** Stands in line. */
	async wait(name: string): Promise<void> {
		const response = await fetch(`${this.#url}/v1/acquire`, {
			method: "POST",
			headers: { "Content-Type": "application/json", Accept: "application/x-ndjson" },
			body: JSON.stringify({ names: name }),
			signal: this.#over.signal,
		});
		const lines = linesOf(response);
		await lines.next();
		void this.#drain(lines);
	}

	/** Opens the list, and answers with its first line. */
	async watch(): Promise<LimitsPage> {
		const response = await fetch(`${this.#url}/v1/watch?order=attention`, { signal: this.#over.signal });
		const lines = linesOf(response);
		const first = JSON.parse((await lines.next()).value as string) as LimitsPage;
		void this.#drain(lines, (line) => {
			const event = JSON.parse(line) as WatchEvent;
			const now = performance.now();
			if (event.event === "limit" && event.limit.waitingCount > 0 && !this.#seen.has(event.limit.name))
				this.#seen.set(event.limit.name, now);
			if (event.event === "totals" && event.totals.waiting > this.#waiting.most)
				this.#waiting = { most: event.totals.waiting, at: now };
		});
		return first;
	}

	async sees(name: string): Promise<number> {
		for (;;) {
			const at = this.#seen.get(name);
			if (at !== undefined) return at;
			await sleep(10);
		}
	}

	/** When the sums first told of so many waiters. */
	async sums(waiting: number): Promise<number> {
		while (this.#waiting.most < waiting) await sleep(10);
		return this.#waiting.at;
	}

	async #drain(lines: AsyncGenerator<string>, hear: (line: string) => void = () => undefined): Promise<void> {
		try {
			for await (const line of lines) hear(line);
		} catch {
			// It is over.
		}
	}
}

async function* linesOf(response: Response): AsyncGenerator<string, void> {
	let rest = "";
	const decoder = new TextDecoder();
	for await (const chunk of response.body as ReadableStream<Uint8Array>) {
		const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
		rest = lines.pop() ?? "";
		for (const line of lines) if (line.trim() !== "") yield line;
	}
}
