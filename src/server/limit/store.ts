/**
 * What one limit keeps on its disk: its own numbers, its live requests, the ids that it remembers and what it did lately.
 * Written from events; nothing else decides what is stored. A commit is one row of a ring (`ring.ts`), which says what
 * changed and, of the oldest rows, what is still true.
 */

import type { Event } from "../../core/commands.ts";
import { History, rebuildSample, SAMPLES, type SavedSample, saveSample } from "../../core/history.ts";
import type { Ended, Entry, Limit } from "../../core/limit.ts";
import { REMEMBER_MS } from "../../core/patience.ts";
import { rebuild, type SavedEntry, type SavedLimit, saveEntry, saveLimit } from "../../core/saved.ts";
import type { At, Ms } from "../../core/time.ts";
import type { Totals } from "../../core/totals.ts";
import { BOUNDS, type Origin, type Region } from "../../protocol.ts";
import { NewerDataError } from "../contract/schema.ts";
import { type Alike, Remembered, type SavedAlike } from "./remembered.ts";
import { RING_VERSION, Ring, type Written } from "./ring.ts";
import { dropTables, readTables, type Tabled } from "./tables.ts";

/** What a limit is, apart from its state. */
export interface Identity {
	name: string;
	id: string;
	origin: Origin;
	/** The pattern of the policy that it follows, or whose settings its own override. */
	policy: string | null;
	/** The version of the policies that its settings were taken from. */
	version: number;
	/** How long it is kept when it is idle and empty; null: for ever. */
	idleMs: Ms | null;
	createdAt: At;
	/** Since when it has its settings; once deleted, when that was. */
	updatedAt: At;
	/** The token that set them. */
	updatedBy: string | null;
	/** Where its object was asked to live. */
	region: Region | null;
	/** False once it was deleted and only waits for the directory to hear of it. */
	alive: boolean;
	/** Whether the directory is to know of it: keys of a policy that are used once or twice are not worth a write. */
	listed: boolean;
	/** Whether the directory knows what it is to know. */
	reported: boolean;
	/** When the directory that knows it began; 0 or left out: before that was noted. */
	since?: At;
	/** Of its totals, what others were told to add up, and when. */
	told?: { at: At; totals: Totals };
}

/** What the identity of a limit says that was stored before these fields came. */
const EARLIER = { policy: null, version: 0, updatedBy: null, region: null, listed: true };
const earlierIdleMs = (origin: Origin): Ms | null =>
	origin === "configured" ? null : origin === "policy" ? 300_000 : 86_400_000;

export const SCHEMA_VERSION = RING_VERSION;

/** Nothing is stored of a limit that the directory knows, or not all of it. */
export class DamagedDataError extends Error {
	override readonly name = "DamagedDataError";
}

/** Nothing is stored. */
export const lostData = (name: string): DamagedDataError =>
	new DamagedDataError(
		`The data of the limit "${name}" is lost: its file is empty or gone, though the directory knows the limit. ` +
			"It is refused, for nobody knows who holds its slots. Restore the file from a copy and start again, or delete the limit.",
	);

/** What is stored does not fit together. */
const tornData = (why: string): DamagedDataError =>
	new DamagedDataError(
		`The data of this limit is torn: ${why}. It is refused, for nobody knows who holds its slots. ` +
			"Restore its file from a copy and start again.",
	);

/** Counters of denials alone are written this much later, so that a denial costs no write. */
const SOON_MS = 1_000;
/**
 * The rows that are needed take up to twice what it takes to say the whole state once, and this many characters more: each
 * commit says again about as much as it adds, and a limit of which little is known has some thirty rows.
 */
const SPARE_SIZE = 32_768;
/**
 * What a commit says again at most, beside twice its own size, and that up to the second number; with the request, or the ids
 * that ended alike, in the middle of which it is reached. A millisecond's work, and two.
 */
