/** Keys for limits by caller: texts of strangers, made into parts of names. */

/** Who the caller is when its address is not known. All of them share one limit: closed rather than open. */
const UNKNOWN = "unknown";

/** Longest part of a name made from a text: leaves room for a prefix in the 255 characters of a name. */
const PART_LENGTH = 128;

export interface AddressOptions {
	/** Bits of an IPv6 address that count: one customer is given at least a /64. In whole groups of 16. Default 64. */
	ipv6Bits?: 16 | 32 | 48 | 64 | 80 | 96 | 112 | 128;
	/**
	 * Where the address comes from instead, such as `() => getConnInfo(c).remote.address`. Needed outside of Cloudflare,
	 * where any caller could send `CF-Connecting-IP` itself.
	 */
	address?: () => string | null | undefined;
}

/**
 * The caller's address, as a part of a name: `ip:${clientAddress(c.req.raw)}`. On Workers it is `CF-Connecting-IP`,
 * which Cloudflare overwrites on every request from the internet, so no header of the caller can forge it. It is
 * trusted on Workers alone, and no other header is ever read. Another Worker that calls this one through a service
 * binding can set it, and is trusted to. What is missing or no address is `unknown`, which all such callers share.
 */
export function clientAddress(request: Request, { ipv6Bits = 64, address }: AddressOptions = {}): string {
	const text = address ? address() : onWorkers() ? request.headers.get("CF-Connecting-IP") : needsAddress();
	return normalized((text ?? "").trim(), ipv6Bits / 16) ?? UNKNOWN;
}

const onWorkers = (): boolean => navigator.userAgent === "Cloudflare-Workers";

function needsAddress(): never {
	throw new TypeError(
		"Outside of Cloudflare no header tells the caller's address: pass `address`, such as that of the connection.",
	);
}

function normalized(text: string, groups: number): string | null {
	const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text);
	const four = mapped?.[1] ?? text;
	if (/^\d{1,3}(\.\d{1,3}){3}$/.test(four)) return four.split(".").every((part) => Number(part) < 256) ? four : null;
	if (!/^[0-9a-f:.]+$/i.test(text) || !URL.canParse(`http://[${text}]`)) return null;
	// The URL parser writes an address in one way only, however it came.
	const [head = "", tail] = new URL(`http://[${text}]`).hostname.slice(1, -1).split("::");
	const front = head === "" ? [] : head.split(":");
	const back = tail === undefined || tail === "" ? [] : tail.split(":");
	const all = [...front, ...Array<string>(8 - front.length - back.length).fill("0"), ...back];
	return all.slice(0, groups).join(":") + (groups < 8 ? "::" : "");
}

/** Any text as a part of a name: what a name cannot hold becomes `=` and its code, and what is too long is cut. */
export function namePart(text: string): string {
	const legal = text
		.toWellFormed()
		.replace(/[=/%&><\p{Cc}]/gu, (character) => `=${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
	return [...legal].slice(0, PART_LENGTH).join("") || UNKNOWN;
}
