/**
 * Exchanges recorded between the docker CLI and Docker Engine 20.10, replayed against this server:
 * the same status, the same content type, and every member that Docker answers with, of the same
 * type.
 */
import { readFileSync } from 'node:fs'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { startFixture } from './testing/fixture.ts'
import type { ApiFixture } from './testing/fixture.ts'
import { send } from './testing/client.ts'
import type { TestRequest } from './testing/client.ts'

interface Recording {
  readonly name: string
  readonly phase: 'inactive' | 'init' | 'manager' | 'worker-node' | 'service' | 'raw' | 'worker'
  readonly request: {
    readonly method: string
    readonly version: string
    readonly path: string
    readonly query: Readonly<Record<string, unknown>>
    readonly body?: unknown
    readonly bodyText?: string
  }
  readonly response: {
    readonly status: number
    readonly contentType: string
    readonly body?: unknown
  }
}

/** Where this server answers with another status on purpose, and why. */
const OTHER_STATUS: Readonly<Record<string, readonly [status: number, why: string]>> = {
  '605-raw-service-update-stale': [409, 'a conflict is no internal error'],
  '630-join-bad-token-format': [400, 'a malformed token is no internal error'],
}

/** Errors with a text of our own. */
const OTHER_TEXT = new Set(['611-raw-service-create-badjson', '280-swarm-leave-manager-refused'])

/** Members that Docker has and this server leaves out, each for a reason. */
const LEFT_OUT = new Set([
  // Facts about dockerd's host integration that nothing here stands for, or that 1.50 has dropped.
  ...['KernelMemory', 'KernelMemoryTCP', 'BridgeNfIptables', 'BridgeNfIp6tables', 'NFd'],
  ...['NGoroutines', 'NEventsListener', 'OSVersion', 'Expected', 'VirtualSize'],
  ...[
    'AllowNondistributableArtifactsCIDRs',
    'AllowNondistributableArtifactsHostnames',
    'docker.io',
  ],
  ...['io.containerd.runc.v2', 'io.containerd.runtime.v1.linux', 'runc'],
  // Virtual addresses are not allocated yet.
  'VirtualIPs',
  // Docker adds these to the stored spec; here a spec is given back as it came.
  ...['DNSConfig', 'Isolation', 'Init', 'Runtime'],
])

/** Lists whose elements are facts about dockerd's host. */
const MAY_BE_EMPTY = /\.(InsecureRegistryCIDRs|SecurityOptions|DriverStatus)$/

const recordings = readFileSync(new URL('testdata/recorded.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Recording)

test('the recorded exchanges have the same status, type and members here', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  fixture.images.add('foo:9')
  fixture.images.add('127.0.0.1:5000/lab/bb:1')
  let phase: Recording['phase'] = 'inactive'
  let workerId = ''
  for (const recording of recordings) {
    if (recording.phase !== phase) {
      phase = recording.phase
      workerId = await enter(fixture, phase, workerId)
    }
    await replay(t, fixture, { recording, workerId })
  }
  t.is(recordings.length, 49)
})

async function enter(
  fixture: ApiFixture,
  phase: Recording['phase'],
  workerId: string,
): Promise<string> {
  if (phase === 'worker-node' && workerId === '') {
    return fixture.swarm.addNode({ role: 'worker', host: '127.0.0.3', hostname: 'gosling' })
  }
  if (phase === 'raw' && fixture.swarm.store.find('services', 'name', 'rw').length === 0) {
    const template = {
      ContainerSpec: { Image: 'bb:1', Args: ['sleep', '1000'] },
      Resources: { Limits: {}, Reservations: {} },
      Placement: {},
      ForceUpdate: 0,
    }
    const body = { Name: 'rw', TaskTemplate: template }
    await send(fixture.socketPath, { method: 'POST', path: '/services/create', body })
  }
  if (phase === 'worker') fixture.swarm.setControlAvailable(false)
  return workerId
}

async function replay(
  t: ExecutionContext,
  fixture: ApiFixture,
  { recording, workerId }: { readonly recording: Recording; readonly workerId: string },
): Promise<void> {
  const { response, name } = recording
  const answer = await send(fixture.socketPath, translated(fixture, recording, workerId))
  t.is(answer.status, OTHER_STATUS[name]?.[0] ?? response.status, `${name}: ${answer.text}`)
  t.is(answer.headers['content-type'] ?? '', response.contentType, name)
  for (const header of ['api-version', 'docker-experimental', 'ostype', 'server']) {
    t.truthy(answer.headers[header], `${name}: header ${header}`)
  }
  if (response.body === undefined) return
  const actual: unknown = JSON.parse(answer.text)
  sameShape(t, name, { recorded: response.body, actual })
  if (response.status >= 400 && !OTHER_TEXT.has(name)) {
    t.is(messageOf(actual), messageOf(response.body), name)
  }
}

/** The recorded request with this server's ids and versions in the place of the recorded ones. */
function translated(fixture: ApiFixture, recording: Recording, workerId: string): TestRequest {
  const { request, phase } = recording
  const { store } = fixture.swarm
  const [service] = store.find('services', 'name', phase === 'raw' ? 'rw' : 's1')
  const subject = phase === 'worker-node' ? store.get('nodes', workerId) : service
  const ownIds = (text: string): string =>
    text.replaceAll(/\b[0-9a-z]{25}\b/g, subject?.id ?? 'nothing')
  const query = new URLSearchParams()
  for (const [key, value] of Object.entries(request.query)) {
    query.set(key, typeof value === 'string' ? value : ownIds(JSON.stringify(value)))
  }
  // Version 1 stands for "stale".
  if (query.has('version') && query.get('version') !== '1') {
    query.set('version', String(subject?.meta.version))
  }
  const prefix = request.version === '' ? '' : `/v${request.version}`
  const archive = request.path === '/images/load' ? 'bb:2' : undefined
  return {
    method: request.method,
    path: `${prefix}${ownIds(request.path)}?${query.toString()}`,
    body: request.bodyText ?? request.body ?? archive,
  }
}

/** Docker's gRPC prefix is not part of what is compared, nor are ids. */
function messageOf(body: unknown): string {
  return (body as { readonly message: string }).message
    .replace(/^rpc error: code = \w+ desc = /, '')
    .replaceAll(/\b[0-9a-z]{25}\b/g, '<id>')
    .replace(/version is 1\.\d+/, 'version is <version>')
}

function sameShape(
  t: ExecutionContext,
  where: string,
  { recorded, actual }: { readonly recorded: unknown; readonly actual: unknown },
): void {
  // Go sends null for an empty list or map.
  if (recorded === null || actual === null) return
  t.is(kind(actual), kind(recorded), where)
  if (Array.isArray(recorded) && Array.isArray(actual)) {
    if (recorded.length === 0 || MAY_BE_EMPTY.test(where)) return
    t.true(actual.length > 0, `${where} is not empty`)
    sameShape(t, `${where}[0]`, { recorded: recorded[0], actual: actual[0] })
  } else if (kind(recorded) === 'object') {
    const members = actual as Readonly<Record<string, unknown>>
    for (const [name, value] of Object.entries(recorded as object)) {
      if (LEFT_OUT.has(name)) continue
      t.true(name in members, `${where}.${name} is there`)
      sameShape(t, `${where}.${name}`, { recorded: value, actual: members[name] })
    }
  }
}

function kind(value: unknown): string {
  return Array.isArray(value) ? 'array' : typeof value
}
