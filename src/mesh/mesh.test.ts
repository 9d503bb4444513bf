/* Requests, streams and links between real meshes on loopback. */
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import { systemRandom } from '../base/random.ts'
import { startHost } from './host.ts'
import type { Member } from './ports.ts'
import { CONTROL_PROTOCOL, RAFT_PROTOCOL } from './session.ts'
import { STREAM_PROTOCOL } from './stream-lane.ts'
import { JOIN_PROTOCOL } from './join-message.ts'
import {
  components,
  connectAll,
  connected,
  failure,
  loopbackMesh,
  pause,
  until,
} from './testing/swarm.ts'

test('three members answer each other, and the caller is proven', async (t) => {
  await using a = await loopbackMesh()
  await using b = await loopbackMesh()
  await using c = await loopbackMesh()
  const meshes = [a, b, c]
  for (const mesh of meshes) {
    mesh.handle('who', (body, from) => Promise.resolve({ body, from, me: mesh.self.nodeId }))
  }
  connectAll(meshes)
  await connected(meshes)
  for (const from of meshes) {
    for (const to of meshes.filter((mesh) => mesh !== from)) {
      const answer = await from.request(to.self.nodeId, 'who', { x: [1, 'two', true] })
      t.deepEqual(answer, {
        body: { x: [1, 'two', true] },
        from: from.self.nodeId,
        me: to.self.nodeId,
      })
    }
  }
})

test('a handler’s error arrives with its code, any other error as INTERNAL', async (t) => {
  await using a = await loopbackMesh()
  await using b = await loopbackMesh()
  b.handle('stale', () => Promise.reject(new SwarmError('OUT_OF_SEQUENCE', 'service "x": changed')))
  b.handle('odd', () => Promise.reject(new TypeError('odd')))
  connectAll([a, b])
  await connected([a, b])
  const to = b.self.nodeId
  const stale = await failure(a.request(to, 'stale', null))
  t.is(stale.code, 'OUT_OF_SEQUENCE')
  t.is(stale.message, 'service "x": changed')
  t.is((await failure(a.request(to, 'odd', null))).code, 'INTERNAL')
  t.is((await failure(a.request(to, 'absent', null))).code, 'UNIMPLEMENTED')
  t.is((await failure(a.request('nobody', 'stale', null))).code, 'UNAVAILABLE')
  const tooLarge = new Uint8Array(3 * 1024 * 1024)
  t.is((await failure(a.request(to, 'stale', tooLarge))).code, 'INVALID_ARGUMENT')
})

test('a request ends at its deadline or when it is withdrawn, and the link goes on', async (t) => {
  await using a = await loopbackMesh()
  await using b = await loopbackMesh()
  b.handle('never', () => new Promise(() => {}))
  b.handle('now', () => Promise.resolve('now'))
  connectAll([a, b])
  await connected([a, b])
  const to = b.self.nodeId
  t.is((await failure(a.request(to, 'never', null, { timeoutMs: 50 }))).code, 'TIMED_OUT')
  const controller = new AbortController()
  const withdrawn = failure(a.request(to, 'never', null, { signal: controller.signal }))
  controller.abort()
  t.is((await withdrawn).code, 'ABORTED')
  t.is(await a.request(to, 'now', null), 'now')
})

test('a thousand requests at once are all answered, each with its own answer', async (t) => {
  await using a = await loopbackMesh()
  await using b = await loopbackMesh()
  b.handle('double', (body) => Promise.resolve(Number(body) * 2))
  connectAll([a, b])
  await connected([a, b])
  const numbers = Array.from({ length: 500 }, (_, index) => index)
  const answers = await Promise.all(
    numbers.map((number) => a.request(b.self.nodeId, 'double', number)),
  )
  t.deepEqual(
    answers,
    numbers.map((number) => number * 2),
  )
})

test('a large answer does not hold up a small one of another peer', async (t) => {
  await using a = await loopbackMesh()
  await using b = await loopbackMesh()
  const large = systemRandom.bytes(1024 * 1024)
  b.handle('large', () => Promise.resolve(large))
  connectAll([a, b])
  await connected([a, b])
  const answer = await a.request(b.self.nodeId, 'large', null)
  t.true(answer instanceof Uint8Array && Buffer.from(large).equals(answer))
})

