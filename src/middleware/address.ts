/** Keys for limits by caller: texts of strangers, made into parts of names. No two of them become one. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import ipaddr from "ipaddr.js";
import { BOUNDS } from "../protocol.ts";

/** Who the caller is when its address is not known. All of them share one limit: closed rather than open. */
const UNKNOWN = "unknown";

const GROUPS = 8;
const GROUP_BITS = 16;

export interface AddressOptions {
	/** Bits of an IPv6 address that count: one customer is given at least a /64. In whole groups of 16. Default 64. */
	ipv6Bits?: 16 | 32 | 48 | 64 | 80 | 96 | 112 | 128;
	/** Where the address comes from instead, such as `() => getConnInfo(c).remote.address`. Needed outside of Cloudflare. */
	address?: () => string | null | undefined;
	/**
	 * Whether every request comes through Cloudflare, so that `CF-Connecting-IP` is Cloudflare's. Default: what the runtime
	 * says of the request. To be set for a Worker that others call through a binding with requests of their own making, and
	 * for a server that nothing but Cloudflare can reach. Anywhere else any caller could send the header itself.
	 */
	trustCloudflare?: boolean;
}

/**
 * The caller's address, as a part of a name: `ip:${clientAddress(c.req.raw)}`. On Cloudflare it is `CF-Connecting-IP`,
 * which Cloudflare overwrites on every request from the internet, so no header of the caller can forge it; no other header
 * is ever read. One address has one name, however it is written, and an IPv4 address in an IPv6 one is the IPv4 address.
 * What is missing or no address is `unknown`, which all such callers share.
 * @throws TypeError where nothing trustworthy tells the address: outside of Cloudflare, without `address`.
 */
export function clientAddress(request: Request, options: AddressOptions = {}): string {
	const { ipv6Bits = 64, address, trustCloudflare = isOnCloudflare(request) } = options;
	const groups = ipv6Bits / GROUP_BITS;
	if (!(Number.isInteger(groups) && groups >= 1 && groups <= GROUPS)) {
		throw new RangeError(`ipv6Bits must be a multiple of ${GROUP_BITS} up to 128, and was ${ipv6Bits}.`);
	}
	if (!address && !trustCloudflare) {
		throw new TypeError(
			"Nothing tells the caller's address: outside of Cloudflare any caller could send CF-Connecting-IP. Pass `address`, such as that of the connection; or `trustCloudflare: true` where nothing but Cloudflare can send a request.",
		);
	}
	const text = address ? address() : request.headers.get("CF-Connecting-IP");
	return normalized((text ?? "").trim(), groups) ?? UNKNOWN;
}

/** Cloudflare names the data center that a request came to. The same runtime elsewhere does not, and no header can. */
const isOnCloudflare = (request: Request): boolean =>
	typeof (request as Request & { cf?: { colo?: unknown } }).cf?.colo === "string";

/** Ranges of IPv6 in which an IPv4 address stands for itself, in its last 32 bits: mapped, and translated on the way. */
const OF_IPV4 = ["ipv4Mapped", "rfc6145", "rfc6052"];

function normalized(text: string, groups: number): string | null {
	// Nothing but four decimal numbers: other readers take `0x7f.1` and `010.0.0.1` for something else each.
	if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text).toString();
	if (!ipaddr.IPv6.isValid(text)) return null;
	const address = ipaddr.IPv6.parse(text);
	if (OF_IPV4.includes(address.range())) return new ipaddr.IPv4(address.toByteArray().slice(-4)).toString();
	const parts = address.parts.slice(0, groups).map((part) => part.toString(16));
	return parts.join(":") + (groups < GROUPS ? "::" : "");
}

/** What a name cannot hold, what separates the parts of one, and the sign of an escape itself. */
const ESCAPED = /[=:/%&><\p{Cc}\p{Cs}]/gu;

/** Hexadecimal digits of the digest: so many that a second text with the same cannot be found. */
const DIGEST_DIGITS = 32;

/**
 * Any text as a part of a name; no two texts become one, nor two lists of texts that are joined by `:`. What a name cannot
 * hold, and `:`, becomes `=` and its code; what is too long ends in a digest of the whole.
 */
export function namePart(text: string): string {
	const legal = text.replace(ESCAPED, escaped);
	// By itself a dot has no place in a URL, and no text cannot be told from no part.
	if (legal === "") return "=";
	if (legal === "." || legal === "..") return legal.replaceAll(".", escaped);
	const characters = [...legal];
	if (characters.length <= BOUNDS.namePart) return legal;
	// No escape begins with `=-`, so that no other text is written like this.
	const digest = `=-${bytesToHex(sha256(new TextEncoder().encode(legal))).slice(0, DIGEST_DIGITS)}`;
	return characters.slice(0, BOUNDS.namePart - digest.length).join("") + digest;
}

const escaped = (character: string): string => `=${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
