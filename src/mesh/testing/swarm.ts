/**
 * Real meshes on loopback for tests: real libp2p, real sockets, ports chosen by the kernel.
 */
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import { createMesh, type MeshHost, type MeshOptions } from '../mesh.ts'

/** The system's time and randomness, and no log. */
export const components = { clock: systemClock, random: systemRandom, log: silentLogger }

/** A mesh on 127.0.0.1 with a new key. */
export function loopbackMesh(options: Partial<MeshOptions> = {}): Promise<MeshHost> {
  return createMesh(components, {
    privateKeySeed: systemRandom.bytes(32),
    listenAddresses: ['/ip4/127.0.0.1/tcp/0'],
    ...options,
  })
}

/** Makes all of them members of each other. */
export function connectAll(meshes: readonly MeshHost[]): void {
  const members = meshes.map((mesh) => mesh.self)
  for (const mesh of meshes) mesh.setMembers(members)
}

/** Resolves when every mesh reaches every other. */
export async function connected(meshes: readonly MeshHost[]): Promise<void> {
  await until(() =>
    meshes.every((mesh) => {
      const peers = mesh.peers()
      return peers.length === meshes.length - 1 && peers.every((peer) => peer.reachable)
    }),
  )
}

/** Resolves when `condition` holds. Rejects when it does not within `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const endMs = systemClock.monotonicMs() + timeoutMs
  while (!condition()) {
    if (systemClock.monotonicMs() > endMs) {
      throw new Error(`condition does not hold after ${timeoutMs} ms: ${condition.toString()}`)
    }
    await pause(10)
  }
}

/** Waits `delayMs`; for tests that show that something does not happen. */
export function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => systemClock.after(delayMs, resolve))
}

/** The error that `work` rejects with. Rejects when it does not. */
export async function failure(work: Promise<unknown>): Promise<Error & { readonly code?: string }> {
  try {
    await work
  } catch (error) {
    if (error instanceof Error) return error
    throw new Error('something else than an Error was thrown', { cause: error })
  }
  throw new Error('expected a rejection')
}
