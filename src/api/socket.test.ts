/** The socket that the API answers on: who may use it, what was there before, what it holds up. */
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import test from 'ava'
import { isSwarmError } from '../base/errors.ts'
import { startFixture } from './testing/fixture.ts'
import { createApiServer } from './server.ts'
import { open, send } from './testing/client.ts'
import { manager, within } from './testing/manager-steps.ts'

test('the socket has mode 0660', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  t.is((await stat(fixture.socketPath)).mode & 0o777, 0o660)
})

test('a second server on the same socket is refused, and the first goes on', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const second = createApiServer(fixture.components, { socketPath: fixture.socketPath })
  const error = await t.throwsAsync(second)
  t.true(isSwarmError(error, 'FAILED_PRECONDITION'))
  t.is((await send(fixture.socketPath, { path: '/_ping' })).status, 200)
})

test('a socket that nobody answers on is replaced, a file is not', async (t) => {
  const fixture = await startFixture()
  const directory = await mkdtemp(join(tmpdir(), 'skein-socket-'))
  t.teardown(async () => {
    await fixture.close()
    await rm(directory, { recursive: true, force: true })
  })
  const stale = join(directory, 'stale.sock')
  await leaveStaleSocket(stale)
  const server = await createApiServer(fixture.components, { socketPath: stale })
  t.is((await send(stale, { path: '/_ping' })).status, 200)
  await server.close()
  const file = join(directory, 'file')
  await writeFile(file, 'precious')
  await chmod(file, 0o600)
  await t.throwsAsync(createApiServer(fixture.components, { socketPath: file }), {
    message: /the path is not a socket/,
  })
})

/** A process that is killed cannot remove its socket. */
async function leaveStaleSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
}

test('closing ends open streams and frees the socket', async (t) => {
  const fixture = await manager()
  const stream = await open(fixture.socketPath, { path: '/events' })
  stream.on('error', () => {})
  const ended = once(stream, 'close')
  stream.resume()
  await within(fixture.close())
  await within(ended)
  await t.throwsAsync(send(fixture.socketPath, { path: '/_ping' }))
})

test('a socket path that Linux cannot take is refused', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const socketPath = `/tmp/${'x'.repeat(120)}`
  await t.throwsAsync(createApiServer(fixture.components, { socketPath }), {
    message: /longer than 107 bytes/,
  })
})

test('a foreign server on the socket is not disturbed', async (t) => {
  const fixture = await startFixture()
  const directory = await mkdtemp(join(tmpdir(), 'skein-socket-'))
  const socketPath = join(directory, 'foreign.sock')
  const foreign = createServer((connection) => connection.end())
  foreign.listen(socketPath)
  await once(foreign, 'listening')
  t.teardown(async () => {
    foreign.close()
    await fixture.close()
    await rm(directory, { recursive: true, force: true })
  })
  await t.throwsAsync(createApiServer(fixture.components, { socketPath }), {
    message: /another daemon answers/,
  })
})
