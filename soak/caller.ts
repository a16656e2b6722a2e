/**
 * A caller that is a program, so that it can be killed and stopped: `node caller.ts <port> hold|renew <body>`. It tells what it
 * hears, a line of JSON for each.
 */

import { call, Lines, pause } from "./http.ts";

const [port = "", what = "", json = ""] = process.argv.slice(2);
const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

if (what === "hold") {
	const stream = new Lines(Number(port), JSON.parse(json));
	stream.onLine = say;
	await stream.exchange.over;
} else {
	const { body: lease } = await call(Number(port), "POST", "/v1/acquire", JSON.parse(json));
	for (;;) {
		const { status } = await call(Number(port), "POST", "/v1/renew", lease);
		if (status !== 200) {
			say({ event: "ended", status });
			break;
		}
		say({ event: "renewed" });
		await pause(200);
	}
}
