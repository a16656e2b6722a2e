import type { At } from "./time.ts";

/** Anything with a moment at which something must be done about it. */
export interface Due {
	until: At;
	/** Its place in the heap; -1 outside of it. Kept by `Deadlines` alone. */
	heapIndex: number;
}

/** A binary heap by `until` whose members can be changed and removed in place: one node each, however often renewed. */
export class Deadlines<T extends Due> {
	readonly #heap: T[] = [];

	get size(): number {
		return this.#heap.length;
	}

	/** The member that is due first. */
	get first(): T | undefined {
		return this.#heap[0];
	}

	/** All members, in no order. */
	values(): Iterable<T> {
		return this.#heap;
	}

	/** Puts a member in, or moves it after its `until` changed. A member that is never due stays out. */
	set(member: T, until: At): void {
		member.until = until;
		if (until === Number.POSITIVE_INFINITY) return this.remove(member);
		if (member.heapIndex < 0) {
			member.heapIndex = this.#heap.length;
			this.#heap.push(member);
		}
		this.#up(member.heapIndex);
		this.#down(member.heapIndex);
	}

	remove(member: T): void {
		const index = member.heapIndex;
		if (index < 0) return;
		member.heapIndex = -1;
		const last = this.#heap.pop() as T;
		if (last === member) return;
		this.#place(last, index);
		this.#up(index);
		this.#down(last.heapIndex);
	}

	#place(member: T, index: number): void {
		this.#heap[index] = member;
		member.heapIndex = index;
	}

	#up(start: number): void {
		let index = start;
		const member = this.#heap[index] as T;
		while (index > 0) {
			const parentIndex = (index - 1) >> 1;
			const parent = this.#heap[parentIndex] as T;
			if (parent.until <= member.until) break;
			this.#place(parent, index);
			index = parentIndex;
		}
		this.#place(member, index);
	}

	#down(start: number): void {
		let index = start;
		const member = this.#heap[index] as T;
		for (;;) {
			let childIndex = 2 * index + 1;
			const left = this.#heap[childIndex];
			const right = this.#heap[childIndex + 1];
			if (!left) break;
			const child = right && right.until < left.until ? right : left;
			if (child === right) childIndex += 1;
			if (child.until >= member.until) break;
			this.#place(child, index);
			index = childIndex;
		}
		this.#place(member, index);
	}
}
