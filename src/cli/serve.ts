/** A Headgate server on this machine: the bundled Worker on workerd, with its data in a folder. */

import { mkdirSync, writeFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { loadWorker } from "./bundle.ts";
import { StartError, systemErrorCode } from "./errors.ts";
import { lockFolder } from "./lock.ts";
import { writePage } from "./page.ts";
import { checkTokens, type TokenEntry } from "./tokens.ts";
import { spawnWorkerd, type Workerd, type WorkerdExit, workerdConfig } from "./workerd.ts";

export interface ServerOptions {
	/** 0 takes any that is free. Default 8787. */
	port?: number;
	/** Default 127.0.0.1. Any address but loopback needs `tokens`. */
	host?: string;
	/** The folder that survives restarts; made when absent. Default `.headgate`. */
	data?: string;
	/** Who may call; a list, or the JSON of one. Without it a server on loopback is open to every local process. */
	tokens?: string | TokenEntry[] | undefined;
	/** Origins of other sites whose pages may call. */
	cors?: string[] | undefined;
	/** Host names that an open server answers to beside `host` and those of loopback. */
	hosts?: string[] | undefined;
	/** Further text bindings of the Worker. */
	env?: Record<string, string>;
	/** The `wrangler.toml` of another Worker to run in Headgate's place; its `/health` has to answer 200. */
	config?: string;
	/** Every line that workerd prints. */
	onLine?: (line: string) => void;
}

export interface RunningServer {
	/** Without a slash at its end. */
	url: string;
	/** The process of workerd. */
	pid: number;
	/** Whether it answers without a token. */
	open: boolean;
	/** Ends it within `GRACE_MS`, whoever is waiting; resolves when it is gone. */
	stop(): Promise<void>;
	/** `kill -9`; resolves when it is gone. */
	kill(): Promise<void>;
	/** Resolves when workerd has ended, for whatever reason. */
	exited: Promise<ServerExit>;
}

export interface ServerExit extends WorkerdExit {
	/** Whether `stop` or `kill` asked for it. */
	expected: boolean;
	/** What workerd printed last. */
	lastLines: string;
}

/**
 * What requests in flight are given to finish. workerd would wait for every caller in a queue; those are cut
 * off, which costs nothing: whatever a caller was told is on disk, and a waiting one asks again.
 */
const GRACE_MS = 400;
/** From start to the first answer of `/health`: half a second here, and loaded machines are slow. */
const READY_MS = 30_000;

export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
	const port = options.port ?? 8787;
	const host = options.host === undefined || options.host === "localhost" ? "127.0.0.1" : options.host;
	const folder = path.resolve(options.data ?? ".headgate");
	const bindings = textBindings(options, host);

	const worker = await loadWorker(options.config);
	makeFolder(folder);
	const lock = await lockFolder(folder);
	let workerd: Workerd;
	try {
		const codeFile = path.join(folder, "worker.js");
		const configFile = path.join(folder, "workerd.capnp");
		const objectsFolder = path.join(folder, "objects");
		mkdirSync(objectsFolder, { recursive: true });
		writeFileSync(codeFile, worker.code);
		const page = path.join(folder, "page");
		writePage(page, worker.page);
		// Only digests of tokens are in it; still nobody else's business.
		writeFileSync(configFile, workerdConfig(worker, { codeFile: "worker.js", page }, bindings), { mode: 0o600 });
		workerd = spawnWorkerd({ configFile, objectsFolder, address: `${inUrl(host)}:${port}`, onLine: options.onLine });
		lock.setRuntime(workerd.pid);
	} catch (error) {
		lock.release();
		throw error;
	}

	let expected = false;
	const exited = workerd.exited.then((exit) => {
		lock.release();
		return { ...exit, expected, lastLines: workerd.lastLines() };
	});
	const end = async (grace: number) => {
		expected = true;
		if (grace > 0) {
			workerd.signal("SIGTERM");
			const cancel = new AbortController();
			await Promise.race([exited, sleep(grace, undefined, { signal: cancel.signal }).catch(() => undefined)]);
			cancel.abort();
		}
		workerd.signal("SIGKILL");
		await exited;
	};
	try {
		// The port is known to be ours from here on, so the answer of `/health` is this server's.
		const url = `http://${inUrl(reachable(host))}:${await workerd.port}`;
		await untilHealthy(url, exited);
		return {
			url,
			pid: workerd.pid,
			open: bindings.HEADGATE_OPEN === "true",
			exited,
			stop: () => end(GRACE_MS),
			kill: () => end(0),
		};
	} catch (error) {
		await end(0);
		throw explain(error, host, port, workerd.lastLines());
	}
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
	} else if (isLoopback(host)) {
		bindings.HEADGATE_OPEN = "true";
	} else {
		throw new StartError(
			`Headgate does not listen on ${host} without tokens: anybody who reaches that address could take and free every slot.\n` +
				"Make one with: headgate token new --scope use (in a checkout: npm run token -- --scope use)\n" +
				"and put its entry into the environment variable HEADGATE_TOKENS; or leave --host out to stay on loopback.",
			2,
		);
	}
	return bindings;
}

function makeFolder(folder: string): void {
	try {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
	} catch (error) {
		if (systemErrorCode(error) === undefined) throw error;
		throw new StartError(`The data folder ${folder} cannot be made: ${(error as Error).message}`);
	}
}

/** One answer is enough: the socket is open already, and workerd holds the request until the Worker has loaded. */
async function untilHealthy(url: string, exited: Promise<ServerExit>): Promise<void> {
	const gone = exited.then(() => {
		throw new Error("workerd ended");
	});
	const answer = await Promise.race([fetch(`${url}/health`, { signal: AbortSignal.timeout(READY_MS) }), gone]);
	const body = await answer.text();
	if (answer.status !== 200) throw new Error(`/health answered ${answer.status}: ${body.slice(0, 500)}`);
}

/** What a failed start means to the person who started it. */
function explain(error: unknown, host: string, port: number, lastLines: string): StartError {
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
