/** One limit: how it stands, who holds, who waits, and its last quarter of an hour. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { LeaseInfo, LimitInfo } from "../protocol.ts";
import * as api from "./api.ts";
import { Dialog } from "./dialog.tsx";
import { dateAndTime, duration, isolated, number, plural } from "./format.ts";
import { LimitForm } from "./forms.tsx";
import { Foreign, LoadBadge, Meter, Notice, returns } from "./parts.tsx";
import { Plot } from "./plot.tsx";
import { pauseLeftMs, type Shown, say, watchLimit } from "./state.ts";
import { now } from "./stream.ts";

export function LimitPage({ name }: { name: string }) {
	const shown = useSignal<Shown | null>(null);
	useSignalEffect(() => {
		void api.attempt.value;
		const watching = watchLimit(name);
		shown.value = watching;
		return () => watching.stop();
	});
	useEffect(() => {
		document.title = `${isolated(name)} · Headgate`;
	}, [name]);
	const info = shown.value?.info.value;
	const gone = shown.value?.gone.value;
	return (
		<>
			<p class="path">
				<a href="#/">Limits</a> <span aria-hidden="true">/</span>
			</p>
			{gone && (
				<>
					<h1 class="name">
						<Foreign text={name} />
					</h1>
					<Notice bad>{gone}</Notice>
				</>
			)}
			{!gone && !info && (
				<>
					<h1 class="name">
						<Foreign text={name} />
					</h1>
					<p class="quiet" aria-busy="true">
						Asking…
					</p>
				</>
			)}
			{!gone && info && shown.value && <Details info={info} shown={shown.value} />}
		</>
	);
}

/** Whose settings these are. */
function sourceOf({ origin, policy }: LimitInfo): string {
	if (origin === "policy") return `of the policy ${isolated(policy ?? "")}`;
	if (origin === "default") return "nobody configured it";
	return policy === null ? "its own" : `its own, in place of the policy ${isolated(policy)}`;
}

function Details({ info, shown }: { info: LimitInfo; shown: Shown }) {
	return (
		<>
			<div class="toolbar">
				<h1 class="name">
					<Foreign text={info.name} /> <LoadBadge limit={info} />
				</h1>
				<Actions info={info} />
			</div>
			<section class="hero" aria-label="How it stands">
				<p class="big">
					<b>{number(info.activeSlots)}</b> of {plural(info.limit, "slot")} in use
					<Paused info={info} />
					{info.active && !info.enforce && (
						<span class="quiet"> · not enforced: it says what it would deny, and denies nothing</span>
					)}
					{!info.active && <span class="quiet"> · switched off: it grants at once and holds nothing</span>}
				</p>
				<Meter limit={info} large />
				<dl class="facts">
					<Fact label="waiting" value={number(info.waitingCount)} tone={info.waitingCount > 0 ? "waiting" : ""} />
					<Fact
						label="denied / min"
						value={number(info.lastMinute.denied)}
						tone={info.lastMinute.denied > 0 ? "denied" : ""}
					/>
					<Fact label="granted / min" value={number(info.lastMinute.granted)} />
					<Fact label="leases" value={number(info.leaseCount)} />
					{info.window && <Fact label="left" value={number(info.remaining)} />}
					<Fact label="slots come back" value={returns(info)} tone={info.window ? "wide" : ""} />
					{info.lentSlots !== undefined && <Fact label="lent to Workers" value={number(info.lentSlots)} />}
					{info.resetsAt !== undefined && (
						<Fact label="all of them in" value={duration(Date.parse(info.resetsAt) - now.value)} />
					)}
				</dl>
			</section>
			<Plot name={info.name} samples={shown.samples} seconds={shown.sampleSeconds} />
			<Holders info={info} />
			<Waiters info={info} />
			<section aria-labelledby="totals-title">
				<h2 id="totals-title">Since it was made</h2>
				<dl class="totals">
					<Fact label="granted at once" value={number(info.totals.grantedAtOnce)} />
					<Fact label="granted after a wait" value={number(info.totals.grantedAfterWait)} />
					<Fact label="denied" value={number(info.totals.denied)} />
					{info.totals.wouldDeny > 0 && <Fact label="would deny" value={number(info.totals.wouldDeny)} />}
					{info.settled.meanRatio !== null && (
						<Fact
							label="settled"
							value={`${plural(info.settled.count, "estimate")}, on average ${Math.round(100 * info.settled.meanRatio)} %`}
						/>
					)}
					<Fact label="released" value={number(info.totals.released)} />
					<Fact label="expired" value={number(info.totals.expired)} />
					<Fact label="settings" value={sourceOf(info)} />
					<Fact label="made" value={dateAndTime(info.createdAt)} />
					<Fact
						label="settings since"
						value={`${dateAndTime(info.updatedAt)}${info.updatedBy === null ? "" : `, by ${isolated(info.updatedBy)}`}`}
					/>
				</dl>
			</section>
		</>
	);
}

