/** A caller who says what it likes: bytes on a socket, and what is answered. */

import { connect } from "node:net";

export interface RawAnswer {
	/** 0: there was none. */
	status: number;
	headers: string;
	body: string;
}

/** Sends bytes as they are, and reads to the connection's end. `ends`: says that no more will come. */
export function raw(url: string, bytes: string | Buffer, { ends = false } = {}): Promise<RawAnswer> {
	const { hostname, port } = new URL(url);
	return new Promise((resolve, reject) => {
		const socket = connect(Number(port), hostname);
		let text = "";
		socket.setEncoding("latin1").on("data", (chunk: string) => {
			text += chunk;
			const end = text.indexOf("\r\n\r\n");
			if (end < 0) return;
			// A WebSocket is answered, and then stays; so does a connection on which one was refused.
			const length = Number(/^content-length: (\d+)/im.exec(text.slice(0, end))?.[1] ?? Number.NaN);
			if (text.startsWith("HTTP/1.1 101") || text.length >= end + 4 + length) socket.destroy();
		});
		socket.once("error", reject);
		socket.once("close", () => {
			const [head = "", ...rest] = text.split("\r\n\r\n");
			resolve({
				status: Number(/^HTTP\/1\.\d (\d+)/.exec(head)?.[1] ?? 0),
				headers: head,
				body: rest.join("\r\n\r\n"),
			});
		});
		if (ends) socket.end(bytes);
		else socket.write(bytes);
	});
}

/** A request as text; the connection ends with its answer. */
export function request(method: string, path: string, headers: Record<string, string>, body?: string | Buffer): Buffer {
	const content = body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
	const lines = Object.entries({ Connection: "close", ...headers }).map(([name, value]) => `${name}: ${value}`);
	const head = [`${method} ${path} HTTP/1.1`, ...lines, ...content, "", ""].join("\r\n");
	return Buffer.concat([Buffer.from(head), Buffer.from(body ?? "")]);
}
