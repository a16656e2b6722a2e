/** The page in a real browser, against a real server: what an operator does, end to end. */

import { createHash } from "node:crypto";
import type { Browser, Page } from "playwright";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { LimitInfo, LimitPatch, Policy } from "../../src/protocol.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { accessibilityFaults, launch, newPage, type Watched } from "./browser.ts";
import { busyNight, Scene } from "./scene.ts";

let browser: Browser;
let server: FreshServer;
let scene: Scene;
let watched: Watched;
let page: Page;

beforeAll(async () => {
	[browser, server] = await Promise.all([launch(), freshServer()]);
	scene = new Scene(server.url);
});

afterAll(async () => {
	scene?.[Symbol.dispose]();
	await browser?.close();
	await server?.[Symbol.asyncDispose]();
});

beforeEach(async () => {
	watched = await newPage(browser);
	page = watched.page;
});

/** Whatever a test was about: no policy was broken, nothing was thrown, and no other host was called. */
afterEach(async () => {
	await watched.close();
	expect(watched.faults).toEqual([]);
	expect(
		[...watched.hosts].filter((host) => host !== new URL(server.url).host && !host.startsWith("127.0.0.1")),
	).toEqual([]);
});

let names = 0;
const newName = (): string => {
	names += 1;
	return `limit-${names}`;
};

const open = (hash = "#/") => page.goto(`${server.url}/${hash}`);
const openLimit = (name: string) => open(`#/limits/${encodeURIComponent(name)}`);
const rowOf = (name: string) => page.getByRole("row").filter({ has: page.getByRole("link", { name, exact: true }) });
const button = (name: string) => page.getByRole("button", { name, exact: true });
const dialog = () => page.getByRole("dialog");
const said = (text: string | RegExp) => page.getByRole("status").getByText(text).waitFor();
const inspect = (name: string) => scene.inspect<LimitInfo>(name);

describe("text from elsewhere", () => {
	test("turns nothing around it, and its controls are visible", async () => {
		const name = `${newName()} \u05e9\u05dc\u05d5\u05dd`;
		await scene.configure(name, { limit: 2 });
		await scene.acquire({ names: name, holder: "\u202elive\u200b\x1b[31m" });
		await open();
		await page.locator("bdi").getByText(name, { exact: true }).first().waitFor();
		await openLimit(name);
		await page.locator("bdi").getByText("\\u202elive\\u200b\\x1b[31m", { exact: true }).waitFor();
		expect(await page.title()).toBe(`\u2068${name}\u2069 · Headgate`);
		// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
		expect(await page.content()).not.toMatch(/[\u202e\u200b\x1b]/);
	});
});