const CARRIED_SIZE = 32_768;
const CARRIED_MORE_SIZE = 98_304;
/** To look at something that is not true any more counts as so many characters of work. */
const LOOKED_AT_SIZE = 16;
/** A row is no longer than this, of which a character takes up to three bytes: a value may have two million of them. */
const ROW_SIZE = 500_000;

/** What a row says, of what there may be many: each may stand in any row. */
interface Changes {
	/** Requests that are, as they are. */
	put?: SavedEntry[];
	/** Ids of requests that are no more. */
	gone?: string[];
	ended?: SavedAlike[];
	samples?: SavedSample[];
	/** One at most. */
	identity?: Omit<Identity, keyof typeof EARLIER | "idleMs">[];
	/** Whatever was said before is not true any more: of requests, or of the limit of this name. */
	over?: ("requests" | "limit")[];
}
type Part = keyof Changes;

/** What a row holds that a later one may have to say again. */
interface Contents {
	entries: string[];
	ended: Alike[];
	/** When these samples start. */
	samples: At[];
	identity: boolean;
}

/** A row on its way. */
class Draft {
	readonly contents: Contents = { entries: [], ended: [], samples: [], identity: false };
	size = 0;
	readonly #parts = new Map<Part, string[]>();

	add(part: Part, text: string): void {
		const texts = this.#parts.get(part);
		if (texts) texts.push(text);
		else this.#parts.set(part, [text]);
		this.size += text.length + 1;
	}

	toString(): string {
		return `{${[...this.#parts].map(([part, texts]) => `"${part}":[${texts.join(",")}]`).join(",")}}`;
	}
}

/** Where something is said that is true, and in how many characters. */
interface Place {
	row: number;
	size: number;
}

/** The limit's own numbers, as each row has them. */
interface State extends SavedLimit {
	sample?: SavedSample;
	usedAt: At;
}

/** A limit as it was stored. */
export interface Stored {
	identity: Identity;
	limit: Limit;
	usedAt: At;
}

/** What was found when the object woke. */
type Found = { identity: Identity; state: State; entries: SavedEntry[] };

export class LimitStore {
	readonly #storage: Pick<DurableObjectStorage, "sql" | "transactionSync">;
	readonly #ring: Ring<Contents>;
	/** Whether there is a table, and of which kind. */
	#table: "none" | "old" | "ring" = "none";
	#limit: Limit | null = null;
	#identity: Identity | null = null;
	#usedAt: At = 0;
	/** The offset of the limit's clock as it is stored. */
	#offsetMs: Ms = 0;
	readonly #remembered = new Remembered();
	/** What the limit did lately; the sample being taken is in each row, each that ended is said once. */
	#history: History | null = null;
	readonly #samples = new Map<At, Place & { text: string }>();
	/** Requests that are stored. */
	readonly #entries = new Map<string, Place & { seq: number }>();
	#entriesSize = 0;
	#identityPlace: Place = { row: 0, size: 0 };
	#stateSize = 0;

	/** What the next row is to say. */
	readonly #touched = new Set<string>();
	#over: "requests" | "limit" | null = null;
	#tellsIdentity = false;
	#isDue = false;
	#drafts: Draft[] = [];
	/** A row is written when all of that is done. */
	#isTogether = false;
	/** A write failed: what is known here of the rows is not what they are, so there is no other one. */
	#failed: { error: unknown } | null = null;
	#timer: ReturnType<typeof setTimeout> | null = null;

	constructor(storage: Pick<DurableObjectStorage, "sql" | "transactionSync">) {
		this.#storage = storage;
		this.#ring = new Ring(storage.sql);
	}

	// -------------------------------------------------------------------------------------------- waking

