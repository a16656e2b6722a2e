/** Settings: of a limit that is made or changed, and of a policy. */

import { useSignal } from "@preact/signals";
import {
	BOUNDS,
	type CalendarUnit,
	DEFAULTS,
	type LimitPatch,
	type LimitSummary,
	type Policy,
	type Settings,
	type Window,
	type WindowRequest,
} from "../protocol.ts";
import { safe } from "../visible.ts";
import * as api from "./api.ts";
import { Dialog } from "./dialog.tsx";
import { isolated, PER, type Per, rateParts } from "./format.ts";
import { linkTo } from "./parts.tsx";
import { say } from "./state.ts";

const UNITS = Object.keys(PER) as Per[];

type Back = "release" | "decay" | "window";
const BACKS: [Back, words: string, hint: string][] = [
	["release", "when they are released", "at most so many at once"],
	["decay", "by themselves, one after the other", "at most so many in a while"],
	["window", "with a window", "at most so many a day, a month, or in any hour"],
];

const EVERY: CalendarUnit[] = ["minute", "hour", "day", "week", "month", "year"];

/** Of a window. What is left empty is as by default. */
function WindowFields({ window }: { window: Window | null }) {
	const every = useSignal(String(window?.every ?? "day"));
	const isCalendar = ["day", "week", "month", "year"].includes(every.value);
	const sliding = useSignal(window?.sliding ?? false);
	return (
		<div class="window">
			<label>
				Every
				<span class="hint">a unit of the calendar, or seconds</span>
				<input
					name="every"
					required
					list="every"
					pattern={`${EVERY.join("|")}|[0-9]+`}
					title={`${EVERY.join(", ")}, or seconds`}
					value={every.value}
					onInput={(event) => {
						every.value = event.currentTarget.value;
					}}
				/>
				<datalist id="every">
					{EVERY.map((unit) => (
						<option key={unit} value={unit} />
					))}
				</datalist>
			</label>
			<label class="choice">
				<input
					type="checkbox"
					name="sliding"
					checked={sliding.value}
					onChange={(event) => {
						sliding.value = event.currentTarget.checked;
					}}
				/>
				Sliding <span class="hint">each slot comes back exactly so long after it was taken</span>
			</label>
			{isCalendar && !sliding.value && (
				<>
					<label>
						Time zone
						<span class="hint">as in Europe/Berlin; empty: UTC</span>
						<input
							name="timeZone"
							maxLength={BOUNDS.timeZoneLength}
							defaultValue={window?.timeZone ?? ""}
							spellcheck={false}
						/>
					</label>
					<label>
						At
						<span class="hint">the time of day at which it begins</span>
						<input name="at" type="time" defaultValue={window?.at ?? "00:00"} />
					</label>
					{every.value !== "day" && (
						<label>
							Starts on
							<span class="hint">a weekday, a day of the month, or MM-DD; empty: the first</span>
							<input
								name="startsOn"
								defaultValue={window?.startsOn ? String(window.startsOn) : ""}
								spellcheck={false}
							/>
						</label>
					)}
				</>
			)}
		</div>
	);
}

/** What a form says of a window; the server says what is wrong with it. */
function windowOf(form: FormData): WindowRequest {
	const text = (name: string): string => String(form.get(name) ?? "").trim();
	const number = (value: string): string | number => (/^\d+$/.test(value) ? Number(value) : value);
	return {
		every: number(text("every")) as Window["every"],
		...(form.get("sliding") !== null && { sliding: true }),
		...(text("timeZone") !== "" && { timeZone: text("timeZone") }),
		...(form.has("at") && text("at") !== "" && { at: text("at") }),
		...(text("startsOn") !== "" && { startsOn: number(text("startsOn").toLowerCase()) }),
	};
}