describe("the list", () => {
	test("shows every limit with its figures, and each change without a reload", async () => {
		const name = newName();
		await scene.configure(name, { limit: 4 });
		await open();
		await rowOf(name).getByText("0 / 4").waitFor();
		const lease = await scene.acquire({ names: name, occupy: 4 });
		await rowOf(name).getByText("4 / 4").waitFor();
		await rowOf(name).getByText("full", { exact: true }).waitFor();
		const meter = rowOf(name).getByRole("meter", { name: `Slots in use of ${name}` });
		expect(await meter.getAttribute("aria-valuetext")).toBe("4 of 4 slots");
		await scene.acquire({ names: name });
		const pressing = page.getByRole("link", { name: new RegExp(`^${name} .*1 denied / min`) });
		await pressing.waitFor();
		await scene.release(lease);
		await rowOf(name).getByText("0 / 4").waitFor();
		await pressing.waitFor({ state: "detached" });
	});

	test("shows a new limit, and takes a deleted one away", async () => {
		const name = newName();
		await open();
		await page.getByText("live", { exact: true }).waitFor();
		await scene.configure(name, { limit: 1 });
		await rowOf(name).waitFor();
		await scene.call("DELETE", `/v1/limits/${name}`);
		await rowOf(name).waitFor({ state: "detached" });
	});

	test("asks once and by push: nothing is polled", async () => {
		const calls: string[] = [];
		page.on("request", (request) => calls.push(new URL(request.url()).pathname));
		const name = newName();
		await scene.configure(name, { limit: 1 });
		await open();
		await rowOf(name).waitFor();
		for (const limit of [2, 3, 4]) {
			await scene.configure(name, { limit });
			await rowOf(name).getByText(`0 / ${limit}`).waitFor();
		}
		expect(calls.filter((path) => path.startsWith("/v1/"))).toEqual(["/v1/watch", "/v1/token"]);
	});

	test("filters by name, by keyboard, and sorts", async () => {
		const [a, b] = [`apple-${newName()}`, `pear-${newName()}`];
		await scene.configure(a, { limit: 9 });
		await scene.configure(b, { limit: 1 });
		await scene.acquire({ names: b });
		await open();
		await rowOf(a).waitFor();
		await page.keyboard.press("/");
		await page.keyboard.type("APPLE");
		await rowOf(b).waitFor({ state: "detached" });
		expect(await page.getByRole("row").count()).toBe(2);
		await page.getByRole("searchbox").fill("no such name");
		await page.getByText("No limit has “no such name” in its name.", { exact: false }).waitFor();
		await page.getByRole("searchbox").fill(b.slice(0, 3));
		await page.getByRole("combobox", { name: "Order" }).selectOption("by name");
		await rowOf(b).waitFor();
	});

	test("a key of a policy that was used once is found by its whole name", async () => {
		const prefix = `${newName()}:`;
		await scene.call("PUT", `/v1/policies/${prefix}*`, { limit: 3 });
		await scene.acquire({ names: `${prefix}alice` });
		await open();
		await page.getByText("live", { exact: true }).waitFor();
		await page.getByRole("searchbox").fill(`${prefix}alice`);
		await page.getByRole("link", { name: "look for one of exactly this name" }).click();
		await page.getByText("1 of 3 slots in use").waitFor();
		await scene.call("DELETE", `/v1/policies/${prefix}*`);
	});

	test("a hundred limits are a page; the next is a click away, and the filter then asks the server", async () => {
		const family = `many-${newName()}`;
		const name = (index: number) => `${family}-${String(index).padStart(3, "0")}`;
		await Promise.all(Array.from({ length: 105 }, (_, index) => scene.configure(name(index), { limit: 1 })));
		await open();
		await page.getByText(/^and \d+ limits more/).waitFor();
		await page.getByRole("combobox", { name: "Order" }).selectOption("by name");
		await button("Next page").waitFor();
		await page.getByRole("searchbox", { name: "Filter by name" }).fill(family);
		await rowOf(name(99)).waitFor();
		await button("Next page").click();
		await rowOf(name(104)).waitFor();
		expect(await rowOf(name(0)).count()).toBe(0);
		await button("First page").click();
		await rowOf(name(0)).waitFor();
		await page.getByRole("searchbox", { name: "Filter by name" }).fill(name(104));
		await rowOf(name(104)).waitFor();
		await Promise.all(Array.from({ length: 105 }, (_, index) => scene.call("DELETE", `/v1/limits/${name(index)}`)));
	});
});

