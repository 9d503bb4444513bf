/**
 * What a starting node does with its durable state: the newest snapshot that can be read is
 * restored, the log is brought in line with it, the rest of the log is applied again by the core.
 *
 * A crash may have come between storing a received snapshot and resetting the log to it: then the
 * log ends before the snapshot, or holds another term at its place; it is reset now (raft.md bug
 * 14). A snapshot that is older than the start of the log leaves a gap: the node refuses to start
 * (bug 16).
 */
import { SwarmError, errorText, isSwarmError } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { ConfState, Entry, HardState, Index, Term } from '../core/entry.ts'
import { EMPTY_CONFIGURATION } from '../storage/empty-log.ts'
import type { LogContents, LogStore, SnapshotStore, StoredSnapshot } from '../storage/ports.ts'
import { Membership } from './membership.ts'
import type { StateMachine } from './ports.ts'

interface RecoveryComponents {
  readonly logStore: LogStore
  readonly snapshotStore: SnapshotStore
  readonly stateMachine: StateMachine<unknown>
  readonly log: Logger
}

/** The state to start from. */
export interface Recovered {
  readonly hardState: HardState
  readonly base: { readonly index: Index; readonly term: Term }
  readonly entries: readonly Entry[]
  /** The state machine stands here. */
  readonly applied: { readonly index: Index; readonly term: Term }
  readonly conf: ConfState
  readonly membership: Membership
  readonly snapshot: StoredSnapshot | undefined
}

/** Opens the stores and restores the state machine. @throws STORAGE_CORRUPT and others */
export async function recover(components: RecoveryComponents): Promise<Recovered> {
  const { logStore, snapshotStore } = components
  const contents = await logStore.open()
  await snapshotStore.open()
  const snapshot = await restoreNewest(components, contents)
  if (snapshot === undefined) return withoutSnapshot(logStore, contents)
  const { metadata } = snapshot
  const aligned = await align(components, contents, snapshot)
  const { base, lastIndex, hardState } = aligned
  return {
    hardState,
    base,
    entries: await logStore.read(base.index + 1, lastIndex + 1),
    applied: { index: metadata.index, term: metadata.term },
    conf: metadata.conf,
    membership: Membership.decode(metadata.conf, snapshot.membership),
    snapshot,
  }
}

async function withoutSnapshot(logStore: LogStore, contents: LogContents): Promise<Recovered> {
  const { base, lastIndex, hardState } = contents
  if (base.index > 0) {
    throw new SwarmError(
      'STORAGE_CORRUPT',
      `raft: the log starts after entry ${base.index}, but no snapshot reaches that far`,
    )
  }
  return {
    hardState,
    base,
    entries: await logStore.read(1, lastIndex + 1),
    applied: { index: 0, term: 0 },
    conf: EMPTY_CONFIGURATION,
    membership: Membership.none,
    snapshot: undefined,
  }
}

/** The newest snapshot that is whole and not older than the log's start. */
async function restoreNewest(
  { snapshotStore, stateMachine, log }: RecoveryComponents,
  { base }: LogContents,
): Promise<StoredSnapshot | undefined> {
  for (const stored of await snapshotStore.list()) {
    if (stored.metadata.index < base.index) continue
    try {
      await stateMachine.restore(snapshotStore.read(stored.id), stored.metadata.index)
      return stored
    } catch (error) {
      if (!isSwarmError(error, 'STORAGE_CORRUPT')) throw error
      log.error({ snapshot: stored.id, err: errorText(error) }, 'snapshot is damaged, trying older')
    }
  }
  return undefined
}

/** Makes the log continue `snapshot`. */
export async function align(
  { logStore, log }: Pick<RecoveryComponents, 'logStore' | 'log'>,
  contents: LogContents,
  { metadata }: StoredSnapshot,
): Promise<LogContents> {
  const { index, term } = metadata
  const hardState = raised(contents.hardState, index, term)
  if ((await termAt(logStore, contents, index)) === term) return { ...contents, hardState }
  log.warn({ index, term, lastIndex: contents.lastIndex }, 'log does not reach the snapshot, reset')
  await logStore.reset(metadata, hardState)
  return { base: metadata, lastIndex: index, hardState, tornEntries: contents.tornEntries }
}

async function termAt(
  logStore: LogStore,
  { base, lastIndex }: LogContents,
  index: Index,
): Promise<Term | undefined> {
  if (index === base.index) return base.term
  if (index > lastIndex) return undefined
  const [entry] = await logStore.read(index, index + 1)
  return entry?.term
}

/** A snapshot proves that its position is committed and that its term was reached. */
function raised(hardState: HardState, index: Index, term: Term): HardState {
  const commit = Math.max(hardState.commit, index)
  return hardState.term >= term ? { ...hardState, commit } : { term, vote: 0, commit }
}
