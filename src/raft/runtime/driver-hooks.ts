/** What the driver tells the `Raft` above it. */
import type { SwarmError } from '../../base/errors.ts'
import type { Observation } from './observations.ts'

/** What the driver tells the `Raft` above it. */
export interface DriverHooks {
  readonly onLeadership: () => void
  readonly onConfiguration: () => void
  readonly onApplied: () => void
  readonly onTick: () => void
  readonly onObservation: (observation: Observation) => void
  readonly onFatal: (error: SwarmError) => void
}
