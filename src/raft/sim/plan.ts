/**
 * What a run is like, drawn from its seed: not only which faults happen, but which can happen at
 * all and how often (swarm testing: Groce et al., ISSTA 2012; TigerBeetle's `vopr.zig`). Plain
 * data, so that a trace file can hold it.
 */
import type { Dice } from './dice.ts'
import type { DiskManners } from './sim-disk.ts'
import type { NetworkManners } from './sim-network.ts'
import type { Focus } from './foci.ts'

export type OperationKind = 'leaseRead' | 'cutLeader' | 'stage' | 'restore' | 'reload' | 'leave'

/** What a run has beside its faults. */
export interface OperationsPlan {
  /** Whether members give leases. */
  readonly leases: boolean
  readonly heartbeatTicks: number
  /** Mean time between two operations, in election timeouts. */
  readonly gap: number
  readonly weights: Readonly<Record<OperationKind, number>>
}

/** Kinds of things that a run is made of, and how often each is drawn. */
export interface Weights {
  crash: number
  blackout: number
  pause: number
  partition: number
  clog: number
  slowDisk: number
  failWrite: number
  crashAtWrite: number
  clock: number
  transfer: number
  member: number
  loseDisk: number
  snapshot: number
  resetLink: number
}

/** One run. */
export interface Plan {
  readonly voters: number
  readonly learners: number
  readonly tickMs: number
  readonly electionTicks: number
  readonly snapshotThreshold: number
  readonly trailingEntries: number
  /** Length of the safety phase, in election timeouts. */
  readonly timeouts: number
  /** Mean time between client calls and between faults, in election timeouts. */
  readonly callGap: number
  readonly faultGap: number
  readonly reads: number
  readonly keys: number
  readonly padding: number
  /** Time that one command takes to apply, milliseconds. */
  readonly applyMs: number
  /** Clocks run at 1 +/- this. */
  readonly drift: number
  readonly timersFirst: boolean
  readonly weights: Weights
  readonly network: NetworkManners
  readonly disk: DiskManners
  /** What is done beside the faults, in a part of the runs. */
  readonly operations?: OperationsPlan
  /** What the run is about, if about anything. */
  readonly focus?: Focus
  /** Time that a call may take, in election timeouts. */
  readonly callTimeouts?: number
  /** Limits other than those of every day. */
  readonly limits?: { readonly messageBytes: number; readonly writeBytes: number }
}

/** Election timeout of a plan, milliseconds. */
export function electionMs({ tickMs, electionTicks }: Plan): number {
  return tickMs * electionTicks
}

/** So large that a few dozen do not fit in one message. */
const LARGE_BYTES = 60_000

/** Chance that a kind of fault is left out of a run altogether. */
const ABSENT = 0.45

/** Draws a plan. */
export function drawPlan(dice: Dice): Plan {
  const tickMs = dice.integer(5, 50)
  const electionTicks = dice.integer(4, 10)
  const timeoutMs = tickMs * electionTicks
  return {
    voters: dice.pick([1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 7]),
    learners: dice.chance(0.3) ? dice.integer(1, 2) : 0,
    tickMs,
    electionTicks,
    snapshotThreshold: dice.pick([4, 10, 25, 60, 500]),
    trailingEntries: dice.pick([0, 0, 1, 5, 20]),
    timeouts: dice.integer(25, 60),
    callGap: dice.between(0.05, 0.4),
    faultGap: dice.between(0.3, 4),
    reads: dice.pick([0.1, 0.3, 0.5, 0.8]),
    keys: dice.integer(1, 4),
    padding: dice.pick([0, 0, 0, 0, 20, 20, 300, 300, 300, LARGE_BYTES]),
    applyMs: dice.chance(0.25) ? dice.between(0, timeoutMs / 50) : 0,
    drift: dice.pick([0, 0.01, 0.1, 0.3]),
    timersFirst: dice.chance(0.6),
    weights: drawWeights(dice),
    network: drawNetwork(dice, timeoutMs),
    disk: {
      meanWriteMs: dice.pick([0.1, 1, timeoutMs / 40, timeoutMs / 8]),
      keepUnsynced: dice.pick([0, 0.3, 0.7, 1]),
      torn: dice.pick([0, 0.5, 1]),
    },
  }
}

function drawWeights(dice: Dice): Weights {
  const weight = (most: number): number => (dice.chance(ABSENT) ? 0 : dice.between(0, most))
  return {
    crash: weight(4),
    blackout: weight(1),
    pause: weight(3),
    partition: weight(4),
    clog: weight(2),
    slowDisk: weight(2),
    failWrite: weight(1),
    crashAtWrite: weight(3),
    clock: weight(1),
    transfer: weight(3),
    member: weight(12),
    loseDisk: weight(1),
    snapshot: weight(1),
    resetLink: weight(2),
  }
}

function drawNetwork(dice: Dice, timeoutMs: number): NetworkManners {
  const isCalm = dice.chance(0.3)
  return {
    minDelayMs: dice.between(0, timeoutMs / 40),
    meanDelayMs: dice.pick([timeoutMs / 200, timeoutMs / 50, timeoutMs / 12]),
    loss: isCalm ? 0 : dice.pick([0, 0.01, 0.05, 0.2]),
    duplication: isCalm ? 0 : dice.pick([0, 0.02, 0.1, 0.4]),
    reorders: !isCalm && dice.chance(0.5),
    capacity: dice.pick([4, 16, 1000]),
    closeNotice: dice.pick([0, 0.5, 1]),
  }
}
