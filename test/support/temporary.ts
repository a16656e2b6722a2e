import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

export interface TemporaryFolder extends AsyncDisposable {
	path: string;
	[Symbol.asyncDispose](): Promise<void>;
}

/** A new folder outside the checkout; `await using` removes it with all that is in it. */
export async function temporaryFolder(): Promise<TemporaryFolder> {
	const folder = await mkdtemp(path.join(tmpdir(), "headgate-"));
	return {
		path: folder,
		// A process that was just killed may still be closing its files, hence the retries.
		[Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }),
	};
}
