/**
 * What the cases of the load balancer conformance suite share: a driver, what is around it, and
 * backends and clients there.
 */
import type { Socket } from 'node:net'
import type { ExecutionContext } from 'ava'
import { at } from '../base/assert.ts'
import { TestBackend, ask, freePort, until, virtualServer } from './conformance-peers.ts'
import type { Stage, TestClient } from './conformance-peers.ts'
import type { Backend, LoadBalancer, VirtualServer } from './ports.ts'

/** One test. */
export interface Case {
  readonly title: string
  /** Absent: of all drivers. */
  readonly only?: Stage['driver']
  readonly run: (t: ExecutionContext, scene: Scene) => Promise<void>
}

/** A fresh driver and what is around it. */
export interface Scene {
  readonly balancer: LoadBalancer
  readonly stage: Stage
}

/** A backend at the stage's place of this number. */
export function startAt(
  { stage }: Scene,
  index: number,
  name: string,
  onClient?: (socket: Socket, name: string) => void,
): Promise<TestBackend> {
  return TestBackend.start(name, onClient, placeAt(stage, index))
}

export function placeAt({ backends }: Stage, index: number): Stage['backends'][number] {
  return at(backends, index % backends.length)
}

/** A virtual server where the stage wants it. */
export function serverAt(
  { stage }: Scene,
  port: number,
  backends: readonly Backend[],
  protocol: 'tcp' | 'udp' = 'tcp',
): VirtualServer {
  return virtualServer(port, backends, protocol, stage.listenAddress)
}

/** Resolves when a connection that the driver ended is closed. */
export async function untilClosed({ stage }: Scene, client: TestClient): Promise<void> {
  if (stage.driver === 'kernel') client.socket.write('who\n')
  await until('its connection is closed', () => client.closed)
}

/** Time in which a connection that was made before a change shows at its backend. */
export const ARRIVAL_MS = 20

/** Starts backends of these names behind a fresh port. */
export async function behindOnePort(
  t: ExecutionContext,
  scene: Scene,
  names: readonly string[],
): Promise<{
  port: number
  peers: TestBackend[]
  readonly set: (backends: Backend[]) => Promise<unknown>
}> {
  const peers = await Promise.all(names.map((name, index) => startAt(scene, index, name)))
  t.teardown(() => {
    for (const peer of peers) peer.stop()
  })
  const port = await freePort()
  const set = (backends: Backend[]): Promise<unknown> =>
    scene.balancer.apply([serverAt(scene, port, backends)])
  t.deepEqual(await set(peers.map((peer) => peer.backend())), [])
  return { port, peers, set }
}

/** Requests from `clients` loops until `stop`; gives the failures and how many were asked. */
export function load(
  { stage }: Scene,
  port: number,
  clients: number,
): { stop(): Promise<{ asked: number; failed: Error[] }> } {
  const stopping = new AbortController()
  let asked = 0
  const failed: Error[] = []
  const loops = Array.from({ length: clients }, async () => {
    while (!stopping.signal.aborted) {
      asked += 1
      await ask(port, stage.clients).catch((error: Error) => failed.push(error))
    }
  })
  return {
    async stop() {
      stopping.abort()
      await Promise.all(loops)
      return { asked, failed }
    },
  }
}