describe("what needs a look", () => {
	test("of more limits than a page has, the one with a line is first, though its name is last; the sums are of all", async () => {
		const family = `zz-${newName()}`;
		const name = (index: number) => `${family}-${String(index).padStart(3, "0")}`;
		await Promise.all(Array.from({ length: 120 }, (_, index) => scene.configure(name(index), { limit: 1 })));
		await open();
		await page.getByText(/^and \d+ limits more/).waitFor();
		await scene.acquire({ names: name(119) });
		await scene.wait({ names: name(119) });
		await page.getByRole("link", { name: new RegExp(`^${name(119)} .*1 waiting`) }).waitFor();
		await page
			.getByRole("row")
			.nth(1)
			.getByRole("link", { name: name(119), exact: true })
			.waitFor();
		const tile = (label: string) => page.locator(".tile", { hasText: label }).locator("dd").textContent();
		expect(Number((await tile("limits"))?.replace(/\D/g, ""))).toBeGreaterThanOrEqual(120);
		await expect.poll(async () => Number(await tile("waiting")), { timeout: 15_000 }).toBeGreaterThanOrEqual(1);
		// Opened anew it has the worst first, and then the others that there is room for.
		await page.reload();
		await page
			.getByRole("row")
			.nth(1)
			.getByRole("link", { name: name(119), exact: true })
			.waitFor();
		const digits = (text: string | null) => Number(text?.replace(/\D/g, ""));
		await expect
			.poll(async () => {
				const rows = await page.locator("table.limits tbody tr").count();
				const left = digits(await page.getByText(/^and [\d,]+ limits? more/).textContent());
				return [rows, rows + left - digits(await tile("limits"))];
			})
			.toEqual([100, 0]);
		await Promise.all(Array.from({ length: 120 }, (_, index) => scene.call("DELETE", `/v1/limits/${name(index)}`)));
	});

	test("the keys of a policy that are denied most", async () => {
		const prefix = `${newName()}:`;
		await scene.call("PUT", `/v1/policies/${prefix}*`, { limit: 3, slotDecayPerSecond: 5, idleSeconds: 1 });
		// On a machine that is slow, slots come back as fast as they are asked for one after the other.
		const ask = () => scene.acquire({ names: `${prefix}bob`, mode: "rate_limit" });
		const isDenied = (answer: object): boolean => "code" in answer && answer.code === "denied";
		await expect.poll(async () => (await Promise.all(Array.from({ length: 20 }, ask))).some(isDenied)).toBe(true);
		await open("#/policies");
		const look = page.getByRole("button", { name: `Denied keys of ${prefix}*` });
		await expect
			.poll(
				async () => {
					await look.click();
					await dialog()
						.getByText(/No key told|Denied lately/)
						.waitFor();
					const text = await dialog().textContent();
					await dialog().getByRole("button", { name: "Close", exact: true }).click();
					return text;
				},
				// What a key was denied is told once a minute.
				{ timeout: 180_000 },
			)
			.toContain(`${prefix}bob`);
		await scene.call("DELETE", `/v1/policies/${prefix}*`);
	});
});

