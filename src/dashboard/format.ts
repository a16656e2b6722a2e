/** Figures as people read them. */

import { safe } from "../visible.ts";

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const clock = new Intl.DateTimeFormat("en", {
	hour: "2-digit",
	minute: "2-digit",
	second: "2-digit",
	hourCycle: "h23",
});
const calendar = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

export const number = (value: number): string => numbers.format(value);

/** Letters that are written from right to left. */
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** Text from elsewhere within a text of ours: without power over it, and turning nothing around it. */
export const isolated = (text: string): string => (RIGHT_TO_LEFT.test(text) ? `\u2068${safe(text)}\u2069` : safe(text));

/** "1 slot", "2 slots". */
export const plural = (count: number, one: string, many = `${one}s`): string =>
	`${number(count)} ${count === 1 ? one : many}`;

export const timeOfDay = (moment: string | number): string => clock.format(new Date(moment));

export const dateAndTime = (moment: string): string => calendar.format(new Date(moment));

/** A length of time, in its two largest units. */
export function duration(ms: number): string {
	const seconds = Math.max(0, Math.round(ms / 1000));
	const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600), Math.floor(seconds / 60)];
	if (minutes === 0) return `${seconds} s`;
	if (hours === 0) return `${minutes} min ${seconds % 60} s`;
	if (days === 0) return `${hours} h ${minutes % 60} min`;
	return `${days} d ${hours % 24} h`;
}

/** A length of time that was chosen, and not measured: "5 min" and not "5 min 0 s". */
export const chosen = (ms: number): string => duration(ms).replace(/(?<=\w) 0 \w+$/, "");

export const PER = { second: 1, minute: 60, hour: 3_600, day: 86_400 } as const;
export type Per = keyof typeof PER;

const SHORT: Record<Per, string> = { second: "s", minute: "min", hour: "h", day: "day" };

/** A rate in the unit in which it is a number to speak of. */
export function rateParts(slotsPerSecond: number): { amount: number; per: Per } {
	// What was meant by 1.6666666666666667 a second is 100 a minute.
	const amounts = (Object.keys(PER) as Per[]).map((per) => ({
		per,
		amount: Number((slotsPerSecond * PER[per]).toPrecision(12)),
	}));
	const spoken = amounts.filter(({ amount }) => amount >= 1);
	return (
		spoken.find(({ amount }) => Number.isInteger(amount)) ??
		spoken[0] ?? { amount: amounts[3]?.amount ?? 0, per: "day" }
	);
}

export function rate(slotsPerSecond: number): string {
	const { amount, per } = rateParts(slotsPerSecond);
	return `${fine.format(amount)} / ${SHORT[per]}`;
}
