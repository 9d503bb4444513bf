/** How long a benchmark may take in a guest: without hardware help everything is ten times slower. */
export const GUEST_TIMEOUT_MS = 1_800_000