/** Fields of settings. What is not changed keeps its exact value, however it is shown. */
function SettingsFields({ settings, focus = false }: { settings: Settings; focus?: boolean }) {
	const back = useSignal<Back>(settings.window ? "window" : settings.slotDecayPerSecond > 0 ? "decay" : "release");
	const { amount, per } =
		settings.slotDecayPerSecond > 0 ? rateParts(settings.slotDecayPerSecond) : { amount: 1, per: "second" as Per };
	return (
		<>
			<label>
				Limit
				<span class="hint">slots that may be in use at one time</span>
				<input
					name="limit"
					type="number"
					inputMode="numeric"
					required
					min={0}
					max={BOUNDS.limit}
					step={1}
					defaultValue={String(settings.limit)}
					autofocus={focus}
				/>
			</label>
			<fieldset>
				<legend>Slots come back</legend>
				{BACKS.map(([value, words, hint]) => (
					<label class="choice" key={value}>
						<input
							type="radio"
							name="back"
							value={value}
							checked={back.value === value}
							onChange={() => {
								back.value = value;
							}}
						/>
						{words} <span class="hint">{hint}</span>
					</label>
				))}
				{back.value === "window" && <WindowFields window={settings.window ?? null} />}
				{back.value === "decay" && (
					<>
						<div class="rate">
							<input
								name="amount"
								type="number"
								inputMode="decimal"
								required
								min={0}
								step="any"
								defaultValue={String(amount)}
								aria-label="Slots that come back"
								onInput={({ currentTarget: input }) => {
									const isNone = input.valueAsNumber <= 0;
									input.setCustomValidity(isNone ? "Above 0, or the slots come back when they are released." : "");
								}}
							/>
							<span aria-hidden="true">each</span>
							<select name="per" defaultValue={per} aria-label="In each">
								{UNITS.map((unit) => (
									<option key={unit} value={unit} selected={unit === per}>
										{unit}
									</option>
								))}
							</select>
						</div>
						<label>
							Lent for
							<span class="hint">seconds that a Worker may grant borrowed slots without asking; 0: not at all</span>
							<input
								name="lendSeconds"
								type="number"
								inputMode="decimal"
								required
								min={0}
								max={BOUNDS.lendSeconds.max}
								step="any"
								defaultValue={String(settings.lendSeconds ?? 0)}
							/>
						</label>
					</>
				)}
			</fieldset>
			<details>
				<summary>Whose turn it is in the line</summary>
				<label>
					Weights
					<span class="hint">of keys that wait, a line each: tenant-42 = 3; of others 1</span>
					<textarea name="weights" rows={3} spellcheck={false} defaultValue={weightLines(settings.weights ?? {})} />
				</label>
				<label>
					Starving after
					<span class="hint">seconds that a waiter is patient with higher priorities; 0: for ever</span>
					<input
						name="starveAfterSeconds"
						type="number"
						inputMode="decimal"
						required
						min={0}
						max={BOUNDS.starveAfterSeconds}
						step="any"
						defaultValue={String(settings.starveAfterSeconds ?? DEFAULTS.starveAfterSeconds)}
					/>
				</label>
			</details>
			<label class="choice">
				<input type="checkbox" name="active" defaultChecked={settings.active} />
				Switched on <span class="hint">off: grants at once and holds nothing</span>
			</label>
			<label class="choice">
				<input type="checkbox" name="enforce" defaultChecked={settings.enforce} />
				Enforced <span class="hint">off: says what it would deny, and denies nothing</span>
			</label>
		</>
	);
}

type Asked = Omit<Settings, "window"> & { window: WindowRequest | null };

/** The settings of a form. A rate that was not touched is the one it was made of. */
function settingsOf(form: FormData, before: Settings): Asked {
	const back = form.get("back") as Back;
	const [amount, per] = [Number(form.get("amount")), form.get("per") as Per];
	const was = rateParts(before.slotDecayPerSecond);
	const untouched = before.slotDecayPerSecond > 0 && was.amount === amount && was.per === per;
	const slotDecayPerSecond = untouched ? before.slotDecayPerSecond : amount / PER[per];
	return {
		limit: Number(form.get("limit")),
		slotDecayPerSecond: back === "decay" ? slotDecayPerSecond : 0,
		window: back === "window" ? windowOf(form) : null,
		active: form.get("active") !== null,
		enforce: form.get("enforce") !== null,
		lendSeconds: back === "decay" ? Number(form.get("lendSeconds")) : 0,
		weights: weightsOf(String(form.get("weights"))),
		starveAfterSeconds: Number(form.get("starveAfterSeconds")),
	};
}

/** Lines of `key = weight`; the last `=` counts, for a key may have one. What is wrong with a weight the server says. */
const weightsOf = (text: string): Record<string, number> =>
	Object.fromEntries(
		text
			.split("\n")
			.filter((line) => line.trim() !== "")
			.map((line): [string, number] => {
				const at = line.lastIndexOf("=");
				const weight = Number(at < 0 ? Number.NaN : line.slice(at + 1));
				if (Number.isNaN(weight)) throw new Error(`A weight is written "key = 3", and not "${safe(line.trim())}".`);
				return [line.slice(0, at).trim(), weight];
			}),
	);

const weightLines = (weights: Record<string, number>): string =>
	Object.entries(weights)
		.map(([key, weight]) => `${key} = ${weight}`)
		.join("\n");

/** Whether what a form says of a window is the one that there is: of that, only what is not by default is asked for. */
function isSame(asked: WindowRequest | null, window: Window | null): boolean {
	if (!asked || !window) return asked === window;
	return Object.entries({ ...DEFAULT_WINDOW, ...asked }).every(([key, value]) => {
		const is = window[key as keyof Window];
		return value === is || (key === "startsOn" && value === null && ["monday", 1, "01-01"].includes(is as never));
	});
}

