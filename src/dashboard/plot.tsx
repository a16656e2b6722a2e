/**
 * The last quarter of an hour: how much was in use and how many waited; what was granted, and below the line denied, or what a
 * limit that only watches would have denied.
 */

import { type ReadonlySignal, type Signal, useSignal, useSignalEffect } from "@preact/signals";
import { useRef } from "preact/hooks";
import uPlot from "uplot";
import type { HistorySample } from "../protocol.ts";
import { number, plural, timeOfDay } from "./format.ts";

const SPAN_SECONDS = { most: 900, least: 120 };
/** A capacity that would flatten everything else is not drawn. */
const CAPACITY_AT_MOST = 4;
const HEIGHT = { levels: 190, counts: 130 };
/** Steps of an axis of whole things. */
const WHOLE = [1, 2, 5]
	.flatMap((step) => Array.from({ length: 10 }, (_, power) => step * 10 ** power))
	.sort((a, b) => a - b);

const dark = matchMedia("(prefers-color-scheme: dark)");

interface Props {
	name: string;
	samples: ReadonlySignal<readonly HistorySample[]>;
	seconds: ReadonlySignal<number>;
}

export function Plot({ name, samples, seconds }: Props) {
	const levels = useRef<HTMLDivElement>(null);
	const counts = useRef<HTMLDivElement>(null);
	/** The sample under the pointer; null: the newest. */
	const at = useSignal<number | null>(null);
	const theme = useSignal(dark.matches);

	useSignalEffect(() => {
		void theme.value;
		const [above, below] = [levels.current, counts.current];
		if (!above || !below) return undefined;
		const plots = [levelsPlot(above, name, at), countsPlot(below, name, at)] as const;
		const width = (): void => {
			for (const [index, plot] of plots.entries()) {
				const height = index === 0 ? HEIGHT.levels : HEIGHT.counts;
				plot.setSize({ width: Math.max(200, above.clientWidth), height });
			}
		};
		const resized = new ResizeObserver(width);
		resized.observe(above);
		const stop = samples.subscribe((now) => draw(plots, now, seconds.peek()));
		const onTheme = (): void => {
			theme.value = dark.matches;
		};
		dark.addEventListener("change", onTheme);
		return () => {
			dark.removeEventListener("change", onTheme);
			stop();
			resized.disconnect();
			for (const plot of plots) plot.destroy();
		};
	});

	const sample = samples.value[at.value ?? samples.value.length - 1] ?? samples.value.at(-1);
	return (
		<section class="plot" aria-labelledby="plot-title">
			<h2 id="plot-title">Last 15 minutes</h2>
			<p class="readout">
				{sample && (
					<>
						<span class="quiet">{timeOfDay(sample.at)}</span>
						<Key kind="use" label="in use" value={sample.activeSlots} />
						<Key kind="line" label="waiting" value={sample.waiting} />
						<Key kind="granted" label="granted" value={sample.grantedAtOnce + sample.grantedAfterWait} />
						<Key kind="denied" label="denied" value={sample.denied} />
						{sample.wouldDeny > 0 && <Key kind="denied" label="would deny" value={sample.wouldDeny} />}
						<Key kind="capacity" label="limit" value={sample.limit} />
					</>
				)}
			</p>
			<div role="img" aria-label={inWords(samples.value)}>
				<div ref={levels} class="chart" />
				<div ref={counts} class="chart" />
			</div>
			<Table samples={samples.value} seconds={seconds.value} />
		</section>
	);
}

function Key({ kind, label, value }: { kind: string; label: string; value: number }) {
	return (
		<span class="key">
			<i class={kind} aria-hidden="true" />
			{label} <b>{number(value)}</b>
		</span>
	);
}

/** What the picture shows, for a reader who does not see it. */
function inWords(samples: readonly HistorySample[]): string {
	const most = (of: (sample: HistorySample) => number): number => Math.max(0, ...samples.map(of));
	const sum = (of: (sample: HistorySample) => number): number => samples.reduce((total, each) => total + of(each), 0);
	return [
		`In the last 15 minutes at most ${were(
			most(({ activeSlots }) => activeSlots),
			"slot",
		)} in use`,
		`and at most ${plural(
			most(({ waiting }) => waiting),
			"request",
		)} waited;`,
		`${were(sum((each) => each.grantedAtOnce + each.grantedAfterWait))} granted`,
		`and ${number(sum(({ denied }) => denied))} denied${wouldBe(sum(({ wouldDeny }) => wouldDeny))}. The table below has the figures.`,
	].join(" ");
}

const wouldBe = (count: number): string => (count === 0 ? "" : `, ${number(count)} more would have been`);

const were = (count: number, one?: string): string =>
	`${one === undefined ? number(count) : plural(count, one)} ${count === 1 ? "was" : "were"}`;