describe("settings", () => {
	test("a limit is made, with a rate in the words of the one who makes it", async () => {
		const name = newName();
		await open();
		await button("New limit").click();
		await dialog().getByLabel("Name").fill(name);
		await dialog().getByLabel("Limit", { exact: false }).first().fill("100");
		await dialog()
			.getByRole("radio", { name: /by themselves/ })
			.check();
		const amount = dialog().getByRole("spinbutton", { name: "Slots that come back" });
		await amount.fill("0");
		await button("Create").click();
		expect(await amount.evaluate((input: HTMLInputElement) => input.validationMessage)).toMatch(/^Above 0, or/);
		expect(await scene.call("GET", `/v1/limits/${name}`)).toMatchObject({ status: 404 });
		await amount.fill("100");
		await dialog().getByRole("combobox", { name: "In each" }).selectOption("minute");
		await button("Create").click();
		await said(`The limit "${name}" was made.`);
		await page.getByRole("heading", { name, exact: false }).waitFor();
		await page.getByText("100 / min").first().waitFor();
		expect(await inspect(name)).toMatchObject({ limit: 100, slotDecayPerSecond: 100 / 60, active: true });
	});

	test("a limit is made with a window of the calendar, shown with its end, and made a sliding one", async () => {
		const name = newName();
		await open();
		await button("New limit").click();
		await dialog().getByLabel("Name").fill(name);
		await dialog()
			.getByRole("radio", { name: /with a window/ })
			.check();
		await dialog().getByLabel("Every").fill("month");
		await dialog().getByLabel("Time zone").fill("Europe/Berlni");
		await dialog().getByLabel("Starts on").fill("15");
		await button("Create").click();
		await dialog().getByText("the nearest are Europe/Berlin", { exact: false }).waitFor();
		await dialog().getByLabel("Time zone").fill("Europe/Berlin");
		await button("Create").click();
		await said(`The limit "${name}" was made.`);
		await page.getByText("each month from the 15th, Europe/Berlin").first().waitFor();
		await page.getByText("all of them in").first().waitFor();
		const window = { every: "month", timeZone: "Europe/Berlin", at: "00:00", startsOn: 15, sliding: false };
		expect(await inspect(name)).toMatchObject({ limit: 10, slotDecayPerSecond: 0, window });
		await button("Change").click();
		await button("Save").click();
		await said("Nothing was changed.");
		await button("Change").click();
		await dialog().getByLabel("Every").fill("3600");
		await dialog().getByLabel("Sliding").check();
		await button("Save").click();
		await said(/was changed: window\./);
		await page.getByText("within any 3600 s").first().waitFor();
	});

	test("only what was changed is sent: a rate that was not touched stays exact", async () => {
		const name = newName();
		await scene.configure(name, { limit: 7, slotDecayPerSecond: 1 / 3 });
		await openLimit(name);
		const sent: LimitPatch[] = [];
		page.on("request", (request) => {
			if (request.method() === "PATCH") sent.push(request.postDataJSON() as LimitPatch);
		});
		await button("Change").click();
		// Somebody else changes something meanwhile.
		await scene.call("PATCH", `/v1/limits/${name}`, { active: false });
		await dialog().getByLabel("Limit", { exact: false }).first().fill("9");
		await button("Save").click();
		await said(/was changed: limit\./);
		expect(sent).toEqual([{ limit: 9 }]);
		expect(await inspect(name)).toMatchObject({ limit: 9, slotDecayPerSecond: 1 / 3, active: false });
		await button("Change").click();
		await button("Save").click();
		await said("Nothing was changed.");
		expect(sent.length).toBe(1);
	});

	test("the slots in use are set by hand", async () => {
		const name = newName();
		await scene.configure(name, { limit: 7 });
		await openLimit(name);
		await button("Change").click();
		await dialog().getByText("Set the slots in use by hand").click();
		await dialog().getByLabel("Slots in use", { exact: false }).fill("5");
		await button("Save").click();
		await said(/was changed: activeSlots\./);
		expect(await inspect(name)).toMatchObject({ activeSlots: 5 });
	});

	test("what the server refuses is said in the dialog, which stays open", async () => {
		await open();
		await button("New limit").click();
		await dialog().getByLabel("Name").fill("a/b");
		await button("Create").click();
		await dialog().getByRole("alert").getByText("a name has none of / % & > <", { exact: false }).waitFor();
		await page.keyboard.press("Escape");
		await dialog().waitFor({ state: "detached" });
	});

	test("a limit is switched off and on", async () => {
		const name = newName();
		await scene.configure(name, { limit: 1 });
		await openLimit(name);
		await button("Switch off").click();
		await said(`"${name}" was switched off.`);
		expect((await inspect(name)).active).toBe(false);
		await button("Switch on").click();
		await said(`"${name}" was switched on.`);
		expect((await inspect(name)).active).toBe(true);
	});

	test("a limit is paused for a minute, with a countdown, and goes on when the pause is ended", async () => {
		const name = newName();
		await scene.configure(name, { limit: 2 });
		await openLimit(name);
		await button("Pause for 60 s").click();
		await page.getByText(/paused: it grants nothing for (1 min|[45]\d s)/).waitFor();
		await page.getByText("paused", { exact: true }).waitFor();
		expect(Date.parse((await inspect(name)).pausedUntil ?? "")).toBeGreaterThan(Date.now());
		await button("End the pause").click();
		await button("Pause for 60 s").waitFor();
		expect((await inspect(name)).pausedUntil).toBeNull();
		await button("Pause for 60 s").click();
		await open();
		const pressing = page.getByRole("link", { name: new RegExp(`^${name} .*paused`) });
		await pressing.waitFor();
		await scene.call("POST", `/v1/limits/${name}/pause`, { seconds: 0 });
		await pressing.waitFor({ state: "detached" });
		expect(await accessibilityFaults(page)).toEqual([]);
	});

	test("whose turns there are in a line, by key and weight, and what all of them wait for", async () => {
		const name = newName();
		await scene.configure(name, { limit: 1 });
		await openLimit(name);
		await button("Change").click();
		await dialog().getByText("Whose turn it is in the line").click();
		await dialog().getByLabel("Weights").fill("gold three");
		await button("Save").click();
		await dialog().getByRole("alert").getByText('A weight is written "key = 3", and not "gold three".').waitFor();
		await dialog().getByLabel("Weights").fill("gold = 3\na=b = 2");
		await dialog()
			.getByLabel(/^Starving after/)
			.fill("30");
		await button("Save").click();
		await said(/weights, starveAfterSeconds/);
		expect(await inspect(name)).toMatchObject({ weights: { gold: 3, "a=b": 2 }, starveAfterSeconds: 30 });
		await scene.acquire({ names: name });
		for (let index = 0; index < 3; index += 1) await scene.wait({ names: name, key: "gold" });
		await scene.wait({ names: name, priority: 2, key: "<b>urgent</b>" });
		const turns = page.getByRole("table", { name: "Whose turns" });
		await turns.getByRole("row", { name: "gold 0 3 3 3" }).waitFor();
		await turns.getByRole("row", { name: "<b>urgent</b> 2 1 1 1" }).waitFor();
		await page.getByText("For slots that others hold.").waitFor();
		const first = page.locator("table.waiters tbody tr").first();
		await first.getByText("<b>urgent</b>", { exact: true }).waitFor();
		// What the form does not touch stays as it is.
		await button("Change").click();
		await dialog().getByLabel("Limit", { exact: false }).first().fill("2");
		await button("Save").click();
		await said(/was changed: limit\./);
		expect(await inspect(name)).toMatchObject({ weights: { gold: 3, "a=b": 2 }, limit: 2 });
		expect(await accessibilityFaults(page)).toEqual([]);
	});

	test("a limit lends once it is told for how long, says how much is lent, and lends no more when that is undone", async () => {
		const name = newName();
		await scene.configure(name, { limit: 10_000 });
		await openLimit(name);
		await button("Change").click();
		await dialog()
			.getByRole("radio", { name: /by themselves/ })
			.check();
		await dialog().getByRole("spinbutton", { name: "Slots that come back" }).fill("1000");
		const lent = dialog().getByRole("spinbutton", { name: /Lent for/ });
		await lent.fill("0.05");
		await button("Save").click();
		await dialog().getByRole("alert").getByText("lendSeconds", { exact: false }).waitFor();
		await lent.fill("10");
		await button("Save").click();
		await said(/was changed: slotDecayPerSecond, lendSeconds\./);
		expect(await inspect(name)).toMatchObject({ slotDecayPerSecond: 1_000, lendSeconds: 10, lentSlots: 0 });
		const fact = page.locator(".facts div", { hasText: "lent to Workers" }).locator("dd");
		const ask = () => scene.acquire({ names: name, mode: "rate_limit" });
		await expect
			.poll(async () => {
				await Promise.all(Array.from({ length: 20 }, ask));
				return fact.textContent();
			})
			.toMatch(/^[1-9]/);
		await button("Change").click();
		expect(await lent.inputValue()).toBe("10");
		await lent.fill("0");
		await button("Save").click();
		await said(/was changed: lendSeconds\./);
		await fact.waitFor({ state: "detached" });
		expect(await accessibilityFaults(page)).toEqual([]);
	});

	test("a limit only watches once it is told to, and says what it would deny", async () => {
		const name = newName();
		await scene.configure(name, { limit: 1 });
		await openLimit(name);
		await button("Change").click();
		await dialog()
			.getByLabel(/^Enforced/)
			.uncheck();
		await button("Save").click();
		await page.getByText("not enforced: it says what it would deny, and denies nothing").waitFor();
		await scene.acquire({ names: name });
		await scene.acquire({ names: name });
		await page.locator(".totals").getByText("would deny").waitFor();
		expect((await inspect(name)).totals).toMatchObject({ wouldDeny: 1, denied: 0 });
		// It reads out the newest five seconds alone.
		await expect
			.poll(async () => {
				await scene.acquire({ names: name });
				return page.locator(".readout").getByText("would deny").isVisible();
			})
			.toBe(true);
		await page.getByText("As a table, by the minute").click();
		await page.getByRole("columnheader", { name: "Would deny" }).waitFor();
	});

	test("a limit is deleted after a question that says who loses what", async () => {
		const name = newName();
		await scene.configure(name, { limit: 1 });
		await scene.acquire({ names: name });
		await scene.wait({ names: name });
		await openLimit(name);
		await button("Delete").click();
		await dialog().getByText("It ends 1 lease and sends away 1 waiter.").waitFor();
		await dialog().getByRole("button", { name: "Cancel" }).click();
		expect((await inspect(name)).leaseCount).toBe(1);
		await button("Delete").click();
		await dialog().getByRole("button", { name: "Delete" }).click();
		await said(`The limit "${name}" was deleted.`);
		expect((await scene.call("GET", `/v1/limits/${name}`)).status).toBe(404);
		expect(new URL(page.url()).hash).toBe("#/");
	});

	test("policies are made, changed, followed to their limits, and deleted", async () => {
		const prefix = `${newName()}:`;
		await open("#/policies");
		await button("New policy").click();
		await dialog().getByLabel("Pattern").fill(`${prefix}*`);
		await dialog().getByLabel("Limit", { exact: false }).first().fill("3");
		await dialog().getByLabel("Kept for", { exact: false }).fill("120");
		await button("Create").click();
		await said(`The policy "${prefix}*" was made.`);
		await page.getByRole("cell", { name: "2 min", exact: true }).waitFor();
		await scene.acquire({ names: `${prefix}alice` });
		await button(`Change ${prefix}*`).click();
		await dialog().getByLabel("Limit", { exact: false }).first().fill("5");
		await button("Save").click();
		await said(`The policy "${prefix}*" was changed.`);
		const policy = async () =>
			(await (await scene.call("GET", `/v1/policies/${encodeURIComponent(`${prefix}*`)}`)).json()) as Policy;
		expect(await policy()).toMatchObject({ limit: 5, slotDecayPerSecond: 0, active: true, idleSeconds: 120 });
		await open(`#/limits/${prefix}alice`);
		await page.getByText(`of the policy ${prefix}*`).waitFor();
		await open("#/policies");
		await button(`Delete ${prefix}*`).click();
		await dialog().getByRole("button", { name: "Delete" }).click();
		await said(`The policy "${prefix}*" was deleted.`);
		await page.getByRole("rowheader", { name: `${prefix}*` }).waitFor({ state: "detached" });
	});
});