/** How long nothing is granted yet, whoever paused it. */
function Paused({ info }: { info: LimitInfo }) {
	const left = pauseLeftMs(info, now.value);
	return left > 0 ? <span class="quiet"> · paused: it grants nothing for {duration(left)}</span> : null;
}

function Fact({ label, value, tone = "" }: { label: string; value: string; tone?: string }) {
	return (
		<div class={tone}>
			<dt>{label}</dt>
			<dd>{value}</dd>
		</div>
	);
}

/** Of one press of the button: a minute, in which an operator can look. Again makes it no longer than a minute from then. */
const PAUSE_SECONDS = 60;

function Actions({ info }: { info: LimitInfo }) {
	const open = useSignal<"edit" | "delete" | null>(null);
	const admin = api.granted.value?.scope === "admin";
	const close = (): void => {
		open.value = null;
	};
	const toggle = async (): Promise<void> => {
		try {
			await api.patch(info.name, { active: !info.active });
			say(`"${isolated(info.name)}" was switched ${info.active ? "off" : "on"}.`);
		} catch (error) {
			say(api.inWords(error), true);
		}
	};
	const paused = pauseLeftMs(info, now.value) > 0;
	const pause = async (): Promise<void> => {
		try {
			await api.pause(info.name, paused ? 0 : PAUSE_SECONDS);
			say(`"${isolated(info.name)}" ${paused ? "grants again" : `grants nothing for ${PAUSE_SECONDS} s`}.`);
		} catch (error) {
			say(api.inWords(error), true);
		}
	};
	return (
		<div class="actions">
			<button type="button" disabled={!admin || !info.active} onClick={() => void pause()}>
				{paused ? "End the pause" : `Pause for ${PAUSE_SECONDS} s`}
			</button>
			<button
				type="button"
				disabled={!admin}
				onClick={() => {
					open.value = "edit";
				}}
			>
				Change
			</button>
			<button type="button" disabled={!admin} onClick={() => void toggle()}>
				Switch {info.active ? "off" : "on"}
			</button>
			<button
				type="button"
				class="danger"
				disabled={!admin}
				onClick={() => {
					open.value = "delete";
				}}
			>
				Delete
			</button>
			{!admin && api.granted.value && <span class="quiet">This token may look, and change nothing.</span>}
			{open.value === "edit" && <LimitForm limit={info} onClose={close} />}
			{open.value === "delete" && (
				<Dialog
					title={`Delete ${isolated(info.name)}?`}
					action="Delete"
					danger
					onSubmit={async () => {
						await api.remove(info.name);
						say(`The limit "${isolated(info.name)}" was deleted.`);
						location.hash = "#/";
					}}
					onClose={close}
				>
					<p>
						{info.leaseCount > 0 || info.waitingCount > 0
							? `It ends ${plural(info.leaseCount, "lease")} and sends away ${plural(info.waitingCount, "waiter")}.`
							: "Nobody holds a slot of it, and nobody waits."}{" "}
						{info.policy !== null &&
							`The name then has the settings of the policy ${isolated(info.policy)} when it is next used.`}
					</p>
				</Dialog>
			)}
		</div>
	);
}

// ---------------------------------------------------------------------------------------------- holders

