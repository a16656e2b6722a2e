/** One clock for all processes of this machine, in milliseconds; it never jumps. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
