/**
 * Makes Raft's membership follow the nodes' desired roles; runs on the leader. One step at a time,
 * each through the log; which ones, in which order, and which have to wait is `role-steps.ts`. A
 * step that fails is held back for a while, so that a node in trouble does not keep the others
 * waiting.
 *
 *   nodes changed ──► take what may be taken ──► nothing wanted: wait for the next change
 *        ▲                                 └──► some wait or are held: look again soon ─┐
 *        └──────────────────────────────────────────────────────────────────────────────┘
 */
import type { Clock } from '../base/clock.ts'
import { errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Node } from '../store/objects.ts'
import type { Draft, Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { ROLE_CHANGE_TIMEOUT_MS, ROLE_RETRY_MIN_MS, ROLE_RETRY_MS } from './limits.ts'
import type { SwarmRaft } from './raft-face.ts'
import { nextRoleStep, roleSteps, subjectOf } from './role-steps.ts'
import type { Group, RoleStep } from './role-steps.ts'

/** What of Raft changes membership. */
export type RoleRaft = Pick<
  SwarmRaft,
  | 'configuration'
  | 'progressOf'
  | 'addLearner'
  | 'addVoter'
  | 'demoteVoter'
  | 'removeServer'
  | 'transferLeadership'
>

interface Components {
  readonly raft: RoleRaft
  readonly store: StoreView
  readonly proposer: Proposer
  /** Signs a manager's certificate with the cluster's root key. */
  readonly certify: (peerId: string) => Uint8Array
  readonly clock: Clock
  readonly log: Logger
}

/** A step that failed. */
interface Hold {
  /** Monotonic milliseconds; not tried before. */
  readonly untilMs: number
  /** Why, so that the same failure is logged once. */
  readonly reason: string
}

/** Runs while this node leads. */
export class RoleReconciler {
  readonly #components: Components
  readonly #self: string
  readonly #stop = new AbortController()
  /** Of steps that are still wanted, by {@link keyOf}. */
  readonly #held = new Map<string, Hold>()
  #running: Promise<void> | undefined
  #wake: (() => void) | undefined
  /** The nodes changed since they were looked at. */
  #dirty = true
  /** Time until what waits is looked at again; grows while nothing changes. */
  #pauseMs = ROLE_RETRY_MIN_MS

  constructor(components: Components, self: string) {
    this.#components = components
    this.#self = self
  }

  start(): void {
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('role reconciler: stopped'))
    this.#wake?.()
    await this.#running
  }

  async #run(): Promise<void> {
    const undo = this.#components.store.onCommit((commit) => {
      if (commit.type === 'restored' || commit.changes.some((change) => change.table === 'nodes')) {
        this.#mark()
      }
    })
    try {
      while (!this.#stopped()) {
        this.#dirty = false
        const { step, isPending } = this.#look()
        if (step === undefined) await this.#rest(isPending)
        else await this.#attempt(step)
      }
    } finally {
      undo()
    }
  }

  #stopped(): boolean {
    return this.#stop.signal.aborted
  }

  #mark(): void {
    this.#dirty = true
    this.#pauseMs = ROLE_RETRY_MIN_MS
    this.#wake?.()
  }

  /** The step to take, and whether there are others that wait or are held. */
  #look(): { readonly step: RoleStep | undefined; readonly isPending: boolean } {
    const { raft, store, clock } = this.#components
    const nodes = store.list('nodes')
    const group: Group = {
      servers: raft.configuration.servers,
      self: this.#self,
      progressOf: (id) => raft.progressOf(id),
    }
    const wanted = new Set(roleSteps(nodes, group).map(keyOf))
    for (const key of this.#held.keys()) if (!wanted.has(key)) this.#held.delete(key)
    const nowMs = clock.monotonicMs()
    const step = nextRoleStep(nodes, group, (one) => {
      return (this.#held.get(keyOf(one))?.untilMs ?? nowMs) > nowMs
    })
    return { step, isPending: wanted.size > 0 }
  }

  /** Until the nodes change; if something is pending, only for a while. */
  async #rest(isPending: boolean): Promise<void> {
    if (this.#dirty || this.#stopped()) return
    const woken = Promise.withResolvers<void>()
    this.#wake = woken.resolve
    const lookAgain = (): void => {
      this.#pauseMs = Math.min(ROLE_RETRY_MS, 2 * this.#pauseMs)
      woken.resolve()
    }
    const timer = isPending ? this.#components.clock.after(this.#pauseMs, lookAgain) : undefined
    await woken.promise
    timer?.cancel()
    this.#wake = undefined
  }

  async #attempt(step: RoleStep): Promise<void> {
    try {
      await this.#take(step)
      this.#held.delete(keyOf(step))
      this.#pauseMs = ROLE_RETRY_MIN_MS
    } catch (error) {
      if (this.#stopped()) return
      if (!isSwarmError(error)) throw error
      // Somebody else wrote the node's record: its next version is here already.
      if (!isSwarmError(error, 'OUT_OF_SEQUENCE')) this.#hold(step, errorText(error))
    }
  }

  #hold(step: RoleStep, reason: string): void {
    const { clock, log } = this.#components
    const key = keyOf(step)
    if (this.#held.get(key)?.reason !== reason) {
      const fields = { step: step.type, node: subjectOf(step), err: reason }
      log.warn(fields, 'membership change failed, will retry')
    }
    this.#held.set(key, { untilMs: clock.monotonicMs() + ROLE_RETRY_MS, reason })
  }

  async #take(step: RoleStep): Promise<void> {
    const { raft, log } = this.#components
    const options = { signal: this.#stop.signal, timeoutMs: ROLE_CHANGE_TIMEOUT_MS }
    switch (step.type) {
      case 'certify':
      case 'uncertify':
        await this.#writeCertificate(step)
        return
      case 'addLearner':
        await raft.addLearner(step.node.id, step.node.peerId, options)
        break
      case 'addVoter':
        await raft.addVoter(step.node.id, step.node.peerId, options)
        break
      case 'demoteVoter':
        await raft.demoteVoter(step.id, options)
        break
      case 'removeServer':
        await raft.removeServer(step.id, options)
        break
      case 'transfer':
        await raft.transferLeadership(undefined, options)
        break
      default:
        step satisfies never
    }
    log.info({ step: step.type, node: subjectOf(step) }, 'membership changed')
  }

  async #writeCertificate(step: {
    readonly type: 'certify' | 'uncertify'
    readonly node: Node
  }): Promise<void> {
    const { certify, proposer } = this.#components
    const { meta, certificate: _old, ...bare } = step.node
    const object: Draft<Node> =
      step.type === 'certify' ? { ...bare, certificate: certify(bare.peerId) } : bare
    const action = { type: 'update', table: 'nodes', object, version: meta.version } as const
    await proposer.propose([action], { signal: this.#stop.signal })
  }
}

function keyOf(step: RoleStep): string {
  return `${step.type} ${subjectOf(step) ?? ''}`
}