function Holders({ info }: { info: LimitInfo }) {
	const releasing = useSignal<LeaseInfo | null>(null);
	/** Leases beyond those that the stream shows, as they were when they were asked for. */
	const more = useSignal<{ leases: LeaseInfo[]; next: string | null } | null>(null);
	const admin = api.granted.value?.scope === "admin";
	const shown = new Set(info.leases.map(({ id }) => id));
	const others = more.value?.leases.filter(({ id }) => !shown.has(id)) ?? [];
	const hidden = info.leaseCount - info.leases.length - others.length;
	const load = async (): Promise<void> => {
		try {
			// From the beginning, for leases may have ended since; then page by page.
			const page = await api.leases(info.name, more.value?.next ?? "");
			more.value = { leases: [...(more.value?.leases ?? []), ...page.leases], next: page.next };
		} catch (error) {
			say(api.inWords(error), true);
		}
	};
	return (
		<section aria-labelledby="holders-title">
			<h2 id="holders-title">
				Who holds <span class="count">{number(info.leaseCount)}</span>
			</h2>
			{info.leaseCount === 0 && <p class="quiet">Nobody.</p>}
			{info.leaseCount > 0 && (
				<div class="frame">
					<table class="holders">
						<thead>
							<tr>
								<th scope="col">Holder</th>
								<th scope="col" class="right">
									Slots
								</th>
								<th scope="col" class="right">
									Held for
								</th>
								<th scope="col" class="right">
									Ends in
								</th>
								<th scope="col">
									<span class="hidden">Actions</span>
								</th>
							</tr>
						</thead>
						<tbody>
							{[...info.leases, ...others].map((lease) => (
								<tr key={lease.id}>
									<th scope="row">
										<Who {...lease} />
									</th>
									<td class="right" data-before="slots">
										{number(lease.slots)}
									</td>
									<td class="right" data-before="held for" title={`since ${dateAndTime(lease.since)}`}>
										{duration(now.value - Date.parse(lease.since))}
									</td>
									<td class="right" data-before="ends in" title={`at ${dateAndTime(lease.expiresAt)}`}>
										<Countdown at={lease.expiresAt} />
									</td>
									<td class="actions">
										<button
											type="button"
											class="danger"
											disabled={!admin}
											aria-label={`Release ${isolated(lease.holder ?? lease.id)}`}
											onClick={() => {
												releasing.value = lease;
											}}
										>
											Release
										</button>
									</td>
								</tr>
							))}
						</tbody>
					</table>
				</div>
			)}
			{hidden > 0 && (
				<p class="pages">
					<span>{number(hidden)} more.</span>{" "}
					<button type="button" onClick={() => void load()}>
						Show a hundred more
					</button>
				</p>
			)}
			{releasing.value && (
				<Dialog
					title="Take these slots back?"
					action="Release"
					danger
					onSubmit={async () => {
						const lease = releasing.value as LeaseInfo;
						const { released } = await api.forceRelease(info.name, lease.id);
						say(
							`${plural(released, "slot")} of "${isolated(info.name)}" came back from ${isolated(lease.holder ?? lease.id)}.`,
						);
					}}
					onClose={() => {
						releasing.value = null;
					}}
				>
					<p>
						<b class="name">
							<Foreign text={releasing.value.holder ?? releasing.value.id} />
						</b>{" "}
						holds {plural(releasing.value.slots, "slot")} and may still be at work: it learns of this when it renews.
					</p>
				</Dialog>
			)}
		</section>
	);
}

/** Who it is, in its own words; and its id, for the logs. */
function Who({ id, holder }: { id: string; holder: string | null }) {
	return (
		<>
			<span class={holder === null ? "name quiet" : "name"}>
				<Foreign text={holder ?? "without a name"} />
			</span>
			<span class="id">
				<Foreign text={id} />
			</span>
		</>
	);
}

const SOON_MS = 10_000;

function Countdown({ at }: { at: string }) {
	const left = Date.parse(at) - now.value;
	return <span class={left < SOON_MS ? "soon" : ""}>{left > 0 ? duration(left) : "now"}</span>;
}

