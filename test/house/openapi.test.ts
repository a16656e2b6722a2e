/** The reference is a valid document whose examples are what it says they are. The server is held to it elsewhere. */

import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { expect, test } from "vitest";
import { openApiDocument } from "../../src/server/front/reference/openapi.ts";
import { read } from "../support/sources.ts";

type Json = { [key: string]: Json } & Json[];

/** As a caller gets it. */
const document = JSON.parse(JSON.stringify(openApiDocument()));

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
ajv.addSchema(document, "openapi");

/** Every object that has a schema and examples for it, with where it stands. */
function* exampled(node: Json, at = ""): Generator<[at: string, schema: string, example: unknown]> {
	if (typeof node !== "object" || node === null) return;
	if ("schema" in node && "example" in node) yield [`${at}/example`, `${at}/schema`, node.example];
	if ("schema" in node && "examples" in node) {
		for (const [name, { value }] of Object.entries(node.examples as unknown as Record<string, { value: unknown }>)) {
			yield [`${at}/examples/${name}`, `${at}/schema`, value];
		}
	}
	for (const [key, child] of Object.entries(node)) {
		yield* exampled(child, `${at}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`);
	}
}

const examples = [...exampled(document)];

const operations = Object.entries<Record<string, Record<string, unknown>>>(document.paths).flatMap(([path, item]) =>
	Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
);

test("the document is valid OpenAPI 3.1", async () => {
	const result = await new Validator().validate(structuredClone(document));
	expect(result).toEqual({ valid: true });
	expect(document.openapi).toMatch(/^3\.1\./);
});

test("every body and every answer with a body has an example", () => {
	const bare: string[] = [];
	for (const { path, method, operation } of operations) {
		const all = JSON.stringify([operation.requestBody, operation.responses]);
		const contents = JSON.parse(all, (key, value) => (key === "content" ? Object.values(value) : value));
		JSON.stringify(contents, (_, value) => {
			if (typeof value !== "object" || value === null || !("schema" in value) || "description" in value) return value;
			if (!("example" in value || "examples" in value)) bare.push(`${method} ${path}`);
			return value;
		});
	}
	expect(bare.filter((route) => !["get /openapi.json"].includes(route))).toEqual([]);
});

test.each(examples)("%s is valid", (_, schema, example) => {
	const validate = ajv.getSchema(`openapi#${encodeURI(schema)}`) as ValidateFunction;
	expect(validate, schema).toBeDefined();
	expect(validate(example), JSON.stringify(validate.errors)).toBe(true);
});

test("an example that is wrong would be noticed", () => {
	const validate = ajv.getSchema("openapi#/components/schemas/Lease") as ValidateFunction;
	expect(validate({ id: "x", names: { a: 1 }, waitedSeconds: 0, limits: [] })).toBe(false);
});

test("every operation has a name of its own that starts with one of the verbs", () => {
	const own = operations.filter(({ operation }) => !(operation.tags as string[]).includes("server"));
	const ids = operations.map(({ operation }) => operation.operationId as string);
	expect(new Set(ids).size).toBe(ids.length);
	for (const { operation } of own) {
		expect(operation.operationId).toMatch(/^(acquire|renew|release|settle|check|pause|configure|inspect|delete)[A-Z]?/);
	}
});

test("the document is of the package's version", () => {
	expect(document.info.version).toBe(JSON.parse(read("package.json")).version);
});
