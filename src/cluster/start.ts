/** What every way into a swarm begins with: the key, the mesh, the cluster's keys. */
import { join } from 'node:path'
import { loadOrCreateNodeKey } from '../identity/node-key.ts'
import type { NodeKey } from '../identity/node-key.ts'
import { hostPortText, multiaddrOf } from '../mesh/addresses.ts'
import { createMesh } from '../mesh/mesh.ts'
import type { MeshHost } from '../mesh/mesh.ts'
import type { NodeAddresses } from './advertise.ts'
import { ClusterKeys } from './cluster-keys.ts'
import type { JoinerDetails } from './join-authority.ts'
import { SwarmMember } from './member.ts'
import type { MemberComponents } from './member.ts'
import type { MembershipRecord } from './membership-file.ts'
import { NODE_KEY_FILE } from './swarm-directory.ts'

/** What a start is built from. */
export type StartComponents = Omit<MemberComponents, 'mesh' | 'keys'>

/** Opened and ready to become a member. */
export interface Start {
  readonly components: MemberComponents
  readonly key: NodeKey
  readonly mesh: MeshHost
  readonly keys: ClusterKeys
  readonly addresses: NodeAddresses
  /** `<data>/swarm` */
  readonly directory: string
}

/** Reads or makes the node's key and listens. @throws UNAVAILABLE when the address is in use */
export async function openStart(
  components: StartComponents,
  directory: string,
  addresses: NodeAddresses,
): Promise<Start> {
  const { clock, random, log } = components
  const key = await loadOrCreateNodeKey(join(directory, NODE_KEY_FILE), random)
  const keys = await ClusterKeys.open(directory, random)
  const mesh = await createMesh(
    { clock, random, log },
    {
      privateKeySeed: key.seed,
      listenAddresses: [multiaddrOf(addresses.listen)],
      announceAddresses: [multiaddrOf(addresses.advertised)],
    },
  )
  return { components: { ...components, mesh, keys }, key, mesh, keys, addresses, directory }
}

/** The member of `record`. */
export function openMember(
  start: Start,
  record: MembershipRecord,
  options: { readonly bootstrap: boolean },
): Promise<SwarmMember> {
  return SwarmMember.open(start.components, {
    record,
    directory: start.directory,
    addresses: [multiaddrOf(start.addresses.advertised)],
    advertiseHost: start.addresses.advertised.host,
    bootstrap: options.bootstrap,
  })
}

/** What this node says of itself when it becomes a member. */
export function ownDetails(
  start: Start,
  availability: JoinerDetails['availability'],
): JoinerDetails {
  const { advertised } = start.addresses
  return {
    addresses: [multiaddrOf(advertised)],
    advertiseHost: advertised.host,
    availability,
    description: start.components.describe(),
  }
}

/** The record of this node in `cluster`; once it is written, this node is a member. */
export function membershipRecord(
  start: Start,
  cluster: Pick<MembershipRecord, 'clusterId' | 'members'> & { readonly rootPublicKey: Uint8Array },
): MembershipRecord {
  return {
    version: 1,
    nodeId: start.key.nodeId,
    clusterId: cluster.clusterId,
    listenAddress: hostPortText(start.addresses.listen),
    advertiseAddress: hostPortText(start.addresses.advertised),
    rootPublicKey: Buffer.from(cluster.rootPublicKey).toString('base64'),
    members: cluster.members,
  }
}
