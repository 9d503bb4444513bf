/**
 * The one swarm of this guest, with a service on each of two networks, the first of them with IPv6;
 * started by whoever asks first.
 */
import { api } from '../harness/daemon.ts'
import { PORT, RUNNING_LIMIT_MS, World, progress } from './world.ts'

export const REPLICAS = 3

let world: Promise<World> | undefined

/** The swarm; started once. */
export function theWorld(): Promise<World> {
  world ??= startWorld()
  return world
}

async function startWorld(): Promise<World> {
  const started = await World.start()
  const { socket } = started.swarm.node(0)
  for (const [name, ipv6] of Object.entries({ front: true, back: false })) {
    const network = { Name: name, Driver: 'overlay', EnableIPv6: ipv6 }
    await api(socket, 'POST', '/networks/create', network)
  }
  await started.createService('web', { network: 'front', replicas: REPLICAS, port: PORT })
  await started.createService('db', { network: 'back', replicas: 1 })
  await started.swarm.untilRunning(started.swarm.node(0), REPLICAS + 1, RUNNING_LIMIT_MS)
  progress('services')
  return started
}
