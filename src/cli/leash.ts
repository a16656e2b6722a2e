/** A shell beside the command that `run` holds slots for: its witness, its leash, and what finds all that is left of it. */

import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";

/** Signals for the command that may be sent here. */
export const PASSED_ON = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM"] as const;
/** What stops a job and lets it go on; while there is a command, for without one the usual effect is right. */
export const JOB_CONTROL = ["SIGTSTP", "SIGCONT"] as const;

/**
 * Told by lines on its standard input, and answers by lines on its standard output.
 *
 * - Witness: it tells every signal that it gets. What a terminal sends to the foreground, `kill` to a group, or a
 *   service manager to a control group reaches it as well, and so the command: that is not to be passed on.
 * - Leash: the end of its input without `done` is the death of its parent, and the end of the command.
 * - Of the command are: the process itself, its descendants, all of its group and session when it has its own, and
 *   (where there is /proc) what carries its environment, so that a daemon that has left all these is found as well.
 *
 * Members are remembered, because a parent that ended leaves its children without a trace of it. What marks the
 * environment comes by the pipe, because every user may read the arguments of a process.
 */
const SCRIPT = `
mark= own= command= first= members= told=' ' hit=
newline='
'
trap '' PIPE
for name in ${[...PASSED_ON, ...JOB_CONTROL].map((name) => name.slice(3)).join(" ")}; do
	trap "hit=1; echo SIG$name" $name
done

# A line for each process: pid, parent, group, session, state.
processes() {
	trap '' HUP INT QUIT TERM USR1 USR2 ALRM TSTP
	if [ -r /proc/self/stat ]; then
		for file in /proc/[0-9]*/stat; do
			read -r line <"$file" || continue
			pid=\${line%% *}
			# The name may hold anything; after its last bracket are numbers alone.
			set -- \${line##*) }
			echo "$pid $2 $3 $4 $1"
		done
	else
		ps -A -o pid= -o ppid= -o pgid= -o pgid= -o stat= </dev/null
	fi
}

find_members() {
	table=$(processes) state=
	related=" $command $members "
	if [ "$mark" ]; then
		for file in $(trap '' HUP INT QUIT TERM; echo "$mark" | grep -lsF -f - /proc/[0-9]*/environ); do
			file=\${file#/proc/}
			related="$related\${file%/environ} "
		done
	fi
	members=' ' more=1
	while [ "$more" ]; do
		more= IFS=$newline
		for line in $table; do
			IFS=' '
			set -- $line
			[ "$1" = "$command" ] && state=$5
			case $5 in Z* | X*) continue ;; esac
			case $1 in 0 | 1 | $$ | $PPID) continue ;; esac
			case $members in *" $1 "*) continue ;; esac
			case $related in
				*" $1 "* | *" $2 "*) ;;
				*) [ "$own" ] && { [ "$3" = "$first" ] || [ "$4" = "$first" ]; } || continue ;;
			esac
			related="$related$1 " members="$members$1 " more=1
		done
	done
	IFS=" $newline"
	left=0
	for pid in $members; do left=$((left + 1)); done
}

echo ready
while :; do
	if IFS=' ' read -r order argument; then
		case $order in
			mark) mark=$argument ;;
			own) own=1 ;;
			watch) command=$argument first=$argument ;;
			ended) command= ;;
			pass)
				find_members
				[ $left = 0 ] || kill -s "$argument" $members
				echo "left $left" ;;
			state)
				find_members
				echo "state $state" ;;
			end)
				find_members
				for pid in $members; do
					case $told in *" $pid "*) continue ;; esac
					told="$told$pid "
					kill -TERM "$pid"
				done
				echo "left $left" ;;
			kill)
				find_members
				[ $left = 0 ] || kill -KILL $members
				echo "left $left" ;;
			done) exit 0 ;;
			*) echo pong ;;
		esac
	elif [ "$hit" ]; then
		hit=
	else
		break
	fi
done
[ "$first" ] || exit 0
for round in 1 2 3 4 5 6 7 8 9 10; do
	find_members
	[ $left = 0 ] && exit 0
	kill -KILL $members
	sleep 0.1 </dev/null || sleep 1 </dev/null
done
`;

