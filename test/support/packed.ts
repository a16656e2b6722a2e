/** Global set-up of the tests of the package: it is packed once, from a copy of the checkout, as `npm pack` makes it. */

import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import type { TestProject } from "vitest/node";
import { copyOfCheckout } from "./checkout.ts";
import "./provided.ts";
import { temporaryFolder } from "./temporary.ts";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
	const folder = await temporaryFolder();
	const args = ["pack", "--json", "--pack-destination", folder.path];
	const { stdout } = await promisify(execFile)("npm", args, {
		...{ cwd: copyOfCheckout(folder.path), env: outside(), maxBuffer: 2 ** 26 },
	});
	// What the build prints comes before the list.
	const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("[\n"))) as [{ filename: string }];
	project.provide("tarball", path.join(folder.path, filename));
	return () => folder[Symbol.asyncDispose]();
}

/** The environment without what npm adds for the scripts of this checkout, and without a server of its owner. */
export function outside(): Record<string, string | undefined> {
	const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|HEADGATE_)/i.test(name));
	return { ...Object.fromEntries(kept), npm_config_cache: process.env.npm_config_cache, npm_config_loglevel: "error" };
}
