/**
 * One node of a simulation: a disk that lasts, and the production runtime, life after life. A crash
 * is what SIGKILL or a power cut is: the process does nothing any more, not even clean up.
 */
import { assert, AssertionError } from '../../base/assert.ts'
import { errorText } from '../../base/errors.ts'
import { silentLogger } from '../../base/log.ts'
import { Driver } from '../runtime/driver.ts'
import { memberNumber } from '../runtime/member-numbers.ts'
import type { RaftOptions } from '../runtime/options.ts'
import type { Server, Transport } from '../runtime/ports.ts'
import { Raft } from '../runtime/raft.ts'
import { Dice } from './dice.ts'
import type { EventLoop } from './event-loop.ts'
import type { MachineChecks } from './machine-checks.ts'
import { NodeClock } from './node-clock.ts'
import type { NodeChecks, NodeView } from './node-checks.ts'
import { RegisterMachine, type Answer } from './register-machine.ts'
import type { SimDisk } from './sim-disk.ts'
import type { SimNetwork } from './sim-network.ts'
import { SimLogStore, SimSnapshotStore } from './sim-stores.ts'
import type { Verdict } from './verdict.ts'
import type { Host } from './event.ts'

/** What nodes share. */
export interface NodeWorld {
  readonly loop: EventLoop
  readonly network: SimNetwork
  readonly verdict: Verdict
  readonly nodeChecks: NodeChecks
  readonly machineChecks: MachineChecks
  readonly seed: number
  readonly options: Omit<RaftOptions, 'id' | 'address'>
  /** Time that one command takes to apply, milliseconds. */
  readonly applyMs: () => number
  readonly drift: number
}

/** One process. */
interface Life {
  readonly host: Host
  readonly clock: NodeClock
  readonly machine: RegisterMachine
  readonly name: string
  driver: Driver<unknown> | undefined
  raft: Raft<Answer> | undefined
  view: NodeView | undefined
}

/** A node, up or down. */
export class SimNode {
  readonly id: string
  readonly number: number
  readonly disk: SimDisk
  readonly #world: NodeWorld
  readonly #dice: Dice
  #life: Life | undefined
  #lives = 0
  #rate = 1
  /** Its disk is gone: it never comes back. */
  lost = false
  /** It was removed, and its machine is gone. */
  retired = false
  /** Its process stops as planned. */
  leaving = false

  constructor(id: string, disk: SimDisk, world: NodeWorld) {
    this.id = id
    this.number = memberNumber(id)
    this.disk = disk
    this.#world = world
    this.#dice = new Dice(world.seed, `node ${id}`)
    this.#rate = 1 + this.#dice.between(-world.drift, world.drift)
  }

  get isUp(): boolean {
    return this.#life !== undefined
  }

  get isGone(): boolean {
    return this.lost || this.retired
  }

  get raft(): Raft<Answer> | undefined {
    return this.#life?.raft
  }

  get machine(): RegisterMachine | undefined {
    return this.#life?.machine
  }

  get host(): Host | undefined {
    return this.#life?.host
  }

  get driver(): Driver<unknown> | undefined {
    return this.#life?.driver
  }

  /** Names the present life, for messages. */
  get lifeName(): string {
    return this.#life?.name ?? this.id
  }

  /** Whether this node runs, leads by its own word, and has not failed. */
  get leads(): boolean {
    return this.driver?.isRunning === true && this.raft?.role === 'leader'
  }

  /** Writes the first configuration. */
  async bootstrap(servers: readonly Server[]): Promise<void> {
    const host = { alive: true, busyUntilMs: 0 }
    const logStore = new SimLogStore(this.disk, host)
    await Raft.bootstrap(
      { logStore, snapshotStore: new SimSnapshotStore(this.disk, host) },
      servers,
    )
  }

