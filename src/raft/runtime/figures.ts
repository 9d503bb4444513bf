/** Figures of one member for people and metrics. */
import type { Index, Term } from '../core/entry.ts'
import type { Role } from '../core/ready.ts'

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
