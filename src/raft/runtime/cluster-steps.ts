/** Small words for tests of a `MemoryCluster`. */
import { at } from '../../base/assert.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { MemoryCluster } from './memory-cluster.ts'
import type { ServerId } from './ports.ts'
import type { Raft } from './raft.ts'

/** A command, or a chunk of a state. */
export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

/** `c<from>` … , `count` of them. */
export function numbered(from: number, count: number): string[] {
  return Array.from({ length: count }, (_, position) => `c${from + position}`)
}

/** Everybody but `id`. */
export function others(cluster: MemoryCluster, id: ServerId): ServerId[] {
  return [...cluster.places.keys()].filter((each) => each !== id)
}

/** A member that does not lead. */
export function follower(cluster: MemoryCluster, leader: { readonly id: ServerId }): Raft<number> {
  return cluster.raft(at(others(cluster, leader.id), 0))
}

/** The code that `promise` fails with; `ok` when it does not. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'ok'
  } catch (error) {
    return isSwarmError(error) ? error.code : String(error)
  }
}

/** The same, letting time pass. */
export function fateOf(cluster: MemoryCluster, promise: Promise<unknown>): Promise<string> {
  return cluster.settled(codeOf(promise))
}
