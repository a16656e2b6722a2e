/**
 * The Worker as it is, but for objects that count what Cloudflare bills: rows that statements write, alarms that are set, which
 * are a row each, and alarms that ring. `POST /counts` answers the sum over all of them, and begins anew.
 */

import { DirectoryObject as PlainDirectory } from "../../src/server/directory/directory-object.ts";
import { LimitObject as PlainLimit } from "../../src/server/limit/limit-object.ts";
import service from "../../src/server/worker.ts";

export { HeadgateService } from "../../src/server/front/rpc/entrypoint.ts";

interface Counts {
	rows: number;
	alarms: number;
	rang: number;
	/** Calls that reached an object. */
	requests: number;
}

const none = (): Counts => ({ rows: 0, alarms: 0, rang: 0, requests: 0 });
/** All objects of a local server share one isolate. */
let counts = none();

/** Counts by the classes of the storage, for each object has another one. */
function countRows(storage: DurableObjectStorage): void {
	const sql = Object.getPrototypeOf(storage.sql) as SqlStorage & { counted?: true };
	if (sql.counted) return;
	sql.counted = true;
	const { exec } = sql;
	sql.exec = function (this: SqlStorage, ...args: Parameters<typeof exec>) {
		const cursor = exec.apply(this, args);
		counts.rows += cursor.rowsWritten;
		return cursor;
	} as typeof exec;
	const disk = Object.getPrototypeOf(storage) as DurableObjectStorage;
	const { setAlarm, deleteAlarm } = disk;
	disk.setAlarm = function (this: DurableObjectStorage, ...args: Parameters<typeof setAlarm>) {
		counts.alarms += 1;
		return setAlarm.apply(this, args);
	};
	disk.deleteAlarm = function (this: DurableObjectStorage, ...args: Parameters<typeof deleteAlarm>) {
		counts.alarms += 1;
		return deleteAlarm.apply(this, args);
	};
}

/** Every method of an object that a Worker calls is a request. */
function countCalls(of: { prototype: object }): void {
	const methods = of.prototype as Record<string, (...args: unknown[]) => unknown>;
	for (const name of Object.getOwnPropertyNames(methods)) {
		// `acquire` is what the texts come to, within the same call.
		if (name === "constructor" || name === "acquire" || name === "alarm") continue;
		const run = methods[name] as (...args: unknown[]) => unknown;
		methods[name] = function (...args: unknown[]) {
			counts.requests += 1;
			return run.apply(this, args);
		};
	}
}
countCalls(PlainLimit);
countCalls(PlainDirectory);

export class LimitObject extends PlainLimit {
	constructor(...args: ConstructorParameters<typeof PlainLimit>) {
		countRows(args[0].storage);
		super(...args);
	}

	override alarm(): Promise<void> {
		counts.rang += 1;
		return super.alarm();
	}
}

export class DirectoryObject extends PlainDirectory {
	constructor(...args: ConstructorParameters<typeof PlainDirectory>) {
		countRows(args[0].storage);
		super(...args);
	}
}

export default {
	async fetch(request, env, ctx): Promise<Response> {
		if (new URL(request.url).pathname !== "/counts") return service.fetch(request, env, ctx);
		const told = counts;
		counts = none();
		return Response.json(told);
	},
} satisfies ExportedHandler<Parameters<typeof service.fetch>[1]>;
