/** `doctor`: whether the address, the token, the clock and the version are as they should be. */

import { type ServerHealth, type TokenInfo, VERSION } from "../../protocol.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT, explain } from "../exit.ts";
import { safe } from "../print.ts";

interface Check {
	name: string;
	state: "ok" | "warning" | "failed";
	detail: string;
	hint?: string;
}

/** A clock may be off by so much before times in tables mislead. */
const SKEW_MS = 2_000;

/** Answers with the exit code: that of the first check that failed. */
export async function doctor(context: Context): Promise<number> {
	const checks: Check[] = [];
	let exitCode: number = EXIT.ok;
	const failed = (name: string, error: unknown): void => {
		const known = explain(error, context.url);
		if (known === undefined) throw error;
		exitCode ||= known.exitCode;
		checks.push({ name, state: "failed", detail: known.message, ...(known.hint && { hint: known.hint }) });
	};
	const health = await reach(context, checks).catch((error: unknown) => failed("address", error));
	if (health) {
		checks.push(versionCheck(health.version), clockCheck(health.time, health.askedAt, health.answeredAt));
		await tokenCheck(context).then(
			(check) => checks.push(check),
			(error: unknown) => failed("token", error),
		);
	}
	if (context.json) context.printJson({ ok: exitCode === EXIT.ok, url: context.url, checks });
	else show(context, checks);
	return exitCode;
}

type Reached = ServerHealth & { askedAt: number; answeredAt: number };

async function reach(context: Context, checks: Check[]): Promise<Reached> {
	const askedAt = Date.now();
	const health = await context.transport().call<Partial<ServerHealth>>("GET", "/health");
	const answeredAt = Date.now();
	if (health.status !== "ok" || health.time === undefined || health.version === undefined) {
		throw new CliError(
			`${context.url} answers, and it is not Headgate, or an older one.`,
			EXIT.unreachable,
			"Check the address: --url or HEADGATE_URL.",
		);
	}
	checks.push({ name: "address", state: "ok", detail: `${context.url} answers in ${answeredAt - askedAt} ms` });
	return { status: health.status, time: health.time, version: health.version, askedAt, answeredAt };
}

function versionCheck(version: string): Check {
	if (version === VERSION) return { name: "version", state: "ok", detail: `${VERSION}, here and there` };
	const detail = `the server has ${version}, this program ${VERSION}`;
	return { name: "version", state: "warning", detail, hint: "Bring the older one up to date." };
}

function clockCheck(time: string, askedAt: number, answeredAt: number): Check {
	const there = Date.parse(time);
	// Anything between the two moments is right.
	const offMs = there < askedAt ? there - askedAt : Math.max(0, there - answeredAt);
	if (Math.abs(offMs) <= SKEW_MS) return { name: "clock", state: "ok", detail: "the same here and there" };
	const detail = `this clock is ${Math.abs(offMs / 1_000).toFixed(1)} s ${offMs < 0 ? "ahead" : "behind"}`;
	return { name: "clock", state: "warning", detail, hint: "Limits do not mind; times shown here are off by as much." };
}

async function tokenCheck(context: Context): Promise<Check> {
	const { name, scope, prefix, key } = await context.transport().call<TokenInfo>("GET", "/v1/token");
	const names = prefix === "" ? "all names" : `names that start with "${prefix}"`;
	const reaches = key === undefined ? names : `${names}, in the turns of "${key}"`;
	if (context.token === undefined && name === "" && scope === "admin") {
		return { name: "token", state: "ok", detail: "none needed: the server is open" };
	}
	return {
		name: "token",
		state: "ok",
		detail: `${name === "" ? "" : `"${name}", `}scope "${scope}", for ${reaches}`,
	};
}

function show(context: Context, checks: Check[]): void {
	const { green, yellow, red, dim } = context.out.colors;
	const mark = { ok: green("ok     "), warning: yellow("warning"), failed: red("FAILED ") };
	for (const { name, state, detail, hint } of checks) {
		context.print(`${mark[state]}  ${name.padEnd(7)}  ${safe(detail)}`);
		if (hint !== undefined) context.print(dim(`                  ${safe(hint)}`));
	}
}
