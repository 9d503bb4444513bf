/** `./skein` as people run it: processes against a real API server over a real store. */
import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { startFixture } from '../../api/testing/fixture.ts'
import type { ApiFixture } from '../../api/testing/fixture.ts'

/** The program. */
export const SKEIN = fileURLToPath(new URL('../../../skein', import.meta.url))

interface Outcome {
  readonly exitCode: number
  readonly out: string
  readonly err: string
}

interface Run {
  readonly args: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly program?: string
}

/** Runs it to its end. */
export function runSkein({ args, environment = {}, program = SKEIN }: Run): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), ...environment }
    execFile(program, args, { env, encoding: 'utf8' }, (error, out, err) => {
      const code = error?.code
      resolve({ exitCode: error === null ? 0 : typeof code === 'number' ? code : 1, out, err })
    })
  })
}

/** Runs it against the socket of a fixture. */
export function skein(fixture: ApiFixture, ...args: readonly string[]): Promise<Outcome> {
  return runSkein({ args, environment: { SKEIN_HOST: `unix://${fixture.socketPath}` } })
}

/** A server on a node that manages a swarm, and has the image `web:1`. */
export async function manager(): Promise<ApiFixture> {
  const fixture = await startFixture()
  fixture.images.add('web:1')
  await fixture.swarm.init({
    listenAddress: '',
    advertiseAddress: '127.0.0.1',
    forceNewCluster: false,
    availability: 'active',
    addressPools: ['10.0.0.0/8'],
    subnetSize: 24,
  })
  return fixture
}
