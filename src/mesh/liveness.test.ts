/* What a link notices when the other process dies, stops, or when this one was busy. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createInterface } from 'node:readline'
import test, { type ExecutionContext } from 'ava'
import { systemClock } from '../base/clock.ts'
import { systemRandom } from '../base/random.ts'
import type { MeshHost } from './mesh.ts'
import type { Member } from './ports.ts'
import type { LossReason } from './session.ts'
import { loopbackMesh, pause, until } from './testing/swarm.ts'

const SCRIPT = fileURLToPath(new URL('testing/peer-process.ts', import.meta.url))

interface Peer {
  readonly process: ChildProcess
  readonly self: Member
}

interface Scene {
  readonly mesh: MeshHost
  readonly lost: { peer: string; reason: LossReason }[]
  /** Starts the peer; the same key each time. */
  readonly start: (port: string) => Promise<Peer>
}

async function scene(t: ExecutionContext, peerDeadAfterMs = 1_500): Promise<Scene> {
  const [seed, peerSeed] = [systemRandom.bytes(32), systemRandom.bytes(32)]
  const mesh = await loopbackMesh({ privateKeySeed: seed })
  const lost: { peer: string; reason: LossReason }[] = []
  mesh.raft.setReceiver({
    onFrame: () => {},
    onLost: (peer, reason) => lost.push({ peer, reason }),
  })
  t.teardown(() => mesh.close())
  const start = async (port: string): Promise<Peer> => {
    const address = mesh.self.addresses[0] ?? ''
    const texts = [SCRIPT, hex(peerSeed), port, hex(seed), address, String(peerDeadAfterMs)]
    const child = spawn(process.execPath, texts, { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => child.kill('SIGKILL'))
    const [line] = await once(createInterface(child.stdout), 'line')
    return { process: child, self: JSON.parse(String(line)) as Member }
  }
  return { mesh, lost, start }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

function reachable(mesh: MeshHost): boolean {
  return mesh.peers()[0]?.reachable === true
}

function portOf(member: Member): string {
  return member.addresses[0]?.split('/').at(-1) ?? ''
}

test.serial(
  'a killed process is unreachable at once and reachable after its restart',
  async (t) => {
    const { mesh, lost, start } = await scene(t)
    const first = await start('0')
    mesh.setMembers([first.self])
    await until(() => reachable(mesh))
    const before = await mesh.request(first.self.nodeId, 'pid', null)
    const killedMs = systemClock.monotonicMs()
    first.process.kill('SIGKILL')
    await until(() => !reachable(mesh))
    t.true(systemClock.monotonicMs() - killedMs < 500)
    t.deepEqual(lost, [{ peer: first.self.nodeId, reason: 'closed' }])
    const second = await start(portOf(first.self))
    const startedMs = systemClock.monotonicMs()
    await until(() => reachable(mesh))
    t.true(systemClock.monotonicMs() - startedMs < 1_000)
    t.not(await mesh.request(second.self.nodeId, 'pid', null), before)
  },
)

test.serial(
  'a process that hangs is dead after its silence, and back when it goes on',
  async (t) => {
    const { mesh, lost, start } = await scene(t, 20_000)
    const peer = await start('0')
    mesh.setMembers([peer.self])
    await until(() => reachable(mesh))
    await pause(300)
    const stoppedMs = systemClock.monotonicMs()
    peer.process.kill('SIGSTOP')
    await until(() => !reachable(mesh))
    const noticedMs = systemClock.monotonicMs() - stoppedMs
    t.true(noticedMs > 900 && noticedMs < 3_000, `noticed after ${noticedMs} ms`)
    t.deepEqual(lost, [{ peer: peer.self.nodeId, reason: 'timeout' }])
    peer.process.kill('SIGCONT')
    await until(() => reachable(mesh))
    t.is(await mesh.request(peer.self.nodeId, 'pid', null), peer.process.pid)
  },
)

test.serial('a process that closes its mesh ends by itself', async (t) => {
  const script = fileURLToPath(new URL('testing/closing-process.ts', import.meta.url))
  const child = spawn(process.execPath, [script], { stdio: 'inherit' })
  t.teardown(() => child.kill('SIGKILL'))
  const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(20_000) })
  t.is(code, 0)
})

test.serial('an idle link stays up on pings, and they measure the round trip', async (t) => {
  const { mesh, lost, start } = await scene(t)
  const peer = await start('0')
  mesh.setMembers([peer.self])
  await until(() => reachable(mesh))
  await pause(2_500)
  t.deepEqual(lost, [])
  const { rttMs } = mesh.peers()[0] ?? {}
  t.true(rttMs !== undefined && rttMs > 0 && rttMs < 500, `round trip ${rttMs} ms`)
})

/** Holds this process up for a second, again and again, until the end of the test. */
function stallOften(t: ExecutionContext): void {
  const word = new Int32Array(new SharedArrayBuffer(4))
  const timer = setInterval(() => Atomics.wait(word, 0, 0, 1_000), 50)
  t.teardown(() => clearInterval(timer))
}

test.serial('a process that is held up again and again still notices a death', async (t) => {
  const { mesh, lost, start } = await scene(t, 60_000)
  const peer = await start('0')
  mesh.setMembers([peer.self])
  await until(() => reachable(mesh))
  await pause(300)
  stallOften(t)
  const stoppedMs = systemClock.monotonicMs()
  peer.process.kill('SIGSTOP')
  await until(() => !reachable(mesh), 20_000)
  const noticedMs = systemClock.monotonicMs() - stoppedMs
  // A piece of news takes several turns of the loop, a second each. If no stall counts, 14 s.
  t.true(noticedMs < 9_000, `noticed after ${noticedMs} ms`)
  t.deepEqual(lost, [{ peer: peer.self.nodeId, reason: 'timeout' }])
})

test.serial('a process that is held up again and again still hears the living', async (t) => {
  const { mesh, lost, start } = await scene(t, 60_000)
  const peer = await start('0')
  mesh.setMembers([peer.self])
  await until(() => reachable(mesh))
  stallOften(t)
  await pause(10_000)
  t.deepEqual(lost, [])
})

test.serial('a stall of this process is not held against the peer', async (t) => {
  const { mesh, lost, start } = await scene(t, 20_000)
  const peer = await start('0')
  mesh.setMembers([peer.self])
  await until(() => reachable(mesh))
  await pause(200)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_500)
  await pause(1_000)
  t.deepEqual(lost, [])
  t.is(await mesh.request(peer.self.nodeId, 'pid', null), peer.process.pid)
})
