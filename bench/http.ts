/**
 * HTTP/1.1 over bare sockets, for measuring: a call costs a write and a scan for the end of its answer. `fetch`
 * spends more time on a call than the server does, and would measure itself.
 */

import { connect, type Socket } from "node:net";

export interface Answer {
	status: number;
	body: string;
}

/** The bytes of a request; made once and sent often. */
export function request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): string {
	const json = body === undefined ? "" : JSON.stringify(body);
	const all = {
		Host: "localhost",
		...(body !== undefined && { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(json) }),
		...headers,
	};
	const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
	return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${json}`;
}

export function openSocket(url: string): Promise<Socket> {
	const { hostname, port } = new URL(url);
	return new Promise((resolve, reject) => {
		const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => {
			socket.off("error", reject);
			resolve(socket);
		});
		socket.once("error", reject);
	});
}

/** One connection that is kept open, for one call at a time. */
export class Connection {
	readonly #socket: Socket;
	#received = "";
	#closed = false;
	#settle: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | null = null;

	private constructor(socket: Socket) {
		this.#socket = socket;
		socket.setEncoding("latin1");
		socket.on("data", (chunk: string) => this.#take(chunk));
		socket.on("error", (error) => this.#fail(error));
		socket.on("close", () => this.#fail(new Error("the connection was closed")));
	}

	static async open(url: string): Promise<Connection> {
		return new Connection(await openSocket(url));
	}

	call(bytes: string): Promise<Answer> {
		return new Promise((resolve, reject) => {
			// workerd closes a connection that was quiet for a while, and a closed socket takes a write without a word.
			if (this.#closed) reject(new Error("the connection was closed"));
			this.#settle = { resolve, reject };
			this.#socket.write(bytes);
		});
	}

	close(): void {
		this.#socket.destroy();
	}

	#take(chunk: string): void {
		this.#received += chunk;
		const headEnd = this.#received.indexOf("\r\n\r\n");
		if (headEnd < 0) return;
		const head = this.#received.slice(0, headEnd);
		const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
		// Nothing that is measured here answers in chunks.
		if (length === undefined) {
			this.#fail(new Error(`an answer without a length: ${head}`));
			return;
		}
		const bodyEnd = headEnd + 4 + Number(length);
		if (this.#received.length < bodyEnd) return;
		const answer = { status: Number(head.slice(9, 12)), body: this.#received.slice(headEnd + 4, bodyEnd) };
		this.#received = this.#received.slice(bodyEnd);
		const settle = this.#settle;
		this.#settle = null;
		settle?.resolve(answer);
	}

	#fail(error: Error): void {
		this.#closed = true;
		this.#settle?.reject(error);
		this.#settle = null;
	}
}

/** One call on a connection of its own, parsed; throws unless it was answered with 2xx. */
export async function once<T>(url: string, method: string, path: string, body?: unknown): Promise<T> {
	const response = await fetch(url + path, {
		method,
		...(body !== undefined && { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
	});
	const text = await response.text();
	if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
	return (text === "" ? undefined : JSON.parse(text)) as T;
}
