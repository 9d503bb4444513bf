/** Figures of one member for people and metrics. */
import type { Index, Term } from '../core/entry.ts'
import type { RaftCore } from '../core/raft-core.ts'
import type { Role } from '../core/ready.ts'
import type { StoredSnapshot } from '../storage/ports.ts'
import type { LogCache } from './log-cache.ts'

/** What the driver counts. */
export interface DriverFigures {
  readonly role: Role
  readonly term: Term
  readonly firstIndex: Index
  readonly lastIndex: Index
  readonly commitIndex: Index
  readonly appliedIndex: Index
  readonly snapshotIndex: Index
  /** Entry data held in the log. */
  readonly logBytes: number
  /** Proposals in the log whose fate is open. */
  readonly proposalsWaiting: number
}

interface Sources {
  readonly role: Role
  readonly core: Pick<RaftCore, 'term' | 'lastIndex' | 'commitIndex'>
  readonly cache: Pick<LogCache, 'firstIndex' | 'sizeBytes'>
  readonly appliedIndex: Index
  readonly snapshots: { readonly newest: StoredSnapshot | undefined }
  readonly proposals: { readonly waitingCount: number }
}

/** The figures of now. */
export function figuresOf(sources: Sources): DriverFigures {
  const { role, core, cache, appliedIndex, snapshots, proposals } = sources
  return {
    role,
    term: core.term,
    firstIndex: cache.firstIndex(),
    lastIndex: core.lastIndex,
    commitIndex: core.commitIndex,
    appliedIndex,
    snapshotIndex: snapshots.newest?.metadata.index ?? 0,
    logBytes: cache.sizeBytes,
    proposalsWaiting: proposals.waitingCount,
  }
}
