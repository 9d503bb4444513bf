/**
 * What every driver of the load balancer port must do, as tests that its own test file runs. All
 * peers are real sockets on loopback. A driver gets a fresh instance for each case.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { ExecutionContext, TestFn } from 'ava'
import {
  LOOPBACK,
  TestBackend,
  TestClient,
  ask,
  census,
  datagramClient,
  freePort,
  pause,
  udpBackend,
  until,
  virtualServer,
} from './conformance-peers.ts'
import type { Backend, LoadBalancer } from './ports.ts'

interface Case {
  readonly title: string
  readonly run: (t: ExecutionContext, balancer: LoadBalancer) => Promise<void>
}

/** Registers the suite. `make` gives a driver that balances nothing yet. */
export function testLoadBalancer(test: TestFn, make: () => Promise<LoadBalancer>): void {
  for (const { title, run } of CASES) {
    test.serial(title, async (t) => {
      t.timeout(60_000)
      const balancer = await make()
      t.teardown(() => balancer.close())
      await run(t, balancer)
    })
  }
}

/** Starts backends of these names behind a fresh port. */
async function behindOnePort(
  t: ExecutionContext,
  balancer: LoadBalancer,
  names: readonly string[],
): Promise<{
  port: number
  peers: TestBackend[]
  readonly set: (backends: Backend[]) => Promise<unknown>
}> {
  const peers = await Promise.all(names.map((name) => TestBackend.start(name)))
  t.teardown(() => {
    for (const peer of peers) peer.stop()
  })
  const port = await freePort()
  const set = (backends: Backend[]): Promise<unknown> =>
    balancer.apply([virtualServer(port, backends)])
  t.deepEqual(await set(peers.map((peer) => peer.backend())), [])
  return { port, peers, set }
}

