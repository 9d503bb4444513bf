/**
 * Reads of this member's own state with a bound on its age (`consistency: 'bounded'`): local while
 * the age is proved (`freshness.ts`), refused when it is not.
 */
import { SwarmError } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import type { Index } from '../core/entry.ts'
import type { Driver } from './driver.ts'
import type { CallOptions } from './pending-calls.ts'

/** The member that reads. */
export interface BoundedReader {
  readonly clock: Clock
  readonly driver: Pick<Driver<unknown>, 'reads' | 'schedule' | 'holdsLease' | 'appliedIndex'> & {
    readonly core: { readonly commitIndex: Index }
  }
  /** Resolves when a question that is asked now is answered, and the answer applied. */
  refresh(options: CallOptions): Promise<void>
}

/** How old the state may be, and how long to wait for the proof; not at all when unsaid. */
export interface BoundedReadOptions extends CallOptions {
  readonly maxStalenessMs: number | undefined
}

/**
 * `read()` in the moment in which the state is proved to be at most `maxStalenessMs` old: it holds
 * every write that was acknowledged to anybody longer ago.
 * @throws INVALID_ARGUMENT, UNAVAILABLE (no proof, and no `timeoutMs` to wait for one), TIMED_OUT,
 * ABORTED, SHUTTING_DOWN
 */
export async function boundedRead<T>(
  reader: BoundedReader,
  read: () => T,
  options: BoundedReadOptions,
): Promise<T> {
  const { maxStalenessMs: boundMs = 0, signal, timeoutMs } = options
  if (!(boundMs > 0)) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft read: maxStalenessMs is not a positive number')
  }
  const { clock, driver } = reader
  driver.reads.freshness.want(boundMs)
  const deadlineMs = clock.monotonicMs() + (timeoutMs ?? 0)
  while (!isFresh(driver, boundMs)) {
    const restMs = deadlineMs - clock.monotonicMs()
    if (restMs <= 0) throw unproved(reader, timeoutMs)
    await reader.refresh({ signal, timeoutMs: restMs })
  }
  return read()
}

function isFresh(driver: BoundedReader['driver'], boundMs: number): boolean {
  const { appliedIndex, reads, core } = driver
  if (reads.freshness.ageMs(appliedIndex) <= boundMs) return true
  return driver.holdsLease() && appliedIndex >= core.commitIndex
}

/** The next read may find its proof: it is asked for. */
function unproved({ driver }: BoundedReader, timeoutMs: number | undefined): SwarmError {
  driver.reads.renew()
  driver.schedule()
  const code = timeoutMs === undefined ? 'UNAVAILABLE' : 'TIMED_OUT'
  return new SwarmError(code, 'raft read: the state cannot be proved to be so new')
}
