/**
 * `npm run demo`: a fresh server, and programs that share its limits as real ones would. Ends with a table, and with
 * exit code 1 when a target was missed. `npm run demo -- --port 8787` has the server there, for whoever wants to look on in
 * a browser; without it the port is any that is free.
 */

import { parseArgs } from "node:util";
import { startServer } from "../src/cli/serve.ts";
import { temporaryFolder } from "../test/support/temporary.ts";
import { killed } from "./demo/killed.ts";
import { pile } from "./demo/pile.ts";
import { quota } from "./demo/quota.ts";
import { type Act, closingTable, Progress } from "./demo/show.ts";
import { twoNames } from "./demo/two-names.ts";

const { values } = parseArgs({ options: { port: { type: "string", default: "0" } } });
const port = Number(values.port);
if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error("--port is a number from 0 to 65535");

const progress = new Progress();
await using folder = await temporaryFolder();
const server = await startServer({ port, data: folder.path });
try {
	console.log(`The dashboard: ${server.url}`);
	const acts: Act[] = [];
	for (const act of [pile, quota, twoNames, killed]) acts.push(await act(server.url, progress));
	progress.clear();
	const { text, missed } = closingTable(acts);
	console.log(text);
	console.log(missed === 0 ? "All targets met." : `${missed} missed.`);
	process.exitCode = missed === 0 ? 0 : 1;
} finally {
	await server.stop();
}
