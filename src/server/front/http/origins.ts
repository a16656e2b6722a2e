/** Which origins' pages may call, as the operator lists them. */

import type { Env } from "../../contract/env.ts";

/** The entries of a variable that lists something. */
export const listed = (text = ""): string[] => text.split(",").flatMap((entry) => entry.trim() || []);

export const allowedOrigins = ({ HEADGATE_CORS_ORIGINS }: Env): string[] => listed(HEADGATE_CORS_ORIGINS);
