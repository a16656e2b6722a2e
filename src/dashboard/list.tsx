/** All limits: what presses first, then the table. */

import { effect, type Signal, signal, useComputed, useSignalEffect } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { LimitSummary, Order } from "../protocol.ts";
import { attempt, granted } from "./api.ts";
import { isolated, number, plural } from "./format.ts";
import { LimitForm } from "./forms.tsx";
import { Count, Foreign, LoadBadge, linkTo, Meter, Notice, returns } from "./parts.tsx";
import {
	after,
	crowded,
	filter,
	following,
	isPressing,
	limits,
	loaded,
	next,
	paged,
	refusedList,
	totals,
	unavailable,
	watchList,
	worstFirst,
} from "./state.ts";
import { now } from "./stream.ts";

const ORDERS: Record<Order, string> = {
	attention: "what needs a look first",
	name: "by name",
};
const order = signal<Order>("attention");
const creating = signal(false);
/** What the server is asked to filter by, a moment after it was typed. */
const prefix = signal("");
/** Counts how often the page was asked for anew. */
const again = signal(0);
/** Cards shown above the table. */
const PRESSING = 6;
const TYPING_MS = 250;
/** How often rows may change places. */
const TURN_MS = 3_000;

/** `wanted`: what to filter by, when a link says so. */
export function List({ wanted }: { wanted: string | null }) {
	const search = useRef<HTMLInputElement>(null);
	// Before the first paint: an effect of the usual kind runs after it, and the figures would come as much later.
	useLayoutEffect(
		() =>
			effect(() => {
				void [attempt.value, again.value];
				const watching = watchList(prefix.value, after.value, order.value);
				return () => watching.stop();
			}),
		[],
	);
	// Only where one page is not all does the server filter.
	useSignalEffect(() => {
		const wanted = paged.value || prefix.value !== "" ? filter.value.trim() : "";
		const timer = setTimeout(() => {
			if (prefix.value === wanted) return;
			after.value = "";
			prefix.value = wanted;
		}, TYPING_MS);
		return () => clearTimeout(timer);
	});
	useEffect(() => {
		document.title = "Limits · Headgate";
		if (wanted !== null) filter.value = wanted;
		const onKey = (event: KeyboardEvent): void => {
			if (event.key !== "/" || event.target instanceof HTMLInputElement || document.querySelector("dialog[open]"))
				return;
			event.preventDefault();
			search.current?.focus();
		};
		document.addEventListener("keydown", onKey);
		return () => document.removeEventListener("keydown", onKey);
	}, []);

	const turn = useComputed(() => Math.floor(now.value / TURN_MS));
	const shown = useComputed(() => {
		const wanted = filter.value.trim().toLowerCase();
		const all = [...limits.value.values()].filter((limit) => limit.peek().name.toLowerCase().includes(wanted));
		if (order.value === "name") return all;
		// Rows change places every few seconds and not with each figure, so that one can be read, and hit.
		void turn.value;
		return all.sort((a, b) => worstFirst(a.peek(), b.peek()));
	});

	return (
		<>
			<Tiles />
			<Pressing />
			<section aria-labelledby="limits-title">
				<div class="toolbar">
					<h1 id="limits-title">Limits</h1>
					<label class="search">
						<span class="hidden">Filter by name</span>
						<input
							ref={search}
							type="search"
							placeholder={paged.value ? "Names that begin with…" : "Filter by name  ( / )"}
							value={filter.value}
							onInput={(event) => {
								filter.value = event.currentTarget.value;
							}}
						/>
					</label>
					<label class="order">
						<span class="hidden">Order</span>
						<select
							value={order.value}
							onChange={(event) => {
								after.value = "";
								order.value = event.currentTarget.value as Order;
							}}
						>
							{(Object.keys(ORDERS) as Order[]).map((each) => (
								<option key={each} value={each}>
									{ORDERS[each]}
								</option>
							))}
						</select>
					</label>
					<button
						type="button"
						class="primary"
						disabled={granted.value?.scope !== "admin"}
						title={granted.value && granted.value.scope !== "admin" ? "Needs a token of scope admin" : undefined}
						onClick={() => {
							creating.value = true;
						}}
					>
						New limit
					</button>
				</div>
				{refusedList.value && <Notice bad>{refusedList.value}</Notice>}
				{unavailable.value.length > 0 && (
					<Notice bad>
						{plural(unavailable.value.length, "limit")} could not be asked:{" "}
						{unavailable.value.slice(0, 5).map(isolated).join(", ")}
						{unavailable.value.length > 5 ? " and others" : ""}. They are tried again.
					</Notice>
				)}
				{loaded.value && shown.value.length === 0 && <Empty />}
				{shown.value.length > 0 && <Table rows={shown.value} />}
				<Pages />
			</section>
			{creating.value && (
				<LimitForm
					onClose={() => {
						creating.value = false;
					}}
				/>
			)}
		</>
	);
}

