/**
 * What a manager does for a joiner that proved a join secret: it proposes the node record with the role
 * that the secret stands for, and hands over what a member must know to start. Admitting a node that
 * is a member already (its answer was lost) refreshes its addresses and answers the same.
 */
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { JoinSecrets } from '../identity/join-proof.ts'
import type { Member } from '../mesh/ports.ts'
import type { JoinAuthority, Joiner } from '../mesh/join-server.ts'
import type { Draft } from '../store/transaction.ts'
import type { Node, NodeDescription } from '../store/objects.ts'
import type { Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { currentCluster } from './cluster-keys.ts'
import type { ClusterKeys } from './cluster-keys.ts'

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
      const { workerSecret, managerSecret } = keys.secrets(store)
      return { worker: workerSecret, manager: managerSecret }
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

async function recordJoiner(components: Components, joiner: Joiner): Promise<void> {
  const { store, proposer } = components
  const details = joiner.details as JoinerDetails
  const known = store.get('nodes', joiner.nodeId)
  if (known !== undefined) {
    if (known.spec.Role !== joiner.role) {
      const what = `node ${joiner.nodeId}: is a member already, as ${known.spec.Role}`
      throw new SwarmError('ALREADY_EXISTS', `${what}; promote or demote it instead`)
    }
    const { addresses, advertiseHost, description } = details
    const id = joiner.nodeId
    await proposer.propose([{ type: 'observeNode', id, addresses, advertiseHost, description }])
    return
  }
  try {
    await proposer.propose([{ type: 'create', table: 'nodes', object: nodeOf(joiner, details) }])
  } catch (error) {
    const raced = isSwarmError(error, 'ALREADY_EXISTS') && store.get('nodes', joiner.nodeId)
    if (raced === false || raced === undefined) throw error
  }
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