describe("one limit", () => {
	test("shows who holds, with a countdown, and takes slots back by force; the next in line gets them", async () => {
		const name = newName();
		await scene.configure(name, { limit: 2 });
		await scene.acquire({ names: name, occupy: 2, holder: "report on host-7", leaseSeconds: 600 });
		await scene.wait({ names: name, holder: "next" });
		await scene.wait({ names: name, holder: "after", occupy: 2 });
		await openLimit(name);
		const holders = page.getByRole("region", { name: /Who holds/ });
		const waiters = page.getByRole("region", { name: /Who waits/ });
		const row = holders.getByRole("row", { name: /report on host-7/ });
		await row.getByText(/^9 min \d+ s$/).waitFor();
		const before = await row.getByText(/^9 min \d+ s$/).textContent();
		await row
			.getByText(/^9 min \d+ s$/)
			.filter({ hasNotText: before ?? "" })
			.waitFor();
		await waiters.getByRole("row", { name: /^1 next/ }).waitFor();
		await waiters.getByRole("row", { name: /^2 after/ }).waitFor();
		await row.getByRole("button", { name: "Release report on host-7" }).click();
		await dialog().getByText("report on host-7").waitFor();
		await dialog().getByRole("button", { name: "Release" }).click();
		await said(`2 slots of "${name}" came back from report on host-7.`);
		await holders.getByRole("row", { name: /next/ }).waitFor();
		await waiters.getByRole("row", { name: /^1 after/ }).waitFor();
	});

	test("plots the last quarter of an hour, and has it as a table", async () => {
		const name = newName();
		await scene.configure(name, { limit: 3 });
		await scene.acquire({ names: name, occupy: 3 });
		for (let index = 0; index < 7; index += 1) await scene.acquire({ names: name });
		await openLimit(name);
		const picture = page.getByRole("img", { name: /at most 3 slots were in use .* 1 was granted and 7 denied/ });
		await picture.waitFor();
		// There is ink of more than one colour on it.
		await expect
			.poll(() =>
				page.locator(".chart canvas").evaluateAll((canvases) => {
					const colours = new Set<number>();
					for (const canvas of canvases as HTMLCanvasElement[]) {
						const pixels = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data.buffer;
						for (const pixel of new Uint32Array(pixels ?? new ArrayBuffer(0))) colours.add(pixel);
					}
					return colours.size;
				}),
			)
			.toBeGreaterThan(5);
		await page.getByText("As a table, by the minute").click();
		await page
			.getByRole("row", { name: /\d\d:\d\d:\d\d 3 0 [01] \d$/ })
			.first()
			.waitFor();
		await scene.acquire({ names: name });
		await page.getByRole("img", { name: /8 denied/ }).waitFor();
	});

	test("names and holders with markup in them are text", async () => {
		const [name, holder] = [
			`"quoted" 'name' {{x}} ${newName()}`,
			"<img src=x onerror=alert(1)><script>alert(2)</script>",
		];
		await scene.configure(name, { limit: 1 });
		await scene.acquire({ names: name, holder });
		await scene.wait({ names: name, holder: `waits ${holder}` });
		let alerted = false;
		page.on("dialog", (alert) => {
			alerted = true;
			void alert.dismiss();
		});
		await open();
		await page.getByRole("rowheader").getByRole("link", { name, exact: true }).click();
		await page.getByRole("heading", { name }).waitFor();
		await page.getByText(holder, { exact: true }).waitFor();
		await page.getByText(`waits ${holder}`, { exact: true }).waitFor();
		expect(await page.locator("main img, main script").count()).toBe(0);
		expect(alerted).toBe(false);
	});

	test("one that does not exist, and one that is deleted while it is looked at", async () => {
		await openLimit("nobody-made-this");
		await page.getByText('There is no limit called "nobody-made-this".').waitFor();
		const name = newName();
		await scene.configure(name, { limit: 1 });
		await openLimit(name);
		await page.getByText("0 of 1 slot in use").waitFor();
		await scene.call("DELETE", `/v1/limits/${name}`);
		await page.getByText(`The limit "${name}" was deleted.`).waitFor();
	});

	test("works by keyboard alone", async () => {
		const name = newName();
		await scene.configure(name, { limit: 1 });
		await open();
		await rowOf(name).getByRole("link").focus();
		await page.keyboard.press("Enter");
		await page.getByText("0 of 1 slot in use").waitFor();
		await button("Change").focus();
		await page.keyboard.press("Enter");
		await expect
			.poll(() =>
				dialog()
					.getByLabel("Limit", { exact: false })
					.first()
					.evaluate((one) => one === document.activeElement),
			)
			.toBe(true);
		await page.keyboard.press("ControlOrMeta+A");
		await page.keyboard.type("12");
		await page.keyboard.press("Enter");
		await said(/was changed: limit\./);
		expect((await inspect(name)).limit).toBe(12);
		// Focus is back where it was.
		expect(await button("Change").evaluate((one) => one === document.activeElement)).toBe(true);
	});
});

