/** `/docs`: the reference as a page, rendered here from the OpenAPI document. No script, and nothing from outside. */

import { html, raw } from "hono/html";
import type { OpenApiDocument } from "./openapi.ts";
import { STYLE } from "./style.ts";

/** The parts of the document that the page reads; what it does not know it leaves out. */
interface Schema {
	$ref?: string;
	type?: string | string[];
	description?: string;
	default?: unknown;
	enum?: unknown[];
	const?: unknown;
	format?: string;
	minimum?: number;
	maximum?: number;
	minLength?: number;
	maxLength?: number;
	minItems?: number;
	maxItems?: number;
	properties?: Record<string, Schema>;
	required?: string[];
	items?: Schema;
	additionalProperties?: Schema | boolean;
	anyOf?: Schema[];
	oneOf?: Schema[];
}
interface Media {
	schema?: Schema;
	example?: unknown;
	examples?: Record<string, { value: unknown }>;
}
interface Answer {
	description: string;
	headers?: Record<string, { description?: string }>;
	content?: Record<string, Media>;
}
interface Operation {
	operationId: string;
	tags: string[];
	summary: string;
	description?: string;
	security: Record<string, string[]>[];
	parameters?: { name: string; in: string; required?: boolean; description?: string; schema: Schema }[];
	requestBody?: { content: Record<string, Media> };
	responses: Record<string, Answer>;
}
interface Reference {
	info: { title: string; version: string; description: string };
	tags: { name: string; description: string }[];
	paths: Record<string, Record<string, Operation>>;
	components: { schemas: Record<string, Schema> };
}

type Html = ReturnType<typeof html>;
/** Text for the page; markup in it is escaped by `html`. */
type Part = Html | string;

let made: Promise<{ body: string; policy: string }> | null = null;

/** The page and the content security policy that goes with it. Made when it is first asked for. */
export function referencePage(document: OpenApiDocument): Promise<{ body: string; policy: string }> {
	made ??= renderPage(document);
	return made;
}

export async function renderPage(document: OpenApiDocument): Promise<{ body: string; policy: string }> {
	const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(STYLE));
	const hash = btoa(String.fromCharCode(...new Uint8Array(digest)));
	const policy = `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
	return { body: String(await page(JSON.parse(JSON.stringify(document)) as Reference)), policy };
}

function page({ info, tags, paths, components }: Reference): Html {
	const operations = Object.entries(paths).flatMap(([path, item]) =>
		Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
	);
	const sections = tags.map((tag) => ({
		...tag,
		own: operations.filter((one) => one.operation.tags.includes(tag.name)),
	}));
	return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${info.title}: HTTP reference</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<nav aria-label="Contents">
<p class="title">${info.title} <small>${info.version}</small></p>
${sections.map(
	({ name, own }) => html`<h2>${name}</h2>
<ul>${own.map(({ path, method, operation }) => html`<li><a href="#${operation.operationId}"><b class="${method}">${method}</b> ${path}</a></li>`)}</ul>`,
)}
<h2><a href="#schemas">schemas</a></h2>
</nav>
<main>
<h1>HTTP reference</h1>
${paragraphs(info.description)}
<p>The same for programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
${sections.map(
	({
		name,
		description,
		own,
	}) => html`<section aria-labelledby="tag-${name}"><h2 id="tag-${name}">${name}</h2>${paragraphs(description)}
${own.map(({ path, method, operation }) => operationPart(method, path, operation))}</section>`,
)}
<section aria-labelledby="schemas"><h2 id="schemas">schemas</h2>
${Object.entries(components.schemas).map(
	([name, schema]) => html`<article id="schema-${name}"><h3>${name}</h3>${schemaPart(schema)}</article>`,
)}</section>
</main>
</body>
</html>
`;
}

function operationPart(method: string, path: string, operation: Operation): Html {
	const { operationId, summary, description, security, parameters = [], requestBody, responses } = operation;
	return html`<article id="${operationId}">
<h3><b class="${method}">${method}</b> <code>${path}</code></h3>
<p class="summary">${summary}</p>
${description ? paragraphs(description) : ""}
${security.length === 0 ? html`<p>No token is needed.</p>` : ""}
${
	parameters.length === 0
		? ""
		: html`<h4>Parameters</h4>${table(
				["name", "in", "type", "meaning"],
				parameters.map(({ name, in: place, required, schema, description: meaning }) => [
					html`<code>${name}</code>${required ? "" : " (optional)"}`,
					place,
					typeOf(schema),
					prose(meaning ?? schema.description ?? ""),
				]),
			)}`
}
${requestBody ? html`<h4>Body</h4>${Object.entries(requestBody.content).map(([type, media]) => mediaPart(type, media))}` : ""}
<h4>Answers</h4>
${Object.entries(responses).map(([status, answer]) => answerPart(status, answer))}
</article>`;
}