const DEFAULT_WINDOW = { timeZone: "UTC", at: "00:00", startsOn: null, sliding: false };

const NEW: Settings = { limit: 10, slotDecayPerSecond: 0, active: true, enforce: true };

/** Makes a limit, or changes one: then only what was changed is sent. */
export function LimitForm({ limit, onClose }: { limit?: LimitSummary; onClose: () => void }) {
	// As it was when the dialog opened: what others change meanwhile is not undone.
	const before = useSignal(limit).value;
	const submit = async (form: FormData): Promise<void> => {
		const settings = settingsOf(form, before ?? NEW);
		if (!before) {
			const name = String(form.get("name"));
			await api.configure(name, settings);
			say(`The limit "${isolated(name)}" was made.`);
			location.hash = linkTo(name);
			return;
		}
		const change: LimitPatch = {};
		if (settings.limit !== before.limit) change.limit = settings.limit;
		if (settings.slotDecayPerSecond !== before.slotDecayPerSecond) {
			change.slotDecayPerSecond = settings.slotDecayPerSecond;
		}
		if (!isSame(settings.window, before.window ?? null)) change.window = settings.window;
		if (settings.active !== before.active) change.active = settings.active;
		if (settings.enforce !== before.enforce) change.enforce = settings.enforce;
		if (settings.lendSeconds !== (before.lendSeconds ?? 0)) change.lendSeconds = settings.lendSeconds ?? 0;
		if (weightLines(settings.weights ?? {}) !== weightLines(before.weights ?? {}))
			change.weights = settings.weights ?? {};
		const patience = before.starveAfterSeconds ?? DEFAULTS.starveAfterSeconds;
		if (settings.starveAfterSeconds !== patience) change.starveAfterSeconds = settings.starveAfterSeconds ?? patience;
		const byHand = form.get("activeSlots");
		if (typeof byHand === "string" && byHand !== "") change.activeSlots = Number(byHand);
		if (Object.keys(change).length === 0) return say("Nothing was changed.");
		await api.patch(before.name, change);
		say(`The limit "${isolated(before.name)}" was changed: ${Object.keys(change).join(", ")}.`);
	};
	return (
		<Dialog
			title={before ? `Change ${isolated(before.name)}` : "New limit"}
			action={before ? "Save" : "Create"}
			onSubmit={submit}
			onClose={onClose}
		>
			{!before && (
				<label>
					Name
					<span class="hint">none of / % &amp; &gt; &lt;</span>
					<input name="name" required maxLength={BOUNDS.nameLength} autocomplete="off" spellcheck={false} autofocus />
				</label>
			)}
			<SettingsFields settings={before ?? NEW} focus={before !== undefined} />
			{before && (
				<details>
					<summary>Set the slots in use by hand</summary>
					<label>
						Slots in use
						<span class="hint">never frees a slot that somebody holds; empty: as they are</span>
						<input name="activeSlots" type="number" inputMode="numeric" min={0} max={BOUNDS.limit} step={1} />
					</label>
				</details>
			)}
		</Dialog>
	);
}

/** Makes a policy, or replaces its settings. */
export function PolicyForm({ policy, onClose, onDone }: { policy?: Policy; onClose: () => void; onDone: () => void }) {
	const before = useSignal(policy).value;
	const submit = async (form: FormData): Promise<void> => {
		const pattern = before?.pattern ?? String(form.get("pattern"));
		const idleSeconds = Number(form.get("idleSeconds"));
		await api.setPolicy(pattern, { ...settingsOf(form, before ?? NEW), idleSeconds, region: before?.region ?? null });
		say(`The policy "${isolated(pattern)}" was ${before ? "changed" : "made"}.`);
		onDone();
	};
	return (
		<Dialog
			title={before ? `Change ${isolated(before.pattern)}` : "New policy"}
			action={before ? "Save" : "Create"}
			onSubmit={submit}
			onClose={onClose}
		>
			{!before && (
				<label>
					Pattern
					<span class="hint">the beginning of names and a closing *, or one exact name</span>
					<input
						name="pattern"
						required
						maxLength={BOUNDS.patternLength}
						placeholder="login:*"
						autocomplete="off"
						spellcheck={false}
						autofocus
					/>
				</label>
			)}
			<SettingsFields settings={before ?? NEW} focus={before !== undefined} />
			<label>
				Kept for
				<span class="hint">seconds that a name outlives its use, once it is idle and empty</span>
				<input
					name="idleSeconds"
					type="number"
					inputMode="numeric"
					required
					min={BOUNDS.idleSeconds.min}
					max={BOUNDS.idleSeconds.max}
					step={1}
					defaultValue={String(before?.idleSeconds ?? DEFAULTS.idleSeconds)}
				/>
			</label>
		</Dialog>
	);
}
