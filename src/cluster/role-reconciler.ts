/**
 * Makes Raft's membership follow the nodes' desired roles; runs on the leader. A manager is a voter, a
 * worker a learner of the same group (DESIGN.md). One change at a time, each through the log, so the
 * order below is the order of events:
 *
 *   new node ──► learner ──► (manager: certificate, caught up) ──► voter
 *   demoted voter ──► learner          removed node ──► removed from the group
 *
 * A leader that is itself demoted or removed hands leadership over first.
 * Source: swarmkit `manager/role_manager.go` for the order; reference/raft.md bugs 18–21.
 */
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Server } from '../raft/index.ts'
import type { Node } from '../store/objects.ts'
import type { Proposer } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { ROLE_CHANGE_TIMEOUT_MS, ROLE_RETRY_MS } from './limits.ts'
import type { SwarmRaft } from './raft-face.ts'

interface Components {
  readonly raft: SwarmRaft
  readonly store: StoreView
  readonly proposer: Proposer
  /** Signs a manager's certificate with the cluster's root key. */
  readonly certify: (peerId: string) => Uint8Array
  readonly clock: Clock
  readonly log: Logger
}

/** One step towards the wanted membership. */
export type RoleStep =
  | { readonly type: 'certify'; readonly node: Node }
  | { readonly type: 'addLearner'; readonly node: Node }
  | { readonly type: 'addVoter'; readonly node: Node }
  | { readonly type: 'demoteVoter'; readonly id: string }
  | { readonly type: 'removeServer'; readonly id: string }
  | { readonly type: 'transfer' }

/** The next step, or undefined when membership is as wanted. Pure. */
export function nextRoleStep(
  nodes: readonly Node[],
  servers: readonly Server[],
  self: string,
): RoleStep | undefined {
  // Of a swarm that is just being founded nothing is written yet.
  if (nodes.length === 0) return undefined
  const byId = new Map(servers.map((server) => [server.id, server]))
  const wanted = new Map(nodes.map((node) => [node.id, node]))
  for (const node of nodes) {
    if (node.spec.Role === 'manager' && node.certificate === undefined) {
      return { type: 'certify', node }
    }
    const server = byId.get(node.id)
    if (server === undefined) return { type: 'addLearner', node }
    if (node.spec.Role === 'manager' && server.suffrage === 'learner') {
      return { type: 'addVoter', node }
    }
    if (node.spec.Role === 'worker' && server.suffrage === 'voter') {
      return node.id === self ? { type: 'transfer' } : { type: 'demoteVoter', id: node.id }
    }
  }
  const extra = servers.find((server) => !wanted.has(server.id))
  if (extra === undefined) return undefined
  return extra.id === self ? { type: 'transfer' } : { type: 'removeServer', id: extra.id }
}

/** Runs while this node leads. */
export class RoleReconciler {
  readonly #components: Components
  readonly #self: string
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined
  #wake: (() => void) | undefined
  #dirty = true

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
        await this.#whenDirty()
        await this.#settle()
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
    this.#wake?.()
  }

  async #whenDirty(): Promise<void> {
    if (this.#dirty || this.#stop.signal.aborted) return
    const woken = Promise.withResolvers<void>()
    this.#wake = woken.resolve
    await woken.promise
    this.#wake = undefined
  }

  async #settle(): Promise<void> {
    this.#dirty = false
    const { raft, store, clock, log } = this.#components
    while (!this.#stopped()) {
      const step = nextRoleStep(store.list('nodes'), raft.configuration.servers, this.#self)
      if (step === undefined) return
      try {
        await this.#take(step)
      } catch (error) {
        if (this.#stopped()) return
        if (!isSwarmError(error)) throw error
        log.warn({ step: step.type, err: errorText(error) }, 'membership change failed, will retry')
        await delay(clock, ROLE_RETRY_MS, this.#stop.signal).catch(() => {})
      }
    }
  }

  async #take(step: RoleStep): Promise<void> {
    const { raft, log } = this.#components
    const options = { signal: this.#stop.signal, timeoutMs: ROLE_CHANGE_TIMEOUT_MS }
    switch (step.type) {
      case 'certify':
        await this.#certify(step.node)
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
    log.info(
      { step: step.type, node: 'node' in step ? step.node.id : undefined },
      'membership changed',
    )
  }

  async #certify(node: Node): Promise<void> {
    const { certify, proposer } = this.#components
    const object = { ...node, certificate: certify(node.peerId) }
    const action = { type: 'update', table: 'nodes', object, version: node.meta.version } as const
    await proposer.propose([action], { signal: this.#stop.signal })
  }
}
