/** Real Workers beside each other, in wrangler's test harness: Headgate as it is deployed, and those who call it. */

import path from "node:path";
import { createTestHarness, type TestHarness } from "wrangler";
import type { LimitInfo, Settings } from "../../src/protocol.ts";

export const root = path.resolve(import.meta.dirname, "../..");

/** A digest of "test-token-of-a-caller". */
const TOKENS = JSON.stringify([
	{ name: "test", sha256: "a2d23fbf616ba8960fbdd3a402af93138389e7937377f90a8a2e047fa8065b3d", scope: "admin" },
]);

export interface Edge extends AsyncDisposable {
	url: URL;
	harness: TestHarness;
	/** A path of the first Worker. */
	get<T>(path: string): Promise<{ status: number; body: T }>;
	/** A call of Headgate's own HTTP interface, which the Worker under test has no part in. */
	call<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }>;
	configure(name: string, settings: Pick<Settings, "limit"> & Partial<Settings>): Promise<void>;
	inspect(name: string): Promise<LimitInfo>;
}

/** Starts the Workers of these `wrangler.toml`; the first one is called. */
export async function startEdge(configs: string[], limitsOf = "headgate"): Promise<Edge> {
	const workers = configs.map((configPath) => ({
		configPath: path.join(root, configPath),
		...(configPath === "wrangler.toml" && { secrets: { HEADGATE_TOKENS: TOKENS } }),
	}));
	const harness = createTestHarness({ workers });
	const { url } = await harness.listen();
	const headgate = harness.getWorker(limitsOf);
	const call = async <T>(method: string, at: string, body?: unknown): Promise<{ status: number; body: T }> => {
		const headers = { Authorization: "Bearer test-token-of-a-caller", "Content-Type": "application/json" };
		const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
		return read(await headgate.fetch(`http://headgate${at}`, init));
	};
	return {
		url,
		harness,
		call,
		get: async (at) => read(await harness.fetch(at)),
		async configure(name, settings) {
			const { status, body } = await call("PUT", `/v1/limits/${encodeURIComponent(name)}`, settings);
			if (status >= 300) throw new Error(JSON.stringify(body));
		},
		async inspect(name) {
			const { status, body } = await call<LimitInfo>("GET", `/v1/limits/${encodeURIComponent(name)}`);
			if (status !== 200) throw new Error(JSON.stringify(body));
			return body;
		},
		[Symbol.asyncDispose]: () => harness.close(),
	};
}

interface Answer {
	status: number;
	headers: { get(name: string): string | null };
	text(): Promise<string>;
}

async function read<T>(response: Answer): Promise<{ status: number; body: T }> {
	const text = await response.text();
	const isJson = response.headers.get("Content-Type")?.includes("json") ?? false;
	return { status: response.status, body: (isJson ? JSON.parse(text) : text) as T };
}
