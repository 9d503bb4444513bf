/** The cluster as `GET /swarm` and `GET /info` show it, and Docker's defaults of its spec. */
import type { Cluster } from '../../store/objects.ts'
import type { ClusterSpec } from '../../store/spec.ts'
import { tlsInfoJson } from './node.ts'

/** VXLAN port of the overlay, as Docker names it. */
export const DATA_PATH_PORT = 4789

/** What `info` shows of the cluster; `GET /swarm` adds the tokens. */
export function clusterJson(cluster: Cluster): object {
  return {
    ID: cluster.id,
    Version: { Index: cluster.meta.version },
    CreatedAt: cluster.meta.createdAt,
    UpdatedAt: cluster.meta.updatedAt,
    Spec: withDefaults(cluster.spec),
    TLSInfo: tlsInfoJson(cluster),
    RootRotationInProgress: false,
    DefaultAddrPool: cluster.addressPools.length === 0 ? null : cluster.addressPools,
    SubnetSize: cluster.subnetSize,
    DataPathPort: DATA_PATH_PORT,
  }
}

/** `GET /swarm`. */
export function swarmJson(
  cluster: Cluster,
  tokens: { readonly worker: string; readonly manager: string },
): object {
  return {
    ...clusterJson(cluster),
    JoinTokens: { Worker: tokens.worker, Manager: tokens.manager },
  }
}

/**
 * The spec with what Docker fills in: absent members, and the zeros that its client sends for them.
 */
export function withDefaults(spec: Partial<ClusterSpec>): ClusterSpec {
  return {
    ...spec,
    Name: spec.Name === undefined || spec.Name === '' ? 'default' : spec.Name,
    Labels: spec.Labels ?? {},
    Orchestration: { TaskHistoryRetentionLimit: 5, ...spec.Orchestration },
    Raft: {
      KeepOldSnapshots: 0,
      ...spec.Raft,
      SnapshotInterval: spec.Raft?.SnapshotInterval || 10_000,
      LogEntriesForSlowFollowers: spec.Raft?.LogEntriesForSlowFollowers || 500,
      ElectionTick: spec.Raft?.ElectionTick || 10,
      HeartbeatTick: spec.Raft?.HeartbeatTick || 1,
    },
    Dispatcher: { HeartbeatPeriod: spec.Dispatcher?.HeartbeatPeriod || 5_000_000_000 },
    CAConfig: { NodeCertExpiry: 7_776_000_000_000_000, ...spec.CAConfig },
    TaskDefaults: spec.TaskDefaults ?? {},
    EncryptionConfig: { AutoLockManagers: false, ...spec.EncryptionConfig },
  }
}
