/** A Headgate server on this machine: the bundled Worker on workerd, with its data in a folder. */

import { readdirSync, rmSync } from "node:fs";
import { isIPv6 } from "node:net";
import path from "node:path";
import { loadWorker, type WorkerBundle } from "./bundle.ts";
import { StartError } from "./errors.ts";
import { folderError, makeInside, place, prepareFolder } from "./folder.ts";
import { Keeper, type ServerExit } from "./keeper.ts";
import { lockFolder } from "./lock.ts";
import { writePage } from "./page.ts";
import { sweep } from "./sweep.ts";
import { checkAdminToken, checkTokens, type TokenEntry } from "./tokens.ts";
import { descriptorLimit, spawnWorkerd, workerdConfig } from "./workerd.ts";

export type { ServerExit } from "./keeper.ts";

export interface ServerOptions {
	/** 0 takes any that is free. Default 8787. */
	port?: number;
	/** Default 127.0.0.1. Any address but loopback needs `tokens`. */
	host?: string;
	/** The folder that survives restarts; made when absent. Default `.headgate`. */
	data?: string;
	/** Who may call; a list, or the JSON of one. Without it a server on loopback is open to every local process. */
	tokens?: string | TokenEntry[] | undefined;
	/** One token of scope `admin`, as it is, beside those of the list. */
	adminToken?: string | undefined;
	/** Origins of other sites whose pages may call. */
	cors?: string[] | undefined;
	/** Host names that an open server answers to beside `host` and those of loopback. */
	hosts?: string[] | undefined;
	/** Further text bindings of the Worker. */
	env?: Record<string, string>;
	/** The `wrangler.toml` of another Worker to run in Headgate's place; its `/health` has to answer 200. */
	config?: string;
	/** A Worker that is bundled already. */
	worker?: WorkerBundle;
	/** Every line that workerd prints, and what is said of its deaths. */
	onLine?: (line: string) => void;
}

export interface RunningServer {
	/** Without a slash at its end. */
	url: string;
	/** The process of workerd; another one after it was started again. */
	readonly pid: number;
	/** Whether it answers without a token. */
	open: boolean;
	/** How many file descriptors the runtime may have. */
	descriptors: number;
	/** Ends it within `GRACE_MS`, whatever waits for it; resolves when it is gone. */
	stop(): Promise<void>;
	/** `kill -9`; resolves when it is gone. */
	kill(): Promise<void>;
	/** Resolves when workerd has ended, for whatever reason, and is not started again. */
	exited: Promise<ServerExit>;
}

/**
 * What requests in flight are given to finish. workerd would wait for every caller in a queue; those are cut
 * off, which costs nothing: whatever a caller was told is on disk, and a waiting one asks again.
 */
const GRACE_MS = 400;

export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
	const port = options.port ?? 8787;
	const host = options.host === undefined || options.host === "localhost" ? "127.0.0.1" : options.host;
	const given = path.resolve(options.data ?? ".headgate");
	const bindings = textBindings(options, host);
	const descriptors = descriptorLimit();
	if (Number.isFinite(descriptors)) bindings.HEADGATE_DESCRIPTORS = String(descriptors);

	const worker = options.worker ?? (await loadWorker(options.config));
	const folder = prepareFolder(given);
	const keeper = await inFolder(given, async () => {
		const lock = await lockFolder(folder);
		try {
			const files = writeFiles(folder, worker, bindings);
			await sweep(files.objectsFolder, options.onLine);
			const { onLine } = options;
			return new Keeper({
				lock,
				spawn: (got) =>
					spawnWorkerd({
						...files,
						address: `${inUrl(host)}:${got ?? port}`,
						lockDescriptor: lock.descriptor,
						onLine,
					}),
				urlOf: (got) => `http://${inUrl(reachable(host))}:${got}`,
				onLine,
			});
		} catch (error) {
			lock.release();
			throw error;
		}
	});
	try {
		await inFolder(given, () => keeper.start());
	} catch (error) {
		throw explain(error, host, port, keeper.lastLines());
	}
	return {
		url: keeper.url,
		get pid() {
			return keeper.pid;
		},
		open: bindings.HEADGATE_OPEN === "true",
		descriptors,
		exited: keeper.exited,
		stop: () => keeper.end(GRACE_MS),
		kill: () => keeper.end(0),
	};
}

