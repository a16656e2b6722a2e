/** How the reference page looks: light and dark, wide and narrow, also on paper. */
export const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1c2024, #e6e8eb); --soft: light-dark(#5b636b, #9ba4ad);
	--ground: light-dark(#fff, #131619); --raised: light-dark(#f4f6f8, #1c2126); --line: light-dark(#dde2e7, #2e353c);
	--link: light-dark(#0b57c2, #7db4ff); --good: light-dark(#13713a, #5fce8b); --bad: light-dark(#ab2430, #ff8d8d); }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--ground);
	display: grid; grid-template-columns: minmax(15rem, 19rem) minmax(0, 1fr); }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1.25rem; border-right: 1px solid var(--line);
	background: var(--raised); font-size: .85rem; }
nav .title { font-size: 1.15rem; font-weight: 650; margin: 0; }
nav h2 { font-size: .8rem; color: var(--soft); margin: 1.1rem 0 .3rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li { overflow-wrap: anywhere; padding: .12rem 0; }
main { max-width: 60rem; padding: 1.5rem 2rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
section > h2 { margin: 2.5rem 0 .25rem; text-transform: capitalize; }
article { border-top: 1px solid var(--line); padding: 1.25rem 0 .5rem; scroll-margin-top: 1rem; }
h3 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
h4 { margin: 1.1rem 0 .4rem; font-size: .9rem; color: var(--soft); }
p { margin: .5rem 0; }
.summary { font-weight: 550; }
small { color: var(--soft); font-weight: 400; }
b[class] { font: 600 .75rem/1 ui-monospace, monospace; text-transform: uppercase; color: var(--soft); }
b.post, b.put, b.patch { color: var(--link); }
b.get, b.status-2 { color: var(--good); }
b.delete, b.status-4, b.status-5 { color: var(--bad); }
code, pre { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, monospace; }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem; overflow: auto; }
details { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .85rem; margin: .4rem 0; }
summary { cursor: pointer; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 550; }
@media (max-width: 50rem) {
	body { display: block; }
	nav { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line); }
	main { padding: 1.25rem; }
}
@media print { body { display: block; } nav { display: none; } }
`;
