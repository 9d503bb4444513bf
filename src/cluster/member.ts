/**
 * This node as a member: the mesh, the Raft group, the replica, and what follows from them. Built
 * when the daemon starts in a swarm, when `swarm init` makes one, and when `swarm join` was
 * admitted; closed by `swarm leave` and by the daemon's end. Nothing here outlives `close`.
 *
 * Order of start: mesh (by the caller) → stores → Raft → followers of the replica (roles, data key,
 * own description) → attachments of `node.ts` (agent, network) → `connect`: nobody asks before all
 * that answers is there. Closed in reverse.
 */
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { ERROR_CODES, SwarmError, errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { MeshHost } from '../mesh/mesh.ts'
import { RaftTransport } from '../mesh/raft-transport.ts'
import { FileSnapshotStore, LevelLogStore, Raft } from '../raft/index.ts'
import { StoreStateMachine } from '../store/state-machine.ts'
import type { NodeDescription } from '../store/objects.ts'
import type { StoreView } from '../store/view.ts'
import type { ClusterKeys } from './cluster-keys.ts'
import { DataKeyExchange } from './data-key-exchange.ts'
import { joinAuthority } from './join-authority.ts'
import { WORKER_HEARTBEAT_TICKS } from './limits.ts'
import { LEAVE_METHOD, onLeave } from './retire.ts'
import { Leadership } from './leadership.ts'
import { SelfReport } from './self-report.ts'
import type { OnHostChange } from './self-report.ts'
import { MemberLinks } from './member-links.ts'
import type { MembershipRecord } from './membership-file.ts'
import type { SwarmRaft } from './raft-face.ts'
import { RaftProposer } from './raft-proposer.ts'
import { RAFT_DIRECTORY, SNAPSHOTS_DIRECTORY } from './swarm-directory.ts'

/** What a member is built from. */
export interface MemberComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Listening already; closed with the member. */
  readonly mesh: MeshHost
  readonly keys: ClusterKeys
  readonly describe: () => NodeDescription
  /** Absent: changes of the host are noticed now and then. */
  readonly onHostChange?: OnHostChange
}

/** What a member is built with. */
export interface MemberOptions {
  readonly record: MembershipRecord
  /** `<data>/swarm` */
  readonly directory: string
  /** Multiaddrs that peers are told. */
  readonly addresses: readonly string[]
  readonly advertiseHost: string
  /** This node is the first member: found the Raft group. */
  readonly bootstrap: boolean
}

/** A running member. */
export class SwarmMember {
  readonly nodeId: string
  readonly store: StoreView
  readonly raft: SwarmRaft
  readonly proposer: RaftProposer
  readonly mesh: MeshHost
  readonly keys: ClusterKeys
  readonly #leadership: Leadership
  #failure: SwarmError | undefined
  /** Resolves when a failed member has hung up. */
  #withdrawn: Promise<void> | undefined
  readonly #followers: readonly { stop(): Promise<void> }[]
  readonly #connect: () => MemberLinks
  #links: MemberLinks | undefined

  private constructor(
    components: MemberComponents,
    options: MemberOptions,
    raft: SwarmRaft,
    store: StoreView,
  ) {
    const { mesh, keys, clock, random, log, describe, onHostChange } = components
    const { nodeId } = options.record
    this.nodeId = nodeId
    this.store = store
    this.raft = raft
    this.mesh = mesh
    this.keys = keys
    this.proposer = new RaftProposer({ raft, mesh, store, clock, random }, nodeId)
    const shared = { raft, mesh, store, keys, clock, random, log, proposer: this.proposer }
    const reachability = {
      lastReachableMs: (id: string) => lastReachableMs(mesh, clock, id, nodeId),
    }
    this.#leadership = new Leadership({ ...shared, reachability }, nodeId)
    const { addresses, advertiseHost } = options
    const self = onHostChange === undefined ? { describe } : { describe, onHostChange }
    this.#followers = [
      new DataKeyExchange(shared, nodeId),
      new SelfReport({ ...shared, ...self }, { nodeId, addresses, advertiseHost }),
    ]
    this.#connect = () => new MemberLinks({ store, raft, mesh, log }, options)
    mesh.handle(LEAVE_METHOD, (_body, from) => onLeave(this, from))
    mesh.serveJoins(joinAuthority({ store, keys, proposer: this.proposer }, nodeId))
    this.#leadership.start()
    raft.onFatal((error) => this.#onFatal(error, log))
  }

  /** Opens the stores and joins the group's traffic. @throws STORAGE_CORRUPT, STORAGE_FULL */
  static async open(components: MemberComponents, options: MemberOptions): Promise<SwarmMember> {
    const { clock, random, log, mesh } = components
    const { nodeId } = options.record
    const logStore = new LevelLogStore({ location: join(options.directory, RAFT_DIRECTORY), log })
    const snapshotStore = new FileSnapshotStore({
      directory: join(options.directory, SNAPSHOTS_DIRECTORY),
    })
    const stateMachine = new StoreStateMachine()
    const address = mesh.self.peerId
    if (options.bootstrap) {
      const servers = [{ id: nodeId, address, suffrage: 'voter' } as const]
      await Raft.bootstrap({ logStore, snapshotStore }, servers)
    }
    const transport = new RaftTransport({ mesh, log })
    const raft = await Raft.open(
      { logStore, snapshotStore, transport, stateMachine, clock, random, log },
      { id: nodeId, address, learnerHeartbeatTicks: WORKER_HEARTBEAT_TICKS },
    )
    // Nobody decides on a replica that still reads its own log.
    await raft.waitApplied(raft.commitIndex)
    return new SwarmMember(components, options, raft, stateMachine.store)
  }

  /** Opens the links to the other members; called when everything that answers them is in place. */
  connect(): void {
    this.#links ??= this.#connect()
  }

  /** Why this node takes no part in the swarm until its daemon starts anew; undefined: it does. */
  get failure(): SwarmError | undefined {
    return this.#failure
  }

  /** The role that the replica says this node has. */
  get role(): 'manager' | 'worker' | undefined {
    return this.store.get('nodes', this.nodeId)?.spec.Role
  }

  /** Stops everything and closes the mesh. With `transfer`, hands leadership over first. */
  async close(options: { readonly transfer: boolean }): Promise<void> {
    this.proposer.close()
    await this.#links?.stop()
    for (const follower of this.#followers.toReversed()) await follower.stop()
    await this.#leadership.stop()
    await this.raft.shutdown({ transfer: options.transfer })
    await this.mesh.close()
    await this.#withdrawn
  }

  /**
   * A member that can keep nothing any more must not look alive: its replica stands still, it would
   * never start what it is given. So it hangs up, the others see it down at once, and go on without
   * it. Its containers run on, as in a partition.
   */
  #onFatal(cause: SwarmError, log: Logger): void {
    const message = `this node takes no part in the swarm any more: ${ERROR_CODES[cause.code]}`
    this.#failure = new SwarmError(cause.code, message, { cause })
    log.error({ code: cause.code, err: errorText(cause) }, 'this node takes no part in the swarm')
    this.proposer.fail(this.#failure)
    this.#withdrawn = this.mesh.close().catch((error: unknown) => {
      log.error({ err: errorText(error) }, 'mesh was not closed')
    })
  }
}

function lastReachableMs(
  mesh: MeshHost,
  clock: Clock,
  nodeId: string,
  self: string,
): number | undefined {
  if (nodeId === self) return clock.monotonicMs()
  const peer = mesh.peers().find((one) => one.nodeId === nodeId)
  if (peer === undefined) return undefined
  return peer.reachable ? clock.monotonicMs() : peer.sinceMs
}
