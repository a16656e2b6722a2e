/** Real Workers beside each other, in wrangler's test harness: Headgate as it is deployed, and those who call it. */

import path from "node:path";
import { createTestHarness, type TestHarness } from "wrangler";
import type { LimitInfo, Settings } from "../../src/protocol.ts";

export const root = path.resolve(import.meta.dirname, "../..");

/** A digest of "test-token". */
const TOKENS = JSON.stringify([
	{ name: "test", sha256: "4c5dc9b7708905f77f5e5d16316b5dfb425e68cb326dcd55a860e90a7707031e", scope: "use" },
]);

/** What is called of a limit's object from outside. */
interface LimitStub {
	configure(settings: Settings): Promise<unknown>;
	inspect(): Promise<LimitInfo | null>;
	acquire(ask: object): Promise<unknown>;
	release(id: string, by: "operator"): Promise<unknown>;
	remove(): Promise<boolean>;
}

export interface Edge extends AsyncDisposable {
	url: URL;
	harness: TestHarness;
	/** A path of the first Worker. */
	get<T>(path: string): Promise<{ status: number; body: T }>;
	/** The object of a limit, reached without the Worker under test. */
	limit(name: string): Promise<LimitStub>;
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
	const env = await harness.getWorker<{ LIMITS: { getByName(name: string): LimitStub } }>(limitsOf).getEnv();
	const limit = async (name: string): Promise<LimitStub> => env.LIMITS.getByName(name);
	return {
		url,
		harness,
		limit,
		async get<T>(at: string) {
			const response = await harness.fetch(at);
			const text = await response.text();
			return {
				status: response.status,
				body: (response.headers.get("Content-Type")?.includes("json") ? JSON.parse(text) : text) as T,
			};
		},
		async configure(name, settings) {
			await (await limit(name)).configure({ slotDecayPerSecond: 0, active: true, ...settings });
		},
		async inspect(name) {
			const info = await (await limit(name)).inspect();
			if (!info) throw new Error(`There is no limit "${name}".`);
			return info;
		},
		[Symbol.asyncDispose]: () => harness.close(),
	};
}
