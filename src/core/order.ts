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

/** What one slot counts for when a key is charged: the same for all keys, or for each its own. */
export type Price = number | ((key: string | null) => number);

const priceFor = (price: Price, key: string | null): number => (typeof price === "number" ? price : price(key));

/** The waiters of one key and priority. */
interface KeyLine<W> {
	readonly key: string | null;
	/** Lines are numbered as their keys come. Of equal tags the lower is next, so that keys take turns and none is passed twice. */
	readonly number: number;
	tag: number;
	readonly waiters: Ranked<W>;
	first: W | undefined;
	/** The waiter whose row says the tag. */
	bearer: W | null;
	/** Its place among those that have more than one waiter; -1: it has not. */
	longerAt: number;
}

/**
 * Lines that have more than one waiter, in no order: each is looked at as a place is counted. So what is looked at lies side by
 * side, and a line itself is not touched.
 */
interface Longer<W> {
	readonly lines: KeyLine<W>[];
	readonly tags: number[];
	readonly numbers: number[];
	/** How many waiters it has, if each asks for one slot; else 0. */
	readonly singles: number[];
}

/** Those of one priority. */
interface Class<W> {
	readonly priority: number;
	/** V. */
	served: number;
	/** V when slots were last free and no waiter had a turn. What was charged before that is nothing to correct. */
	rested: number;
	readonly keys: Map<string | null, KeyLine<W>>;
	/** Lines that have waiters, by tag: the first is next. */
	readonly next: Ranked<KeyLine<W>>;
	readonly longer: Longer<W>;
	/** Keys without waiters, by tag. */
	readonly idle: Ranked<KeyLine<W>>;
	/** Waiters, and their slots. */
	count: number;
	size: number;
	/** All of them by arrival: made when a higher priority waits, for only then may one starve, and kept until none is left. */
	arrivals: Ranked<W> | null;
}

/** What a restart needs beside the rows of waiters. */
export interface SavedOrder {
	/** V of each priority in which keys are told apart. */
	served: [priority: number, tag: number][];
	/** The next grant is for a starving waiter. */
	owes?: true;
}

/** Waiters whose turns are played one by one where counting alone does not tell; of longer lines it is an estimate. */
export const PLAYED_MAX = 1_000;

