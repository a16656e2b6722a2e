/** `npm run token`: makes a token and prints the entry for `HEADGATE_TOKENS` that lets it in. */

import { parseArgs } from "node:util";
import { SCOPES, type Scope } from "../protocol.ts";
import { newToken } from "./tokens.ts";

const USAGE = `Usage: npm run token -- --name <who> --scope <scope> [--prefix <prefix>]

  --name    who it is for, shown to operators
  --scope   use: acquire, renew and release; read: look only; admin: everything
  --prefix  only names that begin with this
`;

function main(args: string[]): number {
	const fail = (message: string) => {
		process.stderr.write(`${message}\n\n${USAGE}`);
		return 2;
	};
	let values: { name?: string; scope?: string; prefix?: string; help?: boolean };
	try {
		values = parseArgs({
			args,
			options: {
				name: { type: "string" },
				scope: { type: "string" },
				prefix: { type: "string" },
				help: { type: "boolean", short: "h" },
			},
		}).values;
	} catch (error) {
		// parseArgs throws nothing but complaints about the arguments.
		return fail((error as Error).message);
	}
	if (values.help) {
		process.stdout.write(USAGE);
		return 0;
	}
	const scope = SCOPES.find((one): one is Scope => one === values.scope);
	if (!values.name) return fail("--name is missing.");
	if (scope === undefined) return fail(`--scope is one of ${SCOPES.join(", ")}.`);
	const { token, entry } = newToken(values.name, scope, values.prefix);
	// The token alone on standard output's first line, so that a script can take it; it is kept nowhere.
	process.stdout.write(
		`${token}\n\nThe token is shown this once. Add this entry to HEADGATE_TOKENS:\n\n${JSON.stringify([entry])}\n`,
	);
	return 0;
}

process.exitCode = main(process.argv.slice(2));
