/**
 * What is done to a run from outside: calls of clients and faults, each at its time, drawn before
 * the run begins. The list is all that shrinking needs to take away from. Whom an action concerns
 * is said relative to the moment (`leader`, or the n-th node modulo those there are), so that the
 * rest of a list keeps its meaning when a part is taken out.
 */
import type { Dice } from './dice.ts'
import type { Operation } from './operations.ts'
import { WRITE_KINDS, type WriteKind } from './sim-disk.ts'
import { electionMs, type Plan, type Weights } from './plan.ts'

/** The leader of the moment, or a node by number. */
export type Who = number | 'leader'

/** Shapes of partitions; see `partitions.ts`. */
export const SHAPES = ['split', 'oneWay', 'isolate', 'mute', 'deaf', 'bridge', 'ring'] as const
/**
 * `generations`: the old machines apart from the new ones and the one in the middle; `pair`: the
 * one in the middle and one other reach each other and nobody else.
 */
export type Shape = (typeof SHAPES)[number] | 'generations' | 'pair'

/** Ways in which the membership changes. */
export const CHANGES = ['learner', 'voter', 'promote', 'demote', 'remove', 'swap'] as const
export type Change = (typeof CHANGES)[number]

/** One thing done from outside. */
export type Action = Operation | Fault

/** A call or a fault. `atMs` and `forMs` are virtual milliseconds. */
export type Fault = { readonly atMs: number } & (
  | {
      readonly type: 'write'
      readonly who: Who
      readonly key: number
      readonly count: number
      readonly swap: boolean
      readonly padding: number
    }
  | { readonly type: 'read'; readonly who: Who; readonly key: number }
  | { readonly type: 'crash' | 'failWrite' | 'pause'; readonly who: Who; readonly forMs: number }
  | {
      readonly type: 'crashAtWrite'
      readonly who: Who
      readonly write: WriteKind
      readonly forMs: number
    }
  | { readonly type: 'blackout'; readonly forMs: number }
  | {
      readonly type: 'partition'
      readonly shape: Shape
      readonly who: Who
      readonly sides: number
      readonly forMs: number
    }
  | {
      /** Much of what is sent to some machines is lost. */
      readonly type: 'storm'
      /** Bit n: whether it hits what is sent to the n-th node. */
      readonly machines: number
      readonly loss: number
      /** What carries entries is lost: stands for a path that loses all large packets. */
      readonly blackHole: boolean
      readonly forMs: number
    }
  | { readonly type: 'clog'; readonly from: Who; readonly to: Who; readonly forMs: number }
  | { readonly type: 'resetLink'; readonly from: Who; readonly to: Who; readonly forMs: number }
  | {
      readonly type: 'slowDisk'
      readonly who: Who
      /** Mean time of a write meanwhile. */
      readonly meanMs: number
      readonly forMs: number
    }
  | { readonly type: 'clock'; readonly who: Who; readonly rate: number; readonly leapMs: number }
  | { readonly type: 'member'; readonly change: Change; readonly who: number }
  | { readonly type: 'snapshot' | 'transfer'; readonly who: Who }
  | { readonly type: 'loseDisk'; readonly who: Who }
)

type FaultKind = keyof Weights

/** Node numbers are drawn from this many; a multiple of every small number of nodes. */
export const NUMBERS = 840
/** Sides of nodes, and links in a storm, are drawn as so many bits. */
export const SIDES = 1 << 12

/** Draws all that happens before everything heals. */
export function drawSchedule(dice: Dice, plan: Plan): readonly Action[] {
  const unitMs = electionMs(plan)
  const endMs = unitMs * plan.timeouts
  const actions: Action[] = []
  for (let atMs = unitMs; atMs < endMs; atMs += dice.exponential(plan.callGap * unitMs)) {
    actions.push(drawCall(dice, plan, atMs))
  }
  const faults = (Object.keys(plan.weights) as FaultKind[]).filter((kind) => plan.weights[kind] > 0)
  let atMs = unitMs
  while (faults.length > 0) {
    atMs += dice.exponential(plan.faultGap * unitMs)
    if (atMs >= endMs) break
    actions.push(drawFault(dice, { kind: weighted(dice, plan.weights, faults), atMs, unitMs }))
  }
  return actions.toSorted((a, b) => a.atMs - b.atMs)
}

function weighted(dice: Dice, weights: Weights, kinds: readonly FaultKind[]): FaultKind {
  let rest = dice.fraction() * kinds.reduce((sum, kind) => sum + weights[kind], 0)
  for (const kind of kinds) {
    rest -= weights[kind]
    if (rest < 0) return kind
  }
  return dice.pick(kinds)
}

function drawCall(dice: Dice, plan: Plan, atMs: number): Action {
  const key = dice.integer(1, plan.keys)
  if (dice.chance(plan.reads)) return { atMs, type: 'read', who: drawWho(dice, 0.4), key }
  const count = dice.chance(0.15) ? dice.integer(2, 12) : 1
  const swap = dice.chance(0.3)
  const padding = dice.integer(0, plan.padding)
  return { atMs, type: 'write', who: drawWho(dice, 0.8), key, count, swap, padding }
}

function drawWho(dice: Dice, leader: number): Who {
  return dice.chance(leader) ? 'leader' : dice.integer(0, NUMBERS - 1)
}

function drawFault(
  dice: Dice,
  {
    kind,
    atMs,
    unitMs,
  }: { readonly kind: FaultKind; readonly atMs: number; readonly unitMs: number },
): Action {
  const who = drawWho(dice, 0.4)
  const forMs = dice.pick([0.1, 1, 3, 8]) * unitMs * dice.between(0.1, 1)
  switch (kind) {
    case 'crash':
    case 'failWrite':
    case 'pause':
      return { atMs, type: kind, who, forMs }
    case 'crashAtWrite':
      return { atMs, type: kind, who, forMs: forMs / 10, write: dice.pick(WRITE_KINDS) }
    case 'blackout':
      return { atMs, type: kind, forMs }
    case 'partition':
    case 'clog':
    case 'resetLink':
      return drawLinkFault(dice, kind, { atMs, who, forMs })
    case 'slowDisk':
      return { atMs, type: kind, who, forMs, meanMs: dice.pick([0.05, 0.5, 3]) * unitMs }
    case 'clock':
      return { atMs, type: kind, who, rate: dice.between(0.7, 1.4), leapMs: drawLeap(dice, unitMs) }
    case 'transfer':
    case 'loseDisk':
    case 'snapshot':
      return { atMs, type: kind, who: drawWho(dice, 0.1) }
    case 'member':
      return { atMs, type: kind, change: dice.pick(CHANGES), who: dice.integer(0, NUMBERS - 1) }
    default:
      return kind satisfies never
  }
}

function drawLinkFault(
  dice: Dice,
  kind: 'partition' | 'clog' | 'resetLink',
  start: { readonly atMs: number; readonly who: Who; readonly forMs: number },
): Action {
  const { atMs, who, forMs } = start
  if (kind !== 'partition') return { atMs, type: kind, from: who, to: drawWho(dice, 0.3), forMs }
  return { ...start, type: kind, shape: dice.pick(SHAPES), sides: dice.integer(0, SIDES) }
}

function drawLeap(dice: Dice, unitMs: number): number {
  return dice.chance(0.3) ? dice.between(0, 5 * unitMs) : 0
}
