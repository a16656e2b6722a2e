/** Every peer that limits a rate, deployed on this machine as its documentation says, behind one and the same question. */

import path from "node:path";
import { startServer } from "../../src/cli/serve.ts";
import { temporaryFolder } from "../../test/support/temporary.ts";
import { type Answer, once } from "../http.ts";
import type { Installed } from "./installed.ts";
import { cpuOf, family, freePort, type Started, started, writtenBy } from "./processes.ts";

/** So many in so long; for what has a bucket, so many at most, of which as many come back in that time. */
export interface Profile {
	limit: number;
	windowMs: number;
}

export const PROFILES = {
	/** Never refuses: the grant is what is measured. */
	endless: { limit: 1_000_000_000, windowMs: 1_000 },
	second: { limit: 50, windowMs: 1_000 },
	minute: { limit: 10, windowMs: 60_000 },
	/** Nothing comes back while it is looked at. */
	lasting: { limit: 50, windowMs: 3_600_000 },
} satisfies Record<string, Profile>;
export type ProfileName = keyof typeof PROFILES;

export interface Deployment extends AsyncDisposable {
	name: string;
	url: string;
	/** Of one request, which takes so many. */
	take(profile: ProfileName, key: string, cost: number): { path: string; body: Record<string, unknown> };
	granted(answer: Answer): boolean;
	/** Makes what has to be configured. */
	prepare(profile: ProfileName, key: string): Promise<void>;
	/** Whether one request may take more than one. */
	hasCost: boolean;
	/** `kill -9` for what keeps the counts. Says when it is gone, and resolves when it answers again. */
	killStore(gone: () => void): Promise<void>;
	/** What all its processes have used of the processor, and written. */
	cpuMs(): number;
	written(): number;
	/** How it differs from another one that is there too: only by how its Redis keeps what it is told. */
	only?: "redis";
}

export interface Unavailable {
	name: string;
	why: string;
}

type Start = () => Promise<Deployment>;
const byStatus = ({ status }: Answer): boolean => status === 200;

/** All that can be deployed here, and what cannot, with the reason. */
export async function deployments(
	{ redis, gubernator, prefect, missing }: Installed,
	progress: (doing: string) => void,
): Promise<{ all: Deployment[]; stop: () => Promise<void>; not: Unavailable[] }> {
	const not: Unavailable[] = [];
	const starts: { name: string; start: Start; needs?: string | undefined }[] = [];
	const add = (name: string, start: Start, ...needs: string[]) =>
		starts.push({ name, start, needs: needs.find((each) => missing[each] !== undefined) });
	for (const kind of ["decay", "sliding", "lent"] as const) add(`Headgate, ${KINDS[kind].name}`, () => headgate(kind));
	add("a Durable Object, as documented", () => worker("a Durable Object, as documented", "documented"));
	add("hono-rate-limiter", () => worker("hono-rate-limiter", "hono"), "libraries");
	for (const library of LIBRARIES) {
		for (const mode of library.modes) {
			const name = `${library.name}, Redis ${mode}`;
			add(name, () => express(name, library, mode, redis as string), "libraries", "redis");
		}
	}
	for (const algorithm of ["token", "leaky"] as const) {
		const name = `gubernator, ${algorithm} bucket`;
		add(name, () => gubernatorServer(name, algorithm, gubernator as string), "gubernator");
	}
	add("Prefect's server", () => prefectServer(prefect as string), "prefect");
	const all: Deployment[] = [];
	const stop = async (): Promise<void> => {
		for (const each of all) await each[Symbol.asyncDispose]();
	};
	try {
		for (const { name, start, needs } of starts) {
			if (needs !== undefined) {
				not.push({ name, why: missing[needs] as string });
				continue;
			}
			progress(`starting ${name}`);
			all.push(await start());
		}
	} catch (error) {
		await stop();
		throw error;
	}
	return { all, stop, not };
}

// --------------------------------------------------------------------------------------------- Headgate

const KINDS = {
	decay: { name: "decay", settings: {} },
	sliding: { name: "sliding window", settings: {} },
	lent: { name: "decay, `lendSeconds` 1", settings: { lendSeconds: 1 } },
} as const;

export interface NpmStart extends AsyncDisposable {
	url: string;
	pid: number;
	/** `kill -9` for workerd. The keeper, which started it, starts it again; resolves when it answers. */
	killRuntime(gone: () => void): Promise<void>;
}

/** `npm start`, as it is. */
export async function npmStart(): Promise<NpmStart> {
	const folder = await temporaryFolder();
	const program = path.resolve(import.meta.dirname, "../../src/cli/main.ts");
	const server = await started(
		[process.execPath, program, "start", "--port", "0", "--data", folder.path],
		/ready on (http:\S+)/,
	);
	const url = server.said[1] as string;
	return {
		...{ url, pid: server.pid },
		async killRuntime(gone) {
			for (const pid of family([server.pid]).filter((each) => each !== server.pid)) process.kill(pid, "SIGKILL");
			gone();
			await answers(`${url}/health`);
		},
		async [Symbol.asyncDispose]() {
			await server.kill();
			await folder[Symbol.asyncDispose]();
		},
	};
}