/** The same by the minute, as figures. */
function Table({ samples, seconds }: { samples: readonly HistorySample[]; seconds: number }) {
	const open = useSignal(false);
	const minutes = new Map<string, HistorySample[]>();
	for (const sample of open.value ? samples : []) {
		const minute = sample.at.slice(0, 16);
		minutes.set(minute, [...(minutes.get(minute) ?? []), sample]);
	}
	const isShadow = samples.some(({ wouldDeny }) => wouldDeny > 0);
	return (
		<details
			onToggle={(event) => {
				open.value = event.currentTarget.open;
			}}
		>
			<summary>As a table, by the minute</summary>
			<p class="quiet">From samples of {seconds} s.</p>
			<div class="frame">
				<table class="minutes">
					<thead>
						<tr>
							<th scope="col">From</th>
							<th scope="col" class="right">
								Most in use
							</th>
							<th scope="col" class="right">
								Most waiting
							</th>
							<th scope="col" class="right">
								Granted
							</th>
							<th scope="col" class="right">
								Denied
							</th>
							{isShadow && (
								<th scope="col" class="right">
									Would deny
								</th>
							)}
						</tr>
					</thead>
					<tbody>
						{[...minutes.values()].reverse().map((each) => (
							<tr key={each[0]?.at}>
								<th scope="row">{timeOfDay(each[0]?.at ?? 0)}</th>
								<td class="right">{number(Math.max(...each.map(({ activeSlots }) => activeSlots)))}</td>
								<td class="right">{number(Math.max(...each.map(({ waiting }) => waiting)))}</td>
								<td class="right">
									{number(each.reduce((sum, one) => sum + one.grantedAtOnce + one.grantedAfterWait, 0))}
								</td>
								<td class="right">{number(each.reduce((sum, one) => sum + one.denied, 0))}</td>
								{isShadow && <td class="right">{number(each.reduce((sum, one) => sum + one.wouldDeny, 0))}</td>}
							</tr>
						))}
					</tbody>
				</table>
			</div>
		</details>
	);
}

// --------------------------------------------------------------------------------------------- drawing

const colour = (of: string): string => getComputedStyle(document.documentElement).getPropertyValue(`--${of}`).trim();

function options(name: string, height: number, at: Signal<number | null>, series: uPlot.Series[]): uPlot.Options {
	const axis: uPlot.Axis = {
		stroke: colour("quiet"),
		font: "11px system-ui, sans-serif",
		grid: { stroke: colour("grid"), width: 1 },
		ticks: { show: false },
	};
	return {
		...{ width: 600, height, padding: [8, 8, 0, 0] },
		legend: { show: false },
		cursor: { sync: { key: name, setSeries: false }, drag: { x: false, y: false }, points: { show: false } },
		scales: { x: { time: true, range: (_, oldest, newest) => [begin(oldest, newest), newest] } },
		axes: [
			{ ...axis, size: 24, space: 70, values: (_, ticks, __, ___, step) => ticks.map((tick) => moment(tick, step)) },
			{ ...axis, size: 44, incrs: WHOLE, values: (_, ticks) => ticks.map((tick) => number(Math.abs(tick))) },
		],
		series: [{}, ...series],
		hooks: {
			setCursor: [
				(plot) => {
					const index = plot.cursor.idx ?? null;
					at.value = (plot.cursor.left ?? -1) < 0 ? null : index;
				},
			],
		},
	};
}

/** A quarter of an hour, or as much of it as the limit has lived through. */
const begin = (oldest: number, newest: number): number =>
	Math.max(newest - SPAN_SECONDS.most, Math.min(oldest, newest - SPAN_SECONDS.least));

/** With seconds where the steps are shorter than a minute. */
const moment = (tick: number, step: number): string => timeOfDay(tick * 1000).slice(0, step < 60 ? 8 : 5);

/** Each value holds until the next. */
const stepped = uPlot.paths.stepped?.({ align: 1 }) as uPlot.Series.PathBuilder;
const bars = uPlot.paths.bars?.({ size: [0.7, 12], align: 1 }) as uPlot.Series.PathBuilder;

function levelsPlot(parent: HTMLElement, name: string, at: Signal<number | null>): uPlot {
	const line = { paths: stepped, points: { show: false } };
	const all = options(name, HEIGHT.levels, at, [
		{ ...line, stroke: colour("capacity"), width: 1, dash: [5, 4] },
		{ ...line, stroke: colour("use"), fill: colour("use-soft"), width: 2 },
		{ ...line, stroke: colour("line"), width: 2 },
	]);
	all.scales = { ...all.scales, y: { range: (_, __, most) => [0, Math.max(1, most) * 1.08] } };
	return new uPlot(all, [[], [], [], []], parent);
}

function countsPlot(parent: HTMLElement, name: string, at: Signal<number | null>): uPlot {
	const bar = { paths: bars, points: { show: false }, width: 0 };
	const all = options(name, HEIGHT.counts, at, [
		{ ...bar, fill: colour("granted") },
		{ ...bar, fill: colour("denied") },
	]);
	all.scales = {
		...all.scales,
		y: { range: (_, least, most) => [Math.min(-1, least) * 1.1, Math.max(1, most) * 1.1] },
	};
	return new uPlot(all, [[], [], []], parent);
}

function draw([levels, counts]: readonly [uPlot, uPlot], samples: readonly HistorySample[], seconds: number): void {
	const last = samples.at(-1);
	if (!last) return;
	const from = samples.map(({ at }) => Date.parse(at) / 1000);
	// The last sample too has a length.
	const until = (from.at(-1) ?? 0) + seconds;
	const moments = [...from, until];
	const most = Math.max(1, ...samples.map(({ activeSlots, waiting }) => Math.max(activeSlots, waiting)));
	const level = (of: (sample: HistorySample) => number | null) => [...samples, last].map(of);
	levels.setData([
		moments,
		level(({ limit }) => (limit <= CAPACITY_AT_MOST * most ? limit : null)),
		level(({ activeSlots }) => activeSlots),
		level(({ waiting }) => waiting),
	]);
	counts.setData([
		moments,
		[...samples.map((each) => each.grantedAtOnce + each.grantedAfterWait || null), null],
		[...samples.map(({ denied, wouldDeny }) => -(denied + wouldDeny) || null), null],
	]);
}