const byTag = <W>(a: KeyLine<W>, b: KeyLine<W>): boolean => a.tag < b.tag || (a.tag === b.tag && a.number < b.number);

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
		const tag = Math.max(line.tag, waiter.tag ?? 0);
		if (waiter.tag === tag) line.bearer = waiter;
		of.count += 1;
		of.size += waiter.slots;
		of.arrivals?.add(waiter);
		if (line.first && waiter.seq > line.first.seq && tag === line.tag) {
			line.waiters.add(waiter);
			return keepLonger(of, line);
		}
		this.#change(of, line, () => {
			line.waiters.add(waiter);
			line.tag = tag;
		});
	}

	/** A waiter has its turn no more. */
	remove(waiter: W): void {
		const of = this.#class(waiter.priority);
		const line = this.#line(of, waiter.key);
		of.count -= 1;
		of.size -= waiter.slots;
		if (of.count > 0) of.arrivals?.remove(waiter);
		else of.arrivals = null;
		if (line.first !== waiter) {
			line.waiters.remove(waiter);
			keepLonger(of, line);
		} else {
			this.#change(of, line, () => line.waiters.remove(waiter));
		}
		if (line.bearer !== waiter) return;
		line.bearer = null;
		waiter.tag = null;
	}

	/** The one that is next. `before`: who arrived then or earlier starves, if a higher priority waits. */
	next(before: At): W | undefined {
		return (this.#owes ? this.#starving(before) : undefined) ?? this.#top?.next.first?.first;
	}

	/** Whether a request that arrives now would be next. */
	isNext(whose: Whose, before: At): boolean {
		const top = this.#top;
		const first = top?.next.first;
		if (!top || !first) return true;
		if (this.#owes && this.#starving(before)) return false;
		if (whose.priority !== top.priority) return whose.priority > top.priority;
		const { line, tag } = this.#look(whose);
		if (line?.first) return false;
		return tag < first.tag || (tag === first.tag && line !== undefined && line.number < first.number);
	}

	/** The key of this waiter, which is next, is charged; it leaves the line after that. */
	charge(waiter: W, price: Price, before: At): void {
		const owed = this.#starving(before);
		this.#owes = owed !== undefined && !(this.#owes && owed === waiter);
		const of = this.#class(waiter.priority);
		const line = this.#line(of, waiter.key);
		const isAlone = of.keys.size === 1 && waiter.key === null;
		const { tag } = line;
		const charge = waiter.slots * priceFor(price, waiter.key);
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
	ahead(of: Whose & { readonly seq?: number }, price: Price, before: At): Before {
		const top = this.#top;
		if (!top) return { count: 0, size: 0 };
		const starving = this.#starving(before);
		if (starving && of.priority < top.priority && this.#count <= PLAYED_MAX) return this.#played(of, price, before);
		const sum = this.#inTurn(of, price);
		if (!starving) return sum;
		// Beside each of them, and once more where one is owed, one that starves is served.
		const most = sum.count + (this.#owes ? 1 : 0);
		let left = most;
		for (const each of this.#classes) {
			if (each.priority >= top.priority || each.count === 0) continue;
			const hungry = arrivalsOf(each).countWhile(({ since }) => since <= before);
			const served = Math.min(left, hungry.count);
			left -= served;
			sum.count += served;
			if (hungry.count > 0) sum.size += Math.round((served * hungry.size) / hungry.count);
		}
		return sum;
	}

	/** Those that are before by priority and by the turns of keys. */
	#inTurn(of: Whose & { readonly seq?: number }, price: Price): Before {
		const sum = { count: 0, size: 0 };
		const add = ({ count, size }: Before, sign = 1): void => {
			sum.count += sign * count;
			sum.size += sign * size;
		};
		for (const each of this.#classes) if (each.priority > of.priority) add(each);
		const { lines: ofPriority, line: own, tag } = this.#look(of);
		if (!ofPriority) return sum;
		const { seq = Number.POSITIVE_INFINITY } = of;
		const number = own?.number ?? Number.POSITIVE_INFINITY;
		const ofKey = own?.waiters.countWhile((each) => each.seq < seq) ?? { count: 0, size: 0 };
		add(ofKey);
		const servedAt = tag + ofKey.size * priceFor(price, of.key);
		const isBefore = (at: number, line: KeyLine<W>): boolean =>
			at < servedAt || (at === servedAt && line.number < number);
		// The first of each line, and of the longer ones those behind it.
		const firsts = ofPriority.next.countWhile((line) => isBefore(line.tag, line));
		if (firsts.count === 0) return sum;
		add(firsts);
		if (own?.first && isBefore(own.tag, own)) add({ count: 1, size: own.first.slots }, -1);
		add(behind(ofPriority.longer, own, servedAt, number, price));
		return sum;
	}

	/** The same, by playing the line. */
	#played(of: Whose & { readonly seq?: number }, price: Price, before: At): Before {
		const asked = of.seq === undefined ? { ...of, seq: Number.POSITIVE_INFINITY, slots: 0 } : undefined;
		const all = asked ? this.walk(price, before, asked) : this.walk(price, before);
		const place = all.findIndex((each) => each === asked || each.seq === of.seq);
		return { count: place, size: all.slice(0, place).reduce((sum, { slots }) => sum + slots, 0) };
	}

	/** All that have their turn, in the order in which they are served if nothing changes. */
	walk(price: Price, before: At): W[];
	/** With a request that arrives now. */
	walk<A extends Whose & { slots: number; seq: number }>(price: Price, before: At, asked: A): (W | A)[];
	walk<A extends Whose & { slots: number; seq: number }>(price: Price, before: At, asked?: A): (W | A)[] {
		const all: { one: W | A; priority: number; tag: number; number: number }[] = [];
		const join = (one: W | A, tag: number, number: number): number => {
			all.push({ one, priority: one.priority, tag, number });
			return tag + one.slots * priceFor(price, one.key);
		};
		for (const { next } of this.#classes) {
			for (const line of next) {
				let { tag } = line;
				for (const waiter of line.waiters) tag = join(waiter, tag, line.number);
			}
		}
		if (asked) {
			const { line, tag } = this.#look(asked);
			join(
				asked,
				tag + (line?.waiters.size ?? 0) * priceFor(price, asked.key),
				line?.number ?? Number.POSITIVE_INFINITY,
			);
		}
		// Those of one line stand in their order already, and sorting keeps it.
		all.sort((a, b) => b.priority - a.priority || a.tag - b.tag || a.number - b.number || 0);
		const inTurn = all.map(({ one }) => one);
		return this.#starving(before) ? this.#alternate(inTurn, before) : inTurn;
	}

	/** With every second grant for those that starve. */
	#alternate<A extends Whose & { seq: number }>(inTurn: (W | A)[], before: At): (W | A)[] {
		const hungry = inTurn
			.filter((one): one is W => "since" in one && one.since <= before)
			.sort((a, b) => a.seq - b.seq);
		const served = new Set<W | A>();
		let owes = this.#owes;
		let at = 0;
		for (const one of inTurn) {
			while (!served.has(one)) {
				// What is of the priority that is served now does not starve, and is served before another one is.
				while (at < hungry.length && (served.has(hungry[at] as W) || (hungry[at] as W).priority >= one.priority))
					at += 1;
				const starves = hungry[at];
				served.add(owes && starves ? starves : one);
				owes = starves !== undefined && !owes;
			}
		}
		return [...served];
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

	/** The highest priority that waits. */
	get #top(): Class<W> | undefined {
		return this.#classes.find(({ next }) => next.count > 0);
	}

	get #count(): number {
		return this.#classes.reduce((sum, { count }) => sum + count, 0);
	}

	/** Of those below the highest priority that waits, the waiter that arrived first, if it did at `before` or earlier. */
	#starving(before: At): W | undefined {
		let isBelow = false;
		let oldest: W | undefined;
		for (const of of this.#classes) {
			if (of.count === 0) continue;
			const first = isBelow ? arrivalsOf(of).first : undefined;
			if (first && (!oldest || first.seq < oldest.seq)) oldest = first;
			isBelow = true;
		}
		return oldest && oldest.since <= before ? oldest : undefined;
	}

	#class(priority: number): Class<W> {
		let at = 0;
		for (; at < this.#classes.length; at += 1) {
			const each = this.#classes[at] as Class<W>;
			if (each.priority === priority) return each;
			if (each.priority < priority) break;
		}
		const one = () => 1;
		const made = {
			...{ priority, served: 0, rested: 0, keys: new Map() },
			next: new Ranked<KeyLine<W>>(byTag, ({ first }) => first?.slots ?? 0),
			longer: { lines: [], tags: [], numbers: [], singles: [] },
			idle: new Ranked<KeyLine<W>>(byTag, one),
			...{ count: 0, size: 0, arrivals: null },
		};
		this.#classes.splice(at, 0, made);
		return made;
	}

	#line(of: Class<W>, key: string | null): KeyLine<W> {
		const known = of.keys.get(key);
		if (known) return known;
		const waiters = newArrivals<W>();
		const line = {
			key,
			tag: of.served,
			first: undefined,
			number: this.#numbers++,
			waiters,
			bearer: null,
			longerAt: -1,
		};
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
		if (!line.first) of.idle.remove(line);
		else of.next.remove(line);
		change();
		line.first = line.waiters.first;
		this.#changed.set(line, of);
		keepLonger(of, line);
		if (line.first) return of.next.add(line);
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

