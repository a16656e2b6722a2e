/** Thousands of leases that live by their streams, in a process of its own: when it ends, so do they. */

import { openSocket, request } from "./http.ts";

export interface Holders {
	url: string;
	name: string;
	count: number;
}

/** Streams that may be on their way at the same time. */
const JOINING = 16;

async function run({ url, name, count }: Holders): Promise<void> {
	let next = 0;
	const open = async (): Promise<void> => {
		for (let at = next++; at < count; at = next++) {
			const socket = await openSocket(url);
			socket.setEncoding("latin1");
			socket.on("error", () => undefined);
			const body = { id: `held-${process.pid}-${at}`, names: name, hold: true };
			socket.write(request("POST", "/v1/acquire", body, { Accept: "application/x-ndjson" }));
			await new Promise<void>((resolve, reject) => {
				let text = "";
				socket.on("data", (chunk: string) => {
					if (text.length > 2_000) return;
					text += chunk;
					if (text.includes('"event":"granted"')) resolve();
					else if (text.includes('"status":')) reject(new Error(text));
				});
				socket.on("close", () => reject(new Error(`A stream ended: ${text}`)));
			});
		}
	};
	await Promise.all(Array.from({ length: JOINING }, open));
}

process.on("message", (holders: Holders) => {
	process.once("disconnect", () => process.exit());
	run(holders).then(
		() => process.send?.({ news: "joined" }),
		(error: unknown) => process.send?.({ news: "failed", why: String(error) }),
	);
});
