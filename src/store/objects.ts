/**
 * The replicated objects: what is decided and observed about nodes, services, tasks and the
 * cluster. Every node holds all of them; they change only through committed transactions
 * (`transaction.ts`).
 *
 * Who may write what: users write `spec`s (through `api/`); the leader's `control/` writes
 * services' endpoints, creates tasks, sets `desiredState`, `nodeId`, `address`, and observed states
 * up to ASSIGNED; the node that holds a task writes its observed `status` from ACCEPTED on, and
 * nobody else does, but for two cases that its node cannot report: REJECTED by a constraint,
 * ORPHANED when the node is gone for good. Observed and desired states only grow.
 * Source: swarmkit `api/objects.proto`, `api/types.proto`.
 */
import type {
  ClusterSpec,
  NetworkSpec,
  NodeSpec,
  PortConfig,
  ServiceSpec,
  TaskSpec,
} from './spec.ts'

/** Kept by the state machine, never set by a caller. */
export interface Meta {
  /** Raft index of the entry that wrote the object last; the `version` of optimistic writes. */
  readonly version: number
  /** Raft index of the entry that created the object. */
  readonly createdVersion: number
  /** RFC 3339, the proposer's wall clock; for display only. */
  readonly createdAt: string
  readonly updatedAt: string
}

/** What every stored object has. */
export interface StoredObject {
  /** 25 base-36 digits. */
  readonly id: string
  readonly meta: Meta
}

/** What a node says of itself; it proposes a new one when it changed. */
export interface NodeDescription {
  readonly hostname: string
  /** Docker's names: `linux`, `x86_64`. */
  readonly platform: { readonly os: string; readonly architecture: string }
  readonly resources: { readonly nanoCpus: number; readonly memoryBytes: number }
  /** Skein's version. */
  readonly engineVersion: string
  readonly engineLabels: Readonly<Record<string, string>>
  /** How this node runs tasks, and why so: `crun+conmon`, `process` … */
  readonly executor: { readonly name: string; readonly isolation: string; readonly reason: string }
  /** How this node balances: `ipvs`, `nftables`, `userspace`, and why so. */
  readonly balancer: { readonly name: string; readonly reason: string }
  /**
   * Addresses by which this host speaks to others, of both families, in order; absent: an older
   * daemon's. What comes from them through another node's published port is masqueraded there.
   */
  readonly addresses?: readonly string[]
}

/** A member of the swarm. `id` derives from its key and never changes. */
export interface Node extends StoredObject {
  readonly spec: NodeSpec
  /** libp2p peer id (`12D3Koo…`): the node's public key. */
  readonly peerId: string
  /** Where peers dial it, best first: multiaddrs without the `/p2p/` part. Hints, not identity. */
  readonly addresses: readonly string[]
  /** Host part of the advertised address, as `docker node inspect` shows it. */
  readonly advertiseHost: string
  readonly description: NodeDescription
  /** `down`: the leader has had no link to it for the grace period. Written on changes only. */
  readonly status: { readonly state: 'unknown' | 'ready' | 'down'; readonly message: string }
  /**
   * Proof that a manager belongs to the cluster: the root key's signature over the manager's peer
   * id (`identity/certificate.ts`). Absent on workers.
   */
  readonly certificate?: Uint8Array
  /** The node's container subnet, CIDR, from the cluster's pool; set by the allocator. */
  readonly subnet?: string
}

/**
 * Who may talk to whom: tasks reach each other, and services' virtual addresses, when they share a
 * network. A task has one address whichever networks it is on (its node's subnet); the network's
 * own range is that of its services' virtual addresses.
 */
export interface Network extends StoredObject {
  readonly spec: NetworkSpec
  /**
   * Range of virtual addresses (overlay) or of tasks' addresses (macvlan, ipvlan), CIDR; as the
   * user gave it, or from the cluster's pools. Set by the allocator.
   */
  readonly subnet?: string
  /** The range's first address or the user's choice. */
  readonly gateway?: string
}

/** A network as a task or an endpoint is on it. */
export interface NetworkAttachment {
  readonly networkId: string
  /** More names under which the service is known there. */
  readonly aliases: readonly string[]
  /** Only where the network gives tasks addresses of its own (macvlan, ipvlan). */
  readonly address?: string
}

/** A service's address on one network: the same on every node, while the service lives. */
export interface VirtualAddress {
  readonly networkId: string
  /** IPv4, no prefix. */
  readonly address: string
}

/** A port as the allocator fixed it. */
export interface AllocatedPort {
  readonly name?: string
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly targetPort: number
  readonly publishedPort: number
  readonly publishMode: 'ingress' | 'host'
}

