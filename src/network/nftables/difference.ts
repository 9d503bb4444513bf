/**
 * What must change in the table for a frontend, and whose connections must end with it. Pure.
 *
 * Invariant: changes of one frontend are in one transaction, so that no packet meets half of them.
 * A target that only drains keeps its connections, but not flows of datagrams: they have no end
 * that could be waited for, and would go on to a program that stops.
 */
import type { AddressFamily } from '../ports.ts'
import { DRAINING_SLOTS, frontendFamily, targetText } from './placement.ts'
import type { Frontend, Placement, Target } from './placement.ts'

/** An element of one of the table's maps. */
export type Element =
  | { readonly type: 'server'; readonly frontend: Frontend; readonly chain: string }
  | {
      readonly type: 'slot'
      readonly frontend: Frontend
      readonly slot: number
      readonly target: Target
    }

/** A target that a frontend has no longer. */
export interface Dropped {
  readonly frontend: Frontend
  readonly target: Target
  /** It still has its connections: it drains. */
  readonly onlyDatagrams: boolean
}

/** Changes of one frontend. An element whose value changes is in both lists. */
export interface Change {
  readonly family: AddressFamily
  readonly gone: readonly Element[]
  readonly fresh: readonly Element[]
  readonly dropped: readonly Dropped[]
}

/** What leads from one placement to another of the same frontend; undefined if they are equal. */
export function changeOf(
  before: Placement | undefined,
  after: Placement | undefined,
): Change | undefined {
  if (before === after) return undefined
  const gone = [...elementsBut(before, after)]
  const fresh = [...elementsBut(after, before)]
  const frontend = before?.frontend ?? after?.frontend
  if (frontend === undefined || gone.length + fresh.length === 0) return undefined
  const family = frontendFamily(frontend)
  return { family, gone, fresh, dropped: before === undefined ? [] : droppedOf(before, after) }
}

// Elements of `placement` that `other` has not, or with another value.
function* elementsBut(
  placement: Placement | undefined,
  other: Placement | undefined,
): Generator<Element> {
  if (placement === undefined) return
  const { frontend, chain, slots } = placement
  if (chain !== undefined && chain !== other?.chain) yield { type: 'server', frontend, chain }
  for (const [slot, target] of slots) {
    const there = other?.slots.get(slot)
    if (there !== undefined && isSameTarget(there, target)) continue
    yield { type: 'slot', frontend, slot, target }
  }
}

function isSameTarget(a: Target, b: Target): boolean {
  return a.port === b.port && a.address === b.address
}

function droppedOf(before: Placement, after: Placement | undefined): Dropped[] {
  const { frontend } = before
  const kept = new Set([...(after?.slots.values() ?? [])].map((target) => targetText(target)))
  const serving = new Set([...(after?.slots ?? [])].flatMap(servingText))
  const hadServing = [...before.slots.keys()].some((slot) => slot < DRAINING_SLOTS)
  const dropped = new Map<string, Dropped>()
  for (const [slot, target] of before.slots) {
    const text = targetText(target)
    const onlyDatagrams = kept.has(text)
    if (serving.has(text)) continue
    // Flows left it when it began to drain, or nothing else serves: they would find no other.
    const areOver = slot >= DRAINING_SLOTS && hadServing
    if (onlyDatagrams && (areOver || serving.size === 0 || !hasDatagrams(frontend))) continue
    dropped.set(text, { frontend, target, onlyDatagrams })
  }
  return [...dropped.values()]
}

function hasDatagrams(frontend: Frontend): boolean {
  return frontend.kind === 'vip' || frontend.protocol === 'udp'
}

function servingText([slot, target]: readonly [number, Target]): string[] {
  return slot < DRAINING_SLOTS ? [targetText(target)] : []
}
