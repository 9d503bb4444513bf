/**
 * What only the leader does, started and stopped with leadership: the control plane and Raft's
 * membership. A new leader first applies everything that earlier leaders committed (`barrier`), so
 * that it decides on the whole truth.
 */
import type { Clock } from '../base/clock.ts'
import { errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { ControlPlane } from '../control/control-plane.ts'
import type { Reachability } from '../control/node-planner.ts'
import type { Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import type { ClusterKeys } from './cluster-keys.ts'
import { LatestTask } from './latest-task.ts'
import type { SwarmRaft } from './raft-face.ts'
import { RoleReconciler } from './role-reconciler.ts'

interface Components {
  readonly raft: SwarmRaft
  readonly store: StoreView
  readonly proposer: Proposer
  readonly keys: ClusterKeys
  readonly reachability: Reachability
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

interface LeaderLoops {
  readonly term: number
  readonly control: ControlPlane
  readonly roles: RoleReconciler
}

/** Follows this node's leadership. */
export class Leadership {
  readonly #components: Components
  readonly #nodeId: string
  readonly #task: LatestTask<boolean>
  #loops: LeaderLoops | undefined
  #undo: (() => void) | undefined

  constructor(components: Components, nodeId: string) {
    this.#components = components
    this.#nodeId = nodeId
    this.#task = new LatestTask(
      (leads: boolean) => this.#become(leads),
      (error) =>
        components.log.error({ err: errorText(error) }, 'leadership could not be followed'),
    )
  }

  start(): void {
    const { raft } = this.#components
    this.#undo = raft.onLeadership(() => this.#task.want(raft.role === 'leader'))
    this.#task.want(raft.role === 'leader')
  }

  async stop(): Promise<void> {
    this.#undo?.()
    this.#task.want(false)
    await this.#task.settled()
  }

  async #become(leads: boolean): Promise<void> {
    const { raft } = this.#components
    if (this.#loops !== undefined && (!leads || this.#loops.term !== raft.term)) {
      await this.#stopLoops()
    }
    if (leads && this.#loops === undefined) await this.#startLoops()
  }

  async #startLoops(): Promise<void> {
    const { raft, log } = this.#components
    const term = raft.term
    try {
      await raft.barrier()
    } catch (error) {
      log.warn({ term, err: errorText(error) }, 'leadership ended before it began')
      return
    }
    if (raft.role !== 'leader' || raft.term !== term) return
    const control = new ControlPlane(this.#components, { nodeId: this.#nodeId })
    const certify = (peerId: string): Uint8Array =>
      this.#components.keys.certify(this.#components.store, peerId)
    const roles = new RoleReconciler({ ...this.#components, certify }, this.#nodeId)
    this.#loops = { term, control, roles }
    control.start()
    roles.start()
    log.info({ term }, 'this node leads')
  }

  async #stopLoops(): Promise<void> {
    const loops = this.#loops
    this.#loops = undefined
    if (loops === undefined) return
    await Promise.all([loops.control.stop(), loops.roles.stop()])
    this.#components.log.info({ term: loops.term }, 'this node no longer leads')
  }
}
