/** V8's options of the daemon (`skein`). */
export const DAEMON_OPTIONS = [
  '--max-semi-space-size=4',
  '--heap-growing-percent=100',
  '--external-memory-accounted-in-global-limit',
]
