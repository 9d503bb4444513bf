/**
 * What a manager does for a joiner that proved a join secret: it proposes the node record with the
 * role that the secret stands for, and hands over what a member must know to start. Admitting a
 * node that is a member already (its answer was lost) refreshes its addresses and answers the same.
 */
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { JoinSecrets } from '../identity/join-proof.ts'
import { isUsedBy } from '../identity/once-secrets.ts'
import type { Member } from '../mesh/ports.ts'
import type { JoinAuthority, Joiner } from '../mesh/join-server.ts'
import type { Node, NodeDescription } from '../store/objects.ts'
import type { Action, Draft, Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { currentCluster } from './cluster-keys.ts'
import type { ClusterKeys } from './cluster-keys.ts'
import { isOutOfSequence, proposeContended } from './contended-proposal.ts'

/** What a new member is given; travels encrypted to the joiner that proved the secret. */
export interface Admission {
  readonly clusterId: string
  readonly rootPublicKey: Uint8Array
  readonly members: readonly Member[]
  readonly role: 'manager' | 'worker'
  /** Only for managers. */
  readonly dataKey?: Uint8Array
}

/** What a joiner says of itself. */
export interface JoinerDetails {
  readonly addresses: readonly string[]
  readonly advertiseHost: string
  readonly availability: 'active' | 'pause' | 'drain'
  readonly description: NodeDescription
}

interface Components {
  readonly store: StoreView
  readonly proposer: Proposer
  readonly keys: ClusterKeys
}

/** The members of the swarm, as peers are dialled. */
export function membersOf(store: StoreView): Member[] {
  return store.list('nodes').map((node) => ({
    nodeId: node.id,
    peerId: node.peerId,
    addresses: node.addresses,
  }))
}

/** Builds the authority of the manager `nodeId`. */
export function joinAuthority(components: Components, nodeId: string): JoinAuthority {
  const { store, keys } = components
  return {
    rootPublicKey: () => currentCluster(store).rootPublicKey,
    certificate: () => store.get('nodes', nodeId)?.certificate,
    secrets: (): JoinSecrets => {
      const { workerSecret, managerSecret, once } = keys.secrets(store)
      return { worker: workerSecret, manager: managerSecret, once }
    },
    admit: (joiner) => admit(components, joiner),
  }
}

async function admit(components: Components, joiner: Joiner): Promise<Admission> {
  const { store, keys } = components
  await recordJoiner(components, joiner)
  const { id, rootPublicKey } = currentCluster(store)
  const base = { clusterId: id, rootPublicKey, members: membersOf(store), role: joiner.role }
  if (joiner.role === 'worker') return base
  keys.secrets(store)
  return keys.dataKey === undefined ? base : { ...base, dataKey: keys.dataKey }
}

/** The record and the use of a one-time token take effect together, or not at all. */
async function recordJoiner(components: Components, joiner: Joiner): Promise<void> {
  const { store, proposer } = components
  await proposeContended(
    proposer,
    () => [recordOf(store, joiner), ...useOf(components, joiner)],
    (error) => isOutOfSequence(error) || recordChanged(error, store, joiner),
  )
}

function recordOf(store: StoreView, joiner: Joiner): Action {
  const details = joiner.details as JoinerDetails
  const known = store.get('nodes', joiner.nodeId)
  if (known === undefined) {
    return { type: 'create', table: 'nodes', object: nodeOf(joiner, details) }
  }
  if (known.spec.Role !== joiner.role) {
    const what = `node ${joiner.nodeId}: is a member already, as ${known.spec.Role}`
    throw new SwarmError('ALREADY_EXISTS', `${what}; promote or demote it instead`)
  }
  const { addresses, advertiseHost, description } = details
  return { type: 'observeNode', id: joiner.nodeId, addresses, advertiseHost, description }
}

/**
 * A member may come again with the token that it used. A node that was removed may not: its token
 * admitted it once.
 */
function useOf({ store, keys }: Components, joiner: Joiner): readonly Action[] {
  const { once, nodeId, peerId } = joiner
  if (once === undefined) return []
  const isMember = store.get('nodes', nodeId) !== undefined
  if (isMember && isUsedBy(keys.secrets(store).once, once, peerId)) return []
  return [keys.onceUsed(store, once, peerId)]
}

/** The same node came twice at a time, or was removed meanwhile: then its record decides anew. */
function recordChanged(error: unknown, store: StoreView, { nodeId }: Joiner): boolean {
  const exists = store.get('nodes', nodeId) !== undefined
  return isSwarmError(error, exists ? 'ALREADY_EXISTS' : 'NOT_FOUND')
}

/** The record of a new member. */
export function nodeOf(
  identity: {
    readonly nodeId: string
    readonly peerId: string
    readonly role: 'manager' | 'worker'
  },
  details: JoinerDetails,
): Draft<Node> {
  return {
    id: identity.nodeId,
    spec: { Role: identity.role, Availability: details.availability, Labels: {} },
    peerId: identity.peerId,
    addresses: details.addresses,
    advertiseHost: details.advertiseHost,
    description: details.description,
    status: { state: 'unknown', message: 'joining' },
  }
}
