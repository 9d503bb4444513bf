/**
 * Which stores a `Raft` of this process uses now: offline work on them is refused. Other processes
 * are kept out by the stores themselves, where they lock.
 */
import { SwarmError } from '../../base/errors.ts'
import type { LogStore } from '../storage/ports.ts'

/** Marks objects, keeps none alive. */
const used = new WeakSet<LogStore>()

export function markInUse(store: LogStore): void {
  used.add(store)
}

export function markFree(store: LogStore): void {
  used.delete(store)
}

/** @throws FAILED_PRECONDITION */
export function assertNotInUse(store: LogStore): void {
  if (!used.has(store)) return
  throw new SwarmError(
    'FAILED_PRECONDITION',
    'raft: these stores are in use; stop the member first',
  )
}
