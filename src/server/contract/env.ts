import type { CallerBounds } from "./admission.ts";
import type { DirectoryCalls } from "./directory-calls.ts";
import type { LimitCalls } from "./limit-calls.ts";

/** What the Worker is bound to. The objects come from `wrangler.toml`, the texts from variables and secrets. */
export interface Env {
	LIMITS: DurableObjectNamespace<LimitCalls & Rpc.DurableObjectBranded>;
	DIRECTORY: DurableObjectNamespace<DirectoryCalls & Rpc.DurableObjectBranded>;
	/** The files of the dashboard. Without it there is no page at `/`. */
	ASSETS?: Fetcher;
	/** Secret: who may do what; a JSON list, see `front/auth.ts`. Without it every call but `/health` is refused. */
	HEADGATE_TOKENS?: string;
	/** Secret: one token of scope `admin`, as it is, to begin with. Beside those of the list. */
	HEADGATE_ADMIN_TOKEN?: string;
	/** "true": no tokens are needed. Only the local server, bound to loopback, sets it. */
	HEADGATE_OPEN?: string;
	/** Host names that an open server answers to beside those of loopback, separated by commas. */
	HEADGATE_HOSTS?: string;
	/** Where objects are to live that are called for the first time: one of `REGIONS`. */
	HEADGATE_REGION?: string;
	/** Where objects run and keep their data, whatever a region says: one of `JURISDICTIONS`. */
	HEADGATE_JURISDICTION?: string;
	/** "off": every denial comes from its limit, and none from the memory of a Worker. */
	HEADGATE_DENIAL_MEMORY?: string;
	/** Where each limit writes a data point a minute, if this is bound: see docs/metrics.md. */
	ANALYTICS?: AnalyticsEngineDataset;
	/** Origins whose pages may call from a browser, separated by commas. */
	HEADGATE_CORS_ORIGINS?: string;
	/** Not bound: who asks, for as long as one request is served. See `admission/`. */
	caller?: CallerBounds;
	/** How many file descriptors the process may have. Only the local server sets it. */
	HEADGATE_DESCRIPTORS?: string;
	/** The folder in which the system lists those that are open: one entry for each. Only the local server has it. */
	DESCRIPTORS?: Fetcher;
}
