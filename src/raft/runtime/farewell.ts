/**
 * A leader that applies the removal of a member stops sending to it, so the member would not learn
 * that its removal is committed. A last heartbeat with the commit index tells it, if it has the
 * entry.
 */
import type { ConfChange, Index } from '../core/entry.ts'
import type { HeartbeatRequest } from '../core/message.ts'
import type { CoreStatus } from '../core/status.ts'

/** The last heartbeats to those whom `change`, the entry at `index`, removes. */
export function farewells(
  { id, role, hard, progress }: CoreStatus,
  change: ConfChange,
  index: Index,
): readonly HeartbeatRequest[] {
  if (role !== 'leader') return []
  return change.changes.flatMap(({ type, peer }) => {
    const match = progress.get(peer)?.match
    if (type !== 'remove' || peer === id || match === undefined) return []
    const commit = Math.min(match, index)
    return [{ type: 'heartbeat', from: id, to: peer, term: hard.term, commit, context: 0 }]
  })
}
