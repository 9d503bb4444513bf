/**
 * Where a member's figures go, if somebody wants them: Prometheus, statsd, a test. Counters grow,
 * gauges are set about once a second, timings are single durations in seconds. The names are fixed
 * and carry their unit. Without a sink nothing is measured.
 * Source: hashicorp/raft's metrics, in shape.
 */
import type { Clock } from '../../base/clock.ts'
import type { LogStore } from '../storage/ports.ts'
import type { DriverFigures } from './figures.ts'
import type { Observation } from './observations.ts'

/** Counters: what each counts. */
export const COUNTERS = {
  raft_log_writes_total: 'durable writes to the log',
  raft_log_write_entries_total: 'entries in those writes',
  raft_log_write_bytes_total: 'bytes of entry data in those writes',
  raft_leadership_won_total: 'times this member became leader',
  raft_leader_changes_total: 'changes of the leader as this member sees it',
  raft_heartbeats_failed_total: 'members that the leader lost contact with',
  raft_heartbeats_resumed_total: 'members that came back',
  raft_snapshots_taken_total: 'snapshots of this state machine',
  raft_snapshots_taken_bytes_total: 'their size',
  raft_snapshots_sent_total: 'snapshots that arrived at other members',
  raft_snapshots_sent_bytes_total: 'content sent, also by attempts that broke',
  raft_snapshot_sends_resumed_total: 'broken transfers that went on',
  raft_snapshot_sends_failed_total: 'transfers that were given up',
  raft_snapshots_installed_total: 'snapshots taken over from a leader',
  raft_snapshots_installed_bytes_total: 'their size',
} as const

/** Gauges: what each is. */
export const GAUGES = {
  raft_term: 'the term',
  raft_is_leader: '1 on the leader, else 0',
  raft_first_index: 'the first entry in the log',
  raft_last_index: 'the last entry in the log',
  raft_commit_index: 'the last committed entry',
  raft_applied_index: 'the last applied entry',
  raft_snapshot_index: 'position of the newest snapshot',
  raft_log_bytes: 'entry data that the log holds in memory',
  raft_proposals_waiting: 'proposals in the log whose fate is open',
} as const

/** Durations: what each measures. */
export const TIMINGS = { raft_log_write_seconds: 'one durable write' } as const

export type CounterName = keyof typeof COUNTERS
export type GaugeName = keyof typeof GAUGES
export type TimingName = keyof typeof TIMINGS

/** Takes figures; called synchronously, must be quick and not throw. */
export interface MetricsSink {
  /** Adds to a counter. */
  count(name: CounterName, value: number): void
  /** Sets a gauge. */
  gauge(name: GaugeName, value: number): void
  /** Records one duration, seconds. */
  timing(name: TimingName, seconds: number): void
}

/** How often gauges are set, milliseconds. */
export const GAUGE_INTERVAL_MS = 1000

/** Sets every gauge. */
function setGauges(sink: MetricsSink, figures: DriverFigures): void {
  sink.gauge('raft_term', figures.term)
  sink.gauge('raft_is_leader', figures.role === 'leader' ? 1 : 0)
  sink.gauge('raft_first_index', figures.firstIndex)
  sink.gauge('raft_last_index', figures.lastIndex)
  sink.gauge('raft_commit_index', figures.commitIndex)
  sink.gauge('raft_applied_index', figures.appliedIndex)
  sink.gauge('raft_snapshot_index', figures.snapshotIndex)
  sink.gauge('raft_log_bytes', figures.logBytes)
  sink.gauge('raft_proposals_waiting', figures.proposalsWaiting)
}

/** Counts what an observation stands for. */
function countObservation(sink: MetricsSink, observation: Observation): void {
  switch (observation.type) {
    case 'role':
    case 'leader':
      countLeadership(sink, observation)
      break
    case 'failedHeartbeat':
      sink.count('raft_heartbeats_failed_total', 1)
      break
    case 'resumedHeartbeat':
      sink.count('raft_heartbeats_resumed_total', 1)
      break
    case 'snapshotTaken':
      sink.count('raft_snapshots_taken_total', 1)
      sink.count('raft_snapshots_taken_bytes_total', observation.sizeBytes)
      break
    case 'snapshotInstalled':
      sink.count('raft_snapshots_installed_total', 1)
      sink.count('raft_snapshots_installed_bytes_total', observation.sizeBytes)
      break
    case 'snapshotTransfer':
      countTransfer(sink, observation)
      break
    case 'configuration':
    case 'peerAdded':
    case 'peerRemoved':
    case 'staging':
    case 'restored':
    case 'fatal':
      break
    default:
      observation satisfies never
  }
}

function countLeadership(
  sink: MetricsSink,
  observation: Extract<Observation, { readonly type: 'role' | 'leader' }>,
): void {
  if (observation.type === 'leader') {
    if (observation.leader !== undefined) sink.count('raft_leader_changes_total', 1)
  } else if (observation.role === 'leader') sink.count('raft_leadership_won_total', 1)
}

function countTransfer(
  sink: MetricsSink,
  { phase, newBytes }: Extract<Observation, { readonly type: 'snapshotTransfer' }>,
): void {
  if (newBytes > 0) sink.count('raft_snapshots_sent_bytes_total', newBytes)
  if (phase === 'finished') sink.count('raft_snapshots_sent_total', 1)
  else if (phase === 'resumed') sink.count('raft_snapshot_sends_resumed_total', 1)
  else if (phase === 'failed') sink.count('raft_snapshot_sends_failed_total', 1)
}

/** Brings a member's figures to its sink. */
export class MetricsReporter {
  readonly #sink: MetricsSink
  readonly #clock: Clock
  #dueMs = 0

  constructor(sink: MetricsSink, clock: Clock) {
    this.#sink = sink
    this.#clock = clock
  }

  onObservation(observation: Observation): void {
    countObservation(this.#sink, observation)
  }

  /** Sets the gauges when it is time. */
  onTick(figures: () => DriverFigures): void {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs < this.#dueMs) return
    this.#dueMs = nowMs + GAUGE_INTERVAL_MS
    setGauges(this.#sink, figures())
  }
}

/** `store`, with every write counted and timed. */
export function measured(store: LogStore, sink: MetricsSink, clock: Clock): LogStore {
  return {
    open: () => store.open(),
    read: (low, high) => store.read(low, high),
    compact: (base) => store.compact(base),
    reset: (base, hardState) => store.reset(base, hardState),
    close: () => store.close(),
    append: async (batch) => {
      const startMs = clock.monotonicMs()
      await store.append(batch)
      sink.timing('raft_log_write_seconds', (clock.monotonicMs() - startMs) / 1000)
      sink.count('raft_log_writes_total', 1)
      sink.count('raft_log_write_entries_total', batch.entries.length)
      const bytes = batch.entries.reduce((sum, { data }) => sum + data.length, 0)
      sink.count('raft_log_write_bytes_total', bytes)
    },
  }
}
