/**
 * A swarm in one process: the real store behind its real codec, the real control plane, and agents
 * that only pretend to run tasks. Time is a {@link ManualClock}. Every applied entry is checked
 * against the invariants that must hold at all times.
 */
import { delay } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import { silentLogger } from '../../base/log.ts'
import { newIdentifier } from '../../base/identifiers.ts'
import { seededRandom, type Random } from '../../base/random.ts'
import { encodeTransaction } from '../../store/codec.ts'
import {
  compareTaskStates,
  isTerminal,
  type Node,
  type Service,
  type Task,
  type TaskState,
} from '../../store/objects.ts'
import { wantsRestart } from '../../store/restart-policy.ts'
import type { ServiceSpec } from '../../store/spec.ts'
import { StoreStateMachine } from '../../store/state-machine.ts'
import type { Store } from '../../store/store.ts'
import { clusterDraft, nodeDraft } from '../../store/testing/fixtures.ts'
import type { Action, Draft, ProposeOptions, Proposer } from '../../store/transaction.ts'
import { createService, updateService } from '../commands.ts'
import { ControlPlane } from '../control-plane.ts'
import { parseAddress, parseCidr } from '../subnets.ts'
import { ManualClock } from './manual-clock.ts'

/** What an agent does with a task of this image. */
export type Behaviour = 'run' | 'reject' | 'fail' | 'complete' | 'hang'

const STEPS: readonly TaskState[] = ['accepted', 'preparing', 'ready', 'starting', 'running']

/** Nodes, agents, store and leader. */
export class FakeSwarm implements Proposer {
  readonly clock = new ManualClock()
  readonly random: Random
  readonly machine = new StoreStateMachine()
  readonly control: ControlPlane
  /** Nodes whose links are cut: no reports, no orders, no signs of life. */
  readonly silent = new Set<string>()
  /** Nodes that do not restart their own tasks. */
  readonly lazy = new Set<string>()
  /** Image → behaviour; `run` when not named. */
  readonly behaviours = new Map<string, Behaviour>()
  /** Errors that the next proposals of the control plane meet before they act. */
  readonly refusals: SwarmError[] = []
  /** How long a proposal of the control plane is under way; others get in between. */
  latencyMs = 0
  /** Of how many proposals the answer will be lost: they take effect, and fail with TIMED_OUT. */
  lostAnswers = 0
  /** Proposals of the control plane that were refused by the store. */
  overtaken = 0
  /** Transactions of the control plane so far. */
  controlTransactions = 0
  readonly #lastHeardMs = new Map<string, number>()
  #index = 0

