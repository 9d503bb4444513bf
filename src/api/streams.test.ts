/** Events and logs as a client sees them: as they come, framed, until the client goes. */
import { once } from 'node:events'
import test from 'ava'
import { startFixture } from './testing/fixture.ts'
import type { LogRecord } from './ports.ts'
import { open, send } from './testing/client.ts'
import { manager, createService, within } from './testing/manager-steps.ts'

test('events come as they are committed, filtered, until the client goes', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const going = new AbortController()
  const filters = encodeURIComponent('{"type":["service"]}')
  const stream = await open(fixture.socketPath, {
    path: `/events?filters=${filters}`,
    signal: going.signal,
  })
  t.is(stream.headers['content-type'], 'application/json')
  await fixture.swarm.addNode({ role: 'worker', host: '127.0.0.2' })
  await createService(fixture, { Name: 'watched' })
  const [chunk] = (await once(stream.setEncoding('utf8'), 'data')) as [string]
  const [line = ''] = chunk.split('\n')
  const event = JSON.parse(line) as { Type: string; Action: string; Actor: { Attributes: object } }
  t.is(event.Type, 'service')
  t.is(event.Action, 'create')
  t.deepEqual(event.Actor.Attributes, { name: 'watched' })
  stream.on('error', () => {})
  going.abort()
})

test('events end at `until`', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const answer = await send(fixture.socketPath, { path: '/events?until=1' })
  t.is(answer.status, 200)
  t.is(answer.text, '')
})

test('logs are framed as Docker does, with details after the timestamp', async (t) => {
  const record: LogRecord = {
    taskId: 't1',
    nodeId: 'n1',
    serviceId: 's1',
    stream: 'stderr',
    timestamp: '2026-01-01T00:00:00Z',
    line: Buffer.from('hello\n'),
  }
  const logs = {
    async *read() {
      yield await Promise.resolve(record)
    },
  }
  const fixture = await startFixture({ logs })
  t.teardown(() => fixture.close())
  await send(fixture.socketPath, { method: 'POST', path: '/swarm/init', body: {} })
  await createService(fixture, { Name: 's' })
  const path = '/services/s/logs?stdout=1&stderr=1&timestamps=1&details=1'
  const stream = await open(fixture.socketPath, { path })
  t.is(stream.headers['content-type'], 'application/vnd.docker.multiplexed-stream')
  const chunks: Uint8Array[] = []
  for await (const chunk of stream as AsyncIterable<Uint8Array>) chunks.push(chunk)
  const bytes = Buffer.concat(chunks)
  t.is(bytes.readUInt8(0), 2)
  t.is(bytes.readUInt32BE(4), bytes.length - 8)
  t.is(
    bytes.subarray(8).toString(),
    '2026-01-01T00:00:00Z com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s1,' +
      'com.docker.swarm.task.id=t1 hello\n',
  )
  const neither = await send(fixture.socketPath, { path: '/services/s/logs' })
  t.is(neither.status, 400)
})

test('logs without a reader are 501', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  await createService(fixture, { Name: 's' })
  t.is((await send(fixture.socketPath, { path: '/services/s/logs?stdout=1' })).status, 501)
})

test('a client that goes away aborts its request', async (t) => {
  const aborted = Promise.withResolvers<void>()
  const fixture = await startFixture({
    logs: {
      async *read(_target, { signal }) {
        const gone = once(signal, 'abort')
        yield { ...EMPTY_RECORD }
        await gone
        aborted.resolve()
      },
    },
  })
  t.teardown(() => fixture.close())
  await send(fixture.socketPath, { method: 'POST', path: '/swarm/init', body: {} })
  await createService(fixture, { Name: 's' })
  const going = new AbortController()
  const path = '/services/s/logs?stdout=1&follow=1'
  const stream = await open(fixture.socketPath, { path, signal: going.signal })
  await once(stream, 'data')
  stream.on('error', () => {})
  going.abort()
  await within(aborted.promise)
  t.pass()
})

const EMPTY_RECORD: LogRecord = {
  taskId: '',
  nodeId: '',
  serviceId: '',
  stream: 'stdout',
  timestamp: '',
  line: Buffer.from('x\n'),
}
