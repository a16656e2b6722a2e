/** What the variables of a deployment may say of where its objects live. */

import { JURISDICTIONS, REGIONS } from "./protocol.ts";

/** Why no object can be found with these variables, or null. An empty one counts as absent. */
export const placementFault = (variables: {
	HEADGATE_REGION?: string | undefined;
	HEADGATE_JURISDICTION?: string | undefined;
}): string | null =>
	faultOf("HEADGATE_REGION", variables.HEADGATE_REGION, REGIONS) ??
	faultOf("HEADGATE_JURISDICTION", variables.HEADGATE_JURISDICTION, JURISDICTIONS);

function faultOf(variable: string, text: string | undefined, known: readonly string[]): string | null {
	if (!text || known.includes(text)) return null;
	return `${variable} is "${text}", which is none of ${known.join(", ")}. Correct it, or leave it out.`;
}