function Tiles() {
	const sums = useComputed(() => {
		const sum = { limits: 0, full: 0, waiting: 0, denied: 0, granted: 0 };
		for (const { value } of limits.value.values()) {
			sum.limits += 1;
			if (value.active && value.remaining <= 0) sum.full += 1;
			sum.waiting += value.waitingCount;
			sum.denied += value.lastMinute.denied;
			sum.granted += value.lastMinute.granted;
		}
		const all = totals.value;
		// What is on the page is of this moment, and the sums of all a few seconds old: where the page has all, it is right.
		if (all === null || !(paged.value || following.value > 0)) return sum;
		const most = { ...all, ...all.lastMinute };
		for (const key of ["full", "waiting", "denied", "granted"] as const) most[key] = Math.max(most[key], sum[key]);
		return most;
	});
	const { limits: count, full, waiting, denied, granted: grantedLately } = sums.value;
	const tiles = [
		{ label: "limits", value: number(count), tone: "" },
		{ label: "full", value: number(full), tone: full > 0 ? "full" : "" },
		{ label: "waiting", value: number(waiting), tone: waiting > 0 ? "waiting" : "" },
		{ label: "denied / min", value: number(denied), tone: denied > 0 ? "denied" : "" },
		{ label: "granted / min", value: number(grantedLately), tone: "" },
	];
	return (
		<dl class="tiles" aria-label="All limits together">
			{tiles.map(({ label, value, tone }) => (
				<div key={label} class={`tile ${tone}`}>
					<dt>{label}</dt>
					<dd>{value}</dd>
				</div>
			))}
		</dl>
	);
}

/** Limits that are paused, or full while callers wait or are refused: worst first. */
function Pressing() {
	const pressing = useComputed(() =>
		[...limits.value.values()]
			.map((limit) => limit.value)
			.filter(isPressing)
			.sort(worstFirst),
	);
	if (!loaded.value || limits.value.size === 0) return null;
	const count = pressing.value.length;
	return (
		<section class="pressing" aria-labelledby="pressing-title">
			<h2 id="pressing-title">{count > 0 ? "Needs a look" : "All is well"}</h2>
			{count === 0 && <p class="calm">No limit is paused, or full while somebody waits or is refused.</p>}
			{count > 0 && (
				<ul class="cards">
					{pressing.value.slice(0, PRESSING).map((limit) => (
						<li key={limit.name}>
							<a class="card" href={linkTo(limit.name)}>
								<span class="name">
									<Foreign text={limit.name} />
								</span>
								<Meter limit={limit} />
								<span class="figures">
									<b>
										{number(limit.activeSlots)} / {number(limit.limit)}
									</b>
									{limit.pausedUntil !== null && <span>paused</span>}
									{limit.waitingCount > 0 && <span class="waiting">{number(limit.waitingCount)} waiting</span>}
									{limit.lastMinute.denied > 0 && (
										<span class="denied">{number(limit.lastMinute.denied)} denied / min</span>
									)}
								</span>
							</a>
						</li>
					))}
				</ul>
			)}
			{count > PRESSING && <p class="calm">and {number(count - PRESSING)} more, below.</p>}
		</section>
	);
}

function Table({ rows }: { rows: Signal<LimitSummary>[] }) {
	return (
		<div class="frame">
			<table class="limits">
				<thead>
					<tr>
						<th scope="col">Name</th>
						<th scope="col">In use</th>
						<th scope="col" class="right">
							Waiting
						</th>
						<th scope="col" class="right">
							Denied / min
						</th>
						<th scope="col" class="right">
							Granted / min
						</th>
						<th scope="col" class="right">
							Slots come back
						</th>
					</tr>
				</thead>
				<tbody>
					{rows.map((limit) => (
						<Row key={limit.peek().name} limit={limit} />
					))}
				</tbody>
			</table>
		</div>
	);
}

function Row({ limit: { value: limit } }: { limit: Signal<LimitSummary> }) {
	return (
		<tr class={limit.active ? "" : "off"}>
			<th scope="row">
				<a href={linkTo(limit.name)} class="name">
					<Foreign text={limit.name} />
				</a>
				<LoadBadge limit={limit} />
			</th>
			<td class="use">
				<Meter limit={limit} />
				<span class="of">
					{number(limit.activeSlots)} / {number(limit.limit)}
				</span>
			</td>
			<td class="right" data-after="waiting">
				<Count value={limit.waitingCount} tone="waiting" />
			</td>
			<td class="right" data-after="denied / min">
				<Count value={limit.lastMinute.denied} tone="denied" />
			</td>
			<td class="right" data-after="granted / min">
				<Count value={limit.lastMinute.granted} />
			</td>
			<td
				class={`right quiet ${limit.window ? "sentence" : limit.slotDecayPerSecond > 0 ? "" : "held"}`}
				data-before="slots come back"
			>
				{returns(limit)}
			</td>
		</tr>
	);
}

function Empty() {
	const wanted = filter.value.trim();
	if (wanted !== "") {
		return (
			<Notice>
				No limit has “{isolated(wanted)}” in its name. A policy's name that was used just once is not listed:{" "}
				<a href={linkTo(wanted)}>look for one of exactly this name</a>.
			</Notice>
		);
	}
	return (
		<Notice>
			There are no limits yet. Make one here, or just ask: the first <code>POST /v1/acquire</code> of a name creates it,
			switched off.
		</Notice>
	);
}

function Pages() {
	if (!paged.value) return null;
	const left = (totals.value?.limits ?? 0) - limits.value.size - following.value;
	if (order.value === "attention") {
		return left <= 0 ? null : (
			<p class="pages">
				and {plural(left, "limit")} more that {left === 1 ? "needs" : "need"} no look, or a lesser one: filter by name
				to see them.
			</p>
		);
	}
	return (
		<nav class="pages" aria-label="Pages of limits">
			{left > 0 && <span>{number(left)} more are on other pages.</span>}
			{crowded.value && (
				<>
					<span>There are new limits that are not shown.</span>
					<button
						type="button"
						onClick={() => {
							again.value += 1;
						}}
					>
						Show them
					</button>
				</>
			)}
			{after.value !== "" && (
				<button
					type="button"
					onClick={() => {
						after.value = "";
					}}
				>
					First page
				</button>
			)}
			{next.value !== null && (
				<button
					type="button"
					onClick={() => {
						after.value = next.value ?? "";
					}}
				>
					Next page
				</button>
			)}
		</nav>
	);
}