/** Errors of the system meanwhile are about the folder: nothing else is written. */
async function inFolder<T>(folder: string, action: () => Promise<T>): Promise<T> {
	try {
		return await action();
	} catch (error) {
		throw folderError(error, folder, "written");
	}
}

/** What workerd is started with. No other server has the folder. */
function writeFiles(folder: string, worker: WorkerBundle, bindings: Record<string, string>) {
	for (const name of readdirSync(folder)) {
		// Left by a server that died while it wrote; records of servers are the lock's.
		if (/^work.*\.new$/.test(name)) rmSync(path.join(folder, name), { force: true });
	}
	const configFile = path.join(folder, "workerd.capnp");
	const objectsFolder = makeInside(folder, "objects");
	place(path.join(folder, "worker.js"), worker.code);
	const page = makeInside(folder, "page");
	writePage(page, worker.page);
	place(configFile, workerdConfig(worker, { codeFile: "worker.js", page }, bindings));
	return { configFile, objectsFolder };
}

/** Whether only processes of this machine can reach an address. */
export function isLoopback(host: string): boolean {
	return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function textBindings(options: ServerOptions, host: string): Record<string, string> {
	const bindings: Record<string, string> = { ...options.env };
	if (options.cors !== undefined && options.cors.length > 0) bindings.HEADGATE_CORS_ORIGINS = options.cors.join(",");
	bindings.HEADGATE_HOSTS = [options.host ?? host, ...(options.hosts ?? [])].join(",");
	// An empty variable is what `HEADGATE_TOKENS=$UNSET` leaves, so it counts as absent.
	if (options.tokens !== undefined && options.tokens !== "") {
		const json = typeof options.tokens === "string" ? options.tokens : JSON.stringify(options.tokens);
		checkTokens(json);
		bindings.HEADGATE_TOKENS = json;
	}
	// One of spaces alone is a token that nobody has, and not none.
	const admin = options.adminToken === "" ? undefined : options.adminToken?.trim();
	if (admin !== undefined) bindings.HEADGATE_ADMIN_TOKEN = checkAdminToken(admin);
	if (bindings.HEADGATE_TOKENS !== undefined || admin !== undefined) return bindings;
	if (isLoopback(host)) {
		bindings.HEADGATE_OPEN = "true";
	} else {
		throw new StartError(
			`Headgate does not listen on ${host} without tokens: anybody who reaches that address could take and free every slot.\n` +
				"Make one with: headgate token new --scope use (in a checkout: npm run token -- --scope use)\n" +
				"and put its entry into the environment variable HEADGATE_TOKENS, or one token of your own, as it is, into\n" +
				"HEADGATE_ADMIN_TOKEN (openssl rand -hex 24); or leave --host out to stay on loopback.",
			2,
		);
	}
	return bindings;
}

/** What a failed start means to the person who started it. */
function explain(error: unknown, host: string, port: number, lastLines: string): StartError {
	if (error instanceof StartError) return error;
	if (/address already in use/i.test(lastLines)) {
		return new StartError(
			`Port ${port} on ${host} is in use by another process. ` +
				`Stop that one, or choose another port, for instance --port ${port + 1}; --port 0 takes any that is free.`,
		);
	}
	if (/permission denied/i.test(lastLines) && port > 0 && port < 1024) {
		return new StartError(`Port ${port} needs special rights on this machine; choose one above 1023 with --port.`);
	}
	const printed = lastLines === "" ? "It printed nothing." : `It printed:\n${lastLines}`;
	return new StartError(`The server did not start: ${error instanceof Error ? error.message : error}. ${printed}`);
}

/** An IPv6 address stands in brackets before a port. */
function inUrl(host: string): string {
	return isIPv6(host) ? `[${host}]` : host;
}

/** "Every address" is no address to call. */
function reachable(host: string): string {
	if (host === "0.0.0.0") return "127.0.0.1";
	return host === "::" ? "::1" : host;
}
