/** The page: which view is shown, who is asked for a token, and whether the figures are live. */

import "uplot/dist/uPlot.min.css";
import "./app.css";
import { signal } from "@preact/signals";
import { render } from "preact";
import { asking, granted, token, useToken } from "./api.ts";
import { Dialog } from "./dialog.tsx";
import { duration, isolated, timeOfDay } from "./format.ts";
import { LimitPage } from "./limit.tsx";
import { List } from "./list.tsx";
import { Policies } from "./policies.tsx";
import { said } from "./state.ts";
import { connection, heardAt, now } from "./stream.ts";

const place = signal(location.hash);
addEventListener("hashchange", () => {
	place.value = location.hash;
	scrollTo(0, 0);
});

function View() {
	const [, section = "", rest = ""] = place.value.split("/");
	if (section === "policies") return <Policies />;
	if (section === "limits" && rest !== "") {
		const name = decode(rest);
		return <LimitPage key={name} name={name} />;
	}
	const wanted = /^\?filter=(.*)$/.exec(section)?.[1];
	return <List key={wanted} wanted={wanted === undefined ? null : decode(wanted)} />;
}

/** A name out of a link; one that is no encoding stands for itself. */
function decode(text: string): string {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}

function App() {
	const onPolicies = place.value.startsWith("#/policies");
	return (
		<>
			<header>
				<a class="brand" href="#/">
					<img src="/assets/icon.svg" alt="" width="22" height="22" /> Headgate
				</a>
				<nav aria-label="Sections">
					<a href="#/" aria-current={onPolicies ? undefined : "page"}>
						Limits
					</a>
					<a href="#/policies" aria-current={onPolicies ? "page" : undefined}>
						Policies
					</a>
					<a href="/docs">API</a>
				</nav>
				{!onPolicies && <Live />}
				{token.value !== null && (
					<button type="button" class="plain" onClick={() => useToken(null)}>
						Forget the token
						{granted.value && <span class="hidden"> of {isolated(granted.value.name || "no name")}</span>}
					</button>
				)}
			</header>
			{connection.value === "lost" && !onPolicies && asking.value === null && <Lost />}
			<main>
				<View />
			</main>
			<Said />
			{asking.value !== null && <AskForToken why={asking.value} />}
		</>
	);
}

const WORDS = { live: "live", connecting: "connecting", lost: "not live" };

function Live() {
	return (
		<span class={`live ${connection.value}`} title={`last heard of the server at ${timeOfDay(heardAt.value)}`}>
			{WORDS[connection.value]}
		</span>
	);
}

function Lost() {
	void now.value; // Once a second.
	return (
		<p class="lost" role="alert">
			The server does not answer. These figures are {duration(Date.now() - heardAt.value)} old.
		</p>
	);
}

const SAID_MS = 8_000;
let saidTimer: ReturnType<typeof setTimeout> | undefined;
said.subscribe((value) => {
	clearTimeout(saidTimer);
	if (value) {
		saidTimer = setTimeout(() => {
			said.value = null;
		}, SAID_MS);
	}
});

function Said() {
	return (
		<div class="said" role="status" aria-live="polite">
			{said.value && <p class={said.value.bad ? "bad" : ""}>{said.value.text}</p>}
		</div>
	);
}

function AskForToken({ why }: { why: string }) {
	return (
		<Dialog
			title="Token"
			action="Go on"
			required
			onSubmit={async (form) => useToken(String(form.get("token")).trim())}
			onClose={() => undefined}
		>
			<p>{why}</p>
			<label>
				Token
				<span class="hint">kept in this tab alone, until it is closed</span>
				<input name="token" type="password" required autocomplete="off" spellcheck={false} autofocus />
			</label>
		</Dialog>
	);
}

render(<App />, document.body);
