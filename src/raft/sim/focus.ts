/**
 * What a run is about. Faults drawn one by one seldom meet in the way that makes a mistake show; so
 * a part of the runs are about one situation of real life, in which several things come together:
 * the plan leans towards it, and `episodes.ts` lets it happen, again and again. Whose turn it is in
 * it, how long all takes, and what else goes wrong stays drawn. Source: FoundationDB's workloads
 * and knobs (Zhou et al., SIGMOD 2021, §4), swarm testing (see `plan.ts`).
 */
import type { Dice } from './dice.ts'
import { electionMs, type Plan, type Weights } from './plan.ts'
import type { OperationsPlan } from './plan.ts'
import { FOCI, OPERATED_FOCI, PARTING_FOCI } from './foci.ts'
import type { Focus } from './foci.ts'

/** Chance that a run is about none of the first, then of the second, then of the third. */
const UNFOCUSED = 0.4
const UNOPERATED = 0.5
const UNPARTED = 0.6
/** Entries of a few hundred bytes go one by one, or by the dozen. */
const SMALL_BYTES = [1, 200, 2000] as const
/** Other faults are rarer by this at most, so that they do not end every episode. */
const FAULTS_APART_MAX = 8

/** Decides what a run of `plan` is about. */
export function withFocus(plan: Plan, dice: Dice): Plan {
  const focus = drawFocus(dice)
  if (focus === undefined) return plan
  const faultGap = plan.faultGap * dice.between(1, FAULTS_APART_MAX)
  const limits = {
    messageBytes: dice.pick([...SMALL_BYTES, 512 * 1024]),
    writeBytes: dice.pick([...SMALL_BYTES, 4096 * 1024]),
  }
  const callTimeouts = dice.pick([0.3, 1, 3])
  const calm = { ...plan.weights, blackout: 0, loseDisk: 0 }
  const common = { ...plan, focus, faultGap, callTimeouts, weights: calm }
  return { ...common, ...LEANINGS[focus](dice, { ...common, limits }) }
}

function drawFocus(dice: Dice): Focus | undefined {
  if (!dice.chance(UNFOCUSED)) return dice.pick(FOCI)
  if (!dice.chance(UNOPERATED)) return dice.pick(OPERATED_FOCI)
  return dice.chance(UNPARTED) ? undefined : dice.pick(PARTING_FOCI)
}

type Leaning = (
  dice: Dice,
  plan: Plan & { readonly limits: NonNullable<Plan['limits']> },
) => Partial<Plan>

/** Enough voters that some of them make a majority without the rest. */
function several(dice: Dice): number {
  return dice.pick([3, 3, 5])
}

const LEANINGS: { readonly [focus in Focus]: Leaning } = {
  stranded: (dice, { limits, network }) => ({
    limits,
    voters: several(dice),
    padding: dice.pick([0, 20, 300]),
    snapshotThreshold: 500,
    network: { ...network, capacity: 1000 },
  }),
  flapping: (dice, { limits, weights }) => ({
    limits: { ...limits, writeBytes: dice.pick([1, 1, 4096 * 1024]) },
    voters: 5,
    learners: 0,
    padding: 0,
    snapshotThreshold: 500,
    weights: { ...quiet(weights), partition: 0 },
  }),
  slowMachine: (dice, plan) => ({
    voters: several(dice),
    applyMs: electionMs(plan) * dice.pick([0.02, 0.1, 0.3]),
    padding: 0,
    snapshotThreshold: dice.pick([60, 500]),
  }),
  impatient: (dice) => ({ callTimeouts: dice.pick([0.1, 0.3, 1]), padding: 0 }),
  reshaping: (dice, { weights }) => ({
    voters: dice.pick([3, 3, 4]),
    learners: dice.integer(0, 1),
    weights: { ...weights, member: dice.pick([0, 0, 6]), partition: 0 },
  }),
  lateAnswers: (dice, plan) => ({
    voters: several(dice),
    reads: 0.5,
    weights: { ...plan.weights, crash: dice.pick([0, 3]) },
    network: {
      ...plan.network,
      straggling: dice.pick([0.1, 0.5]),
      stragglesMs: electionMs(plan) * dice.pick([0.5, 2, 6]),
    },
  }),
  slowWinner: (dice, plan) => ({
    voters: several(dice),
    disk: { ...plan.disk, meanWriteMs: 0.1, keepUnsynced: dice.pick([0, 0.3]) },
    network: { ...plan.network, meanDelayMs: electionMs(plan) / 100, closeNotice: 0 },
    weights: quiet(plan.weights),
  }),
  standoff: (_dice, { weights }) => ({
    voters: 3,
    learners: 0,
    snapshotThreshold: 500,
    weights: quiet(weights),
  }),
  lastWord: (_dice, plan) => ({
    // Of an even number every one is needed, or half of the others.
    voters: 2,
    learners: 0,
    padding: 0,
    snapshotThreshold: 500,
    drift: 0,
    weights: NOTHING,
    disk: { ...plan.disk, meanWriteMs: 0.1 },
    network: { ...plan.network, minDelayMs: electionMs(plan) / 20, loss: 0, closeNotice: 0 },
  }),
  clocksApart: (dice, plan) => ({
    ...brisk(plan, dice.pick([4, 4, 6])),
    voters: several(dice),
    learners: 0,
    drift: 0,
    operations: withLeases(true),
  }),
  halfHeard: (dice, plan) => ({
    ...brisk(plan, dice.pick([8, 10])),
    voters: several(dice),
    learners: 0,
    drift: 0,
    // Whoever lost the leader must not fall behind in its log: it would not be voted for.
    callGap: dice.between(1, 6),
    operations: withLeases(true),
  }),
  broughtState: (dice, plan) => ({
    voters: dice.pick([1, 1, 3, 3, 5]),
    learners: dice.integer(0, 1),
    padding: 0,
    snapshotThreshold: dice.pick([4, 10]),
    trailingEntries: 0,
    weights: quiet(plan.weights),
    operations: withLeases(false),
  }),
}

/** Machines that answer at once, so that little time passes between two events of an episode. */
function brisk(plan: Plan, electionTicks: number): Partial<Plan> {
  const { tickMs, disk, network } = plan
  const delays = { minDelayMs: 0, meanDelayMs: tickMs / 40, loss: 0, duplication: 0 }
  return {
    electionTicks,
    applyMs: 0,
    weights: NOTHING,
    disk: { ...disk, meanWriteMs: 0.1 },
    network: { ...network, ...delays, capacity: 1000 },
  }
}

/** No operation but those of the episodes. */
function withLeases(leases: boolean): OperationsPlan {
  const weights = { leaseRead: 0, cutLeader: 0, stage: 0, restore: 0, reload: 0, leave: 0 }
  return { leases, heartbeatTicks: 1, gap: 2, weights }
}

const NOTHING: Weights = {
  crash: 0,
  blackout: 0,
  pause: 0,
  partition: 0,
  clog: 0,
  slowDisk: 0,
  failWrite: 0,
  crashAtWrite: 0,
  clock: 0,
  transfer: 0,
  member: 0,
  loseDisk: 0,
  snapshot: 0,
  resetLink: 0,
}

/** Nothing but what the episodes bring. */
function quiet(weights: Weights): Weights {
  return { ...weights, member: 0, transfer: 0, clock: 0 }
}
