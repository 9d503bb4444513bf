/**
 * What the operators and the sharper clients of a run do beside the faults: reads by lease, and a
 * leader that is cut off while its lease may still hold; staging, restores, other options, planned
 * stops. Drawn with dice of its own, and for a part of the seeds only, so that the runs of the
 * others stay as they are.
 *
 * With leases every clock keeps to the bound that `runtime/lease.ts` allows, and only the wall
 * clock leaps: what is left must be linearizable.
 */
import type { Dice } from './dice.ts'
import { electionMs, type Plan } from './plan.ts'
import type { Action, Operation } from './actions.ts'
import { PRELUDES, RESTORE_FATES } from './actions.ts'
import type { OperationsPlan, OperationKind } from './plan.ts'

const OPERATIONS: ReadonlySet<string> = new Set([
  'leaseRead',
  'cutLeader',
  'wallClock',
  'stage',
  'restore',
  'reload',
  'leave',
  'boundedRead',
] satisfies Operation['type'][])

/** Whether operators or sharp clients do this. */
export function isOperation(action: Action): action is Operation {
  return OPERATIONS.has(action.type)
}

/** Part of the seeds that have bounded reads, and mean election timeouts between two. */
const BOUNDED = 0.2
const BOUNDED_GAP = 0.15
/** Part of the seeds that have operations, and of those, that have leases. */
const SEEDS = 0.6
const LEASES = 0.75
/** Chance that a kind is left out of a run. */
const ABSENT = 0.4
/** Speeds of clocks that leases allow for: two such differ by less than a tenth. */
export const LEASE_DRIFT = 0.05
const NUMBERS = 840

/** `plan` with operations, perhaps. */
export function withOperations(plan: Plan, dice: Dice): Plan {
  if (plan.operations !== undefined || !dice.chance(SEEDS)) return plan
  const leases = dice.chance(LEASES)
  const weight = (most: number): number => (dice.chance(ABSENT) ? 0 : dice.between(0, most))
  const operations: OperationsPlan = {
    leases,
    heartbeatTicks: drawHeartbeat(plan, dice),
    gap: dice.between(0.4, 2),
    weights: {
      leaseRead: leases ? dice.between(1, 4) : 0,
      cutLeader: leases ? dice.between(1, 6) : 0,
      stage: weight(3),
      restore: weight(2),
      reload: weight(1),
      leave: weight(2),
    },
  }
  return { ...plan, drift: leases ? Math.min(plan.drift, LEASE_DRIFT) : plan.drift, operations }
}

/** `actions` with the operations of `plan` among them, and clocks as leases need them. */
export function addOperations(
  actions: readonly Action[],
  plan: Plan,
  dice: Dice,
): readonly Action[] {
  const { operations } = plan
  if (operations === undefined) return actions
  const kept = operations.leases ? actions.map((action) => bounded(action, dice)) : actions
  const drawn: Action[] = []
  const unitMs = electionMs(plan)
  const kinds = Object.entries(operations.weights) as [OperationKind, number][]
  for (let atMs = unitMs; ;) {
    atMs += dice.exponential(operations.gap * unitMs)
    if (atMs >= plan.timeouts * unitMs) break
    const kind = weighted(kinds, dice)
    if (kind !== undefined) drawn.push(draw(kind, { dice, plan, atMs }))
  }
  return [...kept, ...drawn].toSorted((a, b) => a.atMs - b.atMs)
}

/** `actions` with bounded reads among them, perhaps: at leaders, followers, and who is cut off. */
export function addBoundedReads(
  actions: readonly Action[],
  plan: Plan,
  dice: Dice,
): readonly Action[] {
  if (!dice.chance(BOUNDED)) return actions
  const unitMs = electionMs(plan)
  const boundMs = unitMs * dice.pick([0.3, 1, 3])
  const drawn: Action[] = []
  for (let at = 1; at < plan.timeouts; at += dice.exponential(BOUNDED_GAP)) {
    drawn.push({
      atMs: at * unitMs,
      type: 'boundedRead',
      who: dice.chance(0.2) ? 'leader' : dice.integer(0, NUMBERS - 1),
      key: dice.integer(1, plan.keys),
      boundMs,
      waitMs: dice.chance(0.3) ? dice.exponential(boundMs) : 0,
    })
  }
  return [...actions, ...drawn].toSorted((a, b) => a.atMs - b.atMs)
}

/** Often enough for everybody's election timeout. */
function drawHeartbeat({ electionTicks }: Plan, dice: Dice): number {
  return dice.integer(1, Math.max(1, Math.floor(electionTicks / 3)))
}

/** A clock that leases allow: nearly right, and only the wall clock leaps. */
function bounded(action: Action, dice: Dice): Action {
  if (action.type !== 'clock') return action
  const { atMs, who, leapMs } = action
  if (leapMs > 0) return { atMs, type: 'wallClock', who, leapMs: dice.pick([-1, 1]) * leapMs }
  const rate = 1 + dice.between(-LEASE_DRIFT, LEASE_DRIFT)
  return Math.abs(action.rate - 1) <= LEASE_DRIFT ? action : { ...action, rate }
}

function weighted(
  kinds: readonly (readonly [OperationKind, number])[],
  dice: Dice,
): OperationKind | undefined {
  let rest = dice.fraction() * kinds.reduce((sum, [, weight]) => sum + weight, 0)
  for (const [kind, weight] of kinds) {
    rest -= weight
    if (rest < 0) return kind
  }
  return undefined
}

function draw(
  kind: OperationKind,
  { dice, plan, atMs }: { readonly dice: Dice; readonly plan: Plan; readonly atMs: number },
): Operation {
  const unitMs = electionMs(plan)
  const who = dice.integer(0, NUMBERS - 1)
  const key = dice.integer(1, plan.keys)
  switch (kind) {
    case 'leaseRead':
      return { atMs, type: kind, who, key }
    case 'cutLeader': {
      const forMs = unitMs * dice.between(1, 4)
      const delayMs = dice.chance(0.5) ? 0 : dice.exponential(4 * plan.network.meanDelayMs)
      const wallBackMs = dice.chance(0.5) ? forMs : 0
      const prelude = dice.pick(PRELUDES)
      return { atMs, type: kind, prelude, who, key, delayMs, forMs, wallBackMs }
    }
    case 'stage': {
      const removeMs = dice.chance(0.4) ? dice.exponential(unitMs) : 0
      return { atMs, type: kind, who, twice: dice.chance(0.3), removeMs }
    }
    case 'restore': {
      const gapMs = dice.pick([0, 0.01, 0.3]) * unitMs
      return { atMs, type: kind, fate: dice.pick(RESTORE_FATES), gapMs }
    }
    case 'reload':
      return {
        atMs,
        type: kind,
        who: dice.chance(0.5) ? 'leader' : who,
        electionTicks: plan.electionTicks * (dice.chance(0.5) ? 1 : 2),
        heartbeatTicks: dice.chance(0.2) ? 2 * plan.electionTicks : drawHeartbeat(plan, dice),
        snapshotThreshold: dice.integer(1, 60),
      }
    case 'leave':
      return {
        atMs,
        type: kind,
        who: dice.chance(0.7) ? 'leader' : who,
        forMs: unitMs * dice.between(0, 3),
      }
    default:
      return kind satisfies never
  }
}
