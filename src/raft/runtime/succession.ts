/**
 * To whom a leader hands over when the caller names nobody: the voter that is reachable and
 * furthest.
 */
import { SwarmError } from '../../base/errors.ts'
import type { Index } from '../core/entry.ts'
import type { Configuration, ServerId } from './ports.ts'

/** What a leader knows of a member. */
export interface MemberProgress {
  /** Last index known to be durable there. */
  readonly match: Index
  /** Entries it lacks. */
  readonly behind: number
  /** Heard from within the last election timeout. */
  readonly recentActive: boolean
  readonly mode: 'probe' | 'replicate' | 'snapshot'
}

interface Leader {
  readonly id: ServerId
  readonly configuration: Configuration
  progressOf(id: ServerId): MemberProgress | undefined
}

/** @throws FAILED_PRECONDITION when there is no other voter */
export function bestSuccessor(leader: Leader): ServerId {
  const [best] = leader.configuration.servers
    .filter(({ id, suffrage }) => suffrage === 'voter' && id !== leader.id)
    .map(({ id }) => ({ id, progress: leader.progressOf(id) }))
    .toSorted((a, b) => rank(b.progress) - rank(a.progress))
  if (best !== undefined) return best.id
  throw new SwarmError('FAILED_PRECONDITION', 'raft: there is no other voter to lead')
}

/** Reachable members before others, then by how far they are. */
function rank(progress: MemberProgress | undefined): number {
  if (progress === undefined) return -1
  return progress.recentActive ? progress.match + 1 : 0
}
