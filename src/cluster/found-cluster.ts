/**
 * `swarm init`: a cluster of one. The Raft group is founded with this node as its only voter; the
 * first transaction writes the cluster object and this node's record; only then the membership file
 * makes it true across a restart.
 */
import type { InitRequest } from '../api/ports.ts'
import { newIdentifier } from '../base/identifiers.ts'
import type { CreateAction, Draft } from '../store/transaction.ts'
import type { Cluster, Node } from '../store/objects.ts'
import type { ClusterSpec } from '../store/spec.ts'
import { defaultPool } from './address-pool.ts'
import { nodeOf } from './join-authority.ts'
import { INIT_TIMEOUT_MS, SUBNET_SIZE_DEFAULT } from './limits.ts'
import type { SwarmMember } from './member.ts'
import type { NewClusterKeys } from './cluster-keys.ts'
import { writeMembership } from './membership-file.ts'
import { membershipRecord, openMember, ownDetails } from './start.ts'
import type { Start } from './start.ts'

/** Docker's defaults; swarmkit `manager/state/store/clusters.go` fixes the name. */
const CLUSTER_SPEC_DEFAULT: ClusterSpec = {
  Name: 'default',
  Labels: {},
  Orchestration: { TaskHistoryRetentionLimit: 5 },
  Raft: {
    SnapshotInterval: 10_000,
    KeepOldSnapshots: 0,
    LogEntriesForSlowFollowers: 500,
    ElectionTick: 10,
    HeartbeatTick: 1,
  },
  Dispatcher: { HeartbeatPeriod: 5_000_000_000 },
  CAConfig: { NodeCertExpiry: 7_776_000_000_000_000 },
  TaskDefaults: {},
  EncryptionConfig: { AutoLockManagers: false },
}

/** Founds a cluster with this node as its first manager. */
export async function foundCluster(start: Start, request: InitRequest): Promise<SwarmMember> {
  const { random } = start.components
  const clusterId = newIdentifier(random)
  const keys = await start.keys.create(start.key.peerId)
  const node = firstNode(start, keys, request)
  const { id: nodeId, peerId, addresses } = node
  const record = membershipRecord(start, {
    clusterId,
    members: [{ nodeId, peerId, addresses }],
    rootPublicKey: keys.rootPublicKey,
  })
  const named = request.addressPools
  const addressPools = named.length > 0 ? named : [await defaultPool(random)]
  const cluster = clusterObject(clusterId, keys, { ...request, addressPools })
  const member = await openMember(start, record, { bootstrap: true })
  try {
    await firstTransaction(member, cluster, node)
    await writeMembership(start.directory, record)
  } catch (error) {
    await member.close({ transfer: false })
    throw error
  }
  return member
}

function firstNode(start: Start, keys: NewClusterKeys, request: InitRequest): Draft<Node> {
  const { nodeId, peerId } = start.key
  const details = ownDetails(start, request.availability)
  return {
    ...nodeOf({ nodeId, peerId, role: 'manager' }, details),
    status: { state: 'ready', message: '' },
    certificate: keys.certificate,
  }
}

function clusterObject(id: string, keys: NewClusterKeys, request: InitRequest): Draft<Cluster> {
  return {
    id,
    spec: { ...CLUSTER_SPEC_DEFAULT, ...request.spec, Name: 'default' },
    rootPublicKey: keys.rootPublicKey,
    sealedSecrets: keys.sealedSecrets,
    addressPools: request.addressPools,
    subnetSize: request.subnetSize > 0 ? request.subnetSize : SUBNET_SIZE_DEFAULT,
  }
}

async function firstTransaction(
  member: SwarmMember,
  cluster: Draft<Cluster>,
  self: Draft<Node>,
): Promise<void> {
  const actions: CreateAction[] = [
    { type: 'create', table: 'cluster', object: cluster },
    { type: 'create', table: 'nodes', object: self },
  ]
  await member.proposer.propose(actions, { signal: AbortSignal.timeout(INIT_TIMEOUT_MS) })
}
