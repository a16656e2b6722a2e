/**
 * The order of service: who is next of those that have their turn in the line.
 *
 * Each waiter is of a priority and of a key, whose turn it is; most are of the common key, `null`. A higher priority goes first.
 * Within one, each key has a start tag, at which its next waiter is served, and the key with the lowest tag is next, of equal ones
 * the one that began to wait first. Within a key it is first come, first served:
 *
 *     as a key begins to wait       tag = V, unless it has one that is higher      V: the highest tag that was served
 *     as one of its waiters goes    tag = tag + charge        charge = slots * price of a slot for this key
 *     as its slots come back        tag = tag + what it really took - charge
 *
 * So keys that always want slots are given, by price, the same of them; one that was away gets no credit, for V went on; and one
 * that comes with a thousand waiters moves its own tag and delays itself alone. A key without waiters is forgotten when V has
 * reached its tag, so to leave and come back gains nothing. This is start-time fair queueing, with a tag for each key in place of
 * one for each waiter: so a waiter that leaves leaves no gap, and what is corrected is felt by the very next.
 *
 * A waiter that is older than it may get while a higher priority waits is starving: every second grant is for the oldest of them,
 * and as it goes its key is charged like any other. Within the highest priority that waits the tags alone let nobody starve.
 *
 * Tags and prices are whole numbers, so that counting the places of a line gives the very order in which it is served.
 */

import { type Before, Ranked } from "./ranked.ts";
import type { At } from "./time.ts";

/** Keys without waiters that are remembered in each priority; see BOUNDS.keys. Beyond, those with the lowest tags are forgotten. */
export const KEYS_MAX = 10_000;

/** Whose turn it is: that of a key, or the common one. */
export interface Whose {
	readonly key: string | null;
	readonly priority: number;
}

export interface Waiter extends Whose {
	/** Order of arrival. */
	readonly seq: number;
	slots: number;
	/** When it arrived. */
	since: At;
	/** As long as it waits: the tag of its key, if its row is the one that says it. Once served: the one it was served at. */
	tag: number | null;
	/** What its key was charged for it, and is to be corrected; 0: nothing. */
	charge: number;
}

/** What one slot counts for when a key is charged. */
export type Price = (key: string | null) => number;

/** The waiters of one key and priority, as far as the order needs them. */
interface Line<W> {
	tag: number;
	first: W | undefined;
	/** Lines are numbered as their keys come. Of equal tags the lower is next, so that keys take turns and none is passed twice. */
	readonly number: number;
}

interface KeyLine<W> extends Line<W> {
	readonly key: string | null;
	readonly waiters: Ranked<W>;
	/** The waiter whose row says the tag. */
	bearer: W | null;
}

/** Lines that have waiters, in two orders. */
interface Lines<L> {
	/** By tag: the first is next. */
	readonly next: Ranked<L>;
	/** By the arrival of their first waiters. */
	readonly oldest: Ranked<L>;
}

interface Class<W> extends Lines<KeyLine<W>> {
	readonly priority: number;
	/** V. */
	served: number;
	/** V when slots were last free and no waiter had a turn. What was charged before that is nothing to correct. */
	rested: number;
	readonly keys: Map<string | null, KeyLine<W>>;
	/** Keys without waiters, by tag. */
	readonly idle: Ranked<KeyLine<W>>;
}

/** What a restart needs beside the rows of waiters. */
export interface SavedOrder {
	/** V of each priority in which keys are told apart. */
	served: [priority: number, tag: number][];
	/** The next grant is for a starving waiter. */
	owes?: true;
}

const seqOf = <W extends Waiter>({ first }: Line<W>): number => first?.seq ?? 0;

function newLines<L extends Line<W>, W extends Waiter>(): Lines<L> {
	const one = () => 1;
	return {
		next: new Ranked<L>((a, b) => a.tag < b.tag || (a.tag === b.tag && a.number < b.number), one),
		oldest: new Ranked<L>((a, b) => seqOf(a) < seqOf(b), one),
	};
}

/** Of the classes below the first that has waiters, the waiter that arrived first, if it did at `before` or earlier. */
function starving<L extends Line<W>, W extends Waiter>(classes: Iterable<Lines<L>>, before: At): L | undefined {
	let isBelow = false;
	let oldest: L | undefined;
	for (const { next, oldest: by } of classes) {
		if (next.count === 0) continue;
		const line = isBelow ? by.first : undefined;
		if (line && (!oldest || seqOf(line) < seqOf(oldest))) oldest = line;
		isBelow = true;
	}
	return oldest?.first && oldest.first.since <= before ? oldest : undefined;
}

