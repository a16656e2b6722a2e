/** A server in the middle of a busy night: something is full, somebody waits, somebody is refused. */

/** What the tests and the screenshots ask of a server. */
export class Scene {
	readonly url: string;
	readonly #token: string | undefined;
	readonly #over = new AbortController();

	constructor(url: string, token?: string) {
		this.url = url;
		this.#token = token;
	}

	async call(method: string, path: string, body?: unknown, accept = "application/json"): Promise<Response> {
		return fetch(this.url + path, {
			method,
			headers: {
				...{ "Content-Type": "application/json", Accept: accept },
				...(this.#token && { Authorization: `Bearer ${this.#token}` }),
			},
			...(body !== undefined && { body: JSON.stringify(body) }),
			signal: this.#over.signal,
		});
	}

	async configure(name: string, settings: object): Promise<void> {
		const { status } = await this.call("PUT", `/v1/limits/${encodeURIComponent(name)}`, settings);
		if (status !== 200 && status !== 201) throw new Error(`PUT ${name}: ${status}`);
	}

	async inspect<T>(name: string): Promise<T> {
		return (await this.call("GET", `/v1/limits/${encodeURIComponent(name)}`)).json() as Promise<T>;
	}

	/** Takes slots, and answers with the lease or the refusal. */
	async acquire(request: object): Promise<{ id: string; names: Record<string, number> }> {
		return (await this.call("POST", "/v1/acquire", request)).json() as Promise<{
			id: string;
			names: Record<string, number>;
		}>;
	}

	async release(lease: object): Promise<void> {
		await this.call("POST", "/v1/release", lease);
	}

	/** Stands in line until the scene is over. */
	async wait(request: object): Promise<void> {
		const response = await this.call("POST", "/v1/acquire", request, "application/x-ndjson");
		const reader = (response.body as ReadableStream<Uint8Array>).getReader();
		await reader.read();
		const read = async (): Promise<void> => {
			while (!(await reader.read()).done);
		};
		read().catch(() => undefined); // The scene is over.
	}

	[Symbol.dispose](): void {
		this.#over.abort();
	}
}

/** Limits as a team has them, each in a state of its own. */
export async function busyNight(scene: Scene): Promise<void> {
	await scene.configure("database", { limit: 20 });
	await scene.configure("gpu", { limit: 4 });
	await scene.configure("openai", { limit: 60, slotDecayPerSecond: 1 });
	await scene.configure("reports", { limit: 4 });
	await scene.configure("email", { limit: 100, slotDecayPerSecond: 100 / 60, active: false });
	await scene.configure("search-index", { limit: 8 });
	await scene.configure("webhooks", { limit: 500, slotDecayPerSecond: 50 });
	await scene.configure("tenant:a-customer-with-a-rather-long-name:nightly-export:eu-central", { limit: 5 });
	await scene.call("PUT", "/v1/policies/login:*", { limit: 5, slotDecayPerSecond: 0.1 });
	await scene.call("PUT", "/v1/policies/tenant:*", { limit: 3 });
	for (let index = 0; index < 17; index += 1) {
		await scene.acquire({
			names: "database",
			holder: `api-${index % 4}@fra${1 + (index % 3)}`,
			leaseSeconds: 60 + index,
		});
	}
	await scene.acquire({ names: "gpu", holder: "train-embeddings #4182 on worker-7", leaseSeconds: 600, occupy: 2 });
	await scene.acquire({ names: "gpu", holder: "transcribe@fra1", leaseSeconds: 240 });
	await scene.acquire({ names: "gpu", holder: "<img src=x onerror=alert(1)>", leaseSeconds: 95 });
	await scene.wait({ names: "gpu", holder: "nightly-report", waitSeconds: 3_600 });
	await scene.wait({ names: "gpu", holder: "rebuild-thumbnails@fra2", occupy: 2 });
	await scene.wait({ names: "gpu", holder: "eval-suite" });
	for (let index = 0; index < 30; index += 1) await scene.acquire({ names: "openai", occupy: 3, mode: "rate_limit" });
	for (let index = 0; index < 6; index += 1) await scene.acquire({ names: "webhooks", occupy: 30, mode: "rate_limit" });
	await scene.acquire({ names: "reports", holder: "monthly" });
	await scene.acquire({ names: "search-index", occupy: 7, holder: "indexer" });
	await scene.acquire({ names: "login:alice", mode: "rate_limit" });
	for (let index = 0; index < 8; index += 1) await scene.acquire({ names: "login:bob", mode: "rate_limit" });
}

/** What came before that night, so that a plot has something to show: `gpu` is used, more and less. */
export async function dayBefore(scene: Scene, rounds: number, pauseMs: number): Promise<void> {
	await scene.configure("gpu", { limit: 4 });
	for (let round = 0; round < rounds; round += 1) {
		const wanted = Math.max(0, Math.round(2.4 + 3 * Math.sin(round / 5) + Math.sin(round * 1.7)));
		const asked = Array.from({ length: wanted }, () => scene.acquire({ names: "gpu", holder: "batch" }));
		const leases = await Promise.all(asked);
		await new Promise((resolve) => setTimeout(resolve, pauseMs));
		for (const lease of leases) if (lease.names) await scene.release(lease);
	}
}

/** Requests that are made at once while a house is built. */
const BUILDERS = 16;

/** So many limits, of which the last by name are full, each with a waiter, and the very last with a whole line, by keys. */
export async function house(scene: Scene, limits: number, busy: number, line: number): Promise<void> {
	const name = (index: number): string => `limit-${String(index).padStart(5, "0")}`;
	let made = 0;
	await Promise.all(
		Array.from({ length: BUILDERS }, async () => {
			while (made < limits) {
				made += 1;
				await scene.configure(name(made - 1), { limit: 2 });
			}
		}),
	);
	for (let index = limits - busy; index < limits; index += 1) {
		await scene.acquire({
			names: name(index),
			occupy: 2,
			holder: `job-${index}@fra${1 + (index % 3)}`,
			leaseSeconds: 3_600,
		});
		await scene.wait({ names: name(index), holder: `next-of-${index}` });
	}
	for (let place = 1; place < line; place += 1) {
		await scene.wait({
			...{
				names: name(limits - 1),
				holder: `batch-${place}`,
				key: `tenant-${place % 7}`,
				priority: place % 10 === 0 ? 5 : 0,
			},
			occupy: 1 + (place % 2),
		});
	}
}