/** The tag of a line, or how many wait in it, may have changed. */
function keepLonger<W>({ longer: { lines, tags, numbers, singles } }: Class<W>, line: KeyLine<W>): void {
	const { count, size } = line.waiters;
	const put = (at: number, one: KeyLine<W>, tag: number, single: number): void => {
		lines[at] = one;
		tags[at] = tag;
		numbers[at] = one.number;
		singles[at] = single;
		one.longerAt = at;
	};
	const at = line.longerAt;
	if (count > 1) return put(at < 0 ? lines.length : at, line, line.tag, count === size ? count : 0);
	if (at < 0) return;
	// The last one takes its place.
	line.longerAt = -1;
	const last = lines.pop() as KeyLine<W>;
	const tag = tags.pop() as number;
	const single = singles.pop() as number;
	numbers.pop();
	if (last !== line) put(at, last, tag, single);
}

/** Of the longer lines but `own`, those behind their first waiter that are served before so a tag and number. */
function behind<W extends Waiter>(
	{ lines, tags, numbers, singles }: Longer<W>,
	own: KeyLine<W> | undefined,
	servedAt: number,
	number: number,
	price: Price,
): Before {
	const sum = { count: 0, size: 0 };
	const ownAt = own?.longerAt;
	// Of waiters for one slot each: as many as slots.
	let ones = 0;
	for (let at = 0; at < tags.length; at += 1) {
		const from = tags[at] as number;
		if (from > servedAt || at === ownAt) continue;
		const slotPrice = typeof price === "number" ? price : price((lines[at] as KeyLine<W>).key);
		const single = singles[at] as number;
		if (single === 0) {
			addUneven(sum, lines[at] as KeyLine<W>, servedAt, number, slotPrice);
		} else if (from + (single - 1) * slotPrice < servedAt) {
			// The last one is before, which takes no division to see.
			ones += single - 1;
		} else {
			const rounds = ((servedAt - from) / slotPrice) | 0;
			const reached = from + rounds * slotPrice;
			if (reached < servedAt || (reached === servedAt && (numbers[at] as number) < number)) ones += rounds;
			else if (rounds > 0) ones += rounds - 1;
		}
	}
	sum.count += ones;
	sum.size += ones;
	return sum;
}

/** The same of one line, whose waiters ask for different numbers of slots. */
function addUneven<W extends Waiter>(
	sum: Before,
	{ tag, number: own, waiters, first }: KeyLine<W>,
	servedAt: number,
	number: number,
	price: number,
): void {
	const isBefore = (at: number): boolean => at < servedAt || (at === servedAt && own < number);
	if (!first || !isBefore(tag)) return;
	const { count, size } = waiters.countWhile((_, slots) => isBefore(tag + slots * price));
	sum.count += count - 1;
	sum.size += size - first.slots;
}

function arrivalsOf<W extends Waiter>(of: Class<W>): Ranked<W> {
	if (of.arrivals) return of.arrivals;
	of.arrivals = newArrivals<W>();
	for (const { waiters } of of.next) for (const waiter of waiters) of.arrivals.add(waiter);
	return of.arrivals;
}

const newArrivals = <W extends Waiter>(): Ranked<W> =>
	new Ranked<W>(
		(a, b) => a.seq < b.seq,
		({ slots }) => slots,
	);