const firstOf = <L>(classes: Iterable<Lines<L>>): L | undefined => {
	for (const { next } of classes) if (next.count > 0) return next.first;
	return undefined;
};

export class Order<W extends Waiter> {
	/** By priority, the highest first. */
	#classes: Class<W>[] = [];
	#owes = false;
	#numbers = 0;
	/** Lines whose tags, or whose first waiters, are not what the rows say. */
	readonly #changed = new Map<KeyLine<W>, Class<W>>();

	/** A waiter has its turn from now on. */
	add(waiter: W): void {
		const of = this.#class(waiter.priority);
		const line = this.#line(of, waiter.key);
		const isFirst = line.first === undefined || waiter.seq < line.first.seq;
		const tag = Math.max(line.tag, waiter.tag ?? 0);
		if (waiter.tag === tag) line.bearer = waiter;
		if (!isFirst && tag === line.tag) return line.waiters.add(waiter);
		this.#change(of, line, () => {
			line.waiters.add(waiter);
			if (isFirst) line.first = waiter;
			line.tag = tag;
		});
	}

	/** A waiter has its turn no more. */
	remove(waiter: W): void {
		const of = this.#class(waiter.priority);
		const line = this.#line(of, waiter.key);
		if (line.first !== waiter) {
			line.waiters.remove(waiter);
		} else {
			this.#change(of, line, () => {
				line.waiters.remove(waiter);
				line.first = line.waiters.first;
			});
		}
		if (line.bearer !== waiter) return;
		line.bearer = null;
		waiter.tag = null;
	}

	/** The one that is next. `before`: who arrived then or earlier starves, if a higher priority waits. */
	next(before: At): W | undefined {
		const owed = this.#owes ? starving(this.#classes, before) : undefined;
		return (owed ?? firstOf(this.#classes))?.first;
	}

	/** Whether a request that arrives now would be next. */
	isNext(whose: Whose, before: At): boolean {
		const first = firstOf(this.#classes);
		if (!first?.first) return true;
		if (this.#owes && starving(this.#classes, before)) return false;
		if (whose.priority !== first.first.priority) return whose.priority > first.first.priority;
		const { line, tag } = this.#look(whose);
		if (line?.first) return false;
		return tag < first.tag || (tag === first.tag && line !== undefined && line.number < first.number);
	}

	/** The key of this waiter, which is next, is charged; it leaves the line after that. */
	charge(waiter: W, priceOf: Price, before: At): void {
		const owed = starving(this.#classes, before)?.first;
		this.#owes = owed !== undefined && !(this.#owes && owed === waiter);
		const of = this.#class(waiter.priority);
		const line = this.#line(of, waiter.key);
		const isAlone = of.keys.size === 1 && waiter.key === null;
		const { tag } = line;
		const charge = waiter.slots * priceOf(waiter.key);
		if (line.bearer === waiter) line.bearer = null;
		waiter.tag = isAlone ? null : tag;
		waiter.charge = isAlone ? 0 : charge;
		this.#change(of, line, () => {
			line.tag = tag + charge;
			of.served = Math.max(of.served, tag);
		});
		this.#forget(of);
	}

	/** What was served to a key came to something else than what it was charged for. */
	correct(waiter: W, actual: number): void {
		const { charge, tag, priority, key } = waiter;
		waiter.charge = 0;
		if (charge === 0 || tag === null || actual === charge) return;
		const of = this.#class(priority);
		const known = of.keys.get(key);
		if (tag < of.rested || (!known && tag + actual <= of.served)) return;
		const line = known ?? this.#line(of, key);
		this.#change(of, line, () => {
			line.tag = known ? line.tag + actual - charge : tag + actual;
		});
		this.#forget(of);
	}

	/** A request that was granted steps back into the line, as if it had not been. */
	takeBack(waiter: W): void {
		this.correct(waiter, 0);
		waiter.tag = null;
	}

	/** Slots are free and no waiter has a turn, so no key took from another what it takes now: each begins anew. */
	rest(): void {
		for (const of of this.#classes) {
			for (const { tag } of of.idle) of.served = Math.max(of.served, tag);
			of.rested = of.served;
			this.#forget(of);
		}
		this.#owes = false;
	}

	/** No key has a tag, and no waiter is in it. */
	clear(): void {
		this.#classes = [];
		this.#changed.clear();
		this.#owes = false;
	}

	/** How many are served before this waiter, or this request if it arrived now, and their slots. */
	ahead(of: Whose & { readonly seq?: number }, priceOf: Price, before: At): Before {
		if (starving(this.#classes, before)) return this.#countAhead(of, priceOf, before);
		const { seq = Number.POSITIVE_INFINITY } = of;
		const { line: own, tag, lines } = this.#look(of);
		const number = own?.number ?? Number.POSITIVE_INFINITY;
		const sum = { count: 0, size: 0 };
		const add = ({ count, size }: Before): void => {
			sum.count += count;
			sum.size += size;
		};
		for (const each of this.#classes) {
			if (each.priority <= of.priority) break;
			for (const { waiters } of each.next) add(waiters);
		}
		const ofKey = own?.waiters.countWhile((each) => each.seq < seq) ?? { count: 0, size: 0 };
		add(ofKey);
		const servedAt = tag + ofKey.size * priceOf(of.key);
		for (const line of lines?.next ?? []) {
			if (line.tag > servedAt) break;
			if (line === own) continue;
			const price = priceOf(line.key);
			add(
				line.waiters.countWhile((_, size) => {
					const at = line.tag + size * price;
					return at < servedAt || (at === servedAt && line.number < number);
				}),
			);
		}
		return sum;
	}

	#countAhead(of: Whose & { readonly seq?: number }, priceOf: Price, before: At): Before {
		const sum = { count: 0, size: 0 };
		const asked = of.seq === undefined ? { ...of, seq: Number.POSITIVE_INFINITY, slots: 0 } : undefined;
		for (const each of this.walk(priceOf, before, asked)) {
			if (each === asked || each.seq === of.seq) break;
			sum.count += 1;
			sum.size += each.slots;
		}
		return sum;
	}

	/** All that have their turn, in the order in which they are served if nothing changes. */
	walk(priceOf: Price, before: At): Generator<W, void, undefined>;
	/** With a request that arrives now. */
	walk<A extends Whose & { slots: number; seq: number }>(
		priceOf: Price,
		before: At,
		asked: A | undefined,
	): Generator<W | A, void, undefined>;
	*walk<A extends Whose & { slots: number; seq: number }>(
		priceOf: Price,
		before: At,
		asked?: A,
	): Generator<W | A, void, undefined> {
		type Walker = Waiter | (A & Waiter);
		interface Cursor extends Line<Walker> {
			readonly key: string | null;
			readonly rest: Iterator<Walker>;
		}
		const arriving = asked && { ...asked, since: Number.POSITIVE_INFINITY, tag: null, charge: 0 };
		const classes = new Map<number, Lines<Cursor>>();
		const begin = (priority: number, line: Pick<KeyLine<W>, "key" | "tag" | "number">, waiters: Iterable<Walker>) => {
			const lines = classes.get(priority) ?? newLines<Cursor, Walker>();
			classes.set(priority, lines);
			const rest = waiters[Symbol.iterator]();
			const { key, tag, number } = line;
			const cursor = { key, tag, number, rest, first: rest.next().value as Walker | undefined };
			lines.next.add(cursor);
			lines.oldest.add(cursor);
		};
		const { line: own, tag } = asked ? this.#look(asked) : { line: undefined, tag: 0 };
		for (const { priority, next } of this.#classes) {
			for (const line of next) {
				const isOwn = line === own && arriving !== undefined;
				begin(priority, line, isOwn ? then(line.waiters, arriving) : line.waiters);
			}
		}
		if (arriving && !own?.first) {
			const { number = Number.POSITIVE_INFINITY } = own ?? {};
			begin(arriving.priority, { key: arriving.key, tag, number }, [arriving]);
		}
		const inOrder = [...classes].sort(([a], [b]) => b - a).map(([, lines]) => lines);
		let owes = this.#owes;
		for (;;) {
			const hungry = starving<Cursor, Walker>(inOrder, before);
			const cursor = (owes ? hungry : undefined) ?? firstOf(inOrder);
			const { first } = cursor ?? {};
			if (!cursor || !first) return;
			owes = hungry !== undefined && !(owes && hungry === cursor);
			const lines = classes.get(first.priority) as Lines<Cursor>;
			lines.next.remove(cursor);
			lines.oldest.remove(cursor);
			yield (first === arriving ? asked : first) as W | A;
			cursor.tag += first.slots * priceOf(cursor.key);
			cursor.first = cursor.rest.next().value as Walker | undefined;
			if (!cursor.first) continue;
			lines.next.add(cursor);
			lines.oldest.add(cursor);
		}
	}

	/** Those whose keys wait, and how many of them and of their slots, in no order. */
	*waiting(): Generator<Whose & Before> {
		for (const { priority, next } of this.#classes) {
			for (const { key, waiters } of next) yield { priority, key, count: waiters.count, size: waiters.size };
		}
	}

	/** Waiters whose rows are to be written, for the tags of their keys changed. Where there is but one key, no row says any. */
	takeChanged(): W[] {
		if (this.#changed.size === 0) return [];
		const rows: W[] = [];
		for (const [line, of] of this.#changed) {
			const { first, bearer, tag } = line;
			if (!first || of.keys.size < 2 || (bearer === first && first.tag === tag)) continue;
			if (bearer && bearer !== first) {
				bearer.tag = null;
				rows.push(bearer);
			}
			line.bearer = first;
			first.tag = tag;
			rows.push(first);
		}
		this.#changed.clear();
		return rows;
	}

	save(): SavedOrder | undefined {
		const served = this.#classes
			.filter(({ keys }) => keys.size > 1)
			.map((of): [number, number] => [of.priority, of.served]);
		if (served.length === 0 && !this.#owes) return undefined;
		return { served, ...(this.#owes && { owes: true as const }) };
	}

	/** Before any waiter is added. */
	restore(saved: SavedOrder | undefined): void {
		this.#owes = saved?.owes ?? false;
		for (const [priority, tag] of saved?.served ?? []) this.#class(priority).served = tag;
	}

	#class(priority: number): Class<W> {
		let at = 0;
		for (; at < this.#classes.length; at += 1) {
			const each = this.#classes[at] as Class<W>;
			if (each.priority === priority) return each;
			if (each.priority < priority) break;
		}
		const idle = new Ranked<KeyLine<W>>(
			(a, b) => a.tag < b.tag || (a.tag === b.tag && a.number < b.number),
			() => 1,
		);
		const made = { ...newLines<KeyLine<W>, W>(), priority, served: 0, rested: 0, keys: new Map(), idle };
		this.#classes.splice(at, 0, made);
		return made;
	}

	#line(of: Class<W>, key: string | null): KeyLine<W> {
		const known = of.keys.get(key);
		if (known) return known;
		const waiters = new Ranked<W>(
			(a, b) => a.seq < b.seq,
			({ slots }) => slots,
		);
		const line = { key, tag: of.served, first: undefined, number: this.#numbers++, waiters, bearer: null };
		of.keys.set(key, line);
		of.idle.add(line);
		// Where there are two, it matters which tag each has.
		if (of.keys.size === 2) for (const each of of.keys.values()) this.#changed.set(each, of);
		return line;
	}

	/** The line of a key, if it has one, and the tag at which its next waiter is served. Makes nothing. */
	#look({ key, priority }: Whose): { lines: Class<W> | undefined; line: KeyLine<W> | undefined; tag: number } {
		const lines = this.#classes.find((each) => each.priority === priority);
		const line = lines?.keys.get(key);
		return { lines, line, tag: line?.tag ?? lines?.served ?? 0 };
	}

	/** What orders a line changes only outside of the orders. */
	#change(of: Class<W>, line: KeyLine<W>, change: () => void): void {
		if (line.first) {
			of.next.remove(line);
			of.oldest.remove(line);
		} else {
			of.idle.remove(line);
		}
		change();
		this.#changed.set(line, of);
		if (line.first) {
			of.next.add(line);
			of.oldest.add(line);
			return;
		}
		of.idle.add(line);
		if (of.idle.count > KEYS_MAX) of.served = Math.max(of.served, of.idle.first?.tag ?? 0);
		this.#forget(of);
	}

	/** Keys that nobody waits for, and whose tags are past. */
	#forget(of: Class<W>): void {
		for (let line = of.idle.first; line && line.tag <= of.served; line = of.idle.first) {
			of.idle.remove(line);
			of.keys.delete(line.key);
			this.#changed.delete(line);
		}
	}
}

function* then<A, B>(all: Iterable<A>, last: B): Generator<A | B> {
	yield* all;
	yield last;
}