  /** Forces a configuration on the disk, as an operator does; `die` ends that in the middle. */
  recover(servers: readonly Server[]): { readonly done: Promise<void>; readonly die: () => void } {
    assert(!this.isUp && !this.isGone, `${this.id} cannot be recovered`)
    const host = { alive: true, busyUntilMs: this.#world.loop.nowMs }
    const logStore = new SimLogStore(this.disk, host)
    const snapshotStore = new SimSnapshotStore(this.disk, host)
    this.disk.isForced = true
    const recover = async (): Promise<void> => {
      await Raft.recover({ logStore, snapshotStore }, servers)
      this.disk.isForced = false
    }
    return {
      done: recover(),
      die: () => {
        host.alive = false
        this.disk.crash()
      },
    }
  }

  /** Starts a process on what is on the disk. */
  start(): void {
    assert(!this.isUp && !this.isGone, `${this.id} cannot start`)
    this.#lives += 1
    this.leaving = false
    const { id } = this
    const { loop, seed, options } = this.#world
    const host = { alive: true, busyUntilMs: loop.nowMs }
    const start = { rate: this.#rate, atMs: this.#dice.integer(0, 1_000_000) }
    const clock = new NodeClock(loop, host, start)
    const machine = this.#newMachine(host)
    const name = `${this.id}#${this.#lives}`
    const life: Life = {
      host,
      clock,
      machine,
      name,
      driver: undefined,
      raft: undefined,
      view: undefined,
    }
    this.#life = life
    const components = {
      logStore: new SimLogStore(this.disk, host),
      snapshotStore: new SimSnapshotStore(this.disk, host),
      transport: this.#newTransport(life),
      stateMachine: machine,
      clock,
      random: new Dice(seed, name).random,
      log: silentLogger,
    }
    const open = async (): Promise<void> => {
      const raft = await Raft.open<Answer>(components, { id, address: `at-${id}`, ...options })
      life.raft = raft
      raft.onFatal((error) => this.#onFatal(life, error))
    }
    open().catch((error: unknown) => this.#onFatal(life, error))
  }

  /** The process ends without a word, and its disk keeps what it keeps. */
  crash(): void {
    const life = this.#life
    if (life === undefined) return
    this.#life = undefined
    life.host.alive = false
    const { network } = this.#world
    network.detach(life.host)
    this.disk.crash()
    network.announceEnd(this.id)
  }

  /** The process does nothing for so long; its clock goes on. */
  pause(durationMs: number): void {
    const { loop } = this.#world
    if (this.host === undefined) return
    this.host.busyUntilMs = Math.max(this.host.busyUntilMs, loop.nowMs + durationMs)
  }

  /** Ends a pause, as far as it can be ended: what has been put off comes when it was to come. */
  setClock(rate: number, leapMs: number): void {
    this.#rate = rate
    this.#life?.clock.setRate(rate)
    if (leapMs > 0) this.#life?.clock.leap(leapMs)
  }

  /** The wall clock is set. */
  setWallClock(leapMs: number): void {
    this.#life?.clock.leapWall(leapMs)
  }

  /** Does `run` in the process, as soon as it has time; never, if it ends before. */
  soon(run: () => void): void {
    const { host } = this
    const { loop } = this.#world
    if (host === undefined) return
    if (host.busyUntilMs <= loop.nowMs) run()
    else loop.after(0, 'network', { host, run })
  }

  /** Resolves in the process after so long; never, if it ends before. */
  rest(durationMs: number): Promise<void> {
    const { host } = this
    return new Promise((resolve) => {
      if (host !== undefined) this.#world.loop.after(durationMs, 'timer', { host, run: resolve })
    })
  }

  /** Checks the state that the last event left. */
  observe(): void {
    const life = this.#life
    if (life?.driver === undefined || !life.driver.isRunning) return
    life.view = this.#world.nodeChecks.observe({
      life: life.name,
      disk: this.disk,
      core: life.driver.core,
      membership: life.driver.membership,
      appliedIndex: life.driver.appliedIndex,
      before: life.view,
    })
  }

  #newMachine(host: Host): RegisterMachine {
    const { machineChecks, applyMs, loop } = this.#world
    return new RegisterMachine({
      onApply: (entry, command, machine) => {
        // What commits it may have happened in this same event.
        this.observe()
        machineChecks.onApply(this.id, entry, command, machine)
      },
      onRestore: (index, machine) => machineChecks.onRestore(this.id, index, machine),
      onReplaced: (index, machine) => {
        this.observe()
        machineChecks.onReplaced(this.id, index, machine)
      },
      onApplied: (count) => {
        const busyMs = applyMs() * count
        if (busyMs > 0) host.busyUntilMs = Math.max(host.busyUntilMs, loop.nowMs) + busyMs
      },
    })
  }

  #newTransport(life: Life): Transport {
    const { network } = this.#world
    const { host } = life
    return {
      start: (handler) => {
        if (!(handler instanceof Driver)) throw new AssertionError('the handler is the driver')
        life.driver = handler
        network.attach({ id: this.id, host, handler })
      },
      send: (to, messages) => {
        if (host.alive) network.send(this.id, to, messages)
      },
      sendSnapshot: (to, transfer, { signal }) => {
        const station = { id: this.id, host, handler: life.driver ?? notStarted() }
        return network.sendSnapshot(station, to, { transfer, signal })
      },
      close: async () => network.detach(host),
    }
  }

  /** A node whose disk failed stops, and its supervisor starts it again. */
  #onFatal(life: Life, error: unknown): void {
    const { loop, verdict } = this.#world
    if (!this.disk.hasFailed(life.host)) {
      verdict.fail('crash', `${life.name} failed: ${errorText(error)}`)
    }
    loop.after(RESTART_MS, 'script', {
      run: () => {
        if (this.#life !== life) return
        this.crash()
        this.start()
      },
    })
  }
}

/** Time until a supervisor starts a failed process again, milliseconds. */
const RESTART_MS = 200

function notStarted(): never {
  throw new AssertionError('the transport was not started')
}
