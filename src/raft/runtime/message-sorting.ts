/** Where each message of the core goes. Order is kept within every destination. */
import type { PeerId } from '../core/entry.ts'
import type { Message, SnapshotRequest, StorageAppend, StorageApply } from '../core/message.ts'

/** Messages by destination. */
export interface SortedMessages {
  readonly toWrite: readonly StorageAppend[]
  readonly toApply: readonly StorageApply[]
  readonly toSelf: readonly Message[]
  /** They travel with the bytes of a snapshot. */
  readonly snapshots: readonly SnapshotRequest[]
  readonly toOthers: ReadonlyMap<PeerId, readonly Message[]>
}

/** Sorts what the core of `self` gave out. */
export function sortMessages(messages: readonly Message[], self: PeerId): SortedMessages {
  const toWrite: StorageAppend[] = []
  const toApply: StorageApply[] = []
  const toSelf: Message[] = []
  const snapshots: SnapshotRequest[] = []
  const toOthers = new Map<PeerId, Message[]>()
  for (const message of messages) {
    if (message.type === 'storageAppend') toWrite.push(message)
    else if (message.type === 'storageApply') toApply.push(message)
    else if (message.to === self) toSelf.push(message)
    else if (message.type === 'snap') snapshots.push(message)
    else {
      const group = toOthers.get(message.to)
      if (group === undefined) toOthers.set(message.to, [message])
      else group.push(message)
    }
  }
  return { toWrite, toApply, toSelf, snapshots, toOthers }
}

/** Members do not forward proposals or transfers: the runtime refuses them where they are made. */
export const LOCAL_ONLY: ReadonlySet<Message['type']> = new Set([
  'prop',
  'transferLeader',
  'snap',
] as const)
