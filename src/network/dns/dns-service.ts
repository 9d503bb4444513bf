/**
 * Keeps the node's resolver where its containers look for it: on the gateway address of the node's
 * subnet, from the moment that the bridge carries it. The port cannot be had at once (another
 * program, an address that is not there yet): tried again by timer, and containers started
 * meanwhile are told the host's own servers.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import { errorText } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type { StoreView } from '../../store/view.ts'
import type { OwnTasks } from '../network.ts'
import { TimeSlices } from '../time-slices.ts'
import { Names } from './names.ts'
import { ResolvConf } from './resolv-conf.ts'
import { Resolver } from './resolver.ts'
import { Upstream } from './upstream.ts'

/** Milliseconds between attempts to listen. */
export const LISTEN_RETRY_MS = 5_000

/** What the service needs. */
export interface DnsComponents {
  readonly store: StoreView
  readonly ownTasks: OwnTasks
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** The IPv6 address that belongs to an IPv4 one of the swarm; absent: there are none. */
  readonly ipv6Of?: (address: string) => string | undefined
}

/** Whose names, and what the node can do with them. */
export interface DnsOptions {
  readonly nodeId: string
  readonly hasVirtualAddresses: boolean
  readonly routed: boolean
  /** Default 53. */
  readonly port?: number
}

/** The node's resolver. */
export class DnsService {
  readonly #components: DnsComponents
  readonly #options: DnsOptions
  readonly #upstream: Upstream
  readonly #undo: readonly (() => void)[]
  readonly #names: Names
  #resolver: Resolver | undefined
  #address: string | undefined
  #working: Promise<void> = Promise.resolve()
  #retry: Timer | undefined
  #closed = false

  constructor(components: DnsComponents, options: DnsOptions) {
    const { store, ownTasks, clock, random } = components
    this.#components = components
    this.#options = options
    const hosts = new ResolvConf(clock)
    this.#upstream = new Upstream({ clock, random, servers: () => hosts.servers() })
    const sources = { store, slices: new TimeSlices(clock), ownTasks: () => ownTasks.tasks() }
    const names = new Names(sources, options)
    this.#names = names
    this.#undo = [
      store.onCommit((commit) => names.noteCommit(commit)),
      ownTasks.onChange(() => names.noteOwnTasks()),
    ]
  }

  /** The address that containers may be told; undefined while nothing answers there. */
  get address(): string | undefined {
    return this.#resolver === undefined ? undefined : this.#address
  }

  /** Moves to `address`, or stops answering. Resolves when that has been tried. */
  async listen(address: string | undefined): Promise<void> {
    this.#working = this.#working.then(() => this.#move(address))
    await this.#working
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const undo of this.#undo) undo()
    await this.listen(undefined)
  }

  async #move(address: string | undefined): Promise<void> {
    if (address === this.#address && (address === undefined || this.#resolver !== undefined)) return
    this.#retry?.cancel()
    this.#retry = undefined
    const before = this.#resolver
    this.#resolver = undefined
    this.#address = address
    await before?.close()
    if (address === undefined || this.#closed) return
    const { clock, random, log, ipv6Of } = this.#components
    const components = {
      clock,
      random,
      log,
      upstream: this.#upstream,
      names: () => this.#currentNames(),
      ...(ipv6Of === undefined ? {} : { ipv6Of }),
    }
    const { port } = this.#options
    try {
      const where = { address, ...(port === undefined ? {} : { port }) }
      this.#resolver = await Resolver.listen(components, where)
    } catch (error) {
      log.warn({ address, error: errorText(error) }, 'resolver cannot listen, trying again')
      this.#retry = clock.after(LISTEN_RETRY_MS, () => void this.listen(address))
    }
  }

  async #currentNames(): Promise<Names> {
    await this.#names.refresh()
    return this.#names
  }
}
