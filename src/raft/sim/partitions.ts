/**
 * Who cannot reach whom. Source: reference/raft.md §4.1; Alquraan et al., OSDI 2018 (partial and
 * one-way partitions).
 */
import type { Shape } from './actions.ts'

/** Whether nothing passes from the node at position `from` to the one at `to`. */
export type Blocks = (from: number, to: number) => boolean

interface Cut {
  readonly shape: Shape
  /** Bit n: the side of the n-th node. */
  readonly sides: number
  /** The node in the middle, or cut off. */
  readonly center: number
  readonly nodes: number
}

/** The rule of a partition. */
export function partition({ shape, sides, center, nodes }: Cut): Blocks {
  const side = (node: number): number => (sides >> (node % 12)) & 1
  const other = sides % Math.max(1, nodes)
  const isNew = (node: number): boolean => node === center || node > other
  switch (shape) {
    case 'split':
      return (from, to) => side(from) !== side(to)
    case 'oneWay':
      return (from, to) => side(from) === 1 && side(to) === 0
    case 'isolate':
      return (from, to) => (from === center) !== (to === center)
    case 'mute':
      return (from, to) => from === center && to !== center
    case 'deaf':
      return (from, to) => to === center && from !== center
    case 'bridge':
      // Both sides reach the center and not each other (reference/raft.md bug 3).
      return (from, to) => from !== center && to !== center && side(from) !== side(to)
    case 'generations':
      // New machines stand together, somewhere else than the old ones.
      return (from, to) => isNew(from) !== isNew(to)
    case 'pair':
      return (from, to) => !(from === center && to === other) && !(from === other && to === center)
    case 'ring':
      return (from, to) => {
        const distance = Math.abs(from - to)
        return distance !== 0 && distance !== 1 && distance !== nodes - 1
      }
    default:
      return shape satisfies never
  }
}
