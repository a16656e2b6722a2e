/**
 * Members in an order, each with a size. Joining, leaving, and counting how many come before a place, and how much they are
 * together, take O(log n). A treap: a search tree by the order, in which each node is below one of a lower draw; the draws are by
 * lot, so that it is about balanced whatever came when. The lots are drawn in a fixed way, for the core decides the same each time.
 */

interface Node<T> {
	readonly member: T;
	readonly draw: number;
	left: Node<T> | null;
	right: Node<T> | null;
	/** Of the node and all beneath it. */
	count: number;
	size: number;
}

/** How many come before a place, and their sizes together. */
export interface Before {
	count: number;
	size: number;
}

export class Ranked<T> {
	readonly #isBefore: (a: T, b: T) => boolean;
	readonly #sizeOf: (member: T) => number;
	#root: Node<T> | null = null;
	/** All three are asked for at each decision, and of many trees. */
	#count = 0;
	#size = 0;
	#first: T | undefined;
	#seed = 1;

	/** Neither the place of a member nor its size may change while it is in. */
	constructor(isBefore: (a: T, b: T) => boolean, sizeOf: (member: T) => number) {
		this.#isBefore = isBefore;
		this.#sizeOf = sizeOf;
	}

	get count(): number {
		return this.#count;
	}

	get size(): number {
		return this.#size;
	}

	get first(): T | undefined {
		return this.#first;
	}

	/** A member that is not in yet: it goes down to where the draws are higher, and what is there is split. */
	add(member: T): void {
		const size = this.#sizeOf(member);
		const draw = this.#lot();
		this.#count += 1;
		this.#size += size;
		let above: Node<T> | null = null;
		let below = this.#root;
		let isAfter = false;
		let isFirst = true;
		while (below && below.draw < draw) {
			below.count += 1;
			below.size += size;
			above = below;
			isAfter = this.#isBefore(below.member, member);
			if (isAfter) isFirst = false;
			below = isAfter ? below.right : below.left;
		}
		const [left, right] = this.#split(below, member);
		this.#put(above, isAfter, this.#counted({ member, draw, left, right, count: 1, size }));
		if (isFirst && !left) this.#first = member;
	}

	/** A member that is in. */
	remove(member: T): void {
		const size = this.#sizeOf(member);
		let above: Node<T> | null = null;
		let node = this.#root;
		let isAfter = false;
		while (node && node.member !== member) {
			node.count -= 1;
			node.size -= size;
			above = node;
			isAfter = this.#isBefore(node.member, member);
			node = isAfter ? node.right : node.left;
		}
		if (!node) throw new Error("Only a member can be removed.");
		this.#count -= 1;
		this.#size -= size;
		this.#put(above, isAfter, this.#join(node.left, node.right));
		if (this.#first === member) this.#first = this.#leftmost();
	}

	/** Of the first ones for which `isIn` says so; where it does for one, it does for all before it. `before`: the sizes before it. */
	countWhile(isIn: (member: T, before: number) => boolean): Before {
		const counted = { count: 0, size: 0 };
		let node = this.#root;
		while (node) {
			const { left, member, right } = node;
			const before = counted.size + (left?.size ?? 0);
			if (isIn(member, before)) {
				counted.count += (left?.count ?? 0) + 1;
				counted.size = before + this.#sizeOf(member);
				node = right;
			} else {
				node = left;
			}
		}
		return counted;
	}

	*[Symbol.iterator](): Generator<T> {
		const above: Node<T>[] = [];
		let node = this.#root;
		while (node || above.length > 0) {
			for (; node; node = node.left) above.push(node);
			const next = above.pop() as Node<T>;
			yield next.member;
			node = next.right;
		}
	}

	/** Into those before this member, and the rest. */
	#split(node: Node<T> | null, member: T): [Node<T> | null, Node<T> | null] {
		if (!node) return [null, null];
		if (this.#isBefore(node.member, member)) {
			const [left, right] = this.#split(node.right, member);
			node.right = left;
			return [this.#counted(node), right];
		}
		const [left, right] = this.#split(node.left, member);
		node.left = right;
		return [left, this.#counted(node)];
	}

	#join(left: Node<T> | null, right: Node<T> | null): Node<T> | null {
		if (!left || !right) return left ?? right;
		if (left.draw < right.draw) {
			left.right = this.#join(left.right, right);
			return this.#counted(left);
		}
		right.left = this.#join(left, right.left);
		return this.#counted(right);
	}

	#put(above: Node<T> | null, isAfter: boolean, node: Node<T> | null): void {
		if (!above) this.#root = node;
		else if (isAfter) above.right = node;
		else above.left = node;
	}

	#leftmost(): T | undefined {
		let node = this.#root;
		while (node?.left) node = node.left;
		return node?.member;
	}

	#counted(node: Node<T>): Node<T> {
		const { left, right } = node;
		node.count = (left?.count ?? 0) + 1 + (right?.count ?? 0);
		node.size = (left?.size ?? 0) + this.#sizeOf(node.member) + (right?.size ?? 0);
		return node;
	}

	/** Xorshift, whose numbers are as good as by lot. */
	#lot(): number {
		let lot = this.#seed;
		lot ^= lot << 13;
		lot ^= lot >>> 17;
		lot ^= lot << 5;
		this.#seed = lot;
		return lot;
	}
}