test('both sides dial at once and end with one connection', async (t) => {
  let doubled = 0
  for (let round = 0; round < 4; round += 1) {
    await using a = await loopbackMesh({ timers: { dialYieldMs: 0 } })
    await using b = await loopbackMesh({ timers: { dialYieldMs: 0 } })
    b.handle('ping', () => Promise.resolve('pong'))
    connectAll([a, b])
    await connected([a, b])
    await pause(50)
    if (a.connectionCount() > 1) doubled += 1
    t.is(await a.request(b.self.nodeId, 'ping', null), 'pong')
    await until(() => a.connectionCount() === 1 && b.connectionCount() === 1)
    t.true(a.peers()[0]?.reachable)
    t.is(await a.request(b.self.nodeId, 'ping', null), 'pong')
  }
  t.log(`${doubled} of 4 rounds had two connections at first`)
})

test('a stranger’s dial may resolve, yet it reaches nothing', async (t) => {
  await using member = await loopbackMesh()
  await using other = await loopbackMesh()
  connectAll([member, other])
  await connected([member, other])
  const stranger = await startHost(
    components,
    { privateKeySeed: systemRandom.bytes(32), listenAddresses: [] },
    { isMember: () => false, admitsStrangers: () => false },
  )
  t.teardown(() => stranger.stop())
  const { peerId, addresses } = member.self
  for (const protocol of [CONTROL_PROTOCOL, RAFT_PROTOCOL, STREAM_PROTOCOL, JOIN_PROTOCOL]) {
    await t.throwsAsync(async () => {
      const signal = AbortSignal.timeout(3_000)
      const connection = await stranger.dial(addresses[0] ?? '', peerId, signal)
      await connection.newStream(protocol, { signal })
    })
  }
})

test('with the join lane open, a stranger reaches the join protocol alone', async (t) => {
  await using member = await loopbackMesh()
  member.serveJoins({
    rootPublicKey: () => new Uint8Array(32),
    certificate: () => undefined,
    secrets: () => ({ worker: 'w', manager: 'm', once: [] }),
    admit: () => Promise.resolve(null),
  })
  const stranger = await startHost(
    components,
    { privateKeySeed: systemRandom.bytes(32), listenAddresses: [] },
    { isMember: () => false, admitsStrangers: () => false },
  )
  t.teardown(() => stranger.stop())
  const signal = AbortSignal.timeout(5_000)
  const connection = await stranger.dial(member.self.addresses[0] ?? '', undefined, signal)
  for (const protocol of [CONTROL_PROTOCOL, RAFT_PROTOCOL, STREAM_PROTOCOL]) {
    const stream = await connection.newStream(protocol, { signal })
    if (stream.status === 'open') {
      await new Promise((resolve) => stream.addEventListener('close', resolve))
    }
    t.is(stream.status, 'reset', protocol)
  }
  const join = await connection.newStream(JOIN_PROTOCOL, { signal })
  t.is(join.status, 'open')
})

test('a stranger has one join stream at a time', async (t) => {
  await using member = await loopbackMesh()
  member.serveJoins({
    rootPublicKey: () => new Uint8Array(32),
    certificate: () => undefined,
    secrets: () => ({ worker: 'w', manager: 'm', once: [] }),
    admit: () => Promise.resolve(null),
  })
  const stranger = await startHost(
    components,
    { privateKeySeed: systemRandom.bytes(32), listenAddresses: [] },
    { isMember: () => false, admitsStrangers: () => false },
  )
  t.teardown(() => stranger.stop())
  const signal = AbortSignal.timeout(5_000)
  const connection = await stranger.dial(member.self.addresses[0] ?? '', undefined, signal)
  const joins = await Promise.allSettled(
    Array.from({ length: 3 }, () => connection.newStream(JOIN_PROTOCOL, { signal })),
  )
  await until(() => joins.filter(isOpen).length <= 1)
  t.pass()
})

function isOpen(result: PromiseSettledResult<{ readonly status: string }>): boolean {
  return result.status === 'fulfilled' && result.value.status === 'open'
}

