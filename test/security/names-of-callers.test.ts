/** Names made of what strangers send: no two callers become one. */

import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { clientAddress, namePart } from "../../src/middleware/address.ts";
import { BOUNDS } from "../../src/protocol.ts";
import { nameFault } from "../../src/server/front/schemas.ts";

const request = (headers: Record<string, string> = {}, cf?: object): Request =>
	Object.assign(new Request("http://x", { headers }), cf && { cf });
const of = (address: string | undefined, more = {}): string =>
	clientAddress(request(), { address: () => address, ...more });

/** Every way to write an IPv6 address that its groups allow. */
const written = (groups: number[]): fc.Arbitrary<string> => {
	const short = groups.map((group) => group.toString(16)).join(":");
	const long = groups.map((group) => group.toString(16).padStart(4, "0").toUpperCase()).join(":");
	const [seventh = 0, eighth = 0] = groups.slice(6);
	const four = [seventh >> 8, seventh & 255, eighth >> 8, eighth & 255].join(".");
	const mixed = [...groups.slice(0, 6).map((group) => group.toString(16)), four].join(":");
	const squeezed = new URL(`http://[${short}]`).hostname.slice(1, -1);
	return fc.constantFrom(short, long, mixed, squeezed, ` ${short} `, `${short}%eth0`);
};
const groups = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 });

describe("a caller's address", () => {
	test.each([
		["192.0.2.7", "192.0.2.7"],
		["::ffff:192.0.2.7", "192.0.2.7"],
		["::FFFF:c000:207", "192.0.2.7"],
		["::ffff:102:304", "1.2.3.4"],
		["0:0:0:0:0:ffff:1.2.3.4", "1.2.3.4"],
		["0000:0000:0000:0000:0000:ffff:0102:0304", "1.2.3.4"],
		["64:ff9b::1.2.3.4", "1.2.3.4"],
		["::ffff:0:102:304", "1.2.3.4"],
		["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"],
		["2001:DB8:0001:0002::9", "2001:db8:1:2::"],
		["2001:db8::1", "2001:db8:0:0::"],
		["fe80::1%eth0", "fe80:0:0:0::"],
		["::1", "0:0:0:0::"],
		["999.1.1.1", "unknown"],
		["0x7f.1", "unknown"],
		["0300.0.2.7", "unknown"],
		["3221225991", "unknown"],
		["192.0.2.7:80", "unknown"],
		["[::1]", "unknown"],
		["not an address", "unknown"],
		["1.2.3.4, 5.6.7.8", "unknown"],
		["", "unknown"],
		[undefined, "unknown"],
	])("%s is %s", (given, expected) => {
		expect(of(given)).toBe(expected);
	});

	test("one address is one name, however it is written, and two are two", () => {
		const two = fc
			.tuple(groups, groups)
			.chain(([a, b]) => fc.tuple(fc.constant([a, b] as const), written(a), written(a), written(b)));
		fc.assert(
			fc.property(two, ([[a, b], first, second, other]) => {
				const full = { ipv6Bits: 128 };
				expect(of(first, full)).toBe(of(second, full));
				const same = a.every((group, index) => group === b[index]);
				if (!same && !of(first, full).includes(".")) expect(of(first, full)).not.toBe(of(other, full));
				// By its /64: the same name for all of it, and another for the next.
				const sameNet = a.slice(0, 4).every((group, index) => group === b[index]);
				if (!of(first).includes(".") && !of(other).includes(".")) expect(of(first) === of(other)).toBe(sameNet);
			}),
		);
	});

	test("every IPv4 address has a name of its own, by itself and within an IPv6 one", () => {
		const four = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((bytes) => bytes.join("."));
		fc.assert(
			fc.property(four, (address) => {
				for (const prefix of ["", "::ffff:", "0:0:0:0:0:ffff:", "64:ff9b::"])
					expect(of(prefix + address)).toBe(address);
			}),
		);
	});

	test.each([0, 8, 56, 129, -16, Number.NaN])("ipv6Bits of %s are an error of the program", (ipv6Bits) => {
		expect(() => of("::1", { ipv6Bits })).toThrow(RangeError);
	});

	test("is Cloudflare's header on Cloudflare, and where the program says so, and nowhere else", () => {
		const headers = { "CF-Connecting-IP": "192.0.2.7", "X-Forwarded-For": "192.0.2.66", Forwarded: "for=192.0.2.66" };
		expect(clientAddress(request(headers, { colo: "AMS" }))).toBe("192.0.2.7");
		expect(clientAddress(request(headers), { trustCloudflare: true })).toBe("192.0.2.7");
		expect(clientAddress(request({}, { colo: "AMS" }))).toBe("unknown");
		// The same runtime on somebody's own machine.
		for (const cf of [undefined, {}, { clientIp: "127.0.0.1:1" }]) {
			expect(() => clientAddress(request(headers, cf))).toThrow("trustCloudflare");
		}
		expect(() => clientAddress(request(headers, { colo: "AMS" }), { trustCloudflare: false })).toThrow(TypeError);
	});

	test("needs no navigator, which Node 20 has not", () => {
		vi.stubGlobal("navigator", undefined);
		expect(() => clientAddress(request())).toThrow(TypeError);
		expect(of("192.0.2.7")).toBe("192.0.2.7");
		vi.unstubAllGlobals();
	});
});

describe("a part of a name", () => {
	/** Texts that look like what is made of others. */
	const text = fc.oneof(
		fc.string({ unit: "binary" }),
		fc.string({
			unit: fc.constantFrom("=", ":", "-", "3", "a", "d", ".", "%", "/", "\ud800", "\udc00", "\ufffd", "\0"),
		}),
		fc.constantFrom("", "=", "unknown", ".", "..", "=3a", "x".repeat(128), "x".repeat(129), "x".repeat(200)),
	);

	test("is one that a limit can have, and not too long", () => {
		fc.assert(
			fc.property(text, (given) => {
				expect(nameFault(namePart(given))).toBeNull();
				expect([...namePart(given)].length).toBeLessThanOrEqual(BOUNDS.namePart);
			}),
			{ numRuns: 1_000 },
		);
	});

	test("two lists of texts never become one name", () => {
		const list = fc.array(text, { minLength: 1, maxLength: 3 });
		fc.assert(
			fc.property(list, list, (a, b) => {
				const name = (texts: string[]): string => texts.map(namePart).join(":");
				expect(name(a) === name(b)).toBe(JSON.stringify(a) === JSON.stringify(b));
			}),
			{ numRuns: 5_000 },
		);
	});

	test("what is written as a part is not a part of the same name", () => {
		fc.assert(
			fc.property(text, (given) => {
				const part = namePart(given);
				if (part !== given) expect(namePart(part)).not.toBe(part);
			}),
			{ numRuns: 1_000 },
		);
	});

	test.each([
		["x:y", "x=3ay"],
		["a/b", "a=2fb"],
		["", "="],
		["unknown", "unknown"],
		["..", "=2e=2e"],
		["\ud800", "=d800"],
		["größe", "größe"],
	])("%j is %j", (given, expected) => {
		expect(namePart(given)).toBe(expected);
	});

	test("of tokens that begin alike there is one each", () => {
		const tokens = Array.from({ length: 100 }, (_, index) => `${"t".repeat(150)}${index}`);
		expect(new Set(tokens.map(namePart)).size).toBe(100);
	});
});
