/** What a schedule is made of: faults, and what operators do. */
import { type WriteKind } from './sim-disk.ts'

/** What happens to a leader just before it is cut off. */
export const PRELUDES = ['nothing', 'transfer', 'stall', 'reset', 'restart'] as const

/** `restartHearing`: of the others, those restart who still hear it. */
export type Prelude = (typeof PRELUDES)[number] | 'restartHearing'

/** How the source of a restore fails, if it does. */
export const RESTORE_FATES = ['whole', 'whole', 'whole', 'broken', 'wrongSize'] as const

/** One operation. Times are virtual milliseconds; `who` is as in a schedule. */
export type Operation = { readonly atMs: number } & (
  | { readonly type: 'leaseRead'; readonly who: number; readonly key: number }
  | {
      readonly type: 'cutLeader'
      readonly prelude: Prelude
      readonly who: number
      readonly key: number
      /** From the prelude to the cut. */
      readonly delayMs: number
      readonly forMs: number
      /** By how much its wall clock is set back before. */
      readonly wallBackMs: number
    }
  | { readonly type: 'wallClock'; readonly who: Who; readonly leapMs: number }
  | {
      readonly type: 'stage'
      readonly who: number
      /** Asked for twice at once. */
      readonly twice: boolean
      /** The server is removed so long after; 0 = never. */
      readonly removeMs: number
    }
  | {
      readonly type: 'restore'
      readonly fate: (typeof RESTORE_FATES)[number]
      /** Between two pieces of the source. */
      readonly gapMs: number
    }
  | {
      readonly type: 'reload'
      readonly who: Who
      readonly electionTicks: number
      readonly heartbeatTicks: number
      readonly snapshotThreshold: number
    }
  | { readonly type: 'leave'; readonly who: Who; readonly forMs: number }
  | {
      readonly type: 'boundedRead'
      readonly who: Who
      readonly key: number
      readonly boundMs: number
      /** How long it waits for its proof; 0 = not at all. */
      readonly waitMs: number
    }
)

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
