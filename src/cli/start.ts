/** `npm start`: runs a server until it is told to stop. */

import path from "node:path";
import { parseArgs } from "node:util";
import { StartError } from "./errors.ts";
import { isLoopback, type RunningServer, startServer } from "./serve.ts";
import { checkTokens } from "./tokens.ts";

const USAGE = `Usage: npm start -- [options]

  --port <number>  port to listen on; 0 takes any that is free   (default 8787)
  --host <address> address to listen on; any but loopback needs
                   tokens                                         (default 127.0.0.1)
  --data <folder>  where limits and leases are kept               (default .headgate)
  --help           this text

Environment:
  HEADGATE_TOKENS        who may call, as JSON; see: npm run token -- --help
  HEADGATE_CORS_ORIGINS  origins whose pages may call, with commas between them
`;

interface Arguments {
	port: number;
	host: string;
	data: string;
	help: boolean;
}

function readArguments(args: string[]): Arguments {
	const { values } = parseOrExplain(args);
	const port = values.port ?? "8787";
	if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
		throw new StartError(`--port takes a number from 0 to 65535, not ${JSON.stringify(port)}.`, 2);
	}
	for (const name of ["host", "data"] as const) {
		if (values[name] === "") throw new StartError(`--${name} needs a value.`, 2);
	}
	return {
		port: Number(port),
		host: values.host ?? "127.0.0.1",
		data: values.data ?? ".headgate",
		help: values.help ?? false,
	};
}

function parseOrExplain(args: string[]) {
	try {
		return parseArgs({
			args,
			options: {
				port: { type: "string" },
				host: { type: "string" },
				data: { type: "string" },
				help: { type: "boolean", short: "h" },
			},
		});
	} catch (error) {
		// parseArgs throws nothing but complaints about the arguments.
		throw new StartError(`${(error as Error).message}\nTry: npm start -- --help`, 2);
	}
}

/** Everything in the brackets of the ready line: where the data is and who may call. */
function describe(args: Arguments, tokens: string | undefined): string {
	const folder = path.relative(process.cwd(), path.resolve(args.data)) || ".";
	const data = `data in ${folder.startsWith("..") ? path.resolve(args.data) : folder}`;
	if (!tokens) return `${data}, open: loopback only`;
	const count = checkTokens(tokens).length;
	return `${data}, ${count} token${count === 1 ? "" : "s"}${isLoopback(args.host) ? ", loopback only" : ""}`;
}

async function main(): Promise<number> {
	const args = readArguments(process.argv.slice(2));
	if (args.help) {
		process.stdout.write(USAGE);
		return 0;
	}
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
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);

	const tokens = process.env.HEADGATE_TOKENS;
	const cors = process.env.HEADGATE_CORS_ORIGINS;
	server = await startServer({
		port: args.port,
		host: args.host,
		data: args.data,
		tokens,
		cors: cors ? [cors] : undefined,
		onLine: (line) => process.stderr.write(`${line}\n`),
	});
	process.stdout.write(`Headgate is ready on ${server.url} (${describe(args, tokens)})\n`);
	const exit = await server.exited;
	if (exit.expected) return 0;
	const how = exit.signal === null ? `with code ${exit.code}` : `by ${exit.signal}`;
	const printed = exit.lastLines === "" ? "It had printed nothing." : `Its last lines:\n${exit.lastLines}`;
	process.stderr.write(`The runtime under Headgate (workerd) ended ${how}. ${printed}\n`);
	return 1;
}

try {
	process.exitCode = await main();
} catch (error) {
	if (!(error instanceof StartError)) throw error;
	process.stderr.write(`${error.message}\n`);
	process.exitCode = error.exitCode;
}