  constructor(seed = 1, subnetSize = 24) {
    this.random = seededRandom(seed)
    const { store } = this.machine
    this.control = new ControlPlane(
      {
        store,
        proposer: { propose: (actions, options) => this.#proposeControl(actions, options) },
        clock: this.clock,
        random: this.random,
        log: silentLogger,
        reachability: { lastReachableMs: (nodeId) => this.#lastReachableMs(nodeId) },
      },
      { nodeId: 'n0' },
    )
    this.write([{ type: 'create', table: 'cluster', object: clusterDraft({ subnetSize }) }])
  }

  get store(): Store {
    return this.machine.store
  }

  /** Adds `count` nodes `n0`, `n1` …, and starts the leader on `n0`. */
  async begin(count: number, fields: Partial<Draft<Node>> = {}): Promise<void> {
    for (let number = 0; number < count; number += 1) this.addNode(`n${number}`, fields)
    this.control.start()
    await this.settle()
  }

  addNode(id: string, fields: Partial<Draft<Node>> = {}): void {
    const object = nodeDraft(id, { status: { state: 'unknown', message: '' }, ...fields })
    this.write([{ type: 'create', table: 'nodes', object }])
  }

  updateNode(id: string, change: (node: Node) => Partial<Draft<Node>>): void {
    const node = this.store.get('nodes', id)
    if (node === undefined) return
    const { meta, ...rest } = node
    const object = { ...rest, ...change(node) }
    this.write([{ type: 'update', table: 'nodes', object, version: meta.version }])
  }

  setAvailability(id: string, availability: 'active' | 'pause' | 'drain'): void {
    this.updateNode(id, (node) => ({ spec: { ...node.spec, Availability: availability } }))
  }

  createService(spec: ServiceSpec): string {
    const id = newIdentifier(this.random)
    this.write(createService(this.store, { id, spec }))
    return id
  }

  updateService(id: string, change: (spec: ServiceSpec) => ServiceSpec, rollback = false): void {
    const service = this.service(id)
    const { version } = service.meta
    const at = '2026-01-01T00:00:00.000Z'
    const spec = change(service.spec)
    this.write(updateService(this.store, { id, version, spec, rollback, at }))
  }

  service(id: string): Service {
    const service = this.store.get('services', id)
    if (service === undefined) throw new Error(`service ${id} is gone`)
    return service
  }

  tasks(serviceId: string): Task[] {
    return this.store.find('tasks', 'serviceId', serviceId)
  }

  /** Tasks observed and wanted running. */
  running(serviceId: string): Task[] {
    return this.tasks(serviceId).filter(
      (task) => task.status.state === 'running' && task.desiredState === 'running',
    )
  }

  /** Writes as a user would. @throws Error when the transaction is refused */
  write(actions: readonly Action[]): void {
    const result = this.#apply(actions, newIdentifier(this.random))
    if (!result.ok) throw new Error(`${result.code}: ${result.message}`)
  }

  /** Ends a running task as its node would see it. */
  end(task: Task, state: 'failed' | 'complete'): void {
    const status = { state, timestamp: '', message: state }
    this.write([{ type: 'observeTask', id: task.id, nodeId: task.nodeId, status }])
  }

  propose(actions: readonly Action[], options: ProposeOptions = {}): Promise<{ index: number }> {
    return this.#propose(actions, options)
  }

  /** Ends this leadership; what is under way may still take effect. */
  async depose(): Promise<void> {
    const stopped = this.control.stop()
    await this.clock.advance(this.latencyMs)
    await stopped
  }

  /** Lets leader and agents act for `durationMs`. */
  async settle(durationMs = 100): Promise<void> {
    const stepMs = 10
    for (let passed = 0; passed < durationMs; passed += stepMs) {
      for (const node of this.store.list('nodes')) this.#stepAgent(node.id)
      await this.clock.advance(stepMs)
    }
  }

  #lastReachableMs(nodeId: string): number | undefined {
    if (!this.silent.has(nodeId)) this.#lastHeardMs.set(nodeId, this.clock.monotonicMs())
    return this.#lastHeardMs.get(nodeId)
  }

  async #proposeControl(
    actions: readonly Action[],
    options: ProposeOptions = {},
  ): Promise<{ index: number }> {
    const refusal = this.refusals.shift()
    if (refusal !== undefined) throw refusal
    this.controlTransactions += 1
    const lost = this.lostAnswers > 0
    if (lost) this.lostAnswers -= 1
    if (this.latencyMs > 0)
      await delay(this.clock, this.latencyMs, lost ? undefined : options.signal)
    if (lost) {
      this.#apply(actions, newIdentifier(this.random))
      throw new SwarmError('TIMED_OUT', 'the answer is lost')
    }
    try {
      return await this.#propose(actions, options)
    } catch (error) {
      this.overtaken += 1
      throw error
    }
  }

