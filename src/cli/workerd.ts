/** One workerd process: its configuration as text, its start, and its certain end. */

import { type ChildProcess, spawn } from "node:child_process";
import { createRequire } from "node:module";
import type { Readable, Writable } from "node:stream";
import type { WorkerBundle } from "./bundle.ts";
import { StartError, systemErrorCode } from "./errors.ts";

/** How a workerd process ended. */
export interface WorkerdExit {
	code: number | null;
	signal: NodeJS.Signals | null;
}

export interface Workerd {
	pid: number;
	/** The port it listens on; rejects when it ends before it listens. */
	port: Promise<number>;
	exited: Promise<WorkerdExit>;
	/** The last lines it printed, for an error message. */
	lastLines(): string;
	signal(signal: "SIGTERM" | "SIGKILL"): void;
}

export interface WorkerdOptions {
	/** The file made from `workerdConfig`. */
	configFile: string;
	/** Where Durable Objects are stored; it has to exist. */
	objectsFolder: string;
	/** Host and port, as workerd writes them. */
	address: string;
	/** Every line that workerd prints. */
	onLine: ((line: string) => void) | undefined;
}

/** Lines kept for an error message; a JavaScript stack with its cause fits. */
const KEPT_LINES = 40;

/**
 * Runs workerd so that it ends with this process even after `kill -9`, when no handler runs: descriptor 3 is a
 * pipe whose other end only this process holds. A watcher reads it; a line means that all is well, and an end
 * without one that the parent is gone. The shell then becomes workerd (`exec`), so there is no moment at which
 * workerd runs unwatched, and the process started here is workerd itself.
 */
const LEASHED = '{ read -r line <&3 || kill -9 $$; } >/dev/null 2>&1 4>&- &\nexec "$0" "$@" 3<&-';

export function spawnWorkerd(options: WorkerdOptions): Workerd {
	const args = [
		"serve",
		options.configFile,
		`--directory-path=objects=${options.objectsFolder}`,
		`--socket-addr=http=${options.address}`,
		"--control-fd=4",
	];
	const child = spawn("sh", ["-c", LEASHED, workerdPath(), ...args], {
		stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
		// Ctrl-C in a terminal goes to the whole group; workerd is in its own, and ends when it is told to.
		detached: true,
	});
	if (child.pid === undefined) throw new Error("workerd could not be started: there is no `sh` to start it with");

	const kept: string[] = [];
	for (const stream of [child.stdout, child.stderr]) {
		onLines(stream as Readable, (line) => {
			kept.push(line);
			if (kept.length > KEPT_LINES) kept.shift();
			options.onLine?.(line);
		});
	}
	const exited = whenExited(child);
	return {
		pid: child.pid,
		port: listeningPort(child, exited),
		exited,
		lastLines: () => kept.join("\n"),
		signal(signal) {
			// Once it is reaped its number may be somebody else's.
			if (child.exitCode === null && child.signalCode === null) child.kill(signal);
		},
	};
}

function whenExited(child: ChildProcess): Promise<WorkerdExit> {
	const leash = child.stdio[3] as Writable;
	// workerd closes its end when it is killed; a write that comes too late is of no interest.
	leash.on("error", () => undefined);
	return new Promise((resolve) => {
		// `close` rather than `exit`, so that its last lines have been read.
		child.once("close", (code, signal) => resolve({ code, signal }));
		// The watcher holds none of its output, but it has to be let go before it takes our end for a death.
		child.once("exit", () => leash.end("done\n"));
	});
}

/** workerd tells on its control descriptor which port the socket got. */
function listeningPort(child: ChildProcess, exited: Promise<WorkerdExit>): Promise<number> {
	const port = new Promise<number>((resolve, reject) => {
		onLines(child.stdio[4] as Readable, (line) => {
			const message = JSON.parse(line);
			if (message.event === "listen") resolve(message.port);
		});
		void exited.then(() => reject(new Error("workerd ended before it listened")));
	});
	// Whoever awaits it still sees the failure; unawaited it must not end the process.
	port.catch(() => undefined);
	return port;
}

function onLines(stream: Readable, onLine: (line: string) => void): void {
	let rest = "";
	stream.setEncoding("utf8");
	stream.on("data", (chunk: string) => {
		const lines = (rest + chunk).split("\n");
		rest = lines.pop() ?? "";
		for (const line of lines) onLine(line);
	});
	stream.on("end", () => {
		if (rest !== "") onLine(rest);
	});
}

/**
 * The runtime's binary: the package `workerd` beside this one, or in a checkout the one that wrangler brings along, so
 * that there is one version of it and one place to set it.
 */
function workerdPath(): string {
	for (const from of ["workerd", "wrangler"]) {
		try {
			const require = createRequire(import.meta.url);
			return from === "workerd"
				? require("workerd").default
				: createRequire(require.resolve("wrangler"))("workerd").default;
		} catch (error) {
			if (systemErrorCode(error) !== "MODULE_NOT_FOUND") throw error;
		}
	}
	throw new StartError("A server needs the runtime of Workers, which is not installed here: npm install workerd");
}

/**
 * A configuration in Cap'n Proto's text form. The objects' `uniqueKey`s name the folders of their data and go
 * into their ids, so changing them loses all data.
 */
export function workerdConfig(
	worker: WorkerBundle,
	{ codeFile, page }: { codeFile: string; page: string },
	bindings: Record<string, string>,
): string {
	const namespaces = worker.objects.map(
		({ className }) =>
			`(className = ${text(className)}, uniqueKey = ${text(`headgate-${className}`)}, enableSql = true)`,
	);
	const bound = [
		...worker.objects.map(
			({ binding, className }) => `(name = ${text(binding)}, durableObjectNamespace = ${text(className)})`,
		),
		// What `[assets]` in wrangler.toml is to the deployed Worker.
		...(Object.keys(worker.page).length > 0 ? [`(name = "ASSETS", service = "page")`] : []),
		...Object.entries(bindings).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`),
	];
	return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "objects", disk = (writable = true)),
    (name = "page", disk = (path = ${text(page)})),
  ],
  sockets = [(name = "http", service = "worker", http = ())],
);

const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed ${text(codeFile)})],
  compatibilityDate = ${text(worker.compatibilityDate)},
  compatibilityFlags = [${worker.compatibilityFlags.map(text).join(", ")}],
  durableObjectStorage = (localDisk = "objects"),
  durableObjectNamespaces = [${namespaces.join(", ")}],
  bindings = [${bound.join(", ")}],
);
`;
}

/** A string literal. Cap'n Proto knows C's escapes but not JSON's `\u`, so bytes above ASCII go in as `\x`. */
function text(value: string): string {
	const escaped = Array.from(new TextEncoder().encode(value), (byte) => {
		const character = String.fromCharCode(byte);
		if (character === '"' || character === "\\") return `\\${character}`;
		return byte >= 32 && byte < 127 ? character : `\\x${byte.toString(16).padStart(2, "0")}`;
	});
	return `"${escaped.join("")}"`;
}
