/** Why a signal was aborted, as an error. */
import { SwarmError } from '../../base/errors.ts'

/** The signal's reason; a reason that is no error becomes the cause of one. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason
  return reason instanceof Error
    ? reason
    : new SwarmError('ABORTED', 'operation: was withdrawn', { cause: reason })
}