  async #propose(actions: readonly Action[], options: ProposeOptions): Promise<{ index: number }> {
    await Promise.resolve()
    options.signal?.throwIfAborted()
    const result = this.#apply(actions, options.requestId ?? newIdentifier(this.random))
    if (!result.ok) throw new SwarmError(result.code, result.message)
    return { index: result.index }
  }

  #apply(actions: readonly Action[], requestId: string) {
    this.#index += 1
    const at = '2026-01-01T00:00:00.000Z'
    const data = encodeTransaction({ requestId, at, actions })
    const [result] = this.machine.apply([{ index: this.#index, term: 1, data }])
    if (result === undefined) throw new Error('no result')
    checkInvariants(this.store)
    return result
  }

  /** Moves each task of the node one step, as an agent would. */
  #stepAgent(nodeId: string): void {
    if (this.silent.has(nodeId)) return
    for (const task of this.store.find('tasks', 'nodeId', nodeId)) {
      if (compareTaskStates(task.status.state, 'assigned') >= 0) this.#stepTask(task)
    }
  }

  #stepTask(task: Task): void {
    const wanted = compareTaskStates(task.desiredState, 'running') <= 0
    if (isTerminal(task.status.state)) {
      if (wanted) this.#maybeRestart(task)
      return
    }
    if (!wanted) {
      if (this.#behaviour(task) !== 'hang') this.#report(task, 'shutdown')
      return
    }
    const { state } = task.status
    if (state === 'ready' && task.desiredState === 'ready') return
    const behaviour = this.#behaviour(task)
    if (behaviour === 'reject' && state === 'preparing') this.#report(task, 'rejected')
    else if (behaviour === 'fail' && state === 'starting') this.#report(task, 'failed')
    else if (behaviour === 'complete' && state === 'running') this.#report(task, 'complete')
    else if (state !== 'running') {
      const next = STEPS[STEPS.indexOf(state) + 1]
      if (next !== undefined) this.#report(task, next)
    }
  }

  #behaviour(task: Task): Behaviour {
    return this.behaviours.get(task.spec.ContainerSpec.Image) ?? 'run'
  }

  #report(task: Task, state: TaskState): void {
    const status = { state, timestamp: '', message: state }
    this.#apply(
      [{ type: 'observeTask', id: task.id, nodeId: task.nodeId, status }],
      newIdentifier(this.random),
    )
  }

  #maybeRestart(task: Task): void {
    if (this.lazy.has(task.nodeId) || task.status.state === 'rejected') return
    if (!wantsRestart(task)) return
    const successorStatus = { state: 'accepted', timestamp: '', message: 'restarted' } as const
    const { nodeId, status } = task
    this.#apply(
      [{ type: 'restartTask', predecessor: task.id, nodeId, status, successorStatus }],
      newIdentifier(this.random),
    )
  }
}

/** What must hold after every entry, whatever happens. */
export function checkInvariants(store: Store): void {
  const addresses = new Set<string>()
  for (const task of store.list('tasks')) {
    const { address } = task
    if (address === undefined || isTerminal(task.status.state)) continue
    if (addresses.has(address)) throw new Error(`address ${address} is given twice`)
    addresses.add(address)
    const subnet = store.get('nodes', task.nodeId)?.subnet
    if (subnet !== undefined && !isHostAddress(address, subnet)) {
      throw new Error(`address ${address} is no host of ${subnet}`)
    }
  }
  const subnets = store.list('nodes').flatMap((node) => node.subnet ?? [])
  if (new Set(subnets).size !== subnets.length) throw new Error('a subnet is given twice')
  const ports = store
    .list('services')
    .flatMap((service) => service.endpoint?.ports ?? [])
    .filter((port) => port.publishMode === 'ingress')
    .map((port) => `${port.protocol}/${port.publishedPort}`)
  if (new Set(ports).size !== ports.length) throw new Error('a port is published twice')
}

/** Inside, and neither the subnet itself, its gateway nor its broadcast address. */
function isHostAddress(address: string, subnet: string): boolean {
  const cidr = parseCidr(subnet)
  const value = parseAddress(address)
  if (cidr === undefined || value === undefined) return false
  return value > cidr.base + 1 && value < cidr.base + cidr.size - 1
}
