/**
 * The load generator, a process of its own: closed loops, failovers, transfers. Takes one order at
 * a time over IPC and answers with what it measured.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, Client } from './client.ts'
import { EtcdClient, type EtcdStatus } from './etcd-client.ts'
import { KvClient } from './kv-client.ts'

/** Where the servers of one side listen to clients. */
export interface Target {
  readonly protocol: 'etcd' | 'kv'
  readonly ports: readonly number[]
}

/** What the generator can be told to do. */
export type Order =
  | { readonly type: 'leader'; readonly target: Target }
  | {
      readonly type: 'loop'
      readonly target: Target
      readonly leader: number
      readonly kind: 'put' | 'get'
      readonly inFlight: number
      readonly warmUpMs: number
      readonly windowMs: number
      /** Servers whose processor time is counted. */
      readonly pids: readonly number[]
    }
  | {
      readonly type: 'fill'
      readonly target: Target
      readonly leader: number
      readonly count: number
    }
  | {
      readonly type: 'failover'
      readonly target: Target
      readonly leader: number
      readonly pid: number
    }
  | {
      readonly type: 'transfer'
      readonly target: Target
      readonly leader: number
      readonly to: number
    }

/** A window of a closed loop. */
export interface LoopResult {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly failures: number
  /** Processor time of the servers, all together, for one request. */
  readonly serverMicros: number
  /** Part of one core that this process took. */
  readonly clientShare: number
  /** Cores that everything else on the machine took. */
  readonly foreignCores: number
}

/** A transfer of leadership under load. */
export interface TransferResult {
  /**
   * The longest time between two successful writes, of those that began after the request to
   * transfer and before the new leader had led for `SETTLE_MS`, or in which the request fell.
   */
  readonly gapMs: number
  /** Writes that no server accepted although they were tried where they were sent on to. */
  readonly failures: number
}

const KEYS = 10_000
const VALUE_BYTES = 256
/** One connection carries fewer than this; from there on there are four. */
const CONNECTIONS_FROM = 64
const CONNECTIONS_MANY = 4
const PROBE_MS = 15
const TRANSFER_IN_FLIGHT = 16
/** Later gaps are the machine's, not the transfer's. */
const SETTLE_MS = 250
const TICKS_PER_SECOND = 100

const value = Buffer.alloc(VALUE_BYTES, 'x')
const keys = Array.from({ length: KEYS }, (_, n) => Buffer.from(`key${String(n).padStart(6, '0')}`))
const anyKey = (): Buffer => keys[Math.floor(Math.random() * KEYS)] ?? Buffer.alloc(1)

function clientOf({ protocol, ports }: Target, server: number): Client {
  const port = ports[server] ?? 0
  return protocol === 'etcd' ? new EtcdClient(port) : new KvClient(port)
}

/** Which server leads; asks until all that answer agree on one that answers. */
async function leaderOf(target: Target): Promise<number> {
  for (let tries = 0; tries < 600; tries += 1) {
    const leader = target.protocol === 'etcd' ? await etcdLeader(target) : await kvLeader(target)
    if (leader !== undefined) return leader
    await sleep(50)
  }
  throw new Error(`${target.protocol}: no leader within 30 s`)
}

async function etcdLeader(target: Target): Promise<number | undefined> {
  const statuses = await Promise.all(target.ports.map(etcdStatus))
  const known = statuses.filter((status) => status !== undefined)
  const leaders = new Set(known.map(({ leader }) => leader))
  if (known.length < target.ports.length || leaders.size !== 1) return undefined
  const leader = statuses.findIndex((status) => status?.member === status?.leader)
  return leader === -1 ? undefined : leader
}

async function etcdStatus(port: number): Promise<EtcdStatus | undefined> {
  const client = new EtcdClient(port)
  const status = await new Promise<EtcdStatus | undefined>((resolve) => client.status(resolve))
  client.close()
  return status
}

async function kvLeader(target: Target): Promise<number | undefined> {
  const leaders = await Promise.all(
    target.ports.map(async (port) => {
      const client = new KvClient(port)
      const answer = await new Promise<Answer>((resolve) => client.status(resolve))
      client.close()
      if (!answer.ok || answer.content === undefined) return undefined
      return (JSON.parse(answer.content.toString()) as { leader: number }).leader
    }),
  )
  const [leader] = leaders
  const agreed = leader !== undefined && leader >= 0 && leaders.every((one) => one === leader)
  return agreed ? leader : undefined
}

/** Processor seconds of some processes so far. */
function processorSeconds(pids: readonly number[]): number {
  let ticks = 0
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    ticks += Number(fields[11]) + Number(fields[12])
  }
  return ticks / TICKS_PER_SECOND
}

/** Processor seconds of the whole machine so far. */
function machineSeconds(): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n')
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0] = line
    .split(/ +/)
    .slice(1)
    .map(Number)
  return (user + nice + system + irq + softIrq) / TICKS_PER_SECOND
}

function percentile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

