/**
 * Assertions for programmer's mistakes. A failed assertion is a bug in Skein, never an operating
 * error: nobody catches it, the process stops, and a supervisor starts it again from its durable
 * state.
 */

/** Thrown by {@link assert}; never caught by Skein's own code. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Stops the process (by an uncaught throw) when `condition` does not hold. */
export function assert(condition: unknown, message: string): asserts condition {
  if (condition !== true) throw new AssertionError(message)
}

/** The element at `index`, which the caller knows to exist. */
export function at<T>(list: readonly T[], index: number): T {
  const value = list[index]
  assert(value !== undefined, `index ${index} outside a list of ${list.length}`)
  return value
}

/** `value`, which the caller knows to be defined. */
export function defined<T>(value: T | undefined, what: string): T {
  assert(value !== undefined, `${what} is undefined`)
  return value
}
