/** Processes that hold slots, by orders. */

import path from "node:path";
import { createInterface } from "node:readline";
import { type Started, started } from "./processes.ts";

export interface LimitOf {
	name: string;
	limit: number;
}

interface Answer {
	rows: unknown[];
	failed: number;
}

export interface Holder {
	/** Carries an order out; throws where that failed, or the process ended. */
	order(what: string, rest: Record<string, unknown>): Promise<Answer>;
	kill(): Promise<void>;
}

export type Program = { program: string; env: Record<string, string> } | "node";

export async function holder(which: Program): Promise<Holder> {
	const command: [string, string] =
		which === "node"
			? [process.execPath, path.join(import.meta.dirname, "holder.js")]
			: [which.program, path.join(import.meta.dirname, "holder.py")];
	const child: Started = await started(command, /^ready$/, which === "node" ? {} : which.env);
	const { stdin, stdout } = child.child;
	if (stdin === null || stdout === null) throw new Error("A holder has no pipes.");
	const waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
	createInterface({ input: stdout }).on("line", (line) => {
		if (!line.startsWith("{")) return;
		const { order, error, ...answer } = JSON.parse(line) as Answer & { order: number; error?: string };
		const asked = waiting.get(order);
		waiting.delete(order);
		if (error === undefined) asked?.resolve(answer);
		else asked?.reject(new Error(error));
	});
	child.child.once("exit", () => {
		for (const { reject } of waiting.values()) reject(new Error("a holder ended"));
	});
	let orders = 0;
	return {
		order: (what, rest) =>
			new Promise((resolve, reject) => {
				orders += 1;
				waiting.set(orders, { resolve, reject });
				stdin.write(`${JSON.stringify({ do: what, order: orders, ...rest })}\n`);
			}),
		kill: () => child.kill(),
	};
}
