/** Errors that a simulated caller must put up with. */
import type { SwarmError } from '../../base/errors.ts'
import { isSwarmError } from '../../base/errors.ts'

/** Faults make calls fail, with codes. @throws what is no operating error */
export function expectSwarmError(error: unknown): SwarmError {
  if (isSwarmError(error)) return error
  throw error
}
