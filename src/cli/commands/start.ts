/** `start`: runs a server until it is told to stop. */

import path from "node:path";
import { isatty } from "node:tty";
import { placementFault } from "../../places.ts";
import { BOUNDS } from "../../protocol.ts";
import { StartError } from "../errors.ts";
import { howItEnded } from "../keeper.ts";
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
function describe(options: StartOptions, tokens: string | undefined, admin: string | undefined): string {
	const folder = path.relative(process.cwd(), path.resolve(options.data)) || ".";
	const data = `data in ${folder.startsWith("..") ? path.resolve(options.data) : folder}`;
	if (!tokens && !admin) return `${data}, open: loopback only`;
	const count = (tokens ? checkTokens(tokens).length : 0) + (admin ? 1 : 0);
	return `${data}, ${count} token${count === 1 ? "" : "s"}${isLoopback(options.host) ? ", loopback only" : ""}`;
}

/** What a name in use costs, and what a connection does. */
const DESCRIPTORS = { name: 3, caller: 2 };
const figure = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** How much the server carries at once; undefined where nothing bounds it. */
function room(descriptors: number): string | undefined {
	if (!Number.isFinite(descriptors)) return undefined;
	const usable = descriptors * BOUNDS.descriptorShare;
	const [callers, names] = [usable / DESCRIPTORS.caller, usable / DESCRIPTORS.name];
	return `Room for about ${figure.format(callers)} callers or ${figure.format(names)} names at once (ulimit -n: ${descriptors})`;
}

/**
 * Whether there is a terminal to lose. Node undoes what it inherits of signals, so that under `nohup` a program does not
 * see that SIGHUP is to be ignored; but what `nohup` leaves to it is no terminal, and neither is what a service has.
 */
const hasTerminal = (): boolean => [0, 1, 2].some((descriptor) => isatty(descriptor));

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
	if (!hasTerminal()) ignored.add("SIGHUP");
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
		process.on(signal, ignored.has(signal) ? () => undefined : stop);
	}

	const tokens = process.env.HEADGATE_TOKENS;
	const admin = process.env.HEADGATE_ADMIN_TOKEN;
	const cors = process.env.HEADGATE_CORS_ORIGINS;
	const hosts = process.env.HEADGATE_HOSTS;
	const memory = process.env.HEADGATE_DENIAL_MEMORY;
	if (memory && memory !== "off") {
		throw new StartError(`HEADGATE_DENIAL_MEMORY is "off" or is not set, and was "${memory}".`, 2);
	}
	const region = process.env.HEADGATE_REGION;
	const fault = placementFault(process.env);
	if (fault !== null) throw new StartError(fault, 2);
	if (process.env.HEADGATE_JURISDICTION) {
		throw new StartError(
			"HEADGATE_JURISDICTION is for Cloudflare: this server keeps its data on this machine. Unset it.",
			2,
		);
	}
	server = await startServer({
		...options,
		tokens,
		adminToken: admin,
		cors: cors ? [cors] : undefined,
		hosts: hosts ? [hosts] : undefined,
		env: { ...(memory && { HEADGATE_DENIAL_MEMORY: memory }), ...(region && { HEADGATE_REGION: region }) },
		onLine: (line) => write(process.stderr, `${line}\n`),
	});
	write(process.stdout, `Headgate is ready on ${server.url} (${describe(options, tokens, admin)})\n`);
	const carries = room(server.descriptors);
	if (carries !== undefined) write(process.stdout, `${carries}\n`);
	const exit = await server.exited;
	if (exit.expected) return 0;
	const printed = exit.lastLines === "" ? "It had printed nothing." : `Its last lines:\n${exit.lastLines}`;
	const often = `more than ${BOUNDS.restartsPerMinute} times within a minute, so it is not started again`;
	write(process.stderr, `The runtime under Headgate (workerd) ended ${howItEnded(exit)}, ${often}. ${printed}\n`);
	return 1;
}
