/** Small words for tests of a `MemoryCluster`. */
import { at } from '../../base/assert.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { Entry } from '../core/entry.ts'
import type { MemoryCluster } from './memory-cluster.ts'
import type { Observation } from './observations.ts'
import type { ServerId } from './ports.ts'
import type { Raft } from './raft.ts'

/** Snapshots soon and with little log behind them. */
export const SMALL_SNAPSHOTS = { snapshotThreshold: 50, trailingEntries: 10 }

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

/** The entries that all running members have, by member. */
export async function logs(cluster: MemoryCluster): Promise<readonly (readonly Entry[])[]> {
  const from = Math.max(...cluster.running.map((raft) => raft.stats().firstIndex))
  const to = Math.min(...cluster.running.map(({ commitIndex }) => commitIndex))
  return Promise.all(cluster.running.map(({ id }) => cluster.place(id).logStore.read(from, to + 1)))
}

/** The checks at the end of each of hashicorp's fuzzy tests. */
export async function agree(
  cluster: MemoryCluster,
  acknowledged: readonly string[],
): Promise<boolean> {
  await cluster.leader()
  await cluster.converged()
  const [first, ...rest] = (await logs(cluster)).map((entries) => JSON.stringify(entries))
  const machines = cluster.running.map(({ id }) => cluster.commands(id).join())
  const applied = new Set(cluster.commands(at(cluster.running, 0).id))
  const isSame = rest.every((one) => one === first) && new Set(machines).size === 1
  return isSame && acknowledged.every((command) => applied.has(command))
}

/** Writes `commands` somewhere, and notes which were acknowledged. */
export function writeAll(raft: Raft<number>, commands: readonly string[], into: string[]): void {
  for (const command of commands) {
    raft.apply(bytes(command), { timeoutMs: 20_000 }).then(
      () => into.push(command),
      () => undefined,
    )
  }
}

/**
 * A state that comes in these pieces.
 *
 * @yields them, encoded
 */
export async function* source(...chunks: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield bytes(chunk)
}

/** Reads a stream of observations into a list. */
export async function collect(
  stream: AsyncIterable<Observation>,
  into: Observation[],
): Promise<readonly Observation[]> {
  for await (const one of stream) into.push(one)
  return into
}
