/**
 * One run: the production runtime, unchanged, over simulated time, network and disk, with what must
 * hold checked after every event. A plan, a seed and a list of actions give one course, always.
 * Source: reference/raft.md §4.1; FoundationDB; TigerBeetle's `vopr.zig`, in own words.
 */
import { assert } from '../../base/assert.ts'
import { errorText } from '../../base/errors.ts'
import type { ConfState, Index, PeerId, Term } from '../core/entry.ts'
import { checkRegister } from './checker.ts'
import { Clients } from './clients.ts'
import { Cluster } from './cluster.ts'
import { Dice } from './dice.ts'
import { Disaster } from './disaster.ts'
import { DiskChecks } from './disk-checks.ts'
import { EventLoop } from './event-loop.ts'
import { GlobalLog, quorumHas } from './global-log.ts'
import { History } from './history.ts'
import { Housekeeping } from './housekeeping.ts'
import { Liveness } from './liveness.ts'
import { MachineChecks } from './machine-checks.ts'
import { Nemesis } from './nemesis.ts'
import { NodeChecks } from './node-checks.ts'
import { addEpisodes } from './episodes.ts'
import { withFocus } from './focus.ts'
import { addBoundedReads, addOperations, withOperations } from './operations.ts'
import { Operators } from './operators.ts'
import { drawPlan, electionMs, type Plan } from './plan.ts'
import { drawSchedule } from './schedule.ts'
import type { SimDisk } from './sim-disk.ts'
import { SimNetwork } from './sim-network.ts'
import { Verdict, type Failure, type Invariant } from './verdict.ts'
import { WireChecks } from './wire-checks.ts'
import type { Host } from './event.ts'
import type { Action } from './actions.ts'

/** All that a run depends on. */
export interface Script {
  readonly seed: number
  readonly plan: Plan
  readonly actions: readonly Action[]
}

/** What a run came to. */
export interface Outcome {
  readonly failure: Failure | undefined
  /** Of the whole course. */
  readonly hash: string
  readonly events: number
  readonly virtualMs: number
  /** Entries committed, leaders elected, membership changed: what happened at all. */
  readonly committed: number
  readonly leaders: number
  readonly changes: number
  readonly writes: number
  readonly reads: number
  readonly boundedReads: number
  readonly snapshots: number
  /** Groups of which one member went on alone. */
  readonly recoveries: number
  /** Registers whose history was searched for an order, and searches that became too long. */
  readonly searched: number
  readonly gaveUp: number
}

/** Election timeouts in which a healed group must have shown that it goes on. */
const LIVENESS_TIMEOUTS = 60
/** Election timeouts in which the disks must have taken the first configuration. */
const START_TIMEOUTS = 20
/** Election timeouts for which those that come back are watched at least. */
const REUNION_TIMEOUTS = 5
/** Election timeouts that a message may be on its way. */
const ECHO_TIMEOUTS = 10
/** Election timeouts between two rounds of the operators. */
const ROUND_TIMEOUTS = 2
/** Time that a call may take, in election timeouts. */
const CALL_TIMEOUTS = 3
/** One register in so many is searched for an order of its operations ... */
const SEARCHED_ONE_IN = 3
/** ... if it has not more operations than this. */
const SEARCHED_OPERATIONS_MAX = 400

/** The run of a seed. */
export function scriptOf(seed: number): Script {
  const drawn = withFocus(drawPlan(new Dice(seed, 'plan')), new Dice(seed, 'focus'))
  const plan = withOperations(drawn, new Dice(seed, 'what operators do'))
  const faults = drawSchedule(new Dice(seed, 'schedule'), plan)
  const actions = addEpisodes(faults, plan, new Dice(seed, 'episodes'))
  const operated = addOperations(actions, plan, new Dice(seed, 'operations'))
  return { seed, plan, actions: addBoundedReads(operated, plan, new Dice(seed, 'bounded reads')) }
}

/** Runs a script. Runs of one process must not overlap. */
export function simulate(script: Script): Promise<Outcome> {
  return new Simulation(script).run()
}

class Simulation {
  readonly #script: Script
  readonly #loop: EventLoop
  readonly #verdict: Verdict
  readonly #log: GlobalLog
  readonly #wire: WireChecks
  readonly #network: SimNetwork
  readonly #machines: MachineChecks
  readonly #history: History
  readonly #clients: Clients
  readonly #cluster: Cluster
  readonly #housekeeping: Housekeeping
  readonly #nemesis: Nemesis
  readonly #confs = new Map<Index, ConfState>()
  #liveness: Liveness | undefined

