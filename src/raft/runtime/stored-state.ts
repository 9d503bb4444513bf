/**
 * What can be done to a member's stores while it does not run: look, and, when a quorum is gone for
 * good, force another configuration on them. Source: hashicorp/raft `HasExistingState`,
 * `GetConfiguration`, `RecoverCluster`; etcd's `--force-new-cluster`.
 */
import { assert } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import { silentLogger } from '../../base/log.ts'
import { ConfChanger, restoreTracker } from '../core/conf-changer.ts'
import { decodeConfChange, encodeConfChange } from '../core/conf-change-codec.ts'
import { isConfChange } from '../core/entry.ts'
import type { ConfChange, ConfChangeSingle, Entry, Index, Term } from '../core/entry.ts'
import { Tracker } from '../core/tracker.ts'
import type { LogContents, LogStore, SnapshotStore } from '../storage/ports.ts'
import { memberNumber } from './member-numbers.ts'
import { decodeContext, encodeContext, Membership } from './membership.ts'
import { INFLIGHT_BYTES_MAX, INFLIGHT_MESSAGES_MAX } from './options.ts'
import type { Configuration, Server } from './ports.ts'
import { align } from './recovery.ts'
import { assertNotInUse } from './stores-in-use.ts'

/** A member's stores, closed; each call opens and closes them. */
export interface Stores {
  readonly logStore: LogStore
  readonly snapshotStore: SnapshotStore
}

const WINDOW = {
  maxInflightMessages: INFLIGHT_MESSAGES_MAX,
  maxInflightBytes: INFLIGHT_BYTES_MAX,
}

/** Whether the stores hold anything. @throws FAILED_PRECONDITION while a `Raft` uses them */
export function hasExistingState(stores: Stores): Promise<boolean> {
  return withOpen(stores, async ({ hardState, lastIndex }) => {
    const snapshots = await stores.snapshotStore.list()
    return hardState.term > 0 || lastIndex > 0 || snapshots.length > 0
  })
}

/**
 * Who was a member by the last change that the stores know to be committed; `undefined` when they
 * are empty. @throws FAILED_PRECONDITION while a `Raft` uses them, STORAGE_CORRUPT
 */
export function readConfiguration(stores: Stores): Promise<Configuration | undefined> {
  return withOpen(stores, async (contents) => {
    const membership = await membershipAt(stores, contents, contents.hardState.commit)
    return membership === Membership.none ? undefined : membership.configuration
  })
}

/**
 * Forces `servers` to be the members, without asking anybody: for a group that has lost its quorum
 * for good. The next `Raft.open` on these stores starts in the new configuration.
 *
 * Dangers, all of which the caller takes:
 * - Every entry in this log counts as committed, also those that no quorum ever had.
 * - What only lost members had is gone, acknowledged or not. So choose the survivor with the
 *   highest last term, then the highest last index, and run this on that one alone.
 * - The other members must not run with the old configuration: they could elect a leader of their
 *   own. Wipe them and let them join under new ids, or name them in `servers` and start them on
 *   what they have only when this member runs.
 *
 * @throws FAILED_PRECONDITION while a `Raft` uses the stores or when they are empty,
 * INVALID_ARGUMENT when nobody may vote, STORAGE_CORRUPT
 */
export async function recoverCluster(stores: Stores, servers: readonly Server[]): Promise<void> {
  checkServers(servers)
  await withOpen(stores, async (found) => {
    const contents = await aligned(stores, found)
    const { hardState, lastIndex } = contents
    const membership = await membershipAt(stores, contents, lastIndex)
    if (membership === Membership.none) {
      throw new SwarmError('FAILED_PRECONDITION', 'raft: there is no state to recover')
    }
    const last = { index: lastIndex, term: hardState.term + 1 }
    const entries = forcedEntries(membership, servers, last)
    const commit = lastIndex + entries.length
    await stores.logStore.append({ entries, hardState: { term: last.term, vote: 0, commit } })
  })
}