function answerPart(status: string, { description, headers, content }: Answer): Html {
	return html`<details${status.startsWith("2") ? raw(" open") : ""}><summary><b class="status-${status.charAt(0)}">${status}</b> ${prose(description.split("\n\n").join(" "))}</summary>
${
	headers
		? table(
				["header", "meaning"],
				Object.entries(headers).map(([name, header]) => [html`<code>${name}</code>`, prose(header.description ?? "")]),
			)
		: ""
}
${content ? Object.entries(content).map(([type, media]) => mediaPart(type, media)) : html`<p>No body.</p>`}
</details>`;
}

function mediaPart(type: string, { schema, example, examples = {} }: Media): Html {
	const shown = example === undefined ? Object.values(examples).map(({ value }) => value) : [example];
	return html`<p><code>${type}</code>${schema ? html`: ${typeOf(schema)}` : ""}</p>
${shown.map((value) => html`<pre tabindex="0">${typeof value === "string" ? value : JSON.stringify(value, null, 2)}</pre>`)}`;
}

function schemaPart(schema: Schema): Html {
	const { description, properties, required = [], oneOf } = schema;
	if (oneOf) return html`${description ? paragraphs(description) : ""}<p>One of:</p>${oneOf.map(schemaPart)}`;
	if (!properties) return html`<p>${typeOf(schema)}</p>${description ? paragraphs(description) : ""}`;
	return html`${description ? paragraphs(description) : ""}${table(
		["field", "type", "default", "meaning"],
		Object.entries(properties).map(([name, field]) => [
			html`<code>${name}</code>`,
			typeOf(field),
			field.default === undefined
				? required.includes(name)
					? "required"
					: "–"
				: html`<code>${JSON.stringify(field.default)}</code>`,
			prose(field.description ?? ""),
		]),
	)}`;
}

/** A type in a few words, with its bounds. */
function typeOf(schema: Schema): Part {
	const name = schema.$ref?.split("/").at(-1);
	if (name) return html`<a href="#schema-${name}">${name}</a>`;
	const branches = schema.type ? undefined : (schema.anyOf ?? schema.oneOf);
	if (branches) return html`${branches.map((branch, index) => html`${index > 0 ? " or " : ""}${typeOf(branch)}`)}`;
	if (schema.const !== undefined) return html`<code>${JSON.stringify(schema.const)}</code>`;
	if (schema.enum) return html`<code>${schema.enum.map((value) => JSON.stringify(value)).join(" | ")}</code>`;
	if (schema.type === "array")
		return html`list of ${typeOf(schema.items ?? {})}${bounds(schema.minItems, schema.maxItems, "entries")}`;
	if (schema.type === "object" && typeof schema.additionalProperties === "object") {
		return html`object from name to ${typeOf(schema.additionalProperties)}`;
	}
	if (schema.type === "string")
		return html`${schema.format ?? "string"}${bounds(schema.minLength, schema.maxLength, "characters")}`;
	return html`${[schema.type ?? "anything"].flat().join(" or ")}${bounds(schema.minimum, schema.maximum, "")}`;
}

function bounds(least: number | undefined, most: number | undefined, what: string): string {
	// A schema of whole numbers says how large they can be at all: that is no bound.
	const top = most === Number.MAX_SAFE_INTEGER ? undefined : most;
	const low = least === -Number.MAX_SAFE_INTEGER ? undefined : least;
	if (low === undefined && top === undefined) return "";
	const unit = what === "" ? "" : ` ${what}`;
	if (top === undefined) return low === 0 && what !== "" ? "" : `, at least ${low}${unit}`;
	return low === undefined ? `, at most ${top}${unit}` : `, ${low} to ${top}${unit}`;
}

function table(head: string[], rows: Part[][]): Html {
	return html`<div class="wide" tabindex="0"><table><thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead><tbody>
${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody></table></div>`;
}

const paragraphs = (text: string): Html => html`${text.split("\n\n").map((part) => html`<p>${prose(part)}</p>`)}`;

/** What stands between backticks is code. */
const prose = (text: string): Html =>
	html`${text.split("`").map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part))}`;
