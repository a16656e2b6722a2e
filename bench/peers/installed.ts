/** What is measured beside Headgate, and how it comes onto this machine. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pythonWith } from "../../scripts/python.ts";

const folder = import.meta.dirname;
/** Ignored by git, like the libraries beside it. */
const programs = path.join(folder, "node_modules/.programs");
const GUBERNATOR = "github.com/gubernator-io/gubernator/v2/cmd/gubernator@v2.13.0";
const REQUIREMENTS = "test/prefect/requirements.txt";

export interface Installed {
	/** Whether the libraries of `package.json` are there. */
	libraries: boolean;
	redis: string | null;
	gubernator: string | null;
	/** Python with Prefect. */
	prefect: string | null;
	/** Why each that is null is not there. */
	missing: Record<string, string>;
}

/** Installs what is not there yet. `short`: takes only what is there already. */
export function installed(short: boolean, progress: (doing: string) => void): Installed {
	const missing: Record<string, string> = {};
	const attempt = <T>(name: string, action: () => T): T | null => {
		try {
			return action();
		} catch (error) {
			missing[name] = (error instanceof Error ? error.message : String(error)).split("\n")[0] as string;
			return null;
		}
	};
	if (short) {
		for (const name of ["libraries", "redis", "gubernator", "prefect"]) missing[name] = "not in the short form";
		return { libraries: false, redis: null, gubernator: null, prefect: null, missing };
	}
	return {
		libraries: attempt("libraries", () => libraries(progress)) ?? false,
		redis: attempt("redis", () => {
			const found = onPath("redis-server");
			if (found === null) throw new Error("`redis-server` is not installed (`apt-get install redis-server`)");
			return found;
		}),
		gubernator: attempt("gubernator", () => gubernator(progress)),
		prefect: attempt("prefect", () => {
			progress("Prefect, into an environment of its own if there is none");
			return pythonWith(REQUIREMENTS);
		}),
		missing,
	};
}

function onPath(program: string): string | null {
	const folders = `${process.env.PATH}:/usr/sbin`.split(":");
	return folders.map((each) => path.join(each, program)).find(existsSync) ?? null;
}

function libraries(progress: (doing: string) => void): true {
	const lock = readFileSync(path.join(folder, "package-lock.json"));
	const digest = createHash("sha256").update(lock).digest("hex");
	const done = path.join(folder, "node_modules/.installed");
	if (existsSync(done) && readFileSync(done, "utf8") === digest) return true;
	progress("installing the libraries of bench/peers/package.json");
	const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
	execFileSync("npm", args, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
	writeFileSync(done, digest);
	return true;
}

function gubernator(progress: (doing: string) => void): string {
	const file = path.join(programs, GUBERNATOR.split("@")[1] as string, "gubernator");
	if (existsSync(file)) return file;
	if (onPath("go") === null) throw new Error("`go` is not installed, which builds it");
	progress("building gubernator, which takes some minutes");
	mkdirSync(path.dirname(file), { recursive: true });
	execFileSync("go", ["install", GUBERNATOR], {
		env: { ...process.env, GOBIN: path.dirname(file) },
		stdio: ["ignore", "ignore", "pipe"],
	});
	return file;
}
