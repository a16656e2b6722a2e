/**
 * One workerd with several Worker services on the same objects: each has an isolate of its own, as in production the machines of
 * a service have, and a call to an object leaves it. Requests go to each in turn.
 */

import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import path from "node:path";
import { loadWorker } from "../src/cli/bundle.ts";
import { spawnWorkerd } from "../src/cli/workerd.ts";
import { temporaryFolder } from "../test/support/temporary.ts";

export interface Isolates extends AsyncDisposable {
	url: string;
	pid: number;
}

const SPREAD = `let next = 0;
export default {
	fetch(request, env) {
		if (new URL(request.url).pathname === "/counts") return env.OWNER.fetch(request);
		next = (next + 1) % env.COUNT;
		return env["FRONT" + next].fetch(request);
	},
};
`;

const quoted = (text: string): string => JSON.stringify(text);

/** `config`: of the Worker that each service runs; the first has the objects. */
export async function isolates(count: number, config: string): Promise<Isolates> {
	const folder = await temporaryFolder();
	const worker = await loadWorker(config);
	writeFileSync(path.join(folder.path, "worker.js"), worker.code);
	writeFileSync(path.join(folder.path, "spread.js"), SPREAD);
	const objectsFolder = path.join(folder.path, "objects");
	mkdirSync(objectsFolder);
	const fronts = Array.from({ length: count }, (_, index) => index);
	const shared = `modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = ${quoted(worker.compatibilityDate)},
  compatibilityFlags = [${worker.compatibilityFlags.map(quoted).join(", ")}],`;
	const open = `(name = "HEADGATE_OPEN", text = "true"), (name = "HEADGATE_HOSTS", text = "127.0.0.1,localhost")`;
	const bound = (service: string): string =>
		worker.objects
			.map(
				({ binding, className }) =>
					`(name = ${quoted(binding)}, durableObjectNamespace = (className = ${quoted(className)}${service})), `,
			)
			.join("");
	const namespaces = worker.objects.map(
		({ className }) => `(className = ${quoted(className)}, uniqueKey = ${quoted(className)}, enableSql = true)`,
	);
	const text = `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "objects", disk = (path = ${quoted(objectsFolder)}, writable = true)),
    (name = "owner", worker = .owner),
    (name = "spread", worker = .spread),
${fronts.map((index) => `    (name = "front${index}", worker = .front),\n`).join("")}  ],
  sockets = [(name = "http", service = "spread", http = ())],
);

const owner :Workerd.Worker = (
  ${shared}
  durableObjectStorage = (localDisk = "objects"),
  durableObjectNamespaces = [${namespaces.join(", ")}],
  bindings = [${bound("")}${open}],
);

const front :Workerd.Worker = (
  ${shared}
  bindings = [${bound(', serviceName = "owner"')}${open}],
);

const spread :Workerd.Worker = (
  modules = [(name = "spread.js", esModule = embed "spread.js")],
  compatibilityDate = ${quoted(worker.compatibilityDate)},
  bindings = [
    (name = "COUNT", json = "${count}"), (name = "OWNER", service = "owner"),
${fronts.map((index) => `    (name = "FRONT${index}", service = "front${index}"),\n`).join("")}  ],
);
`;
	const configFile = path.join(folder.path, "workerd.capnp");
	writeFileSync(configFile, text);
	const lockDescriptor = openSync(path.join(folder.path, "lock"), "w");
	const workerd = spawnWorkerd({
		configFile,
		objectsFolder,
		address: "127.0.0.1:0",
		lockDescriptor,
		onLine: undefined,
	});
	closeSync(lockDescriptor);
	workerd.go();
	try {
		const port = await workerd.port;
		return {
			...{ url: `http://127.0.0.1:${port}`, pid: workerd.pid },
			async [Symbol.asyncDispose]() {
				workerd.signal("SIGKILL");
				await workerd.exited;
				await folder[Symbol.asyncDispose]();
			},
		};
	} catch (error) {
		throw new Error(`${error instanceof Error ? error.message : error}: ${workerd.lastLines()}`);
	}
}
