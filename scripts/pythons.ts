/** Makes the environments of Python that the checks of `.ci/run` use, so that none of them waits for it. */

import { pythonWith } from "./python.ts";

for (const tests of ["test/prefect", "clients/python/tests", "test/fuzz"]) {
	try {
		pythonWith(`${tests}/requirements.txt`);
	} catch (error) {
		// The next list may still be had.
		console.error(`${tests}/requirements.txt:`, error);
		process.exitCode = 1;
	}
}
