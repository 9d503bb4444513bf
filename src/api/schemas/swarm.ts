/**
 * Bodies of `/swarm/*` and `/nodes/{id}/update`, and of Skein's own `/skein/swarm/join-tokens`.
 * Source: Docker Engine API 1.50.
 */
import { z } from 'zod'
import type { ClusterSpec, NodeSpec } from '../../store/spec.ts'
import { decode } from './decode.ts'

const labels = z.record(z.string(), z.string())
const whole = z.int().nonnegative()
const availability = z.enum(['', 'active', 'pause', 'drain']).default('')

const clusterSpec = z.looseObject({
  Name: z.string().exactOptional(),
  Labels: labels.exactOptional(),
  Orchestration: z
    .looseObject({ TaskHistoryRetentionLimit: z.int().exactOptional() })
    .exactOptional(),
  Raft: z
    .looseObject({
      SnapshotInterval: whole.exactOptional(),
      KeepOldSnapshots: whole.exactOptional(),
      LogEntriesForSlowFollowers: whole.exactOptional(),
      ElectionTick: whole.exactOptional(),
      HeartbeatTick: whole.exactOptional(),
    })
    .exactOptional(),
  Dispatcher: z.looseObject({ HeartbeatPeriod: whole.exactOptional() }).exactOptional(),
  CAConfig: z.looseObject({}).exactOptional(),
  TaskDefaults: z.looseObject({}).exactOptional(),
  EncryptionConfig: z
    .looseObject({ AutoLockManagers: z.boolean().exactOptional() })
    .exactOptional(),
})

const initBody = z.looseObject({
  ListenAddr: z.string().default(''),
  AdvertiseAddr: z.string().default(''),
  ForceNewCluster: z.boolean().default(false),
  Availability: availability,
  AutoLockManagers: z.boolean().default(false),
  DataPathAddr: z.string().default(''),
  DataPathPort: whole.default(0),
  DefaultAddrPool: z.array(z.string()).default([]),
  SubnetSize: whole.default(0),
  Spec: clusterSpec.exactOptional(),
})

const joinBody = z.looseObject({
  ListenAddr: z.string().default(''),
  AdvertiseAddr: z.string().default(''),
  DataPathAddr: z.string().default(''),
  RemoteAddrs: z.array(z.string()).default([]),
  JoinToken: z.string().default(''),
  Availability: availability,
})

const role = z.enum(['manager', 'worker'], { error: 'Role: must be "worker" or "manager"' })

const joinTokenRequest = z.looseObject({ Role: role })

const nodeSpec = z.looseObject({
  Name: z.string().exactOptional(),
  Labels: labels.exactOptional(),
  Role: role,
  Availability: z.enum(['active', 'pause', 'drain'], {
    error: 'Availability: must be "active", "pause" or "drain"',
  }),
})

/** `POST /swarm/init`. */
export interface InitBody {
  readonly ListenAddr: string
  readonly AdvertiseAddr: string
  readonly ForceNewCluster: boolean
  readonly Availability: '' | 'active' | 'pause' | 'drain'
  readonly AutoLockManagers: boolean
  readonly DataPathAddr: string
  readonly DataPathPort: number
  readonly DefaultAddrPool: readonly string[]
  readonly SubnetSize: number
  readonly Spec?: Partial<ClusterSpec>
}

/** `POST /swarm/join`. */
export interface JoinBody {
  readonly ListenAddr: string
  readonly AdvertiseAddr: string
  readonly DataPathAddr: string
  readonly RemoteAddrs: readonly string[]
  readonly JoinToken: string
  readonly Availability: '' | 'active' | 'pause' | 'drain'
}

/** @throws INVALID_ARGUMENT */
export function decodeInit(body: unknown): InitBody {
  return decode(initBody, body)
}

/** @throws INVALID_ARGUMENT */
export function decodeJoin(body: unknown): JoinBody {
  return decode(joinBody, body)
}

/** `POST /skein/swarm/join-tokens`. */
export interface JoinTokenRequest {
  readonly Role: 'manager' | 'worker'
}

/** @throws INVALID_ARGUMENT */
export function decodeJoinTokenRequest(body: unknown): JoinTokenRequest {
  return decode(joinTokenRequest, body)
}

/** @throws INVALID_ARGUMENT */
export function decodeClusterSpec(body: unknown): Partial<ClusterSpec> {
  return decode(clusterSpec, body)
}

/** @throws INVALID_ARGUMENT */
export function decodeNodeSpec(body: unknown): NodeSpec {
  return decode(nodeSpec, body)
}
