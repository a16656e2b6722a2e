import { test } from "vitest";
import { Random } from "../core/random.ts";
import * as s from "./support.ts";

test("churn", { timeout: 60_000 }, async () => {
	const names = await s.newLimits(2, 3, 2, 4);
	const endsAt = Date.now() + 10_000;
	const faults: string[] = [];
	const counts: Record<string, number> = {};
	const count = (k: string) => {
		counts[k] = (counts[k] ?? 0) + 1;
	};
	const worker = async (r: Random) => {
		while (Date.now() < endsAt) {
			const wanted = names.filter(() => r.chance(0.5));
			if (!wanted.length) continue;
			const asked = Object.fromEntries(wanted.map((n) => [n, r.int(1, 2)]));
			const id = s.newId();
			const mode = r.chance(0.2) ? "rate_limit" : "concurrency";
			if (r.chance(0.6)) {
				const a = await s.acquire({
					names: asked,
					id,
					mode,
					waitSeconds: r.pick([0, 1]),
					leaseSeconds: 2,
					strict: r.chance(0.2),
				});
				count(a.status === 200 ? "ok" : a.body.code);
				if (a.status >= 500 && a.body.code !== "overloaded") faults.push(JSON.stringify(a.body));
				if (a.status === 200) {
					await scheduler.wait(r.int(0, 20));
					const x = await s.release(a.body);
					if (x.status !== 200) count(`rel ${x.status} ${x.body.code}`);
				}
			} else {
				const st = await s.open({
					names: asked,
					id,
					waitSeconds: 1,
					leaseSeconds: 2,
					hold: r.chance(0.5) && mode !== "rate_limit",
					mode,
				});
				await s
					.until(() => st.lease !== null || st.problem !== null || st.state !== "open", 8000)
					.catch(() => faults.push("stuck " + JSON.stringify(st.events)));
				count(st.lease ? "sok" : "s " + (st.problem?.code ?? st.state));
				await scheduler.wait(r.int(0, 20));
				await st.leave();
				await s.release({ id, names: asked });
			}
		}
	};
	const operator = async (r: Random) => {
		while (Date.now() < endsAt) {
			await scheduler.wait(r.int(1, 30));
			const name = r.pick(names);
			const k = r.int(0, 7);
			const a =
				k === 0
					? await s.remove(name)
					: k === 1
						? await s.call("PUT", s.path(name), { limit: r.int(0, 4) })
						: k === 2
							? await s.patch(name, { active: r.chance(0.7) })
							: k === 3
								? await s.patch(name, { activeSlots: r.int(0, 3) })
								: k === 4
									? await s.patch(name, { slotDecayPerSecond: r.pick([0, 5]) })
									: k === 5
										? await s.call("GET", s.path(name))
										: await s.call("PUT", s.path(name), { limit: 3, slotDecayPerSecond: r.pick([0, 10]) });
			count(`op${k} ${a.status}`);
			if (a.status >= 500) faults.push(`op ${k} ${JSON.stringify(a.body)}`);
		}
	};
	await Promise.all([
		...Array.from({ length: 14 }, (_, i) => worker(new Random(i + 5))),
		operator(new Random(1)),
		operator(new Random(2)),
	]);
	console.log("COUNTS", JSON.stringify(counts));
	console.log("FAULTS", faults.length, [...new Set(faults)].slice(0, 10).join("\n"));
	for (const n of names) {
		await s.call("PUT", s.path(n), { limit: 3 });
		await s.patch(n, { activeSlots: 0 });
	}
	for (const n of names)
		await s.untilActive(n, 0, 12_000).catch(async () => console.log("LEFT", JSON.stringify(await s.inspect(n))));
	for (const n of names)
		await s.untilWaiting(n, 0, 12_000).catch(async () => console.log("LEFTW", JSON.stringify(await s.inspect(n))));
});
