/** Settings: of a limit that is made or changed, and of a policy. */

import { useSignal } from "@preact/signals";
import { BOUNDS, DEFAULTS, type LimitPatch, type LimitSummary, type Policy, type Settings } from "../protocol.ts";
import * as api from "./api.ts";
import { Dialog } from "./dialog.tsx";
import { isolated, PER, type Per, rateParts } from "./format.ts";
import { linkTo } from "./parts.tsx";
import { say } from "./state.ts";

const UNITS = Object.keys(PER) as Per[];

/** Fields of settings. What is not changed keeps its exact value, however it is shown. */
function SettingsFields({ settings, focus = false }: { settings: Settings; focus?: boolean }) {
	const decays = useSignal(settings.slotDecayPerSecond > 0);
	const { amount, per } = decays.peek() ? rateParts(settings.slotDecayPerSecond) : { amount: 1, per: "second" as Per };
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
				<label class="choice">
					<input
						type="radio"
						name="decays"
						value="no"
						checked={!decays.value}
						onChange={() => {
							decays.value = false;
						}}
					/>
					when they are released <span class="hint">at most so many at once</span>
				</label>
				<label class="choice">
					<input
						type="radio"
						name="decays"
						value="yes"
						checked={decays.value}
						onChange={() => {
							decays.value = true;
						}}
					/>
					by themselves <span class="hint">at most so many in a while</span>
				</label>
				{decays.value && (
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
			<label class="choice">
				<input type="checkbox" name="active" defaultChecked={settings.active} />
				Switched on <span class="hint">off: grants at once and holds nothing</span>
			</label>
		</>
	);
}

/** The settings of a form. A rate that was not touched is the one it was made of. */
function settingsOf(form: FormData, before: Settings): Settings {
	const decays = form.get("decays") === "yes";
	const [amount, per] = [Number(form.get("amount")), form.get("per") as Per];
	const was = rateParts(before.slotDecayPerSecond);
	const untouched = before.slotDecayPerSecond > 0 && was.amount === amount && was.per === per;
	const slotDecayPerSecond = untouched ? before.slotDecayPerSecond : amount / PER[per];
	return {
		limit: Number(form.get("limit")),
		slotDecayPerSecond: decays ? slotDecayPerSecond : 0,
		active: form.get("active") !== null,
		lendSeconds: decays ? Number(form.get("lendSeconds")) : 0,
	};
}

const NEW: Settings = { limit: 10, slotDecayPerSecond: 0, active: true };

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
		if (settings.active !== before.active) change.active = settings.active;
		if (settings.lendSeconds !== (before.lendSeconds ?? 0)) change.lendSeconds = settings.lendSeconds ?? 0;
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
