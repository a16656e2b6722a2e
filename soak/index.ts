/**
 * `npm run soak`: a server, callers and faults, for as long as is wanted, judged from outside by what callers are promised.
 * Everything that is chosen follows from a seed. Ends with 1, and the history that shows it, when a promise was broken.
 */

import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { FAULTS } from "./faults.ts";
import { Broke, World } from "./load.ts";
import { PLANTS, planted } from "./plants.ts";
import { Random } from "./random.ts";
import { type Figures, toText, writeFigures } from "./report.ts";
import { play, SCENES } from "./scenes.ts";
import { Server } from "./server.ts";

const HELP = `Usage: npm run soak -- [options]

  --minutes <n>   for how long (default 1)
  --seed <n>      the choices of an earlier run again (default: new ones, which are told)
  --only <fault>  one kind of fault: ${Object.keys(FAULTS).join(", ")}
  --plant <name>  with a fault in the server, which is to be found: ${Object.keys(PLANTS).join(", ")}, or all
  --write         put the figures into docs/reliability.md
  --help          this text
`;

/** Rounds of one set of limits: an id is remembered, and a history goes on, over so many faults. */
const ROUNDS = { least: 2, most: 5 };

interface Options {
	seed: number;
	minutes: number;
	only: string | undefined;
	/** The checkout whose server runs. */
	code?: string;
}

async function soak({ seed, minutes, only, code }: Options, say: (line: string) => void): Promise<Figures> {
	const random = new Random(seed);
	await using server = new Server(code);
	// Nothing that it started outlives it.
	const end = (): void => void server[Symbol.asyncDispose]().then(() => process.exit(130));
	for (const signal of ["SIGINT", "SIGTERM"] as const) process.removeAllListeners(signal).once(signal, end);
	const kinds = Object.entries(FAULTS).filter(
		([name, { needs }]) =>
			(only === undefined || only === name) &&
			(needs !== "disk" || server.hasDisk) &&
			(needs !== "clock" || server.hasClock),
	);
	if (kinds.length === 0) throw new Error(`There is no fault ${only} here. ${server.missing.join("; ")}`);
	const figures: Figures = {
		...{ seed, minutes, rounds: 0, operations: 0, requests: 0, seconds: 0, violation: null, missing: server.missing },
		...{ faults: {}, scenes: {}, counts: {} },
	};
	const startedAt = performance.now();
	const seconds = (): number => (performance.now() - startedAt) / 1_000;
	const said = await server.start();
	if (said !== null) throw new Error(`The server did not start: ${said}`);
	const [faults, scenes] = [new Bag(random.fork(), kinds), new Bag(random.fork(), Object.entries(SCENES))];
	let world: World | undefined;
	let toldAt = 0;
	try {
		for (let set = 1; seconds() < minutes * 60; set += 1) {
			world = new World(server, `s${seed}-${set}`, random.fork());
			await world.setUp();
			const rounds = world.random.int(ROUNDS.least, ROUNDS.most);
			for (let round = 1; round <= rounds && seconds() < minutes * 60; round += 1) {
				const [name, fault] = faults.next();
				const [story, scene] = scenes.next();
				world.begin();
				await world.further(world.random.int(60, 250));
				await Promise.all([fault.inject(world), world.further(world.random.int(20, 60))]);
				await Promise.all([
					play(world, scene, `s${seed}-${set}-${round}-scene`),
					world.further(world.random.int(60, 200)),
				]);
				await world.quiet();
				figures.rounds += 1;
				figures.faults[name] = (figures.faults[name] ?? 0) + 1;
				figures.scenes[story] = (figures.scenes[story] ?? 0) + 1;
				if (seconds() - toldAt < 15) continue;
				toldAt = seconds();
				say(`${toldAt.toFixed(0)} s: ${figures.rounds} rounds, the last with ${name}; no violation`);
			}
			await world.end();
			add(figures, world);
			world = undefined;
		}
	} catch (error) {
		if (world) add(figures, world);
		if (!(error instanceof Broke)) throw error;
		figures.violation = error.violation;
	}
	figures.seconds = seconds();
	return figures;
}

function add(figures: Figures, world: World): void {
	figures.operations += world.done;
	figures.requests += world.history.asks.length;
	for (const [what, count] of world.counts) figures.counts[what] = (figures.counts[what] ?? 0) + count;
}

/** All of them in a new order, again and again. */
class Bag<T> {
	readonly #random: Random;
	readonly #all: T[];
	#left: T[] = [];

	constructor(random: Random, all: T[]) {
		this.#random = random;
		this.#all = all;
	}

	next(): T {
		if (this.#left.length === 0) this.#left = this.#random.shuffled(this.#all);
		return this.#left.pop() as T;
	}
}

async function main(args: string[]): Promise<void> {
	const { values } = parseArgs({
		args,
		options: {
			minutes: { type: "string", default: "1" },
			seed: { type: "string", default: String(randomInt(1, 2 ** 31)) },
			only: { type: "string" },
			plant: { type: "string" },
			write: { type: "boolean", default: false },
			help: { type: "boolean", default: false },
		},
	});
	if (values.help) {
		process.stdout.write(HELP);
		return;
	}
	const [seed, minutes] = [Number(values.seed), Number(values.minutes)];
	if (!(minutes > 0) || !Number.isSafeInteger(seed)) throw new Error(`A number is missing.\n\n${HELP}`);
	if (values.only !== undefined && !(values.only in FAULTS)) throw new Error(`No such fault.\n\n${HELP}`);
	const say = (line: string): void => void process.stdout.write(`${line}\n`);
	const again = (more = ""): string => `npm run soak -- --seed ${seed} --minutes ${minutes}${more}`;
	if (values.plant !== undefined) {
		const names = values.plant === "all" ? Object.keys(PLANTS) : [values.plant];
		const found = await planted(names, (code) => soak({ seed, minutes, only: values.only, code }, say), say);
		if (values.write) writeFigures("plants", found.rows, again(" --plant all --write"));
		process.exitCode = found.all ? 0 : 1;
		return;
	}
	const only = values.only === undefined ? "" : ` --only ${values.only}`;
	say(`The choices of this run again: ${again(only)}`);
	const figures = await soak({ seed, minutes, only: values.only }, say);
	say(toText(figures));
	if (figures.violation !== null) say(`Again: ${again(only)}`);
	if (values.write) writeFigures("soak", figures, again(" --write"));
	process.exitCode = figures.violation === null ? 0 : 1;
}

try {
	await main(process.argv.slice(2));
} catch (error) {
	process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
	process.exitCode = 2;
}
