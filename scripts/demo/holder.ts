/** A program that takes all slots of a limit and is killed while it has them. */

import { Headgate } from "../../src/client/index.ts";

export interface Holding {
	url: string;
	name: string;
	slots: number;
	/** A lease that the library renews, or a stream that is held open, as `curl -N` would. */
	as: "lease" | "stream";
	leaseSeconds: number;
}

process.once("disconnect", () => process.exit());
process.on("message", async ({ url, name, slots, as, leaseSeconds }: Holding) => {
	if (as === "lease") {
		const gate = new Headgate({ url });
		await gate.acquire(name, { occupy: slots, leaseSeconds, holder: "to be killed" });
	} else {
		const response = await fetch(`${url}/v1/acquire`, {
			method: "POST",
			headers: { "Content-Type": "application/json", Accept: "application/x-ndjson" },
			body: JSON.stringify({ names: name, occupy: slots, hold: true, holder: "to be killed" }),
		});
		const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
		for (let text = ""; !text.includes('"event":"granted"'); ) {
			const line = await reader?.read();
			if (line?.value === undefined) throw new Error(`The stream ended without a grant: ${text}`);
			text += line.value;
		}
	}
	process.send?.("holding");
});