describe("a server that goes", () => {
	test("the page says that its figures are old, and is live again when the server is back", async () => {
		await using mortal = await freshServer();
		using there = new Scene(mortal.url);
		await there.configure("steady", { limit: 3 });
		await page.goto(mortal.url);
		await rowOf("steady").getByText("0 / 3").waitFor();
		// What a network that went looks like.
		await page.context().setOffline(true);
		await page.evaluate(() => window.stop());
		await page
			.getByRole("alert")
			.getByText(/The server does not answer\. These figures are .* old\./)
			.waitFor();
		await there.configure("steady", { limit: 8 });
		await page.context().setOffline(false);
		await rowOf("steady").getByText("0 / 8").waitFor();
		await page.getByText("live", { exact: true }).waitFor();
	});
});

describe("tokens", () => {
	let guarded: FreshServer;
	const entry = (name: string, scope: "read" | "use" | "admin", prefix = "") => ({
		...{ name, scope, prefix },
		sha256: createHash("sha256").update(`${name}-secret-of-this-house`).digest("hex"),
	});

	beforeAll(async () => {
		guarded = await freshServer({
			tokens: [entry("boss", "admin"), entry("eye", "read"), entry("team", "read", "team-a:")],
		});
		using there = new Scene(guarded.url, "boss-secret-of-this-house");
		await there.configure("team-a:jobs", { limit: 1 });
		await there.configure("team-b:jobs", { limit: 1 });
	});

	afterAll(() => guarded?.[Symbol.asyncDispose]());

	const enter = async (token: string): Promise<void> => {
		await dialog().getByLabel("Token").fill(token);
		await button("Go on").click();
	};

	test("a token is asked for, a wrong one is asked for again, and the right one is kept for the tab", async () => {
		await page.goto(guarded.url);
		await dialog().getByText("This server asks for a token.").waitFor();
		for (const _ of [1, 2]) {
			await enter("wrong");
			await dialog().getByText("The token is not known here.").waitFor();
		}
		await enter("boss-secret-of-this-house");
		await rowOf("team-a:jobs").waitFor();
		await page.reload();
		await rowOf("team-a:jobs").waitFor();
		expect(await page.evaluate(() => [localStorage.length, document.cookie])).toEqual([0, ""]);
		const other = await page.context().newPage();
		await other.goto(guarded.url);
		await other.getByText("This server asks for a token.").waitFor();
		await button("Forget the token of boss").click();
		await dialog().getByText("This server asks for a token.").waitFor();
	});

	test("a token that may only look finds nothing to press", async () => {
		await page.goto(`${guarded.url}/#/limits/team-a:jobs`);
		await enter("eye-secret-of-this-house");
		await page.getByText("This token may look, and change nothing.").waitFor();
		for (const name of ["Change", "Switch off", "Delete"]) expect(await button(name).isDisabled()).toBe(true);
	});

	test("a token of some names sees those, and hears why it may not see others", async () => {
		await page.goto(guarded.url);
		await enter("team-secret-of-this-house");
		await rowOf("team-a:jobs").waitFor();
		expect(await rowOf("team-b:jobs").count()).toBe(0);
		await page.goto(`${guarded.url}/#/limits/team-b:jobs`);
		await page.getByText(/team-a:/).waitFor();
	});
});

