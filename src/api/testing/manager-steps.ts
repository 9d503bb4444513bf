/** A manager behind a socket, and what clients ask of it. */
import { once } from 'node:events'
import { startFixture } from './fixture.ts'
import type { ApiFixture } from './fixture.ts'
import { send } from './client.ts'
import type { TestAnswer } from './client.ts'

/** Longest wait for something that should happen at once, in milliseconds. */
const DEADLINE_MS = 5000

/** A server on a node that manages a swarm of its own. */
export async function manager(): Promise<ApiFixture> {
  const fixture = await startFixture()
  await send(fixture.socketPath, { method: 'POST', path: '/swarm/init', body: {} })
  return fixture
}

/** Asks for a service of `web:1`. */
export function createService(fixture: ApiFixture, spec: object): Promise<TestAnswer> {
  const template = { ContainerSpec: { Image: 'web:1' } }
  const body = { TaskTemplate: template, ...spec }
  return send(fixture.socketPath, { method: 'POST', path: '/services/create', body })
}

/** The promise, or an error after a generous time. */
export async function within<T>(promise: Promise<T>): Promise<T> {
  const deadline = AbortSignal.timeout(DEADLINE_MS)
  const late = once(deadline, 'abort').then(() => {
    throw new Error(`nothing within ${DEADLINE_MS} ms`)
  })
  return Promise.race([promise, late])
}
