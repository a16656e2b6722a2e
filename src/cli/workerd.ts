/** One workerd process: its configuration as text, its start, and its certain end. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
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
	/** It is a shell that waits, until this makes it workerd: what has to be known of it first can be written down. */
	go(): void;
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
	/** Kept open by workerd as long as it lives: the lock of its folder. */
	lockDescriptor: number;
	/** Every line that workerd prints. */
	onLine: ((line: string) => void) | undefined;
}

/** Lines kept for an error message; a JavaScript stack with its cause fits. */
const KEPT_LINES = 40;

/** As many descriptors as the system gives: 3 for each name in use, and 2 for each connection. */
const RAISE = 'ulimit -n "$(ulimit -H -n)" 2>/dev/null';

/**
 * Runs workerd so that it ends with this process even after `kill -9`, when no handler runs: descriptor 3 is a
 * pipe whose other end only this process holds. The first line on it lets the shell go on; its end without one means that
 * the parent is gone, and nothing was started. Then a watcher reads it; a line means that all is well, and an end
 * without one that the parent is gone. The shell then becomes workerd (`exec`), so there is no moment at which
 * workerd runs unwatched, and the process started here is workerd itself. What it writes is its user's alone, and a
 * terminal that hangs up is no reason for it to end.
 */
const LEASHED = [
	"read -r go <&3 || exit 1",
	"trap '' HUP",
	"umask 077",
	RAISE,
	"{ read -r line <&3 || kill -9 $$; } >/dev/null 2>&1 4>&- 5>&- &",
	'exec "$0" "$@" 3<&-',
].join("\n");

export function spawnWorkerd(options: WorkerdOptions): Workerd {
	const args = [
		"serve",
		options.configFile,
		`--directory-path=objects=${options.objectsFolder}`,
		`--socket-addr=http=${options.address}`,
		"--control-fd=4",
	];
	const child = spawn("sh", ["-c", LEASHED, workerdPath(), ...args], {
		stdio: ["ignore", "pipe", "pipe", "pipe", "pipe", options.lockDescriptor],
		// Ctrl-C in a terminal goes to the whole group; workerd is in its own, and ends when it is told to.
		detached: true,
	});
	if (child.pid === undefined) {
		// The reason comes as an event, later; unheard it would end this process.
		child.once("error", () => undefined);
		throw new StartError("No process can be started: either there is no `sh`, or the system has no room for another.");
	}
	const leash = child.stdio[3] as Writable;
	// The other end closes when its process is killed; a write that comes too late is of no interest.
	leash.on("error", () => undefined);

	const kept: string[] = [];
	for (const stream of [child.stdout, child.stderr]) {
		onLines(stream as Readable, (line) => {
			kept.push(line);
			if (kept.length > KEPT_LINES) kept.shift();
			options.onLine?.(line);
		});
	}
	const exited = whenExited(child, leash);
	return {
		pid: child.pid,
		go: () => void leash.write("go\n"),
		port: listeningPort(child, exited),
		exited,
		lastLines: () => kept.join("\n"),
		signal(signal) {
			// Once it is reaped its number may be another process's.
			if (child.exitCode === null && child.signalCode === null) child.kill(signal);
		},
	};
}

/** How many descriptors a workerd of this process may have. */
export function descriptorLimit(): number {
	const { stdout } = spawnSync("sh", ["-c", `${RAISE}; ulimit -n`], { encoding: "utf8" });
	const limit = Number.parseInt(stdout ?? "", 10);
	return Number.isNaN(limit) ? Number.POSITIVE_INFINITY : limit;
}

function whenExited(child: ChildProcess, leash: Writable): Promise<WorkerdExit> {
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
	// What awaits it still sees the failure; unawaited it must not end the process.
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

const OPEN_DESCRIPTORS = "/proc/self/fd";

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
		// What the process has open, where the system shows that as a folder.
		...(existsSync(OPEN_DESCRIPTORS) ? [`(name = "DESCRIPTORS", service = "descriptors")`] : []),
		...Object.entries(bindings).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`),
	];
	return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "objects", disk = (writable = true)),
    (name = "page", disk = (path = ${text(page)})),
${existsSync(OPEN_DESCRIPTORS) ? `    (name = "descriptors", disk = (path = ${text(OPEN_DESCRIPTORS)})),\n` : ""}  ],
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
