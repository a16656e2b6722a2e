/** Policies: settings for every name that begins in some way. */

import { signal, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Policy } from "../protocol.ts";
import * as api from "./api.ts";
import { Dialog } from "./dialog.tsx";
import { chosen, dateAndTime, isolated, number } from "./format.ts";
import { PolicyForm } from "./forms.tsx";
import { Foreign, linkTo, Notice, returns } from "./parts.tsx";
import { say } from "./state.ts";

const policies = signal<Policy[] | null>(null);
const problem = signal<string | null>(null);
const editing = signal<Policy | "new" | null>(null);
const deleting = signal<Policy | null>(null);
/** The pattern whose keys are looked at. */
const looking = signal<string | null>(null);

async function load(): Promise<void> {
	try {
		policies.value = (await api.policies()).policies;
		if (api.granted.value === null) api.granted.value = await api.inspectToken();
		problem.value = null;
	} catch (error) {
		problem.value = api.asking.value === null ? api.inWords(error) : null;
	}
}

export function Policies() {
	useEffect(() => {
		document.title = "Policies · Headgate";
	}, []);
	useSignalEffect(() => {
		void api.attempt.value;
		void load();
	});
	const admin = api.granted.value?.scope === "admin";
	const close = (): void => {
		editing.value = null;
	};
	return (
		<section aria-labelledby="policies-title">
			<div class="toolbar">
				<h1 id="policies-title">Policies</h1>
				<button
					type="button"
					class="primary"
					disabled={!admin}
					onClick={() => {
						editing.value = "new";
					}}
				>
					New policy
				</button>
			</div>
			<p class="quiet">
				A name that nobody configured has the settings of the policy whose pattern fits it best. With a policy for{" "}
				<code>login:*</code>, every user has a limit without any set-up. A change holds for all its names within five
				seconds.
			</p>
			{problem.value && <Notice bad>{problem.value}</Notice>}
			{policies.value?.length === 0 && <Notice>There are no policies yet.</Notice>}
			{policies.value !== null && policies.value.length > 0 && (
				<div class="frame">
					<table class="policies">
						<thead>
							<tr>
								<th scope="col">Pattern</th>
								<th scope="col" class="right">
									Limit
								</th>
								<th scope="col" class="right">
									Slots come back
								</th>
								<th scope="col" class="right">
									Kept idle for
								</th>
								<th scope="col">Changed</th>
								<th scope="col">
									<span class="hidden">Actions</span>
								</th>
							</tr>
						</thead>
						<tbody>
							{policies.value.map((policy) => (
								<tr key={policy.pattern} class={policy.active ? "" : "off"}>
									<th scope="row">
										<a
											class="name"
											href={`#/?filter=${encodeURIComponent(policy.pattern.replace(/\*$/, ""))}`}
											title="Limits of this policy"
										>
											<Foreign text={policy.pattern} />
										</a>
										{!policy.active && <span class="badge off">off</span>}
									</th>
									<td class="right" data-before="limit">
										{number(policy.limit)}
									</td>
									<td class="right" data-before="slots come back">
										{returns(policy)}
									</td>
									<td class="right" data-before="kept idle for">
										{chosen(1_000 * policy.idleSeconds)}
									</td>
									<td class="quiet" data-before="changed">
										{dateAndTime(policy.updatedAt)}
									</td>
									<td class="actions">
										{policy.pattern.endsWith("*") && (
											<button
												type="button"
												aria-label={`Denied keys of ${isolated(policy.pattern)}`}
												onClick={() => {
													looking.value = policy.pattern;
												}}
											>
												Denied keys
											</button>
										)}
										<button
											type="button"
											disabled={!admin}
											aria-label={`Change ${isolated(policy.pattern)}`}
											onClick={() => {
												editing.value = policy;
											}}
										>
											Change
										</button>
										<button
											type="button"
											class="danger"
											disabled={!admin}
											aria-label={`Delete ${isolated(policy.pattern)}`}
											onClick={() => {
												deleting.value = policy;
											}}
										>
											Delete
										</button>
									</td>
								</tr>
							))}
						</tbody>
					</table>
				</div>
			)}
			{editing.value !== null && (
				<PolicyForm
					{...(editing.value !== "new" && { policy: editing.value })}
					onClose={close}
					onDone={() => void load()}
				/>
			)}
			{deleting.value !== null && <DeletePolicy policy={deleting.value} />}
			{looking.value !== null && <DeniedKeys key={looking.value} pattern={looking.value} />}
		</section>
	);
}

/** Whom a policy denies most: a dialog, for it is asked for and not pushed. */
function DeniedKeys({ pattern }: { pattern: string }) {
	const keys = useSignal<{ name: string; denied: number }[] | null>(null);
	const failed = useSignal<string | null>(null);
	const look = async (): Promise<void> => {
		try {
			keys.value = (await api.deniedKeys(pattern)).keys;
			failed.value = null;
		} catch (error) {
			failed.value = api.inWords(error);
		}
	};
	useEffect(() => void look(), []);
	return (
		<Dialog
			title={`Denied most of ${isolated(pattern)}`}
			action="Close"
			onSubmit={async () => undefined}
			onClose={() => {
				looking.value = null;
			}}
		>
			{failed.value && <Notice bad>{failed.value}</Notice>}
			{keys.value?.length === 0 && <p>No key told of a denial within the last minute or two.</p>}
			{keys.value !== null && keys.value.length > 0 && (
				<table>
					<thead>
						<tr>
							<th scope="col">Key</th>
							<th scope="col" class="right">
								Denied lately
							</th>
						</tr>
					</thead>
					<tbody>
						{keys.value.map(({ name, denied }) => (
							<tr key={name}>
								<th scope="row">
									<a class="name" href={linkTo(name)}>
										<Foreign text={name} />
									</a>
								</th>
								<td class="right">{number(denied)}</td>
							</tr>
						))}
					</tbody>
				</table>
			)}
		</Dialog>
	);
}

function DeletePolicy({ policy: { pattern } }: { policy: Policy }) {
	return (
		<Dialog
			title={`Delete the policy ${isolated(pattern)}?`}
			action="Delete"
			danger
			onSubmit={async () => {
				await api.deletePolicy(pattern);
				say(`The policy "${isolated(pattern)}" was deleted.`);
				void load();
			}}
			onClose={() => {
				deleting.value = null;
			}}
		>
			<p>Within five seconds its names have the settings of the next best policy; without one they are switched off.</p>
		</Dialog>
	);
}
