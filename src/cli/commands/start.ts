/** `start`: runs a server until it is told to stop. */

import path from "node:path";
import { StartError } from "../errors.ts";
import { write } from "../output.ts";
import { isLoopback, type RunningServer, startServer } from "../serve.ts";
import { ignoredSignals } from "../signals.ts";
import { checkTokens } from "../tokens.ts";

export interface StartOptions {
	port: number;
	host: string;
	data: string;
}

/** Everything in the brackets of the ready line: where the data is and who may call. */
function describe(options: StartOptions, tokens: string | undefined): string {
	const folder = path.relative(process.cwd(), path.resolve(options.data)) || ".";
	const data = `data in ${folder.startsWith("..") ? path.resolve(options.data) : folder}`;
	if (!tokens) return `${data}, open: loopback only`;
	const count = checkTokens(tokens).length;
	return `${data}, ${count} token${count === 1 ? "" : "s"}${isLoopback(options.host) ? ", loopback only" : ""}`;
}

/** Answers with the exit code. */
export async function start(options: StartOptions): Promise<number> {
	let server: RunningServer | undefined;
	let stopping = false;
	const stop = () => {
		// Asked twice: at once.
		if (stopping) void server?.kill();
		else void server?.stop();
		stopping = true;
		// Before there is a server to stop, its runtime ends with this process.
		if (server === undefined) process.exit(0);
	};
	const ignored = ignoredSignals();
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
		process.on(signal, ignored.has(signal) ? () => undefined : stop);
	}

	const tokens = process.env.HEADGATE_TOKENS;
	const cors = process.env.HEADGATE_CORS_ORIGINS;
	const memory = process.env.HEADGATE_DENIAL_MEMORY;
	if (memory && memory !== "off") {
		throw new StartError(`HEADGATE_DENIAL_MEMORY is "off" or is not set, and was "${memory}".`, 2);
	}
	server = await startServer({
		...options,
		tokens,
		cors: cors ? [cors] : undefined,
		...(memory && { env: { HEADGATE_DENIAL_MEMORY: memory } }),
		onLine: (line) => write(process.stderr, `${line}\n`),
	});
	write(process.stdout, `Headgate is ready on ${server.url} (${describe(options, tokens)})\n`);
	const exit = await server.exited;
	if (exit.expected) return 0;
	const how = exit.signal === null ? `with code ${exit.code}` : `by ${exit.signal}`;
	const printed = exit.lastLines === "" ? "It had printed nothing." : `Its last lines:\n${exit.lastLines}`;
	write(process.stderr, `The runtime under Headgate (workerd) ended ${how}. ${printed}\n`);
	return 1;
}