async function headgate(kind: keyof typeof KINDS): Promise<Deployment> {
	const server = await npmStart();
	const { url } = server;
	const settingsOf = ({ limit, windowMs }: Profile): Record<string, unknown> => {
		if (kind === "sliding") return { limit, window: { every: windowMs / 1_000, sliding: true } };
		return { limit, slotDecayPerSecond: (limit * 1_000) / windowMs, ...KINDS[kind].settings };
	};
	return {
		...{ name: `Headgate, ${KINDS[kind].name}`, url, hasCost: true, granted: byStatus },
		take: (profile, key, occupy) => ({
			path: "/v1/acquire",
			body: { names: `${profile}-${key}`, mode: "rate_limit", occupy },
		}),
		prepare: async (profile, key) => {
			await once(url, "PUT", `/v1/limits/${profile}-${key}`, settingsOf(PROFILES[profile]));
		},
		killStore: (gone) => server.killRuntime(gone),
		cpuMs: () => cpuOf([server.pid]),
		written: () => writtenBy([server.pid]),
		[Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
	};
}

// ---------------------------------------------------------------------------------------- other Workers

async function worker(name: string, folderName: string): Promise<Deployment> {
	const folder = await temporaryFolder();
	const config = path.join(import.meta.dirname, folderName, "wrangler.toml");
	const server = await startServer({ port: 0, data: folder.path, config });
	return {
		...{ name, url: server.url, hasCost: false, granted: byStatus },
		take: (profile, key) => {
			const { limit, windowMs } = PROFILES[profile];
			return { path: `/take/${limit}/${windowMs}/${profile}-${key}`, body: {} };
		},
		prepare: async () => undefined,
		killStore: async (gone) => {
			process.kill(server.pid, "SIGKILL");
			gone();
			await answers(`${server.url}/health`);
		},
		cpuMs: () => cpuOf([server.pid]),
		written: () => writtenBy([server.pid]),
		async [Symbol.asyncDispose]() {
			await server.stop();
			await folder[Symbol.asyncDispose]();
		},
	};
}

// ------------------------------------------------------------------------------------------ on a Redis

/** How a Redis keeps what it is told. */
export const REDIS_MODES = {
	/** As it comes: a snapshot every now and then. */
	"as it comes": [],
	everysec: ["--appendonly", "yes", "--appendfsync", "everysec"],
	always: ["--appendonly", "yes", "--appendfsync", "always"],
} as const;
export type RedisMode = keyof typeof REDIS_MODES;

interface Library {
	name: string;
	modes: RedisMode[];
	hasCost: boolean;
}

const LIBRARIES: Library[] = [
	{ name: "rate-limiter-flexible", modes: ["as it comes", "everysec", "always"], hasCost: true },
	{ name: "upstash, sliding", modes: ["everysec", "always"], hasCost: true },
	{ name: "upstash, fixed", modes: ["everysec"], hasCost: true },
	{ name: "upstash, bucket", modes: ["everysec"], hasCost: true },
	{ name: "express-rate-limit", modes: ["everysec", "always"], hasCost: false },
];

export interface RedisServer extends AsyncDisposable {
	port: number;
	readonly pid: number;
	/** `kill -9`, and after so long the same again on the same files. */
	restart(downMs: number, gone?: () => void): Promise<void>;
}

export async function redisServer(program: string, mode: RedisMode): Promise<RedisServer> {
	const folder = await temporaryFolder();
	const port = await freePort();
	const start = (): Promise<Started> =>
		started(
			[program, "--port", String(port), "--bind", "127.0.0.1", "--dir", folder.path, ...REDIS_MODES[mode]],
			/Ready to accept connections/,
		);
	let server = await start();
	return {
		port,
		get pid() {
			return server.pid;
		},
		async restart(downMs, gone) {
			await server.kill();
			gone?.();
			await new Promise((resolve) => setTimeout(resolve, downMs));
			server = await start();
		},
		async [Symbol.asyncDispose]() {
			await server.kill();
			await folder[Symbol.asyncDispose]();
		},
	};
}

/** A library gives up on its Redis after five seconds at the latest; what it does then is part of what is looked at. */
export const REDIS_DOWN_MS = 7_000;

async function express(name: string, library: Library, mode: RedisMode, program: string): Promise<Deployment> {
	const redis = await redisServer(program, mode);
	const app = await started(
		[
			process.execPath,
			path.join(import.meta.dirname, "app.js"),
			...[library.name, String(redis.port), JSON.stringify(PROFILES)],
		],
		/ready on (\d+)/,
		{ NODE_ENV: "production" },
	);
	const url = `http://127.0.0.1:${app.said[1]}`;
	return {
		...{ name, url, hasCost: library.hasCost, granted: byStatus },
		...(mode !== "everysec" && ({ only: "redis" } as const)),
		take: (profile, key, cost) => ({ path: `/take/${profile}/${key}`, body: { cost } }),
		prepare: async () => undefined,
		killStore: async (gone) => {
			await redis.restart(REDIS_DOWN_MS, gone);
			await answers(`${url}/health`);
		},
		cpuMs: () => cpuOf([app.pid, redis.pid]),
		written: () => writtenBy([app.pid, redis.pid]),
		async [Symbol.asyncDispose]() {
			await app.kill();
			await redis[Symbol.asyncDispose]();
		},
	};
}

// ------------------------------------------------------------------------------------------ gubernator

async function gubernatorServer(name: string, algorithm: "token" | "leaky", program: string): Promise<Deployment> {
	const [grpc, http, members] = [await freePort(), await freePort(), await freePort()];
	const url = `http://127.0.0.1:${http}`;
	const itself = `127.0.0.1:${members}`;
	const start = async (): Promise<Started> => {
		const server = await started([program], /HTTP Gateway Listening|Listening on/i, {
			GUBER_GRPC_ADDRESS: `127.0.0.1:${grpc}`,
			GUBER_HTTP_ADDRESS: `127.0.0.1:${http}`,
			GUBER_ADVERTISE_ADDRESS: `127.0.0.1:${grpc}`,
			// A cluster of one: without any it refuses every request.
			...{ GUBER_MEMBERLIST_BIND_ADDRESS: itself, GUBER_MEMBERLIST_ADDRESS: itself },
			...{ GUBER_MEMBERLIST_KNOWN_NODES: itself, OTEL_TRACES_EXPORTER: "none" },
		});
		await answers(`${url}/v1/HealthCheck`);
		return server;
	};
	let server = await start();
	return {
		...{ name, url, hasCost: true },
		granted: ({ body }) => body.includes('"UNDER_LIMIT"'),
		take: (profile, key, cost) => {
			const { limit, windowMs } = PROFILES[profile];
			return {
				path: "/v1/GetRateLimits",
				body: {
					requests: [
						{
							...{ name: profile, uniqueKey: key, hits: String(cost), limit: String(limit) },
							...{ duration: String(windowMs), algorithm: `${algorithm.toUpperCase()}_BUCKET` },
						},
					],
				},
			};
		},
		prepare: async () => undefined,
		killStore: async (gone) => {
			await server.kill();
			gone();
			server = await start();
		},
		cpuMs: () => cpuOf([server.pid]),
		written: () => writtenBy([server.pid]),
		[Symbol.asyncDispose]: () => server.kill(),
	};
}

// --------------------------------------------------------------------------------------------- Prefect

export interface PrefectServer extends AsyncDisposable {
	api: string;
	home: string;
	readonly pid: number;
	restart(gone?: () => void): Promise<void>;
}

/** Prefect's own server as it comes, with its data in a folder of its own. */
export async function startPrefect(python: string): Promise<PrefectServer> {
	const folder = await temporaryFolder();
	const port = await freePort();
	const api = `http://127.0.0.1:${port}/api`;
	const start = async (): Promise<Started> => {
		const server = await started(
			[
				path.join(path.dirname(python), "prefect"),
				...["server", "start", "--host", "127.0.0.1", "--port", String(port)],
			],
			/Check out the dashboard|Uvicorn running/i,
			{ PREFECT_HOME: folder.path, PREFECT_SERVER_ANALYTICS_ENABLED: "false" },
		);
		await answers(`${api}/health`);
		return server;
	};
	let server = await start();
	return {
		...{ api, home: folder.path },
		get pid() {
			return server.pid;
		},
		async restart(gone) {
			await server.kill();
			gone?.();
			server = await start();
		},
		async [Symbol.asyncDispose]() {
			await server.kill();
			await folder[Symbol.asyncDispose]();
		},
	};
}

async function prefectServer(python: string): Promise<Deployment> {
	const server = await startPrefect(python);
	const { api } = server;
	return {
		...{ name: "Prefect's server", url: new URL(api).origin, hasCost: true, granted: byStatus },
		take: (profile, key, slots) => ({
			path: "/api/v2/concurrency_limits/increment",
			body: { names: [`${profile}-${key}`], slots, mode: "rate_limit" },
		}),
		prepare: async (profile, key) => {
			const { limit, windowMs } = PROFILES[profile];
			await once(api, "POST", "/v2/concurrency_limits/", {
				...{ name: `${profile}-${key}`, limit, slot_decay_per_second: (limit * 1_000) / windowMs },
			});
		},
		killStore: (gone) => server.restart(gone),
		cpuMs: () => cpuOf([server.pid]),
		written: () => writtenBy([server.pid]),
		[Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
	};
}

/** Resolves when something answers with 200 there. */
async function answers(url: string): Promise<void> {
	const until = performance.now() + 60_000;
	for (;;) {
		const answer = await fetch(url).catch(() => null);
		await answer?.text();
		if (answer?.ok) return;
		if (performance.now() > until) throw new Error(`${url} did not answer.`);
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
}