test('a removed member is cut at once and stays out', async (t) => {
  await using a = await loopbackMesh()
  await using b = await loopbackMesh()
  a.handle('x', () => Promise.resolve('x'))
  connectAll([a, b])
  await connected([a, b])
  a.setMembers([a.self])
  await until(() => b.peers().every((peer) => !peer.reachable), 2_000)
  await pause(700)
  t.false(b.peers()[0]?.reachable)
  t.deepEqual(a.peers(), [])
  connectAll([a, b])
  await connected([a, b])
  t.is(await b.request(a.self.nodeId, 'x', null), 'x')
})

test('a peer that stops is unreachable at once, and reachable soon after it is back', async (t) => {
  const privateKeySeed = systemRandom.bytes(32)
  await using a = await loopbackMesh()
  const first = await loopbackMesh({ privateKeySeed })
  const b = first.self
  connectAll([a, first])
  await connected([a, first])
  const changes: boolean[] = []
  const undo = a.onPeer((peer) => changes.push(peer.reachable))
  const startMs = systemClock.monotonicMs()
  await first.close()
  await until(() => a.peers()[0]?.reachable === false)
  t.true(systemClock.monotonicMs() - startMs < 500)
  await using second = await loopbackMesh({ privateKeySeed, listenAddresses: b.addresses })
  connectAll([a, second])
  await connected([a, second])
  t.deepEqual(changes.slice(0, 2), [false, true])
  undo()
})

test('a pending request fails when the peer stops', async (t) => {
  await using a = await loopbackMesh()
  const b = await loopbackMesh()
  b.handle('never', () => new Promise(() => {}))
  connectAll([a, b])
  await connected([a, b])
  const pending = failure(a.request(b.self.nodeId, 'never', null))
  await pause(50)
  await b.close()
  t.is((await pending).code, 'UNAVAILABLE')
})

test('twelve members behind one address reach a thirteenth', async (t) => {
  await using hub = await loopbackMesh()
  const others = await Promise.all(Array.from({ length: 12 }, () => loopbackMesh()))
  t.teardown(() => Promise.all(others.map((mesh) => mesh.close())))
  hub.setMembers(others.map((mesh): Member => ({ ...mesh.self, addresses: [] })))
  for (const mesh of others) mesh.setMembers([hub.self])
  await until(() => hub.peers().every((peer) => peer.reachable), 5_000)
  t.is(hub.peers().length, 12)
})

test('a member is reached at its second address when the first is dead', async (t) => {
  await using a = await loopbackMesh()
  await using b = await loopbackMesh()
  b.setMembers([{ ...a.self, addresses: [] }])
  a.setMembers([{ ...b.self, addresses: ['/ip4/127.0.0.1/tcp/1', ...b.self.addresses] }])
  await connected([a, b])
  t.pass()
})

test('when one peer comes back, the others are tried soon', async (t) => {
  const timers = { backoffMinMs: 100, backoffMaxMs: 600_000 }
  await using a = await loopbackMesh({ timers })
  const seeds = [systemRandom.bytes(32), systemRandom.bytes(32)]
  const first = await Promise.all(seeds.map((privateKeySeed) => loopbackMesh({ privateKeySeed })))
  const members = first.map((mesh) => mesh.self)
  for (const mesh of first) await mesh.close()
  a.setMembers(members)
  await pause(3_000)
  const second = await Promise.all(
    members.map((member, index) =>
      loopbackMesh({
        privateKeySeed: seeds[index] ?? new Uint8Array(32),
        listenAddresses: member.addresses,
        timers,
      }),
    ),
  )
  t.teardown(() => Promise.all(second.map((mesh) => mesh.close())))
  second[0]?.setMembers([a.self])
  second[1]?.setMembers([{ ...a.self, addresses: [] }])
  await until(() => a.peers().every((peer) => peer.reachable), 3_000)
  t.pass()
})

test('an address that is announced replaces the one listened at', async (t) => {
  await using a = await loopbackMesh({ announceAddresses: ['/ip4/192.0.2.1/tcp/2377'] })
  t.deepEqual(a.self.addresses, ['/ip4/192.0.2.1/tcp/2377'])
})
