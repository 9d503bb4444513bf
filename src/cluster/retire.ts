/** The last words of a node that leaves, and whom others may call in its place. */
import { hostPortOf, hostPortText } from '../mesh/addresses.ts'
import type { Node } from '../store/objects.ts'
import type { Mesh } from '../mesh/ports.ts'
import type { Action, Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'

/** A member, as far as leaving concerns it. */
export interface Leaver {
  readonly nodeId: string
  readonly store: StoreView
  readonly proposer: Proposer
  readonly mesh: Mesh
  readonly raft: { readonly leader: string | undefined }
}

/**
 * Tells the swarm that this node leaves: down at once instead of after the grace period, and a
 * manager no longer a voter, so that the quorum shrinks with it (Swarm leaves a dead voter behind,
 * moby#26491). Best effort: without a leader the node leaves all the same.
 */
export async function retire(member: Leaver, signal: AbortSignal): Promise<void> {
  const node = member.store.get('nodes', member.nodeId)
  if (node === undefined) return
  const managers = member.store.list('nodes').filter((one) => one.spec.Role === 'manager')
  const last = managers.length === 1 && node.spec.Role === 'manager'
  if (last) return
  const { meta, ...draft } = node
  if (node.spec.Role === 'manager') {
    const actions: Action[] = [
      {
        type: 'update',
        table: 'nodes',
        object: {
          ...draft,
          spec: { ...node.spec, Role: 'worker', Availability: 'drain' },
          status: { state: 'down', message: 'left the swarm' },
        },
        version: meta.version,
      },
    ]
    await member.proposer.propose(actions, { signal })
    return
  }
  const { leader } = member.raft
  if (leader !== undefined) await member.mesh.request(leader, LEAVE_METHOD, undefined, { signal })
}

/** A worker may not write its own status; it asks the leader to. */
export const LEAVE_METHOD = 'cluster.leave'

/** Marks `nodeId` as gone, for {@link LEAVE_METHOD}. */
export async function onLeave(
  member: Pick<Leaver, 'store' | 'proposer'>,
  nodeId: string,
): Promise<void> {
  const node = member.store.get('nodes', nodeId)
  if (node === undefined) return
  const { meta, ...draft } = node
  const status = { state: 'down', message: 'left the swarm' } as const
  await member.proposer.propose([
    { type: 'update', table: 'nodes', object: { ...draft, status }, version: meta.version },
  ])
}

/** Addresses of all managers, as `info` shows them. */
export function remoteManagers(
  store: StoreView,
): { readonly nodeId: string; readonly address: string }[] {
  return store
    .list('nodes')
    .filter((node) => node.spec.Role === 'manager')
    .map((node) => ({ nodeId: node.id, address: dialAddress(node) }))
}

function dialAddress(node: Node): string {
  const [first] = node.addresses
  return first === undefined ? node.advertiseHost : hostPortText(hostPortOf(first))
}
