/**
 * The server as its operator has it: the program `headgate start` on a disk and a clock of its own, both of which can be made to
 * fail. Whatever is done to it is done by signals, by its files, or by its clock.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
	closeSync,
	globSync,
	mkdirSync,
	mkdtempSync,
	openSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	writeFileSync,
	writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { call, notForEver, until } from "./http.ts";

const root = path.resolve(import.meta.dirname, "..");
const DISK_BYTES = 96 * 1024 * 1024;
const READY = /ready on http:\/\/127\.0\.0\.1:(\d+)/;
/** A program on a machine that does other things may take as long to start. */
const START_MS = 90_000;

export class Server {
	port = 0;
	/** What this machine does not allow, and so is left out. */
	readonly missing: string[] = [];
	/** Seconds that its clock is ahead of the right one. */
	clockSeconds = 0;
	readonly printed: string[] = [];
	readonly #code: string;
	readonly #folder: string;
	readonly #data: string;
	#program: ChildProcess | undefined;
	#clock: number | undefined;
	readonly #env: Record<string, string> = {};
	#isMounted = false;
	/** Whoever still calls it, or would start it again, is told. */
	#isOver = false;

	/** `code`: the checkout whose program is run. */
	constructor(code = root) {
		this.#code = code;
		this.#folder = mkdtempSync(path.join(tmpdir(), "headgate-soak-"));
		const disk = path.join(this.#folder, "disk");
		mkdirSync(disk, { mode: 0o700 });
		this.#data = path.join(disk, "data");
		try {
			execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES},mode=700`, "tmpfs", disk], { stdio: "ignore" });
			this.#isMounted = true;
		} catch {
			this.missing.push("a disk of its own (no right to mount): full and read-only disks are left out");
		}
		try {
			const shim = path.join(this.#folder, "clock.so");
			const source = path.join(root, "test/support/clock.c");
			execFileSync("gcc", ["-shared", "-fPIC", "-O1", "-o", shim, source], { stdio: "ignore" });
			const file = path.join(this.#folder, "offset");
			writeFileSync(file, Buffer.alloc(8));
			this.#clock = openSync(file, "r+");
			Object.assign(this.#env, { LD_PRELOAD: shim, CLOCK_OFFSET: file });
		} catch {
			this.missing.push("a clock of its own (no C compiler): clocks that jump are left out");
		}
	}

	get hasDisk(): boolean {
		return this.#isMounted;
	}

	get hasClock(): boolean {
		return this.#clock !== undefined;
	}

	/** Resolves when it says that it is ready; with what it printed when it ended instead. */
	async start(): Promise<string | null> {
		const { program, ready, ended, output } = this.#spawn();
		this.#program = program;
		await notForEver(Promise.race([ready, ended]), "the start of the server", () => program.kill("SIGKILL"), START_MS);
		const got = READY.exec(output());
		if (!got) return output();
		this.port = Number(got[1]);
		return null;
	}

	/** What a second program on the same folder prints, and its exit code; it is killed if it gets ready. */
	async second(): Promise<{ code: number | null; output: string; gotReady: boolean }> {
		const { program, ready, ended, output } = this.#spawn("0");
		await notForEver(
			Promise.race([ready, ended]),
			"the end of a second server",
			() => program.kill("SIGKILL"),
			START_MS,
		);
		const gotReady = READY.test(output());
		program.kill("SIGKILL");
		return { code: await ended, output: output(), gotReady };
	}

	#spawn(port = String(this.port)) {
		this.#goOn();
		const args = [path.join(this.#code, "src/cli/main.ts"), "start", "--port", port, "--data", this.#data];
		const { HEADGATE_TOKENS: _, HEADGATE_ADMIN_TOKEN: __, ...inherited } = process.env;
		const program = spawn(process.execPath, args, {
			stdio: ["ignore", "pipe", "pipe"],
			env: { ...inherited, ...this.#env },
		});
		let text = "";
		const ready = Promise.withResolvers<void>();
		const hear = (chunk: string): void => {
			text += chunk;
			this.printed.push(...chunk.split("\n").filter((line) => line !== ""));
			this.printed.splice(0, this.printed.length - 200);
			if (READY.test(text)) ready.resolve();
		};
		program.stdout.setEncoding("utf8").on("data", hear);
		program.stderr.setEncoding("utf8").on("data", hear);
		const ended = new Promise<number | null>((resolve) => program.once("close", (code) => resolve(code)));
		return { program, ready: ready.promise, ended, output: () => text };
	}

	#goOn(): void {
		if (this.#isOver) throw new Error("The run is over.");
	}

	/** Resolves when it answers. */
	async answers(): Promise<void> {
		await until("an answer of /health", async () => {
			this.#goOn();
			const { status } = await call(this.port, "GET", "/health").catch(() => ({ status: 0 }));
			return status === 200;
		});
	}

	/** Starts it on its port, as often as it takes until the one before has let go of the folder; it must get ready. */
	async startAgain(): Promise<void> {
		await until("a server on the folder of one that was killed", async () => {
			const refused = await this.start();
			if (refused !== null && !/in use/.test(refused)) throw new Error(`The server did not start: ${refused}`);
			return refused === null;
		});
		await this.answers();
	}

	/** The process that serves, of those that speak of this folder. */
	runtime(): number {
		const pids = globSync("/proc/[0-9]*/cmdline").flatMap((file) => {
			const words = textOf(file).split("\0");
			return words[0]?.endsWith("workerd") && words.some((word) => word.includes(this.#data))
				? [Number(file.split("/")[2])]
				: [];
		});
		if (pids.length > 1) throw new Error(`${pids.length} runtimes on one folder: ${pids.join(", ")}`);
		return pids[0] ?? 0;
	}

	/** `kill -9` of what serves; whoever keeps it starts it again. */
	killRuntime(): void {
		const pid = this.runtime();
		if (pid !== 0) process.kill(pid, "SIGKILL");
	}

	/** `kill -9` of the program that was started. */
	async killProgram(): Promise<void> {
		await this.#end("SIGKILL");
	}

	/** The orderly end, as before a new version is started. */
	async stop(): Promise<void> {
		await this.#end("SIGTERM");
	}

	async #end(signal: NodeJS.Signals): Promise<void> {
		const program = this.#program;
		if (!program || program.exitCode !== null || program.signalCode !== null) return;
		const ended = new Promise<void>((resolve) => program.once("exit", () => resolve()));
		program.kill(signal);
		await notForEver(ended, `the end of the server by ${signal}`);
	}

	signalRuntime(signal: "SIGSTOP" | "SIGCONT"): void {
		const pid = this.runtime();
		if (pid !== 0) process.kill(pid, signal);
	}

	setClock(seconds: number): void {
		if (this.#clock === undefined) return;
		const bytes = Buffer.alloc(8);
		bytes.writeBigInt64LE(BigInt(seconds));
		writeSync(this.#clock, bytes, 0, 8, 0);
		this.clockSeconds = seconds;
	}

	get #filler(): string {
		return path.join(path.dirname(this.#data), "filler");
	}

	/** Fills the disk to the last byte. */
	fillDisk(): void {
		for (let size = DISK_BYTES; size >= 512; ) {
			try {
				writeFileSync(this.#filler, Buffer.alloc(size), { flag: "a" });
			} catch {
				size = Math.floor(size / 2); // What went in stays.
			}
		}
	}

	emptyDisk(): void {
		rmSync(this.#filler, { force: true });
	}

	/** Lets nothing be written, or everything again; while it is down. */
	remount(how: "ro" | "rw"): void {
		execFileSync("mount", ["-o", `remount,${how}`, path.dirname(this.#data)], { stdio: "ignore" });
	}

	/** The files of the limit of this name: its database, and what lies beside it. While it is down. */
	#filesOf(name: string): string[] {
		const files = globSync("objects/headgate-LimitObject/*.sqlite*", { cwd: this.#data }).map((file) =>
			path.join(this.#data, file),
		);
		// Nothing else speaks of it, for its name is like no other.
		const own = files.find((file) => readFileSync(file).includes(name));
		if (own === undefined) throw new Error(`No file speaks of ${name}.`);
		const [database = ""] = own.split(/-(?:wal|shm)$/);
		return files.filter((file) => file.startsWith(database));
	}

	/** Cuts a limit's database off, or empties it, and takes away what would mend it. Answers with what undoes it. While it is down. */
	truncate(name: string, share: number): () => void {
		const files = this.#filesOf(name);
		const copies = files.map((file) => [file, readFileSync(file)] as const);
		for (const file of files) {
			if (file.endsWith(".sqlite")) truncateSync(file, Math.floor(statSync(file).size * share));
			else rmSync(file);
		}
		return () => {
			for (const file of this.#filesNow(files)) rmSync(file);
			for (const [file, bytes] of copies) writeFileSync(file, bytes, { mode: 0o600 });
		};
	}

	#filesNow(files: string[]): string[] {
		const [database = ""] = (files[0] ?? "").split(/-(?:wal|shm)$/);
		return globSync(`${database}*`);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#isOver) return;
		this.#isOver = true;
		await this.killProgram();
		await until("the end of the runtime", async () => this.runtime() === 0);
		if (this.#clock !== undefined) closeSync(this.#clock);
		if (this.#isMounted) execFileSync("umount", ["--lazy", path.dirname(this.#data)]);
		rmSync(this.#folder, { recursive: true, force: true });
	}
}

function textOf(file: string): string {
	try {
		return readFileSync(file, "utf8");
	} catch {
		return ""; // It has ended meanwhile.
	}
}
