/** The digest of an id: it tells one request from another, and the id cannot be found from it. */

/** With a character that no id has, so that neither is taken for the other. */
const DIGEST = /^sha256~[0-9a-f]{16}$/;
/** Hexadecimal digits of it that are shown: enough to tell the requests of any limit apart. */
const DIGITS = 16;

const encoder = new TextEncoder();

export const isDigest = (text: string): boolean => DIGEST.test(text);

export async function digestOf(id: string): Promise<string> {
	const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", encoder.encode(id)), 0, DIGITS / 2);
	return `sha256~${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