describe("what the page is made of", () => {
	test("one page for browsers, one line for others; scripts are kept for ever, the page is not", async () => {
		const html = await fetch(server.url, { headers: { Accept: "text/html" } });
		expect(html.headers.get("Content-Type")).toBe("text/html; charset=utf-8");
		expect(html.headers.get("Cache-Control")).toBe("no-cache");
		const policy = html.headers.get("Content-Security-Policy") ?? "";
		expect(policy).toContain("default-src 'none'");
		expect(policy).not.toMatch(/unsafe|https?:|\*/);
		const text = await html.text();
		expect(text).not.toMatch(/<script(?![^>]*src=)|style=|\son\w+=/);
		const script = /src="(\/assets\/app-[A-Z0-9]{8}\.js)"/.exec(text)?.[1] as string;
		const { headers } = await fetch(server.url + script);
		expect(headers.get("Content-Type")).toBe("text/javascript; charset=utf-8");
		expect(headers.get("Cache-Control")).toContain("immutable");
		expect(await (await fetch(server.url)).text()).toMatch(/^Headgate: named limits\..*\n$/);
		expect((await fetch(`${server.url}/assets/nothing.js`)).status).toBe(404);
		expect((await fetch(`${server.url}/assets/..%2findex.html`)).status).toBe(404);
		expect((await fetch(server.url, { method: "HEAD", headers: { Accept: "text/html" } })).status).toBe(200);
	});
});

