/** Global set-up of the client projects: each gets a real server of its own, so that limits of one name do not meet. */

import type { TestProject } from "vitest/node";
import { freshServer } from "./server.ts";
import "./provided.ts";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
	const server = await freshServer({ cors: project.getProvidedContext().corsOrigins ?? [] });
	project.provide("url", server.url);
	return () => server[Symbol.asyncDispose]();
}
