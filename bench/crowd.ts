/**
 * Thousands of waiters in a process of their own, each with a connection. They are served one by one: whoever is
 * granted slots gives them back at once, which grants the next.
 */

import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { DEFAULTS, type Lease } from "../src/protocol.ts";
import { Connection, openSocket, request } from "./http.ts";

export interface Crowd {
	url: string;
	name: string;
	count: number;
	as: "stream" | "held response";
}

export type CrowdNews =
	| { news: "joined" }
	/** `overtakes`: waiters that were granted, by the server's clock, after someone who had joined the line later. */
	| { news: "served"; overtakes: number }
	| { news: "failed"; why: string };

/**
 * Waiters that may be on their way into the line at the same time. Many more would keep the server's one thread busy
 * without a gap, and everybody else's time would be the length of that queue.
 */
const JOINING = 16;
/** Connections over which slots are given back. */
const RELEASERS = 8;
/** A held response says nothing when it joins, so each of those that join sends one in so many milliseconds. */
const HELD_PACE_MS = 16;

async function run(crowd: Crowd, tell: (news: CrowdNews) => void): Promise<void> {
	const waiters: Waiter[] = [];
	const { count } = crowd;
	const failed = (why: string): void => tell({ news: "failed", why });
	const releaser = new Releaser(crowd, failed);
	let served = 0;
	let allServed: () => void;
	const end = new Promise<void>((resolve) => {
		allServed = resolve;
	});
	const granted = (waiter: Waiter): void => {
		releaser.release(waiter.id);
		served += 1;
		if (served === count) allServed();
	};
	const join = async (): Promise<void> => {
		while (waiters.length < count) {
			const waiter = new Waiter(`waiter-${waiters.length}`, granted, failed);
			waiters.push(waiter);
			await waiter.join(crowd);
		}
	};
	await Promise.all(Array.from({ length: JOINING }, join));
	tell({ news: "joined" });
	await end;
	tell({ news: "served", overtakes: overtakes(waiters) });
	for (const waiter of waiters) waiter.close();
}

/** Nobody leaves the line before all have joined, so the place at joining is the order of arrival. */
function overtakes(waiters: Waiter[]): number {
	let latest = 0;
	let count = 0;
	for (const { grantedAt } of waiters.toSorted((a, b) => a.position - b.position)) {
		// Whoever was granted in the same millisecond was granted together.
		if (grantedAt < latest) count += 1;
		latest = Math.max(latest, grantedAt);
	}
	return count;
}

/** Gives slots back over a few connections, in the order of the grants. */
class Releaser {
	readonly #crowd: Crowd;
	readonly #failed: (why: string) => void;
	readonly #ids: string[] = [];
	#connections = 0;

	constructor(crowd: Crowd, failed: (why: string) => void) {
		this.#crowd = crowd;
		this.#failed = failed;
	}

	release(id: string): void {
		this.#ids.push(id);
		// Opened when they are needed: the server closes connections that are quiet for long.
		if (this.#connections < RELEASERS) void this.#work();
	}

	async #work(): Promise<void> {
		this.#connections += 1;
		try {
			const connection = await Connection.open(this.#crowd.url);
			for (let id = this.#ids.shift(); id !== undefined; id = this.#ids.shift()) {
				const body = { id, names: this.#crowd.name };
				const answer = await connection.call(request("POST", "/v1/release", body));
				if (answer.status !== 200) throw new Error(`a release was answered with ${answer.status}: ${answer.body}`);
			}
			connection.close();
		} catch (error) {
			this.#failed(String(error));
		}
		this.#connections -= 1;
	}
}

/** One request, from its place in the line to its grant. */
class Waiter {
	readonly id: string;
	/** In line, when it joined. */
	position = 0;
	/** By the server's clock. */
	grantedAt = 0;
	readonly #granted: (waiter: Waiter) => void;
	readonly #failed: (why: string) => void;
	#socket: Socket | null = null;
	#received = "";
	#state: "joining" | "waiting" | "served" = "joining";
	#joined: (() => void) | null = null;

	constructor(id: string, granted: (waiter: Waiter) => void, failed: (why: string) => void) {
		this.id = id;
		this.#granted = granted;
		this.#failed = failed;
	}

	/** Resolves when it has its place in line. */
	async join({ url, name, as }: Crowd): Promise<void> {
		const socket = await openSocket(url);
		this.#socket = socket;
		socket.setEncoding("latin1");
		socket.on("error", (error) => this.#failed(`${this.id}: ${error.message}`));
		socket.on("close", () => {
			if (this.#state !== "served") this.#failed(`${this.id}: the connection was closed before the grant`);
		});
		const body = { id: this.id, names: name };
		if (as === "held response") {
			socket.on("data", (chunk: string) => this.#takeAnswer(chunk));
			socket.write(request("POST", "/v1/acquire", { ...body, waitSeconds: 60 }));
			await sleep(HELD_PACE_MS);
			this.#state = "waiting";
			return;
		}
		socket.on("data", (chunk: string) => this.#takeLines(chunk));
		socket.write(request("POST", "/v1/acquire", body, { Accept: "application/x-ndjson" }));
		await new Promise<void>((resolve) => {
			this.#joined = resolve;
		});
	}

	close(): void {
		this.#socket?.destroy();
	}

	#takeAnswer(chunk: string): void {
		if (this.#state === "served") return;
		this.#received += chunk;
		if (!this.#received.startsWith("HTTP/1.1 200")) return this.#failed(`${this.id}: ${this.#received}`);
		// White space comes first, in chunks of its own; the lease is written at once, so no chunk ends within it.
		const from = this.#received.indexOf("{", this.#received.indexOf("\r\n\r\n"));
		const to = this.#received.lastIndexOf("]}");
		if (from > 0 && to > from) this.#grant(JSON.parse(this.#received.slice(from, to + 2)) as Lease);
	}

	#grant({ expiresAt }: Lease): void {
		this.grantedAt = Date.parse(expiresAt) - DEFAULTS.leaseSeconds * 1_000;
		this.#state = "served";
		this.#granted(this);
	}

	/** Reads the lines between whatever the transfer encoding puts around them. */
	#takeLines(chunk: string): void {
		if (this.#state === "served") return;
		const lines = (this.#received + chunk).split("\n");
		this.#received = lines.pop() ?? "";
		for (const line of lines) {
			if (line.startsWith('{"event":"queued"') && this.#state === "joining") {
				this.position = (JSON.parse(line) as { position: number }).position;
				this.#state = "waiting";
				this.#joined?.();
			} else if (line.startsWith('{"event":"granted"')) {
				// Whoever waits at the end of the line has been told so before.
				if (this.#state === "joining") this.#failed(`${this.id}: granted without a wait`);
				this.#grant((JSON.parse(line) as { lease: Lease }).lease);
			} else if (line.startsWith('{"event":"denied"') || line.startsWith('{"type"')) {
				this.#failed(`${this.id}: ${line}`);
			}
		}
	}
}

process.on("message", (crowd: Crowd) => {
	const tell = (news: CrowdNews): void => void process.send?.(news);
	// Whoever started the crowd may die before it is served.
	process.once("disconnect", () => process.exit());
	run(crowd, tell).catch((error: unknown) => tell({ news: "failed", why: String(error) }));
});