/** Requests from `clients` loops until `stop`; gives the failures and how many were asked. */
function load(
  port: number,
  clients: number,
): { stop(): Promise<{ asked: number; failed: Error[] }> } {
  const stopping = new AbortController()
  let asked = 0
  const failed: Error[] = []
  const loops = Array.from({ length: clients }, async () => {
    while (!stopping.signal.aborted) {
      asked += 1
      await ask(port).catch((error: Error) => failed.push(error))
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

const CASES: readonly Case[] = [
  {
    title: 'connections are spread evenly over the replicas',
    async run(t, balancer) {
      const { port } = await behindOnePort(t, balancer, ['a', 'b', 'c'])
      const answers = await census(port, 30)
      t.deepEqual([...answers.keys()].toSorted(), ['a', 'b', 'c'])
      for (const count of answers.values()) t.true(count >= 5, `${count} of 30`)
    },
  },
  {
    title: 'a dropped replica gets no connection from the very call and loses those it has',
    async run(t, balancer) {
      const { port, peers, set } = await behindOnePort(t, balancer, ['a', 'b'])
      const clients = await Promise.all([1, 2, 3, 4].map(() => TestClient.open(port)))
      const names = await Promise.all(clients.map((client) => client.ask()))
      const applied = set(peers.slice(0, 1).map((peer) => peer.backend()))
      t.deepEqual(await census(port, 20), new Map([['a', 20]]))
      await applied
      for (const [i, client] of clients.entries()) {
        if (names[i] === 'a') t.is(await client.ask(), 'a')
        else await until('its connection is closed', () => client.closed)
      }
      for (const client of clients) client.socket.destroy()
    },
  },
  {
    title: 'a replica drained before it is dropped fails no request under load',
    async run(t, balancer) {
      const { port, peers, set } = await behindOnePort(t, balancer, ['a', 'b', 'c'])
      const clients = load(port, 8)
      for (let round = 0; round < 5; round += 1) {
        for (const leaving of peers) {
          await set(peers.map((peer) => peer.backend(peer === leaving ? 0 : 1)))
          await until('it is drained', () => leaving.sockets.size === 0)
          await set(peers.filter((peer) => peer !== leaving).map((peer) => peer.backend()))
          await pause(5)
          await set(peers.map((peer) => peer.backend()))
        }
      }
      const { asked, failed } = await clients.stop()
      t.deepEqual(failed, [])
      t.true(asked > 100, `${asked} requests`)
    },
  },
  {
    title: 'a draining replica keeps its connections and gets no new one',
    async run(t, balancer) {
      const { port, peers, set } = await behindOnePort(t, balancer, ['a'])
      const old = await TestClient.open(port)
      t.is(await old.ask(), 'a')
      await set(peers.map((peer) => peer.backend(0)))
      await t.throwsAsync(ask(port))
      t.is(await old.ask(), 'a')
      old.socket.destroy()
    },
  },
  {
    title: 'a port without replicas refuses at once and works when one comes',
    async run(t, balancer) {
      const { port, peers, set } = await behindOnePort(t, balancer, ['a'])
      await set([])
      const beganMs = performance.now()
      await t.throwsAsync(ask(port))
      t.true(performance.now() - beganMs < 1_000)
      await set(peers.map((peer) => peer.backend()))
      t.is(await ask(port), 'a')
    },
  },
  {
    title: 'end of stream passes each way alone',
    async run(t, balancer) {
      let received = 0
      const peer = await TestBackend.start('a', (socket: Socket) => {
        socket.on('data', (chunk: Buffer) => {
          received += chunk.length
        })
        socket.end('early\n')
      })
      const late = await TestBackend.start('b', (socket: Socket) => {
        let size = 0
        socket.on('data', (chunk: Buffer) => {
          size += chunk.length
        })
        socket.on('end', () => socket.end(`${size}\n`))
      })
      t.teardown(() => [peer, late].forEach((each) => each.stop()))
      const ports = [await freePort(), await freePort()] as const
      await balancer.apply([
        virtualServer(ports[0], [peer.backend()]),
        virtualServer(ports[1], [late.backend()]),
      ])
      const first = await TestClient.open(ports[0])
      await until('the replica ended first', () => first.ended)
      first.socket.end(Buffer.alloc(100_000))
      await until('the rest arrived', () => received === 100_000)
      const second = await TestClient.open(ports[1])
      second.socket.end(Buffer.alloc(200_000))
      await until('the answer after the end', () => second.text === '200000\n')
      await until('both are closed', () => first.closed && second.closed)
      t.pass()
    },
  },
  {
    title: 'a slow reader stops the writer and still gets every byte',
    async run(t, balancer) {
      const total = 64 * 1024 * 1024
      const chunk = Buffer.alloc(64 * 1024)
      let written = 0
      const peer = await TestBackend.start('a', (socket: Socket) => {
        const next = (): void => {
          if (written >= total) socket.end()
          else socket.write(chunk, next)
          written += chunk.length
        }
        next()
      })
      t.teardown(() => peer.stop())
      const port = await freePort()
      await balancer.apply([virtualServer(port, [peer.backend()])])
      const client = await TestClient.open(port, { read: false })
      const stalledAt = await stalled(() => written)
      t.true(stalledAt < 24 * 1024 * 1024, `${stalledAt} bytes are under way`)
      let received = 0
      client.socket.on('data', (bytes: Buffer) => {
        received += bytes.length
      })
      await until('everything arrived', () => received === total)
      client.socket.destroy()
    },
  },
  {
    title: '1000 idle connections stay open and all answer',
    async run(t, balancer) {
      const { port, peers } = await behindOnePort(t, balancer, ['a', 'b'])
      const clients: TestClient[] = []
      for (let batch = 0; batch < 20; batch += 1) {
        const opened = await Promise.all(Array.from({ length: 50 }, () => TestClient.open(port)))
        clients.push(...opened)
      }
      const connected = (): number => peers.reduce((sum, peer) => sum + peer.sockets.size, 0)
      await until('all reached a replica', () => connected() === 1_000)
      await pause(500)
      const answers = await Promise.all(clients.map((client) => client.ask()))
      t.is(answers.length, 1_000)
      for (const client of clients) client.socket.destroy()
      await until('all are closed behind the balancer', () => connected() === 0)
    },
  },
  {
    title: 'a port that another program has is a fault of its server alone, and is taken when free',
    async run(t, balancer) {
      const peer = await TestBackend.start('a')
      t.teardown(() => peer.stop())
      const occupant = createServer().listen(0, LOOPBACK)
      await once(occupant, 'listening')
      const address = occupant.address()
      const taken = typeof address === 'object' && address !== null ? address.port : 0
      const free = await freePort()
      const wanted = [taken, free].map((port) => virtualServer(port, [peer.backend()]))
      const faults = await balancer.apply(wanted)
      t.deepEqual(
        faults.map((fault) => fault.id),
        [`service/tcp/${taken}`],
      )
      t.is(await ask(free), 'a')
      occupant.close()
      await once(occupant, 'close')
      t.deepEqual(await balancer.apply(wanted), [])
      t.is(await ask(taken), 'a')
    },
  },
  {
    title: 'a server that is wanted no more frees its port and drops its connections',
    async run(t, balancer) {
      const { port } = await behindOnePort(t, balancer, ['a'])
      const client = await TestClient.open(port)
      t.is(await client.ask(), 'a')
      await balancer.apply([])
      await until('its connection is closed', () => client.closed)
      const next = createServer().listen(port, LOOPBACK)
      await once(next, 'listening')
      next.close()
      t.pass()
    },
  },
  {
    title: 'datagrams find a replica, answers find the client, a dropped replica gets none',
    async run(t, balancer) {
      const peers = await Promise.all(['a', 'b'].map((name) => udpBackend(name)))
      t.teardown(() => peers.forEach((peer) => peer.close()))
      const port = await freePort()
      const backends = peers.map((peer) => peer.backend)
      t.deepEqual(await balancer.apply([virtualServer(port, backends, 'udp')]), [])
      const clients = await Promise.all(Array.from({ length: 8 }, () => datagramClient(port)))
      t.teardown(() => clients.forEach((client) => client.close()))
      const first = await Promise.all(clients.map((client) => client.ask('1')))
      t.deepEqual([...new Set(first)].toSorted(), ['a 1', 'b 1'])
      const again = await Promise.all(clients.map((client) => client.ask('1')))
      t.deepEqual(again, first)
      await balancer.apply([virtualServer(port, backends.slice(1), 'udp')])
      const after = await Promise.all(clients.map((client) => client.ask('2')))
      t.deepEqual([...new Set(after)], ['b 2'])
    },
  },
]

/** The value of `progress` once it has not changed for a while. */
async function stalled(progress: () => number): Promise<number> {
  let last = -1
  await until('it starts', () => progress() > 0)
  while (progress() !== last) {
    last = progress()
    await pause(300)
  }
  return last
}
