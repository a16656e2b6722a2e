/**
 * `npm run demo`: a fresh server, and programs that share its limits as real ones would. Ends with a table, and with
 * exit code 1 when a target was missed.
 */

import { freshServer } from "../test/support/server.ts";
import { killed } from "./demo/killed.ts";
import { pile } from "./demo/pile.ts";
import { quota } from "./demo/quota.ts";
import { type Act, closingTable, Progress } from "./demo/show.ts";
import { twoNames } from "./demo/two-names.ts";

const progress = new Progress();
await using server = await freshServer();
const acts: Act[] = [];
for (const act of [pile, quota, twoNames, killed]) acts.push(await act(server.url, progress));
progress.clear();
const { text, missed } = closingTable(acts);
console.log(text);
console.log(missed === 0 ? "All targets met." : `${missed} missed. A busy machine may be the reason; run it again.`);
process.exitCode = missed === 0 ? 0 : 1;
