/** Dialogs: the browser's own, with its keyboard, its focus and its Escape. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { safe } from "../visible.ts";
import { inWords, Refusal } from "./api.ts";

interface Props {
	title: string;
	/** What the button says that does it. */
	action: string;
	/** It destroys something. */
	danger?: boolean;
	children: ComponentChildren;
	/** Does it; what it throws is shown, and the dialog stays. */
	onSubmit: (form: FormData) => Promise<void>;
	onClose: () => void;
	/** There is no way around it. */
	required?: boolean;
}

export function Dialog({ title, action, danger = false, children, onSubmit, onClose, required = false }: Props) {
	const dialog = useRef<HTMLDialogElement>(null);
	const titleId = useId();
	const problemId = useId();
	const busy = useSignal(false);
	const problem = useSignal<string | null>(null);
	useEffect(() => dialog.current?.showModal(), []);

	const submit = async (event: SubmitEvent): Promise<void> => {
		event.preventDefault();
		if (busy.value) return;
		busy.value = true;
		problem.value = null;
		try {
			await onSubmit(new FormData(event.currentTarget as HTMLFormElement));
			dialog.current?.close();
		} catch (error) {
			problem.value = explain(error);
			busy.value = false;
		}
	};
	return (
		<dialog
			ref={dialog}
			aria-labelledby={titleId}
			aria-describedby={problemId}
			onClose={onClose}
			onCancel={(event) => {
				if (required) event.preventDefault();
			}}
		>
			<form onSubmit={submit}>
				<h2 id={titleId}>{title}</h2>
				<div class="body">{children}</div>
				<div class="foot">
					<p id={problemId} class="problem" role="alert">
						{problem.value}
					</p>
					<div class="buttons">
						{!required && (
							<button type="button" onClick={() => dialog.current?.close()}>
								Cancel
							</button>
						)}
						<button type="submit" class={danger ? "danger" : "primary"} aria-busy={busy.value}>
							{action}
						</button>
					</div>
				</div>
			</form>
		</dialog>
	);
}

/** A refusal field by field, where it names them. */
function explain(error: unknown): string {
	const fields = error instanceof Refusal ? error.problem.errors : undefined;
	const told = fields?.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join("; ");
	return told === undefined ? inWords(error) : safe(told);
}