describe.each([
	{ size: "phone", width: 390, height: 844 },
	{ size: "desktop", width: 1440, height: 900 },
])("on a $size", ({ width, height }) => {
	test.each(["light", "dark"] as const)(
		"axe finds nothing wrong in the %s scheme, and nothing is cut off",
		async (colorScheme) => {
			await using busy = await freshServer();
			using there = new Scene(busy.url);
			await busyNight(there);
			const looked = await newPage(browser, { viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
			const check = async (what: string): Promise<void> => {
				// Of all that axe looks at, the scheme changes colours alone.
				const rules = colorScheme === "dark" ? ["color-contrast"] : undefined;
				expect(await accessibilityFaults(looked.page, rules), what).toEqual([]);
				const wide = await looked.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
				expect(wide, `${what}: wider than the window by`).toBeLessThanOrEqual(0);
			};
			try {
				await looked.page.goto(busy.url);
				await looked.page.getByRole("link", { name: "webhooks", exact: true }).waitFor();
				await check("the list");
				await looked.page.getByRole("button", { name: "New limit" }).click();
				await looked.page.getByRole("radio", { name: /by themselves/ }).check();
				await check("a form");
				await looked.page.keyboard.press("Escape");
				await looked.page.goto(`${busy.url}/#/limits/gpu`);
				await looked.page.getByText("nightly-report").waitFor();
				await looked.page.getByText("As a table, by the minute").click();
				await check("a limit");
				await looked.page.goto(`${busy.url}/#/policies`);
				await looked.page.getByText("login:*", { exact: true }).last().waitFor();
				await check("policies");
			} finally {
				await looked.close();
			}
			expect(looked.faults).toEqual([]);
		},
	);
});