	/**
	 * The limit as it was stored; null when there is none. An error where the data is of a newer version, or torn: it is left
	 * alone.
	 */
	load(now: At): Stored | null | NewerDataError | DamagedDataError {
		try {
			const found = this.#find();
			if (!found) return null;
			const { identity, state, entries } = found;
			this.#identity = identity;
			this.#usedAt = state.usedAt;
			this.#offsetMs = state.clock.offsetMs;
			this.#history = new History(state.totals, state.sample ? rebuildSample(state.sample) : null, this.#savedSamples);
			this.#limit = rebuild(state, entries, now, this.recall);
			if (this.#table === "old") this.#moveIntoRing();
			return { identity, limit: this.#limit, usedAt: state.usedAt };
		} catch (error) {
			if (error instanceof NewerDataError || error instanceof DamagedDataError) return error;
			throw error;
		}
	}

	#find(): Found | null {
		const { sql } = this.#storage;
		const tables = sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema'");
		if (tables.toArray().length === 0) return null;
		const { version } = sql.exec<{ version: number | null }>("SELECT max(version) AS version FROM schema").one();
		if (version !== null && version > SCHEMA_VERSION) throw new NewerDataError(version, SCHEMA_VERSION);
		this.#table = version === null || version < RING_VERSION ? "old" : "ring";
		if (this.#table === "ring") return this.#readRing();
		const tabled = readTables(sql);
		return tabled && this.#adopt(tabled);
	}

	#readRing(): Found {
		const entries = new Map<string, SavedEntry>();
		let identity: Identity | undefined;
		const contentsOf = ({ number, changes }: Written): Contents => {
			const {
				over = [],
				gone = [],
				put = [],
				ended = [],
				samples = [],
				identity: [said] = [],
			} = parse(changes, number);
			if (over.length > 0) {
				entries.clear();
				this.#entries.clear();
			}
			if (over.includes("limit")) {
				this.#samples.clear();
				this.#remembered.begin();
			}
			for (const id of gone) {
				entries.delete(id);
				this.#entries.delete(id);
			}
			// How much of the row each of them takes is not worth a look at each.
			const size = Math.min(MEAN_ENTRY_SIZE, Math.ceil(changes.length / (put.length || 1)));
			for (const entry of put) {
				entries.set(entry.id, entry);
				this.#entries.set(entry.id, { row: number, size, seq: entry.seq });
			}
			for (const sample of samples) this.#placeSample(number, sample);
			if (said) {
				identity = completed(said);
				this.#identityPlace = { row: number, size: JSON.stringify(said).length };
			}
			return {
				entries: put.map(({ id }) => id),
				ended: ended.map((alike) => this.#remembered.load(alike, number)),
				samples: samples.map(([startsAt = 0]) => startsAt),
				identity: said !== undefined,
			};
		};
		const text = this.#ring.read(contentsOf, tornData);
		if (text === null || !identity) throw tornData("it has no row that says whose it is");
		for (const { size } of this.#entries.values()) this.#entriesSize += size;
		this.#stateSize = text.length;
		const inOrder = [...entries.values()].sort((a, b) => a.seq - b.seq);
		return { identity, state: parse(text, this.#ring.next - 1), entries: inOrder };
	}

	/** What an earlier version stored is to be said by the ring's first row. */
	#adopt({ identity: said, state, usedAt, entries, ended, samples }: Tabled): Found {
		const identity = completed(said as Omit<Identity, keyof typeof EARLIER | "idleMs">);
		// Those of a limit of this name that was deleted come first, and are then of one before.
		const isBefore = ({ limitId }: { limitId?: string }): boolean => (limitId ?? identity.id) !== identity.id;
		for (const record of ended) if (isBefore(record)) this.#remembered.add(record);
		this.#remembered.begin();
		for (const record of ended) if (!isBefore(record)) this.#remembered.add(record);
		for (const sample of samples) this.#placeSample(0, sample);
		for (const { id } of entries) this.#touched.add(id);
		return { identity, state: { ...state, usedAt }, entries };
	}

	#moveIntoRing(): void {
		this.together(() => {
			this.#makeRing();
			this.#tellsIdentity = this.#isDue = true;
			for (const [startsAt, { text }] of this.#samples) this.#saySample(startsAt, text);
		});
	}

	#makeRing(): void {
		if (this.#table === "ring") return;
		if (this.#table === "old") dropTables(this.#storage.sql);
		this.#ring.create();
		this.#table = "ring";
	}

	// -------------------------------------------------------------------------------------------- writing

	/** Everything that `work` writes is one row, and one transaction. */
	together<T>(work: () => T): T {
		if (this.#isTogether) return work();
		if (this.#failed) throw this.#failed.error;
		this.#isTogether = true;
		try {
			return this.#storage.transactionSync(() => {
				const done = work();
				if (this.#isDue) this.#write();
				return done;
			});
		} catch (error) {
			this.#failed = { error };
			throw error;
		} finally {
			this.#isTogether = false;
		}
	}

	create(identity: Identity, limit: Limit, usedAt: At): void {
		this.#makeRing();
		this.#over = "limit";
		this.#remembered.begin();
		this.#dropEntries();
		this.#samples.clear();
		this.#history = new History(limit.totals);
		this.#limit = limit;
		this.#usedAt = usedAt;
		this.#offsetMs = limit.clock.offsetMs;
		this.writeIdentity(identity);
	}

	/** What this limit remembers of an ended id. Asked only for ids that a caller chose. */
	readonly recall = (id: string): Ended | undefined => this.#remembered.recall(id, false);

	/** What is remembered of an ended id: by the `last` limit of this name, or by one that was deleted `before` it. */
	recallOf(id: string, whose: "last" | "before"): Ended | undefined {
		return this.#remembered.recall(id, whose === "before");
	}

	/** Whether there is room to remember one more id, beside those of so many live requests. */
	hasRoom(live: number, now: At): boolean {
		if (this.#remembered.count + live < BOUNDS.rememberedIds) return true;
		this.#remembered.forget(now);
		return this.#remembered.count + live < BOUNDS.rememberedIds;
	}

	/** Remembers the ids that ended, so that the next decision of the same commit recalls them. */
	remember(events: Event[]): void {
		for (const event of events) {
			if (event.kind !== "ended") continue;
			const { record } = event;
			// One that came before its request, if there is one: while there is no room the request is refused in any case.
			const isAhead = record.kind === "cancelled" && record.slots === 0;
			if (!isAhead || this.hasRoom(0, record.until - REMEMBER_MS)) this.#remembered.add(record);
		}
	}

	/** Writes what else `events` changed, and the limit's own numbers if anything did. Answers whether anything did. */
	write(limit: Limit, events: Event[], now: At): boolean {
		let changed = false;
		for (const event of events) {
			const writes = writesRow(event);
			if (writes) changed = true;
			if (event.kind === "configured") continue;
			// What is stored may be an earlier request of this id.
			const place = writes ? undefined : this.#entries.get(event.id);
			const isOver = place !== undefined && limit.entries.get(event.id)?.seq !== place.seq;
			if (isOver) changed = true;
			if (isOver || writes) this.#touched.add(event.id);
		}
		// A clock that was set back is told by no event, but time must run on from there after a restart too.
		if (limit.clock.offsetMs !== this.#offsetMs) changed = true;
		if (!changed) return false;
		this.#limit = limit;
		this.#usedAt = now;
		this.#offsetMs = limit.clock.offsetMs;
		this.#remembered.forget(now);
		this.#due();
		return true;
	}

	/** What the limit did lately; there is one for as long as there is a limit. */
	get history(): History {
		if (!this.#history) throw new Error("A limit has a history from the moment it exists.");
		return this.#history;
	}

	/** Writes a moment later, with whatever else is written by then, what alone is not worth a write. */
	writeSoon(): void {
		this.#timer ??= setTimeout(() => {
			this.#timer = null;
			if (this.#identity?.alive) this.#due();
		}, SOON_MS);
	}

	writeIdentity(identity: Identity, when: "now" | "soon" = "now"): void {
		this.#identity = identity;
		this.#tellsIdentity = true;
		if (when === "soon") this.writeSoon();
		else this.#due();
	}

	/** When the last of the remembered ids is over; null: none is remembered. */
	idsUntil(now: At): At | null {
		this.#remembered.forget(now);
		return this.#remembered.lastAt;
	}

	/** Ids that are in memory, of which some may be over. */
	get inMemory(): number {
		return this.#remembered.count;
	}

	/** Every id that is remembered. */
	remembered(): Ended[] {
		return [...this.#remembered.all()];
	}

	/** No request is stored any more. */
	dropEntries(): void {
		this.#over ??= "requests";
		this.#dropEntries();
		this.#due();
	}

	/** After the storage was deleted as a whole. */
	forget(): void {
		if (this.#timer) clearTimeout(this.#timer);
		this.#timer = null;
		this.#dropEntries();
		this.#samples.clear();
		this.#remembered.clear();
		this.#ring.clear();
		this.#limit = this.#identity = null;
		this.#isDue = this.#tellsIdentity = false;
		this.#over = null;
		this.#table = "none";
	}

	// ----------------------------------------------------------------------------------------- saying it

	#due(): void {
		this.#isDue = true;
		if (!this.#isTogether) this.together(() => undefined);
	}

	#write(): void {
		const limit = this.#limit;
		if (!limit) throw new Error("There is no limit to write.");
		this.#isDue = false;
		if (this.#timer) clearTimeout(this.#timer);
		this.#timer = null;
		if (this.#over) this.#say("over", `"${this.#over}"`);
		this.#over = null;
		if (this.#tellsIdentity) this.#sayIdentity();
		for (const id of this.#touched) {
			const entry = limit.entries.get(id);
			if (entry) this.#sayEntry(limit, entry);
			else if (this.#forgetEntry(id)) this.#say("gone", JSON.stringify(id));
		}
		this.#touched.clear();
		for (const alike of this.#remembered.takeUnsaved()) this.#sayEnded(alike);
		for (const sample of this.history.takeUnsaved())
			this.#saySample(sample.startsAt, JSON.stringify(saveSample(sample)));
		const state = this.#stateText(limit);
		this.#stateSize = state.length;
		this.#carry(limit);
		const drafts = this.#drafts.length > 0 ? this.#drafts : [new Draft()];
		this.#drafts = [];
		for (const draft of drafts) this.#ring.append(state, draft.toString(), draft.contents);
	}

	#stateText(limit: Limit): string {
		const { open } = this.history;
		const state: State = {
			...saveLimit(limit),
			...(open && { sample: saveSample(open) }),
			usedAt: this.#usedAt,
		};
		return JSON.stringify(state);
	}

	/** What is still true of the oldest rows is said again, so that they are not needed any more. */
	#carry(limit: Limit): void {
		const added = this.#drafts.reduce((sum, { size }) => sum + size, this.#stateSize);
		let left = CARRIED_SIZE + Math.min(2 * added, CARRIED_MORE_SIZE);
		for (let row = this.#ring.oldest; row && left > 0 && this.#isLong(added); row = this.#ring.oldest) {
			const { number, contents } = row;
			// What a long row holds is said again by several commits, and taken out of what it is known to hold.
			const { entries, ended, samples } = contents;
			while (left > 0 && entries.length > 0) {
				const id = entries.pop() as string;
				const entry = this.#entries.get(id)?.row === number ? limit.entries.get(id) : undefined;
				left -= entry ? this.#sayEntry(limit, entry) : LOOKED_AT_SIZE;
			}
			while (left > 0 && ended.length > 0) {
				const alike = ended.pop() as Alike;
				left -= alike.row === number ? this.#sayEnded(alike) : LOOKED_AT_SIZE;
			}
			if (entries.length + ended.length > 0) break;
			for (const startsAt of samples) {
				const sample = this.#samples.get(startsAt);
				if (sample?.row === number) left -= this.#saySample(startsAt, sample.text);
			}
			if (contents.identity && this.#identityPlace.row === number) this.#sayIdentity();
			left -= LOOKED_AT_SIZE;
			this.#ring.drop();
		}
	}

	/** Whether the ring would be longer than it should. */
	#isLong(added: number): boolean {
		const samples = this.#samples.size * MEAN_SAMPLE_SIZE;
		const once = this.#entriesSize + this.#remembered.size + samples + this.#identityPlace.size + this.#stateSize;
		return this.#ring.size + added > 2 * once + SPARE_SIZE;
	}

	/** Answers the number of the row that says it. */
	#say(part: Part, text: string): { row: number; contents: Contents } {
		let draft = this.#drafts.at(-1);
		if (!draft || draft.size + text.length > ROW_SIZE) {
			draft = new Draft();
			this.#drafts.push(draft);
		}
		draft.add(part, text);
		return { row: this.#ring.next + this.#drafts.length - 1, contents: draft.contents };
	}

	#sayEntry(limit: Limit, entry: Entry): number {
		const text = JSON.stringify(saveEntry(limit, entry));
		const { row, contents } = this.#say("put", text);
		contents.entries.push(entry.id);
		const place = this.#entries.get(entry.id);
		this.#entriesSize += text.length - (place?.size ?? 0);
		if (place) {
			place.row = row;
			place.size = text.length;
			place.seq = entry.seq;
		} else {
			this.#entries.set(entry.id, { row, size: text.length, seq: entry.seq });
		}
		return text.length;
	}

	/** Answers whether it was stored. */
	#forgetEntry(id: string): boolean {
		this.#entriesSize -= this.#entries.get(id)?.size ?? 0;
		return this.#entries.delete(id);
	}

	#sayEnded(alike: Alike): number {
		const saved = this.#remembered.save(alike);
		if (!saved) return LOOKED_AT_SIZE;
		const text = JSON.stringify(saved);
		const { row, contents } = this.#say("ended", text);
		contents.ended.push(alike);
		alike.row = row;
		return text.length;
	}

	#saySample(startsAt: At, text: string): number {
		const { row, contents } = this.#say("samples", text);
		contents.samples.push(startsAt);
		this.#samples.set(startsAt, { row, size: text.length, text });
		if (this.#samples.size > SAMPLES) this.#samples.delete(Math.min(...this.#samples.keys()));
		return text.length;
	}

	#sayIdentity(): void {
		const text = JSON.stringify(this.#identity);
		const { row, contents } = this.#say("identity", text);
		contents.identity = true;
		this.#identityPlace = { row, size: text.length };
		this.#tellsIdentity = false;
	}

	#placeSample(row: number, sample: SavedSample): void {
		const text = JSON.stringify(sample);
		this.#samples.set(sample[0] ?? 0, { row, size: text.length, text });
	}

	readonly #savedSamples = () =>
		[...this.#samples.values()].map(({ text }) => rebuildSample(JSON.parse(text) as SavedSample));

	#dropEntries(): void {
		this.#entries.clear();
		this.#entriesSize = 0;
		this.#touched.clear();
	}
}

/** What a row that was read counts for, until it is written again. */
const MEAN_ENTRY_SIZE = 250;
const MEAN_SAMPLE_SIZE = 80;

const completed = (said: Omit<Identity, keyof typeof EARLIER | "idleMs">): Identity => ({
	...EARLIER,
	idleMs: earlierIdleMs(said.origin),
	...said,
});

function parse<T = Changes>(text: string, number: number): T {
	try {
		return JSON.parse(text) as T;
	} catch {
		throw tornData(`row ${number} is broken`);
	}
}

/** Whether an event changes what a row must say. Rows of entries that are gone are dropped whatever the event. */
function writesRow(event: Event): boolean {
	switch (event.kind) {
		case "granted":
			return !event.repeat;
		case "queued":
		case "parked":
		case "renewed":
		case "rewritten":
		case "ended":
		case "configured":
			return true;
		// A reservation that is lost with the object's memory is asked for again by its coordinator.
		case "reserved":
		case "denied":
		case "left":
		case "gone":
		case "released":
		// What was settled has ended, which is said by itself.
		case "settled":
		case "doubted":
		case "vouched":
		// What changed of a loan that goes on is told beside it.
		case "lent":
		case "repaid":
			return false;
		default:
			return event satisfies never;
	}
}
