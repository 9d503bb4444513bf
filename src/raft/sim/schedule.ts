/**
 * What is done to a run from outside: calls of clients and faults, each at its time, drawn before
 * the run begins. The list is all that shrinking needs to take away from. Whom an action concerns
 * is said relative to the moment (`leader`, or the n-th node modulo those there are), so that the
 * rest of a list keeps its meaning when a part is taken out.
 */
import type { Dice } from './dice.ts'
import { WRITE_KINDS } from './sim-disk.ts'
import { electionMs, type Plan, type Weights } from './plan.ts'
import { SHAPES, CHANGES } from './actions.ts'
import type { Who, Action } from './actions.ts'

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