async function loop(order: Extract<Order, { type: 'loop' }>): Promise<LoopResult> {
  const count = order.inFlight < CONNECTIONS_FROM ? 1 : CONNECTIONS_MANY
  const clients = Array.from({ length: count }, () => clientOf(order.target, order.leader))
  const latencies: number[] = []
  let [failures, measuring, stopped] = [0, false, false]
  const running = Array.from({ length: order.inFlight }, (_, slot) => {
    const client = clients[slot % count]
    return new Promise<void>((resolve) => {
      const next = (): void => {
        if (stopped || client === undefined) {
          resolve()
          return
        }
        const startMs = performance.now()
        const done = ({ ok }: Answer): void => {
          if (measuring && ok) latencies.push(performance.now() - startMs)
          if (!ok) failures += 1
          next()
        }
        if (order.kind === 'put') client.put(anyKey(), value, done)
        else client.get(anyKey(), done)
      }
      next()
    })
  })
  await sleep(order.warmUpMs)
  const before = usage(order.pids)
  measuring = true
  await sleep(order.windowMs)
  measuring = false
  const after = usage(order.pids)
  stopped = true
  await Promise.all(running)
  for (const client of clients) client.close()
  const seconds = (after.ms - before.ms) / 1000
  const servers = after.servers - before.servers
  const own = after.own - before.own
  const sorted = Float64Array.from(latencies).toSorted()
  return {
    perSecond: latencies.length / seconds,
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    failures,
    serverMicros: (servers * 1e6) / latencies.length,
    clientShare: own / seconds,
    foreignCores: Math.max(0, (after.machine - before.machine - servers - own) / seconds),
  }
}

function usage(pids: readonly number[]) {
  const cpu = process.cpuUsage()
  return {
    ms: performance.now(),
    servers: processorSeconds(pids),
    own: (cpu.user + cpu.system) / 1e6,
    machine: machineSeconds(),
  }
}

async function fill(order: Extract<Order, { type: 'fill' }>): Promise<number> {
  const client = clientOf(order.target, order.leader)
  let [left, failures] = [order.count, 0]
  await Promise.all(
    Array.from({ length: 256 }, async () => {
      while (left > 0) {
        left -= 1
        const { ok } = await new Promise<Answer>((done) => client.put(anyKey(), value, done))
        if (!ok) failures += 1
      }
    }),
  )
  client.close()
  return failures
}

/** Kills the leader; a put to every survivor each 15 ms until one succeeds. */
async function failover(order: Extract<Order, { type: 'failover' }>): Promise<number> {
  const survivors = order.target.ports.map((_, n) => n).filter((n) => n !== order.leader)
  const clients = survivors.map((server) => clientOf(order.target, server))
  await sleep(300)
  const { promise, resolve } = Promise.withResolvers<number>()
  const startMs = performance.now()
  process.kill(order.pid, 'SIGKILL')
  const probe = setInterval(() => {
    for (const client of clients) {
      client.put(anyKey(), value, ({ ok }) => {
        if (ok) resolve(performance.now() - startMs)
      })
    }
  }, PROBE_MS)
  const tookMs = await promise
  clearInterval(probe)
  for (const client of clients) client.close()
  return tookMs
}

/** Sixteen writers that follow the leader, and a transfer in their midst. */
async function transfer(order: Extract<Order, { type: 'transfer' }>): Promise<TransferResult> {
  const { target, leader } = order
  const clients = target.ports.map((_, n) => clientOf(target, n))
  const run = { stopped: false }
  let [current, failures] = [leader, 0]
  let lastMs = performance.now()
  let gapMs = 0
  const measured = { fromMs: Number.POSITIVE_INFINITY, toMs: Number.POSITIVE_INFINITY }
  const put = (server: number): Promise<Answer> =>
    new Promise((done) => {
      const client = clients[server]
      if (client === undefined) done({ ok: false })
      else client.put(anyKey(), value, done)
    })
  const write = async (): Promise<void> => {
    while (!run.stopped) {
      const answer = await put(current)
      if (answer.ok) {
        const nowMs = performance.now()
        const isIn = nowMs > measured.fromMs && lastMs < measured.toMs
        if (isIn) gapMs = Math.max(gapMs, nowMs - lastMs)
        lastMs = nowMs
      } else if (answer.notLeader === true) {
        current = answer.leader ?? (current + 1) % clients.length
        await sleep(1)
      } else failures += 1
    }
  }
  const writers = Array.from({ length: TRANSFER_IN_FLIGHT }, write)
  await sleep(500)
  measured.fromMs = performance.now()
  await handOver(order, clients[leader])
  measured.toMs = performance.now() + SETTLE_MS
  await sleep(1500)
  run.stopped = true
  await Promise.all(writers)
  for (const client of clients) client.close()
  return { gapMs, failures }
}

async function handOver(
  { target, to }: Extract<Order, { type: 'transfer' }>,
  client: Client | undefined,
): Promise<void> {
  const answer = await (async (): Promise<Answer> => {
    if (client instanceof KvClient) return new Promise((done) => client.transfer(done))
    const status = await etcdStatus(target.ports[to] ?? 0)
    if (!(client instanceof EtcdClient) || status === undefined) return { ok: false }
    return new Promise((done) => client.moveLeader(status.member, done))
  })()
  if (!answer.ok) throw new Error(`${target.protocol}: leadership was not transferred`)
}

async function obey(order: Order): Promise<unknown> {
  switch (order.type) {
    case 'leader':
      return leaderOf(order.target)
    case 'loop':
      return loop(order)
    case 'fill':
      return fill(order)
    case 'failover':
      return failover(order)
    case 'transfer':
      return transfer(order)
    default:
      return order satisfies never
  }
}

process.on('message', (order) => {
  obey(order as Order).then(
    (result) => process.send?.({ result }),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
