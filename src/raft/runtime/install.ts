/** Puts a received snapshot, stored already, in the place of log and state machine. */
import type { HardState, SnapshotMetadata } from '../core/entry.ts'
import type { StoredSnapshot } from '../storage/ports.ts'
import type { Applier } from './applier.ts'
import type { LogCache } from './log-cache.ts'
import type { Members } from './members.ts'
import { Membership } from './membership.ts'
import type { RaftComponents } from './options.ts'
import type { Proposals } from './proposals.ts'
import type { SnapshotKeeper } from './snapshot-keeper.ts'
import type { SnapshotTransfers } from './snapshot-transfers.ts'

/** What a snapshot replaces. */
export interface InstallParts<R> {
  readonly components: RaftComponents<R>
  readonly transfers: SnapshotTransfers
  readonly applier: Applier<R>
  readonly cache: LogCache
  readonly members: Members
  readonly snapshots: SnapshotKeeper
  readonly proposals: Proposals<R>
}

/** Runs between two writes to the log. The log goes first: see `recovery.ts` for a crash then. */
export async function install<R>(
  parts: InstallParts<R>,
  metadata: SnapshotMetadata,
  hardState: HardState,
): Promise<StoredSnapshot> {
  await parts.applier.drained()
  const { logStore, snapshotStore, stateMachine, log } = parts.components
  const stored = await parts.transfers.find(metadata)
  await logStore.reset(metadata, hardState)
  await stateMachine.restore(snapshotStore.read(stored.id), metadata.index)
  parts.cache.reset(metadata)
  parts.applier.restored(metadata.index, metadata.term)
  parts.members.replace(Membership.decode(metadata.conf, stored.membership))
  parts.snapshots.installed(stored)
  parts.proposals.onRestored(metadata.index)
  log.info({ index: metadata.index, sizeBytes: stored.sizeBytes }, 'installed a snapshot')
  return stored
}
