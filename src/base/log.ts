/**
 * The logging port. pino satisfies it. The message is a constant lower-case text; all variables are
 * fields. info = a state changed; a healthy idle cluster logs nothing.
 */

/** What components need of a logger. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** A logger that adds `bindings` to every line. */
  child(bindings: Record<string, unknown>): Logger
}

/** A logger that drops everything; for tests and tools. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
}
