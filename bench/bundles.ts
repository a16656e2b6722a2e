/**
 * Thousands of callers in a process of their own, a hundred to a connection: `bundle/worker.ts` carries the stream of each. When
 * the process ends, so do they.
 */

import type { Bundle } from "./bundle/bundle.ts";
import { openSocket, request } from "./http.ts";

export interface Bundles {
	url: string;
	name: string;
	count: number;
	/** Whether each holds a slot by its stream, or waits for one. */
	as: "holder" | "waiter";
}

/** Streams of one connection. */
const EACH = 100;
/** Connections on their way at the same time; with more, the server's one thread would be busy without a gap. */
const JOINING = 2;
const WAIT_SECONDS = 3_600;

async function run({ url, name, count, as }: Bundles): Promise<void> {
	let next = 0;
	const open = async (): Promise<void> => {
		for (let from = next; from < count; from = next) {
			next = Math.min(count, from + EACH);
			const wish = as === "holder" ? { hold: true } : { waitSeconds: WAIT_SECONDS };
			const asks = Array.from({ length: next - from }, (_, at) => ({
				...{ id: `${as}-${process.pid}-${from + at}`, names: name, ...wish },
			}));
			await carried(url, { asks, event: as === "holder" ? "granted" : "queued" });
		}
	};
	await Promise.all(Array.from({ length: JOINING }, open));
}

/** Resolves when each of them is where it is to be. */
async function carried(url: string, bundle: Bundle): Promise<void> {
	const socket = await openSocket(url);
	socket.setEncoding("latin1");
	socket.on("error", () => undefined);
	socket.write(request("POST", "/bundle", bundle));
	await new Promise<void>((resolve, reject) => {
		let text = "";
		socket.on("data", (chunk: string) => {
			text += chunk;
			if (text.includes("all are there")) resolve();
			else if (text.includes("failed: ")) reject(new Error(text));
		});
		socket.on("close", () => reject(new Error(`A connection ended: ${text}`)));
	});
}

process.on("message", (bundles: Bundles) => {
	process.once("disconnect", () => process.exit());
	run(bundles).then(
		() => process.send?.({ news: "joined" }),
		(error: unknown) => process.send?.({ news: "failed", why: String(error) }),
	);
});