  constructor(script: Script) {
    const { seed, plan } = script
    this.#script = script
    this.#loop = new EventLoop(plan)
    this.#verdict = new Verdict(() => this.#loop.nowMs)
    this.#log = new GlobalLog(this.#verdict)
    this.#machines = new MachineChecks(this.#verdict, this.#log)
    this.#history = new History(this.#verdict, this.#machines, () => this.#loop.nowMs)
    this.#clients = new Clients(this.#history, this.#verdict)
    this.#wire = new WireChecks(this.#verdict, this.#log, {
      disk: (id) => this.#cluster.byId(id)?.disk,
      lastIndex: (id) => this.#cluster.byId(id)?.raft?.lastIndex ?? 0,
      life: (id) => this.#cluster.byId(id)?.lifeName ?? id,
    })
    const parts = { loop: this.#loop, watch: this.#wire }
    this.#network = new SimNetwork(parts, seed, { ...plan.network })
    this.#cluster = this.#newCluster()
    const echoMs = ECHO_TIMEOUTS * electionMs(plan)
    this.#housekeeping = new Housekeeping(this.#cluster, new Dice(seed, 'operators'), echoMs)
    const own = {
      cluster: this.#cluster,
      clients: this.#clients,
      housekeeping: this.#housekeeping,
      verdict: this.#verdict,
    }
    this.#nemesis = new Nemesis({ ...own, operators: new Operators({ ...own, plan }) })
  }

  async run(): Promise<Outcome> {
    const { plan, actions } = this.#script
    const unitMs = electionMs(plan)
    const onRejection = (error: unknown): void => {
      this.#verdict.fail('crash', `an assertion failed: ${errorText(error)}`)
    }
    process.on('unhandledRejection', onRejection)
    try {
      await this.#start()
      for (const action of actions) this.#at(action.atMs, () => this.#nemesis.perform(action))
      this.#keepHouse(unitMs)
      const endMs = plan.timeouts * unitMs
      await this.#runUntil(endMs, () => false)
      if (this.#verdict.failure === undefined) await this.#proveLiveness(endMs)
      if (this.#verdict.failure === undefined) this.#search()
      await new Promise((resolve) => setImmediate(resolve))
    } catch (error) {
      this.#verdict.fail('crash', errorText(error))
    } finally {
      process.off('unhandledRejection', onRejection)
    }
    return this.#outcome()
  }

  #newCluster(): Cluster {
    const { seed, plan } = this.#script
    const { tickMs, electionTicks, snapshotThreshold, trailingEntries, operations } = plan
    const diskOf: Cluster['diskOf'] = (peer) => this.#cluster.diskOf(peer)
    return new Cluster({
      world: {
        loop: this.#loop,
        network: this.#network,
        verdict: this.#verdict,
        nodeChecks: new NodeChecks(this.#verdict, this.#log, diskOf),
        machineChecks: this.#machines,
        seed,
        options: {
          tickMs,
          electionTicks,
          snapshotThreshold,
          trailingEntries,
          timeoutMs: (plan.callTimeouts ?? CALL_TIMEOUTS) * electionMs(plan),
          leaseReads: operations?.leases ?? false,
          heartbeatTicks: operations?.heartbeatTicks ?? 1,
          ...plan.limits,
        },
        applyMs: () => (this.#liveness === undefined ? plan.applyMs : 0),
        drift: plan.drift,
      },
      diskManners: { ...plan.disk },
      diskWatch: new DiskChecks(this.#verdict, this.#log, {
        durableIndex: ({ id }) => this.#cluster.byId(id)?.driver?.core.durableIndex ?? 0,
        isElsewhere: (disk, index, term) => this.#isElsewhere(disk, index, term),
      }),
      onCrash: (life) => this.#clients.onCrash(life),
    })
  }

  #isElsewhere(but: SimDisk, index: Index, term: Term): boolean {
    const conf = this.#confs.get(Math.max(...this.#confs.keys()))
    const holds = (peer: PeerId): boolean => {
      const disk = this.#cluster.diskOf(peer)
      return disk === 'lost' || (disk !== but && disk?.holds(index, term) === true)
    }
    return conf !== undefined && quorumHas(conf, holds)
  }

  async #start(): Promise<void> {
    const { plan } = this.#script
    const { voters, learners } = plan
    const onError = (error: unknown): void => this.#verdict.fail('crash', errorText(error))
    this.#cluster.later(0, () => {
      this.#cluster.bootstrap(voters, learners).catch(onError)
    })
    const isMade = (): boolean => {
      return this.#loop.count > 1 && this.#cluster.present.every(({ isUp }) => isUp)
    }
    await this.#runUntil(START_TIMEOUTS * electionMs(plan), isMade)
    assert(isMade(), 'the simulated group was made in time')
  }

  #at(atMs: number, run: () => void): void {
    this.#cluster.later(atMs - this.#loop.nowMs, run)
  }

  #keepHouse(unitMs: number): void {
    const round = (): void => {
      if (this.#liveness !== undefined) return
      this.#housekeeping.round()
      this.#cluster.later(ROUND_TIMEOUTS * unitMs, round)
    }
    this.#cluster.later(ROUND_TIMEOUTS * unitMs, round)
  }

  /** Runs until `untilMs`, a failure, or `isDone`. */
  #runUntil(untilMs: number, isDone: () => boolean): Promise<void> {
    return this.#loop.run(untilMs, (host) => {
      this.#observe(host)
      return this.#verdict.failure === undefined && !isDone()
    })
  }

  /** Checks whom the last event touched; who is outside of every process may have touched all. */
  #observe(host: Host | undefined): void {
    this.#verdict.note(this.#loop.nowMs * 1000)
    for (const node of this.#cluster.all) {
      if (node.host === undefined || (host !== undefined && node.host !== host)) continue
      node.observe()
      const membership = node.driver?.membership
      if (membership !== undefined) this.#confs.set(membership.index, membership.conf)
    }
  }

  async #proveLiveness(fromMs: number): Promise<void> {
    const { plan, seed } = this.#script
    const timeoutMs = electionMs(plan)
    const liveness = new Liveness({
      cluster: this.#cluster,
      clients: this.#clients,
      dice: new Dice(seed, 'victims'),
      timeoutMs,
      newId: () => this.#history.newId(),
    })
    this.#liveness = liveness
    this.#nemesis.end()
    liveness.begin(this.#confs)
    await this.#runUntil(fromMs + LIVENESS_TIMEOUTS * timeoutMs, () => liveness.isProven)
    if (!this.#verify(liveness.isProven, 'liveness', liveness)) return
    // What was cut off comes back.
    liveness.reunite()
    const backMs = this.#loop.nowMs
    await this.#runUntil(backMs + REUNION_TIMEOUTS * timeoutMs, () => false)
    await this.#runUntil(backMs + LIVENESS_TIMEOUTS * timeoutMs, () => liveness.isProven)
    if (!this.#verify(liveness.isProven, 'liveness', liveness)) return
    if (!this.#verify(liveness.isStable, 'stability', liveness)) return
    liveness.drill()
    const drillMs = this.#loop.nowMs
    await this.#runUntil(drillMs + LIVENESS_TIMEOUTS * timeoutMs, () => liveness.isProven)
    if (!this.#verify(liveness.isProven, 'liveness', liveness)) return
    await this.#surviveDisaster(liveness)
  }

  async #surviveDisaster(liveness: Liveness): Promise<void> {
    const { plan, seed } = this.#script
    const dice = new Dice(seed, 'disaster')
    if (!Disaster.strikes(dice)) return
    const timeoutMs = electionMs(plan)
    const parts = { cluster: this.#cluster, clients: this.#clients, verdict: this.#verdict }
    const disaster = new Disaster({ ...parts, dice, keys: plan.keys, timeoutMs })
    disaster.begin()
    for (const act of [() => {}, () => disaster.aftermath()]) {
      act()
      liveness.again()
      const endMs = this.#loop.nowMs + LIVENESS_TIMEOUTS * timeoutMs
      await this.#runUntil(endMs, () => disaster.isRepaired && liveness.isProven)
      const isDone = disaster.isRepaired && liveness.isProven
      if (!this.#verify(isDone, 'liveness', liveness)) return
    }
    this.#recoveries = 1
  }

  #verify(condition: boolean, invariant: Invariant, liveness: Liveness): boolean {
    if (!condition) this.#verdict.fail(invariant, liveness.describe())
    return this.#verdict.failure === undefined
  }

  #recoveries = 0
  #searched = 0
  #gaveUp = 0

  /** Searches some histories for an order without regard to indexes. */
  #search(): void {
    const { seed, plan } = this.#script
    for (let key = 1; key <= plan.keys; key += 1) {
      if ((seed + key) % SEARCHED_ONE_IN !== 0) continue
      const operations = this.#history.operations(key)
      if (operations.length === 0 || operations.length > SEARCHED_OPERATIONS_MAX) continue
      this.#searched += 1
      const result = checkRegister(operations)
      if (result === 'gaveUp') this.#gaveUp += 1
      if (result === 'violation') {
        this.#verdict.fail('linearizability', `no order explains what register ${key} answered`)
      }
    }
  }

  #outcome(): Outcome {
    const { failure, hash } = this.#verdict
    const { writes, reads, bounded } = this.#history.answered
    return {
      failure,
      hash,
      events: this.#loop.count,
      virtualMs: this.#loop.nowMs,
      committed: this.#log.last,
      leaders: this.#log.leaders,
      changes: this.#housekeeping.changes,
      writes,
      reads,
      boundedReads: bounded,
      snapshots: this.#wire.sent.get('snap') ?? 0,
      recoveries: this.#recoveries,
      searched: this.#searched,
      gaveUp: this.#gaveUp,
    }
  }
}
