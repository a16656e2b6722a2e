/**
 * `npm run deploy` and `npm run deploy:check`: `wrangler deploy`, once the variables that say where objects live are checked. A
 * misspelt one would be told by every answer of the deployment; here it is told before there is one.
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "smol-toml";
import { placementFault } from "../src/places.ts";

const root = path.resolve(import.meta.dirname, "..");

interface WranglerToml {
	vars?: Record<string, string>;
	env?: Record<string, { vars?: Record<string, string> }>;
}

/** Variables that the command line gives: `--var NAME:VALUE`. */
const given = (args: string[]): Record<string, string> =>
	Object.fromEntries(
		args.flatMap((arg, index) => {
			const text = arg.startsWith("--var=") ? arg.slice(6) : args[index - 1] === "--var" ? arg : undefined;
			const colon = text?.indexOf(":") ?? -1;
			return text !== undefined && colon > 0 ? [[text.slice(0, colon), text.slice(colon + 1)]] : [];
		}),
	);

const args = process.argv.slice(2);
const config = parse(readFileSync(path.join(root, "wrangler.toml"), "utf8")) as WranglerToml;
const all = [config.vars ?? {}, given(args), ...Object.values(config.env ?? {}).map(({ vars = {} }) => vars)];
const faults = all.flatMap((vars) => placementFault(vars) ?? []);
for (const fault of faults) process.stderr.write(`${fault}\n`);
if (faults.length > 0) process.exit(2);
const { status } = spawnSync("wrangler", ["deploy", ...args], { cwd: root, stdio: "inherit" });
process.exit(status ?? 1);