/** A service: the spec, what the allocator made of it, and how its update goes. */
export interface Service extends StoredObject {
  readonly spec: ServiceSpec
  /** Raft index at which `spec` changed last; tasks carry the one they were made from. */
  readonly specVersion: number
  readonly previousSpec?: ServiceSpec
  readonly previousSpecVersion?: number
  /**
   * Absent until the allocator has seen `spec`. `allocatedFor` is the `specVersion` it stands for.
   */
  readonly endpoint?: {
    readonly ports: readonly AllocatedPort[]
    readonly allocatedFor: number
    /** Absent or empty with endpoint mode `dnsrr` or without an overlay network. */
    readonly virtualAddresses?: readonly VirtualAddress[]
    /** The spec's networks with their ids; absent: none. */
    readonly networks?: readonly NetworkAttachment[]
  }
  readonly updateStatus?: {
    readonly state:
      | 'updating'
      | 'paused'
      | 'completed'
      | 'rollback_started'
      | 'rollback_paused'
      | 'rollback_completed'
    readonly startedAt: string
    readonly completedAt?: string
    readonly message: string
  }
}

/** Task states in order; a state never goes back (swarmkit `design/task_model.md`). */
export const TASK_STATES = [
  'new',
  'pending',
  'assigned',
  'accepted',
  'preparing',
  'ready',
  'starting',
  'running',
  'complete',
  'shutdown',
  'failed',
  'rejected',
  'remove',
  'orphaned',
] as const

/** A state of a task. `remove` is only ever desired, never observed. */
export type TaskState = (typeof TASK_STATES)[number]

const TASK_STATE_RANK: ReadonlyMap<TaskState, number> = new Map(
  TASK_STATES.map((state, rank) => [state, rank]),
)

/** Negative, zero or positive as `a` comes before, equals, or comes after `b`. */
export function compareTaskStates(a: TaskState, b: TaskState): number {
  return (TASK_STATE_RANK.get(a) ?? 0) - (TASK_STATE_RANK.get(b) ?? 0)
}

/** Whether a task in this observed state will never run again. */
export function isTerminal(state: TaskState): boolean {
  return compareTaskStates(state, 'running') > 0
}

/** What the task's node observed. */
export interface TaskStatus {
  readonly state: TaskState
  /** RFC 3339, wall clock of the observer; for display only. */
  readonly timestamp: string
  /** What happened, for people: `started`, `preparing`. */
  readonly message: string
  /** Why it failed or does not proceed: `no suitable node (…)`, `task: non-zero exit (1)`. */
  readonly err?: string
  readonly container?: { readonly id: string; readonly pid: number; readonly exitCode?: number }
  /**
   * What its health check says: `starting` until one passed, which makes it RUNNING; `unhealthy`
   * until it has ended. Absent: it has no check.
   */
  readonly health?: 'starting' | 'healthy' | 'unhealthy'
  /**
   * Where the task's ports answer on its node. Absent: at `Task.address` under the target port.
   * The process executor has no address of its own and reports a loopback port for each.
   */
  readonly ports?: readonly { readonly targetPort: number; readonly hostPort: number }[]
}

/**
 * One attempt to run a service's container in one slot on one node. Never restarted, never moved.
 */
export interface Task extends StoredObject {
  readonly serviceId: string
  /** 1…replicas. */
  readonly slot: number
  /** Empty until the scheduler chose. */
  readonly nodeId: string
  /** A copy of the service's template as it was. */
  readonly spec: TaskSpec
  readonly specVersion: number
  readonly serviceName: string
  readonly desiredState: TaskState
  readonly status: TaskStatus
  /** Container address (IPv4, no prefix) inside the node's subnet; allocated with the node. */
  readonly address?: string
  /** Networks that it is on, from its service's endpoint when it was made; absent: none. */
  readonly networks?: readonly NetworkAttachment[]
  readonly ports: readonly AllocatedPort[]
  /** The task that this one replaces, and which attempt this is; see `restartedTaskId`. */
  readonly predecessor?: string
  readonly attempt: number
  /** Nanoseconds to wait before `ready` may become `running`; set by the restart policy. */
  readonly restartDelay?: number
}

/** The cluster itself: one object. Secrets in it are sealed under the data key (`identity/`). */
export interface Cluster extends StoredObject {
  readonly spec: ClusterSpec
  /** Ed25519 public key (32 bytes) whose SHA-256 the join tokens carry. */
  readonly rootPublicKey: Uint8Array
  /** Root private key and join secrets under the data key, which only managers hold. */
  readonly sealedSecrets: Uint8Array
  /** Pools that nodes' container subnets are cut from, and the length of such a subnet's prefix. */
  readonly addressPools: readonly string[]
  readonly subnetSize: number
}

/** Tables of the store, and what is in each. */
export interface Tables {
  readonly cluster: Cluster
  readonly nodes: Node
  readonly networks: Network
  readonly services: Service
  readonly tasks: Task
}

/** The name of a table. */
export type TableName = keyof Tables

/** Re-exported so that readers of ports need one import. */
export type { PortConfig }
