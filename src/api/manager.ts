/**
 * The gate of everything that reads or changes the cluster: only a manager answers, with Docker's
 * refusals. Reads come from this manager's replica, also when there is no leader; writes need one.
 */
import { SwarmError } from '../base/errors.ts'
import type { ApiComponents, SwarmContext } from './ports.ts'
import { NOT_IN_SWARM_TEXT, WORKER_TEXT } from './status.ts'

/** The replica and the proposer. @throws NOT_MANAGER, or why this node takes no part */
export function requireManager(components: ApiComponents): SwarmContext {
  const context = components.context()
  const { failure, controlAvailable } = components.swarm.status()
  if (failure !== undefined) throw failure
  if (context === undefined) throw new SwarmError('NOT_MANAGER', NOT_IN_SWARM_TEXT)
  if (!controlAvailable) throw new SwarmError('NOT_MANAGER', WORKER_TEXT)
  return context
}