/** Characters of the shortest mark that is looked for. */
const MARK_MIN = 16;

export class Leash {
	readonly #child: ChildProcess;
	readonly #seen = new Map<string, number>();
	readonly #answers: ((line: string | undefined) => void)[] = [];
	#gone = false;

	private constructor(child: ChildProcess) {
		this.#child = child;
		const over = (): void => {
			this.#gone = true;
			for (const answer of this.#answers.splice(0)) answer(undefined);
		};
		child.once("error", over);
		child.once("close", over);
		// What it is told after its end is of no interest, and its end is told by `close`.
		(child.stdin as Writable).on("error", () => undefined);
		let rest = "";
		(child.stdout as Readable).setEncoding("utf8").on("data", (chunk: string) => {
			const lines = (rest + chunk).split("\n");
			rest = lines.pop() ?? "";
			for (const line of lines) {
				if (line.startsWith("SIG")) this.#seen.set(line, performance.now());
				else this.#answers.shift()?.(line);
			}
		});
	}

	/**
	 * Undefined where there is no `sh`. `mark`: a text that is in the environment of the command and of nothing else.
	 * `ownSession`: the command leads a session.
	 */
	static async start(mark: string, ownSession: boolean, env: NodeJS.ProcessEnv): Promise<Leash | undefined> {
		const child = spawn("sh", ["-c", SCRIPT], {
			stdio: ["pipe", "pipe", "ignore"],
			env,
			// Where the command is: what reaches one of them in a group reaches the other.
			detached: ownSession,
		});
		const leash = new Leash(child);
		if ((await leash.#answer()) !== "ready") return undefined;
		// A short one would be in the environment of others.
		if (mark.length >= MARK_MIN) leash.#tell(`mark ${mark}`);
		if (ownSession) leash.#tell("own");
		return leash;
	}

	watch(pid: number): void {
		this.#tell(`watch ${pid}`);
	}

	/** The command itself was reaped: its number may be another process's from now on. */
	commandEnded(): void {
		this.#tell("ended");
	}

	/** Whether a signal of this kind came here by itself since then. */
	async reached(signal: NodeJS.Signals, since: number): Promise<boolean> {
		// What it got before the question it tells before the answer.
		if ((await this.#ask("ping")) === undefined) return false;
		const seen = this.#seen.get(signal);
		this.#seen.delete(signal);
		return seen !== undefined && seen >= since;
	}

	/** Sends a signal to all of the command; false when there is no leash any more that could. */
	async pass(signal: NodeJS.Signals): Promise<boolean> {
		return (await this.#ask(`pass ${signal.slice(3)}`)) !== undefined;
	}

	/** Whether the command itself is stopped. */
	async stopped(): Promise<boolean> {
		return (await this.#ask("state"))?.startsWith("state T") === true;
	}

	/** SIGTERM to all of the command, to each once; how many there are. */
	end(): Promise<number> {
		return this.#left("end");
	}

	/** SIGKILL to all of the command; how many there were. */
	kill(): Promise<number> {
		return this.#left("kill");
	}

	/** Lets go of the command, and of what it has left behind. */
	close(): void {
		this.#tell("done");
		this.#child.stdin?.end();
		this.#child.unref();
		(this.#child.stdout as Readable | null)?.destroy();
	}

	async #left(order: string): Promise<number> {
		const answer = await this.#ask(order);
		return answer === undefined ? 0 : Number(answer.split(" ")[1]);
	}

	#tell(line: string): void {
		if (!this.#gone) this.#child.stdin?.write(`${line}\n`);
	}

	#ask(line: string): Promise<string | undefined> {
		this.#tell(line);
		return this.#answer();
	}

	#answer(): Promise<string | undefined> {
		if (this.#gone) return Promise.resolve(undefined);
		return new Promise((resolve) => this.#answers.push(resolve));
	}
}
