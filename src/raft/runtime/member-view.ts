/**
 * What one can see of a member: its state, who leads, who belongs to the group, what happens. All
 * of it is this member's knowledge of now and costs no message. `Raft` adds the calls.
 */
import type { SwarmError } from '../../base/errors.ts'
import type { Index, Term } from '../core/entry.ts'
import type { Role } from '../core/ready.ts'
import { AppliedWaiters } from './applied-waiters.ts'
import { Driver } from './driver.ts'
import type { DriverFigures } from './figures.ts'
import { LatestValue } from './latest-value.ts'
import { Listeners } from './listeners.ts'
import { memberNumber } from './member-numbers.ts'
import { MetricsReporter, measured } from './metrics.ts'
import { Observers } from './observations.ts'
import type { Observation, ObservationFilter } from './observations.ts'
import type { ObservationStream, ObserveOptions } from './observations.ts'
import type { RaftComponents, ResolvedRaftOptions } from './options.ts'
import type { Configuration, ServerId } from './ports.ts'
import type { Recovered } from './recovery.ts'
import { reloadableOf, type ReloadableConfig } from './reloadable-config.ts'
import type { MemberProgress } from './succession.ts'

/** Who leads, as this member sees it. */
export interface Leadership {
  readonly leader: ServerId | undefined
  readonly term: Term
  /**
   * Whether this member leads. Its state machine may not hold all earlier writes yet: `barrier`.
   */
  readonly isLeader: boolean
}

/** Figures for people and metrics. */
export interface RaftStats extends DriverFigures {
  readonly id: ServerId
  readonly leader: ServerId | undefined
}

/** The readable half of a `Raft`. */
export class MemberView<R> {
  protected readonly driver: Driver<R>
  protected readonly appliedWaiters: AppliedWaiters
  /** Aborts when this member stops or fails. */
  protected readonly stopped = new AbortController()
  /** Why this member has failed. */
  protected failure: SwarmError | undefined
  readonly #onLeadership = new Listeners<Leadership>()
  readonly #onConfiguration = new Listeners<Configuration>()
  readonly #onFatal = new Listeners<SwarmError>()
  readonly #observers = new Observers()
  readonly #metrics: MetricsReporter | undefined

  protected constructor(
    components: RaftComponents<R>,
    options: ResolvedRaftOptions,
    recovered: Recovered,
  ) {
    const { clock, metrics, logStore, stateMachine } = components
    this.#metrics = metrics && new MetricsReporter(metrics, clock)
    const store = metrics === undefined ? logStore : measured(logStore, metrics, clock)
    this.driver = new Driver<R>({ ...components, logStore: store }, options, {
      recovered,
      hooks: {
        onLeadership: () => this.#onLeadership.tell(this.#leadership()),
        onConfiguration: () => {
          stateMachine.configurationChanged?.(this.configuration)
          this.#onConfiguration.tell(this.configuration)
        },
        onApplied: () => this.appliedWaiters.onApplied(this.appliedIndex),
        onTick: () => this.#metrics?.onTick(() => this.driver.figures()),
        onObservation: (observation) => this.tell(observation),
        onFatal: (error) => this.#fail(error),
      },
    })
    this.appliedWaiters = new AppliedWaiters(this.driver.calls)
    if (this.configuration.index > 0) stateMachine.configurationChanged?.(this.configuration)
  }

  get id(): ServerId {
    return this.driver.options.id
  }

  get role(): Role {
    return this.driver.role
  }

  get leader(): ServerId | undefined {
    return this.driver.leader
  }

  get term(): Term {
    return this.driver.core.term
  }

  get lastIndex(): Index {
    return this.driver.core.lastIndex
  }

  get commitIndex(): Index {
    return this.driver.core.commitIndex
  }

  get appliedIndex(): Index {
    return this.driver.appliedIndex
  }

  /** Who is a member, as of the last applied change. */
  get configuration(): Configuration {
    return this.driver.membership.configuration
  }

  /** When a message of `id` came last, monotonic milliseconds. hashicorp/raft `LastContact`. */
  lastContactMs(id: ServerId): number | undefined {
    return this.driver.announcer.lastContactMs(id)
  }

  get reloadableConfig(): ReloadableConfig {
    return reloadableOf(this.driver.options)
  }

  stats(): RaftStats {
    return { id: this.id, leader: this.leader, ...this.driver.figures() }
  }

  /**
   * What this leader knows of `id`; `undefined` when it is no member or this member does not lead.
   */
  progressOf(id: ServerId): MemberProgress | undefined {
    if (!this.driver.isRunning) return undefined
    const found = this.driver.core.progressOf(memberNumber(id))
    if (found === undefined) return undefined
    const { match, recentActive, mode } = found
    return { match, recentActive, mode, behind: Math.max(0, this.lastIndex - match) }
  }

  /** Calls `listener` after each change of leader or role; returns the undo. */
  onLeadership(listener: (leadership: Leadership) => void): () => void {
    return this.#onLeadership.add(listener)
  }

  /**
   * The present leadership and every later one; a slow reader gets the latest only. Ends when
   * `signal` aborts or this member stops. hashicorp/raft `LeaderCh`.
   */
  leadership(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<Leadership> {
    const latest = new LatestValue(this.#leadership())
    const stopped = this.stopped.signal
    const { signal } = options
    return latest.iterate(
      this.onLeadership((value) => latest.set(value)),
      signal === undefined ? stopped : AbortSignal.any([signal, stopped]),
    )
  }

  /** Calls `listener` after each applied change of membership; returns the undo. */
  onConfiguration(listener: (configuration: Configuration) => void): () => void {
    return this.#onConfiguration.add(listener)
  }

  /**
   * Calls `listener` when this member must stop for good (also if it has already); returns the
   * undo.
   */
  onFatal(listener: (error: SwarmError) => void): () => void {
    if (this.failure !== undefined) listener(this.failure)
    return this.#onFatal.add(listener)
  }

  /**
   * What happens from now on, of the kinds that `filter` wants. The stream holds `limit` unread
   * observations and drops the oldest beyond, counted in `dropped`. hashicorp/raft
   * `RegisterObserver`.
   */
  observe(filter?: ObservationFilter, options: ObserveOptions = {}): ObservationStream {
    return this.#observers.add(filter, options)
  }

  protected tell(observation: Observation): void {
    this.#observers.tell(observation)
    this.#metrics?.onObservation(observation)
  }

  /** Streams end, and what goes on in the background. */
  protected end(reason: SwarmError): void {
    this.stopped.abort(reason)
    this.#observers.close()
  }

  #leadership(): Leadership {
    const isLeader = this.role === 'leader' && this.driver.isRunning
    return { leader: this.leader, term: this.term, isLeader }
  }

  #fail(error: SwarmError): void {
    this.failure = error
    this.tell({ type: 'fatal', error })
    this.#onFatal.tell(error)
    this.end(error)
  }
}
