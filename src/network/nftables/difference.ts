/**
 * What must change in the table for a frontend, and whose connections must end with it. Pure.
 *
 * Invariant: changes of one frontend are in one transaction, so that no packet meets half of them.
 * A target that only drains keeps its connections, but not flows of datagrams: they have no end
 * that could be waited for, and would go on to a program that stops. One that is lost also keeps no
 * connection that it has not answered: tracking would lead every repetition of the first packet to
 * a dead node, until the client gives up.
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

/**
 * A target that a frontend has no longer, or that takes nothing new. Of what leads there is
 * forgotten, with `gone` everything, with `draining` flows of datagrams, with `lost` those and what
 * was never answered.
 */
export interface Dropped {
  readonly frontend: Frontend
  readonly target: Target
  readonly why: 'gone' | 'draining' | 'lost'
}

/** Changes of one frontend. An element whose value changes is in both lists. */
export interface Change {
  readonly family: AddressFamily
  readonly gone: readonly Element[]
  readonly fresh: readonly Element[]
  readonly dropped: readonly Dropped[]
}

/**
 * What leads from one placement to another of the same frontend; undefined if nothing does. It may
 * have no element: a target that drained is lost now.
 */
export function changeOf(
  before: Placement | undefined,
  after: Placement | undefined,
): Change | undefined {
  if (before === after) return undefined
  const gone = [...elementsBut(before, after)]
  const fresh = [...elementsBut(after, before)]
  const dropped = before === undefined ? [] : droppedOf(before, after)
  const frontend = before?.frontend ?? after?.frontend
  if (frontend === undefined || gone.length + fresh.length + dropped.length === 0) return undefined
  return { family: frontendFamily(frontend), gone, fresh, dropped }
}

/**
 * What is left of `dropped`, which was to be forgotten, when `wanted` is what the frontend shall
 * have now.
 */
export function stillDropped(dropped: Dropped, wanted: Placement | undefined): Dropped | undefined {
  const text = targetText(dropped.target)
  const slots = [...(wanted?.slots ?? [])].filter(([, target]) => targetText(target) === text)
  if (slots.some(([slot]) => slot < DRAINING_SLOTS)) return undefined
  if (slots.length === 0) return dropped
  if (dropped.why === 'gone') return undefined
  return wanted?.lost.has(text) === true ? dropped : { ...dropped, why: 'draining' }
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
  const about = {
    before,
    wasServed: servingTexts(before).size > 0,
    kept: new Set([...(after?.slots.values() ?? [])].map((target) => targetText(target))),
    serving: servingTexts(after),
    lost: after?.lost ?? new Set(),
  }
  const dropped = new Map<string, Dropped>()
  for (const [slot, target] of before.slots) {
    const why = whyDropped({ slot, text: targetText(target) }, about)
    if (why !== undefined) dropped.set(targetText(target), { frontend, target, why })
  }
  return [...dropped.values()]
}

/** Why connections to a target end; undefined: none does. */
function whyDropped(
  { slot, text }: { readonly slot: number; readonly text: string },
  about: {
    readonly before: Placement
    readonly wasServed: boolean
    readonly kept: ReadonlySet<string>
    readonly serving: ReadonlySet<string>
    readonly lost: ReadonlySet<string>
  },
): Dropped['why'] | undefined {
  const { before, wasServed, kept, serving, lost } = about
  if (serving.has(text)) return undefined
  if (!kept.has(text)) return 'gone'
  // They would find no other.
  if (serving.size === 0) return undefined
  if (lost.has(text) && !(before.lost.has(text) && wasServed)) return 'lost'
  // Flows of datagrams left it when it began to drain.
  const areOver = slot >= DRAINING_SLOTS && wasServed
  return hasDatagrams(before.frontend) && !areOver ? 'draining' : undefined
}

function hasDatagrams(frontend: Frontend): boolean {
  return frontend.kind === 'vip' || frontend.protocol === 'udp'
}

function servingTexts(placement: Placement | undefined): ReadonlySet<string> {
  const serving = [...(placement?.slots ?? [])].filter(([slot]) => slot < DRAINING_SLOTS)
  return new Set(serving.map(([, target]) => targetText(target)))
}
