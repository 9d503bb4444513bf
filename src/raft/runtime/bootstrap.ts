/**
 * The first members of a new group. Each becomes one committed configuration entry at the
 * beginning of the log (etcd-io/raft `bootstrap.go`), so that a member that joins later learns
 * them by replaying the log like everything else. Every first member must be given the same list.
 */
import { SwarmError } from '../../base/errors.ts'
import { encodeConfChange } from '../core/conf-change-codec.ts'
import type { ConfChange, Entry } from '../core/entry.ts'
import type { LogStore, SnapshotStore } from '../storage/ports.ts'
import { memberNumber } from './member-numbers.ts'
import { encodeContext } from './membership.ts'
import type { Server } from './ports.ts'
import { assertNotInUse } from './stores-in-use.ts'

/** Term of the first entries. */
const FIRST_TERM = 1

/**
 * Writes the first configuration into empty stores; opens and closes them.
 * @throws FAILED_PRECONDITION when there is state already, or a `Raft` uses the stores;
 * INVALID_ARGUMENT when no server may vote
 */
export async function bootstrap(
  stores: { readonly logStore: LogStore; readonly snapshotStore: SnapshotStore },
  servers: readonly Server[],
): Promise<void> {
  const entries = firstEntries(servers)
  const { logStore, snapshotStore } = stores
  assertNotInUse(logStore)
  try {
    const { hardState, lastIndex } = await logStore.open()
    await snapshotStore.open()
    const snapshots = await snapshotStore.list()
    if (hardState.term > 0 || lastIndex > 0 || snapshots.length > 0) {
      throw new SwarmError('FAILED_PRECONDITION', 'raft: there is state already, no bootstrap')
    }
    await logStore.append({
      entries,
      hardState: { term: FIRST_TERM, vote: 0, commit: entries.length },
    })
  } finally {
    await snapshotStore.close()
    await logStore.close()
  }
}

function firstEntries(servers: readonly Server[]): readonly Entry[] {
  if (!servers.some(({ suffrage }) => suffrage === 'voter')) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft: no server of the first ones may vote')
  }
  const numbers = new Set(servers.map(({ id }) => memberNumber(id)))
  if (numbers.size !== servers.length) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft: two servers have the same id or number')
  }
  // A voter comes first: a group of learners alone is refused. The order is the same everywhere.
  const ordered = servers.toSorted((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1))
  return ordered.map((server, position) => ({
    index: position + 1,
    term: FIRST_TERM,
    type: 'confChange',
    data: encodeConfChange(introduction(server)),
  }))
}

function rank({ suffrage }: Server): number {
  return suffrage === 'voter' ? 0 : 1
}

function introduction({ id, address, suffrage }: Server): ConfChange {
  const type = suffrage === 'voter' ? 'addVoter' : 'addLearner'
  return {
    transition: 'auto',
    changes: [{ type, peer: memberNumber(id) }],
    context: encodeContext([{ id, address }]),
  }
}