// ---------------------------------------------------------------------------------------------- waiters

function Waiters({ info }: { info: LimitInfo }) {
	const hidden = info.waitingCount - info.waiting.length;
	const hasPriorities = info.waiting.some(({ priority }) => priority > 0);
	const hasKeys = info.waiting.some(({ key }) => key !== null);
	const [first] = info.waiting;
	return (
		<section aria-labelledby="waiters-title">
			<h2 id="waiters-title">
				Who waits <span class="count">{number(info.waitingCount)}</span>
			</h2>
			{info.waitingCount === 0 && <p class="quiet">Nobody.</p>}
			{first && <p class="quiet">{REASONS[first.waitingFor.reason]}</p>}
			{info.waitingKeys && <WaitingKeys keys={info.waitingKeys} />}
			{info.waitingCount > 0 && (
				<div class="frame">
					<table class="waiters">
						<thead>
							<tr>
								<th scope="col" class="right">
									Place
								</th>
								{hasPriorities && (
									<th scope="col" class="right">
										Priority
									</th>
								)}
								{hasKeys && <th scope="col">Key</th>}
								<th scope="col">Holder</th>
								<th scope="col" class="right">
									Slots
								</th>
								<th scope="col" class="right">
									Waits for
								</th>
							</tr>
						</thead>
						<tbody>
							{info.waiting.map((waiter) => (
								<tr key={waiter.id}>
									<td class="right place">{number(waiter.position)}</td>
									{hasPriorities && (
										<td class="right" data-before="priority">
											{waiter.priority}
										</td>
									)}
									{hasKeys && (
										<td class="key" data-before="key">
											<Key of={waiter.key} />
										</td>
									)}
									<th scope="row">
										<Who {...waiter} />
									</th>
									<td class="right" data-before="slots">
										{number(waiter.slots)}
									</td>
									<td class="right" data-before="waits for" title={`since ${dateAndTime(waiter.since)}`}>
										{duration(now.value - Date.parse(waiter.since))}
									</td>
								</tr>
							))}
						</tbody>
					</table>
				</div>
			)}
			{hidden > 0 && <p class="quiet">and {number(hidden)} behind them.</p>}
		</section>
	);
}

/** How a wait may end. */
const REASONS: Record<LimitInfo["waiting"][number]["waitingFor"]["reason"], string> = {
	slots: "For slots that others hold.",
	rate: "For slots that come back by themselves.",
	window: "For the end of the window.",
	paused: "For the end of the pause.",
};

/** Whose turns there are: one that floods is seen to wait for itself. */
function WaitingKeys({ keys }: { keys: NonNullable<LimitInfo["waitingKeys"]> }) {
	const hasPriorities = keys.some(({ priority }) => priority > 0);
	const hasWeights = keys.some(({ weight }) => weight !== 1);
	return (
		<div class="frame">
			<table class="keys" aria-label="Whose turns">
				<thead>
					<tr>
						<th scope="col">Key</th>
						{hasPriorities && (
							<th scope="col" class="right">
								Priority
							</th>
						)}
						{hasWeights && (
							<th scope="col" class="right">
								Weight
							</th>
						)}
						<th scope="col" class="right">
							Waiting
						</th>
						<th scope="col" class="right">
							Slots
						</th>
					</tr>
				</thead>
				<tbody>
					{keys.map(({ key, priority, weight, waiting, slots }) => (
						<tr key={`${priority} ${key}`}>
							<th scope="row">
								<Key of={key} />
							</th>
							{hasPriorities && (
								<td class="right" data-before="priority">
									{priority}
								</td>
							)}
							{hasWeights && (
								<td class="right" data-before="weight">
									{number(weight)}
								</td>
							)}
							<td class="right" data-before="waiting">
								{number(waiting)}
							</td>
							<td class="right" data-before="slots">
								{number(slots)}
							</td>
						</tr>
					))}
				</tbody>
			</table>
		</div>
	);
}

const Key = ({ of }: { of: string | null }) => (of === null ? <span class="quiet">none</span> : <bdi>{of}</bdi>);
