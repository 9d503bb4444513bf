/**
 * The control plane: what the leader decides. Runs only while this node leads. One owned loop:
 *
 *   commit ─► mark dirty ─► (settle a moment) ─► plan one pass ─► propose one transaction ─► again
 *
 * At most one proposal is under way, so a plan always builds on what the one before did. A plan
 * that was overtaken (OUT_OF_SEQUENCE …) is thrown away and made anew from the newer store; nothing
 * is kept between passes but dirt and sightings. An idle cluster is read twice a second and never
 * written.
 * Source: DESIGN.md "the way of one command", decision 9.
 */
import { isDeepStrictEqual } from 'node:util'
import { wallTimeText, type Clock, type Timer } from '../base/clock.ts'
import { errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { newIdentifier } from '../base/identifiers.ts'
import type { Action, Proposer } from '../store/transaction.ts'
import type { Change, Commit, StoreView } from '../store/view.ts'
import { NodePlanner, type Reachability } from './node-planner.ts'
import { Plan } from './plan.ts'
import { planPass } from './planner.ts'
import { isAllocated } from './endpoints.ts'
import { Sightings } from './sightings.ts'

/** How long commits may gather before a pass: agents report in bursts. */
export const CONTROL_SETTLE_MS = 1

/** How often nodes are checked for signs of life. */
export const NODE_CHECK_MS = 500

/** First and longest wait after a proposal failed; doubles between. */
export const RETRY_FIRST_MS = 5
export const RETRY_LONGEST_MS = 1_000

/** What the control plane is built from. */
export interface ControlComponents {
  readonly store: StoreView
  readonly proposer: Proposer
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly reachability: Reachability
}

/** Options of a control plane. */
export interface ControlOptions {
  /** This node. */
  readonly nodeId: string
}

/** Decides while this node leads; `start` on becoming leader, `stop` on losing leadership. */
export class ControlPlane {
  readonly #components: ControlComponents
  readonly #options: ControlOptions
  #reign: Reign | undefined

  constructor(components: ControlComponents, options: ControlOptions) {
    this.#components = components
    this.#options = options
  }

  /** This node leads now. Does nothing when it is running. */
  start(): void {
    this.#reign ??= new Reign(this.#components, this.#options)
  }

  /** This node no longer leads. Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    const reign = this.#reign
    this.#reign = undefined
    await reign?.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** What one pass came to. */
interface Pass {
  readonly actions: readonly Action[]
  /** Something was left undone for lack of room. */
  readonly cut: boolean
  /** Marks dirty again what the pass took up. */
  readonly restore: () => void
}

/** What exists only while this node leads. */
class Reign {
  readonly #components: ControlComponents
  readonly #sightings: Sightings
  readonly #nodes: NodePlanner
  readonly #abort = new AbortController()
  readonly #unsubscribe: () => void
  readonly #loop: Promise<void>
  readonly #dirtyServices = new Set<string>()
  readonly #dirtyNodes = new Set<string>()
  /** Service id → when to look at it again. */
  readonly #wakes = new Map<string, number>()
  #dirty = true
  /** Ends the wait of an idle loop. */
  #poke: (() => void) | undefined
  #failures = 0

  constructor(components: ControlComponents, options: ControlOptions) {
    this.#components = components
    this.#sightings = new Sightings(components.clock.monotonicMs())
    this.#nodes = new NodePlanner(components.reachability, {
      selfId: options.nodeId,
    })
    this.#unsubscribe = components.store.onCommit((commit) => this.#onCommit(commit))
    this.#markAll()
    this.#loop = this.#run()
    // A bug in a planner must stop the process, not end in a silent leader.
    this.#loop.catch((error: unknown) => {
      components.log.error({ err: errorText(error) }, 'control plane failed')
      queueMicrotask(() => {
        throw error
      })
    })
  }

  async end(): Promise<void> {
    this.#unsubscribe()
    this.#abort.abort(new Error('leadership ended'))
    this.#poke?.()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    for (;;) {
      await this.#idle()
      if (signal.aborted) return
      this.#markDue()
      const pass = this.#plan()
      const applied = pass.actions.length === 0 || (await this.#propose(pass.actions))
      if (applied) this.#failures = 0
      if (!applied || pass.cut) pass.restore()
    }
  }

  /**
   * Waits for the end, for dirt (then a moment more, for its company), a due wake or the next node
   * check.
   */
  async #idle(): Promise<void> {
    if (!this.#dirty) await this.#sleep(this.#idleMs(), true)
    if (this.#abort.signal.aborted || !this.#dirty) return
    await this.#sleep(this.#failures === 0 ? CONTROL_SETTLE_MS : this.#retryMs(), false)
  }

  #idleMs(): number {
    const nowMs = this.#components.clock.monotonicMs()
    const nextMs = Math.min(...this.#wakes.values())
    return Math.max(0, Math.min(NODE_CHECK_MS, nextMs - nowMs))
  }

  #retryMs(): number {
    return Math.min(RETRY_LONGEST_MS, RETRY_FIRST_MS * 2 ** (this.#failures - 1))
  }

  /** Resolves after `delayMs`, on `end`, and if `wakeable` on dirt. */
  #sleep(delayMs: number, wakeable: boolean): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel()
        this.#poke = undefined
        resolve()
      }
      const timer: Timer = this.#components.clock.after(delayMs, done)
      this.#poke = () => {
        if (wakeable || this.#abort.signal.aborted) done()
      }
    })
  }

  #plan(): Pass {
    const { store, clock, random } = this.#components
    const services = new Set(this.#dirtyServices)
    const nodes = new Set(this.#dirtyNodes)
    this.#dirtyServices.clear()
    this.#dirtyNodes.clear()
    this.#dirty = false
    const moment = { nowMs: clock.monotonicMs(), at: wallTimeText(clock.wallMs()), random }
    const plan = new Plan(store, moment)
    planPass(plan, { services, nodes }, { nodes: this.#nodes, sightings: this.#sightings })
    for (const [serviceId, atMs] of plan.wakes) this.#wakes.set(serviceId, atMs)
    const restore = (): void => {
      for (const id of services) this.#dirtyServices.add(id)
      for (const id of nodes) this.#dirtyNodes.add(id)
      this.#dirty = true
    }
    return { actions: plan.actions(), cut: plan.cut, restore }
  }

  /** Returns false when the plan has to be made anew. */
  async #propose(actions: readonly Action[]): Promise<boolean> {
    const { proposer, random, log } = this.#components
    const options = { requestId: newIdentifier(random), signal: this.#abort.signal }
    try {
      await proposer.propose(actions, options)
      return true
    } catch (error) {
      if (!isSwarmError(error) && !this.#abort.signal.aborted) throw error
      this.#failures += 1
      const fields = { err: errorText(error), actions: actions.length, failures: this.#failures }
      if (this.#failures === 1) log.debug(fields, 'plan was refused; planning anew')
      else log.warn(fields, 'plans are refused; planning anew')
      return false
    }
  }

  #onCommit(commit: Commit): void {
    if (commit.type === 'restored') this.#markAll()
    else for (const change of commit.changes) this.#onChange(change)
    if (this.#dirty) this.#poke?.()
  }

  #onChange(change: Change): void {
    const nowMs = this.#components.clock.monotonicMs()
    switch (change.table) {
      case 'tasks':
        this.#sightings.onTask(change.before, change.after, nowMs)
        this.#markService((change.after ?? change.before)?.serviceId)
        return
      case 'services':
        this.#markService(change.id)
        if (!isDeepStrictEqual(change.before?.endpoint, change.after?.endpoint)) this.#markBlocked()
        return
      case 'nodes':
        this.#dirtyNodes.add(change.id)
        this.#markServices()
        return
      case 'cluster':
      case 'networks':
        this.#markServices()
        return
      default:
        change satisfies never
    }
  }

  #markService(serviceId: string | undefined): void {
    if (serviceId === undefined) return
    this.#dirtyServices.add(serviceId)
    this.#dirty = true
  }

  /** Services that wait for ports or addresses: another one may have given up its own. */
  #markBlocked(): void {
    for (const service of this.#components.store.list('services')) {
      if (!isAllocated(service)) this.#markService(service.id)
    }
  }

  #markServices(): void {
    this.#dirty = true
    for (const service of this.#components.store.list('services')) {
      this.#dirtyServices.add(service.id)
    }
  }

  /** Everything, also what names services or nodes that are gone. */
  #markAll(): void {
    const { store } = this.#components
    this.#sightings.begin(store)
    this.#markServices()
    for (const task of store.list('tasks')) this.#dirtyServices.add(task.serviceId)
    for (const node of store.list('nodes')) this.#dirtyNodes.add(node.id)
  }

  #markDue(): void {
    const nowMs = this.#components.clock.monotonicMs()
    for (const [serviceId, atMs] of this.#wakes) {
      if (atMs > nowMs) continue
      this.#wakes.delete(serviceId)
      this.#dirtyServices.add(serviceId)
    }
  }
}
