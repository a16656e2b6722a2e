import { readFileSync } from "node:fs";
import { type RunningServer, type ServerOptions, startServer as start } from "../../src/cli/serve.ts";
import { temporaryFolder } from "./temporary.ts";

export interface FreshServer extends RunningServer, AsyncDisposable {
	data: string;
	[Symbol.asyncDispose](): Promise<void>;
}

/** `startServer` itself, with the Worker that a run of tests has bundled once. */
export function startServer(options: ServerOptions): Promise<RunningServer> {
	const bundled = process.env.HEADGATE_TESTED_WORKER;
	if (bundled === undefined || options.config !== undefined) return start(options);
	return start({ ...options, worker: JSON.parse(readFileSync(bundled, "utf8")) });
}

/** A real server on a free port with a new data folder; `await using` stops it and removes the folder. */
export async function freshServer(options: Omit<ServerOptions, "port" | "data"> = {}): Promise<FreshServer> {
	const folder = await temporaryFolder();
	const server = await startServer({ ...options, port: 0, data: folder.path });
	return {
		...server,
		data: folder.path,
		async [Symbol.asyncDispose]() {
			await server.stop();
			await folder[Symbol.asyncDispose]();
		},
	};
}