async function withOpen<T>(stores: Stores, use: (contents: LogContents) => Promise<T>): Promise<T> {
  const { logStore, snapshotStore } = stores
  assertNotInUse(logStore)
  try {
    const contents = await logStore.open()
    await snapshotStore.open()
    return await use(contents)
  } finally {
    await snapshotStore.close()
    await logStore.close()
  }
}

/** As at a start: a crash may have come between storing a snapshot and resetting the log to it. */
async function aligned(
  { logStore, snapshotStore }: Stores,
  contents: LogContents,
): Promise<LogContents> {
  const [newest] = await snapshotStore.list()
  if (newest === undefined || newest.metadata.index < contents.base.index) return contents
  return align({ logStore, log: silentLogger }, contents, newest)
}

/** The membership after all changes up to `index` that snapshot and log hold. */
async function membershipAt(
  { logStore, snapshotStore }: Stores,
  { base, lastIndex }: LogContents,
  index: Index,
): Promise<Membership> {
  const [newest] = await snapshotStore.list()
  const start = newest?.metadata.index ?? 0
  if (start < base.index) {
    const message = `raft: the log starts after entry ${base.index}, but no snapshot reaches it`
    throw new SwarmError('STORAGE_CORRUPT', message)
  }
  const from =
    newest === undefined
      ? Membership.none
      : Membership.decode(newest.metadata.conf, newest.membership)
  const end = Math.min(index, lastIndex)
  if (end <= start) return from
  const entries = await logStore.read(start + 1, end + 1)
  return entries.filter(({ type }) => isConfChange(type)).reduce(applied, from)
}

function applied(membership: Membership, { index, data }: Entry): Membership {
  const change = decodeConfChange(data)
  const tracker = restoreTracker(new Tracker(WINDOW), membership.conf, index)
  const result = new ConfChanger(tracker, index).change(change)
  assert(result.ok, 'a configuration change in the log is valid')
  return membership.changed(result.tracker.confState(), decodeContext(change.context), index)
}

/** Leaves a joint configuration, then one server at a time: voters, learners, who goes. */
function forcedEntries(
  membership: Membership,
  servers: readonly Server[],
  last: { readonly index: Index; readonly term: Term },
): readonly Entry[] {
  const wanted = new Set(servers.map(({ id }) => id))
  const gone = membership.ids.filter((id) => !wanted.has(id))
  const changes: readonly ConfChange[] = [
    ...(membership.conf.votersOutgoing.length > 0 ? [LEAVE_JOINT] : []),
    ...servers.filter(({ suffrage }) => suffrage === 'voter').map(introduction),
    ...servers.filter(({ suffrage }) => suffrage === 'learner').map(introduction),
    ...gone.map((id) => single({ type: 'remove', peer: memberNumber(id) })),
  ]
  return changes.map((change, position) => ({
    index: last.index + position + 1,
    term: last.term,
    type: 'confChangeV2',
    data: encodeConfChange(change),
  }))
}

const LEAVE_JOINT: ConfChange = { transition: 'auto', changes: [] }

function introduction({ id, address, suffrage }: Server): ConfChange {
  const type = suffrage === 'voter' ? 'addVoter' : 'addLearner'
  const change = single({ type, peer: memberNumber(id) })
  return { ...change, context: encodeContext([{ id, address }]) }
}

function single(change: ConfChangeSingle): ConfChange {
  return { transition: 'auto', changes: [change] }
}

function checkServers(servers: readonly Server[]): void {
  if (!servers.some(({ suffrage }) => suffrage === 'voter')) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft: no server of the new configuration may vote')
  }
  if (new Set(servers.map(({ id }) => memberNumber(id))).size !== servers.length) {
    throw new SwarmError('INVALID_ARGUMENT', 'raft: two servers have the same id or number')
  }
}
