/** The server cannot start for a reason that its user can mend; shown as it is, without a stack. */
export class StartError extends Error {
	override readonly name = "StartError";
	/** What the process ends with: 2 when it was called wrongly, 1 when the machine refused. */
	readonly exitCode: 1 | 2;

	constructor(message: string, exitCode: 1 | 2 = 1) {
		super(message);
		this.exitCode = exitCode;
	}
}

/** The `code` of a system error such as `ENOENT`, or undefined for any other value. */
export function systemErrorCode(error: unknown): string | undefined {
	return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
