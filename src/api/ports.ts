/**
 * What the API needs of the node beyond store and images: swarm membership, and facts about the
 * node. Implemented by `cluster/` and `node.ts`.
 */
import type { Clock } from '../base/clock.ts'
import type { SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { Images } from '../image/ports.ts'
import type { NodeDescription } from '../store/objects.ts'
import type { ClusterSpec } from '../store/spec.ts'
import type { Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'

/** Whether and how this node is in a swarm. */
export interface SwarmStatus {
  readonly state: 'inactive' | 'pending' | 'active' | 'error' | 'locked'
  /** Empty when inactive. */
  readonly nodeId: string
  /** Host part of this node's advertised address; empty when inactive. */
  readonly nodeAddress: string
  /** This node is a manager. */
  readonly controlAvailable: boolean
  readonly error: string
  /** State `error`: why this node takes no part; its replica stands still and must not be shown. */
  readonly failure?: SwarmError | undefined
  readonly remoteManagers: readonly { readonly nodeId: string; readonly address: string }[]
}

/** Docker's `POST /swarm/init`. */
export interface InitRequest {
  /** `host:port`; empty = the daemon's `--listen-addr`. */
  readonly listenAddress: string
  /** `host[:port]`; empty = derived from the listen address. */
  readonly advertiseAddress: string
  readonly forceNewCluster: boolean
  readonly availability: 'active' | 'pause' | 'drain'
  readonly spec?: ClusterSpec
  readonly addressPools: readonly string[]
  readonly subnetSize: number
}

/** Docker's `POST /swarm/join`. */
export interface JoinRequest {
  readonly listenAddress: string
  readonly advertiseAddress: string
  readonly remoteAddresses: readonly string[]
  readonly token: string
  readonly availability: 'active' | 'pause' | 'drain'
}

/** Membership of this node. */
export interface SwarmControl {
  status(): SwarmStatus
  /** @returns this node's id. @throws ALREADY_SWARM_MEMBER, INVALID_ARGUMENT */
  init(request: InitRequest): Promise<string>
  /**
   * Resolves when this node is a member and its replica has its own record. @throws
   * UNAUTHENTICATED, UNAVAILABLE …
   */
  join(request: JoinRequest): Promise<void>
  /** @throws FAILED_PRECONDITION for a manager without `force`, NOT_SWARM_MEMBER */
  leave(options: { readonly force: boolean }): Promise<void>
  /** Managers only. @throws NOT_MANAGER */
  joinTokens(): Promise<{ readonly worker: string; readonly manager: string }>
  /**
   * A new token that admits one node. Managers only.
   * @throws NOT_MANAGER, RESOURCE_EXHAUSTED too many of them are unused
   */
  onceToken(role: 'worker' | 'manager'): Promise<string>
  /**
   * Replaces secrets; the old tokens are refused from then on, and unused one-time tokens of the
   * same role.
   */
  rotateJoinTokens(which: { readonly worker: boolean; readonly manager: boolean }): Promise<void>
  /** The leader that this node knows, if any. */
  leaderId(): string | undefined
  /** Whether this node has a link to that manager now. */
  reachability(nodeId: string): 'reachable' | 'unreachable' | 'unknown'
}

/** The replica and the way to write to it; absent when this node is in no swarm. */
export interface SwarmContext {
  readonly nodeId: string
  readonly store: StoreView
  readonly proposer: Proposer
}

/** Which logs to read: of all tasks of a service, or of one task. */
export type LogTarget = { readonly serviceId: string } | { readonly taskId: string }

/** What a client asks of logs. */
export interface LogOptions {
  readonly stdout: boolean
  readonly stderr: boolean
  /** Go on with what is written from now on, until the signal aborts. */
  readonly follow: boolean
  /** Last records per task; undefined = all. */
  readonly tail?: number
  /** Wall time in milliseconds; records before it are left out. */
  readonly sinceMs?: number
  readonly signal: AbortSignal
}

/** One line that a container wrote. */
export interface LogRecord {
  readonly taskId: string
  readonly nodeId: string
  readonly serviceId: string
  readonly stream: 'stdout' | 'stderr'
  /** RFC 3339 */
  readonly timestamp: string
  /** With its newline, if it had one. */
  readonly line: Uint8Array
}

/** Reads logs wherever in the swarm they are. */
export interface LogReader {
  read(target: LogTarget, options: LogOptions): AsyncIterable<LogRecord>
}

/** Everything the API server is built from. */
export interface ApiComponents {
  readonly swarm: SwarmControl
  context(): SwarmContext | undefined
  readonly images: Images
  /** Absent: the logs endpoints answer 501. */
  readonly logs?: LogReader
  /** Facts about this node, also outside a swarm. */
  describe(): NodeDescription
  /** Containers of this node's tasks that run, and all that exist. */
  containerCounts(): { readonly running: number; readonly total: number }
  /** What of the network does not work on this node, for people. Absent: nothing is known. */
  networkFaults?(): readonly string[]
  readonly dataDirectory: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}
