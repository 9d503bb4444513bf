/**
 * Which tracked connections the nftables driver forgets when a backend takes nothing new, against
 * this machine's kernel, in namespaces of the tests' own. Needs root and the built addon.
 */
import { spawnSync } from 'node:child_process'
import test from 'ava'
import { at } from '../../base/assert.ts'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { TestBackend, TestClient, ask, datagramClient, pause } from '../conformance-peers.ts'
import { decodeConnection, dumpConnections, isAnswered } from '../netlink/conntrack.ts'
import { loadNative } from '../netlink/native.ts'
import type { Native } from '../netlink/native.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { missing } from '../netlink/testing/sandbox.ts'
import type { Backend, VirtualServer } from '../ports.ts'
import { makeKernelStage } from '../testing/kernel-stage.ts'
import type { KernelStage } from '../testing/kernel-stage.ts'
import { NftablesBalancer } from './balancer.ts'

const TABLE = 'skein_87654321_lb'
const VIP = '10.96.0.10'
const UDP_PORT = 5_353
const CLIENT_PORT = 40_000
/** Less than a second: the first packet is not repeated. */
const PATIENCE_MS = 500

const load = loadNative()
const kernelTest = missing === '' && load.type === 'loaded' ? test.serial : test.serial.skip

/** A node and a driver of its own, and flows to its virtual address. */
class Site implements AsyncDisposable {
  readonly native: Native
  readonly stage: KernelStage
  /** Who serves, on any port; and a replica whose host is gone. */
  readonly living: TestBackend
  readonly silent: Backend
  balancer: NftablesBalancer

  private constructor(
    native: Native,
    parts: {
      readonly stage: KernelStage
      readonly living: TestBackend
      readonly balancer: NftablesBalancer
    },
  ) {
    this.native = native
    this.stage = parts.stage
    this.living = parts.living
    this.balancer = parts.balancer
    const { silentAddress: address = '' } = this.stage
    this.silent = { ...this.living.backend(), taskId: 'silent', address, port: 0 }
  }

  static async make(): Promise<Site> {
    if (load.type === 'absent') throw new Error(load.reason)
    const { native } = load
    const stage = await makeKernelStage(native, 1)
    const living = await TestBackend.start('living', undefined, at(stage.backends, 0))
    return new Site(native, { stage, living, balancer: await open(native, stage) })
  }

  /** A driver that starts anew, as after a daemon's restart. */
  async restart(): Promise<void> {
    await this.balancer.close()
    this.balancer = await open(this.native, this.stage)
  }

  apply(...backends: readonly Backend[]): Promise<unknown> {
    const server = { id: 'service/net', protocol: 'any', address: VIP, port: 0 } as const
    return this.balancer.apply([{ ...server, backends } satisfies VirtualServer])
  }

  /** The living replica as a backend. */
  get other(): Backend {
    return { ...this.living.backend(), port: 0 }
  }

  get clients(): KernelStage['clients'] {
    return { ...this.stage.clients, dialAddress: VIP }
  }

  /** Protocols of the tracked connections to an address, `!` behind those that were answered. */
  async flowsTo(address: string): Promise<string[]> {
    const where = { protocol: 'netfilter', netns: this.stage.netns } as const
    await using socket = await NetlinkSocket.open(this.native, where)
    const messages = await socket.dump(dumpConnections({ family: 'ipv4', replySource: address }))
    return messages
      .map((message) => decodeConnection(message))
      .filter(({ original }) => original.destination === VIP)
      .map((one) => `${one.protocol === 6 ? 'tcp' : 'udp'}${isAnswered(one) ? '!' : ''}`)
      .toSorted()
  }

  /** A connection to the virtual address that its replica does not answer. */
  async begin(): Promise<{ readonly answer: Promise<string> }> {
    const answer = ask(this.living.port, this.clients)
    // Whoever waits for it sees how it ends.
    answer.catch(() => {})
    while (!(await this.flowsTo(this.silent.address)).includes('tcp')) await pause(10)
    return { answer }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.living.stop()
    await this.balancer.close()
    await this.stage.remove()
  }
}

/** Whether a client gets a connection to the virtual address by a port of its choice. */
function connects(site: Site): boolean {
  const options = { host: VIP, port: site.living.port, localPort: CLIENT_PORT }
  const script = `
    const socket = require('node:net').connect(${JSON.stringify(options)})
    socket.setTimeout(${PATIENCE_MS}, () => process.exit(1)).once('connect', () => process.exit(0))`
  const words = [`--net=${site.stage.clientNetns}`, process.execPath, '-e', script]
  return spawnSync('nsenter', words).status === 0
}

function open(native: Native, { netns }: KernelStage): Promise<NftablesBalancer> {
  const components = { native, clock: systemClock, log: silentLogger }
  return NftablesBalancer.open(components, { table: TABLE, netns })
}

kernelTest('a draining replica keeps connections without an answer, a lost one none', async (t) => {
  await using site = await Site.make()
  const { silent, other } = site
  await site.apply(silent)
  const { answer } = await site.begin()
  const datagrams = await datagramClient(UDP_PORT, site.clients)
  t.teardown(() => datagrams.close())
  datagrams.send('x')
  await pause(50)
  t.deepEqual(await site.flowsTo(silent.address), ['tcp', 'udp'])
  await site.apply({ ...silent, weight: 0 }, other)
  t.deepEqual(await site.flowsTo(silent.address), ['tcp'], 'datagrams do not wait')
  await site.apply({ ...silent, weight: 0, lost: true }, other)
  t.deepEqual(await site.flowsTo(silent.address), [])
  t.is(await answer, 'living', 'its client asks again')
})

kernelTest(
  'what a lost replica answered stays, and nothing is lost while none serves',
  async (t) => {
    await using site = await Site.make()
    const { silent, other } = site
    await site.apply(other)
    const from = site.clients
    const kept = await TestClient.open(site.living.port, { from })
    t.teardown(() => kept.socket.destroy())
    t.is(await kept.ask(), 'living')
    await site.apply({ ...other, weight: 0 }, silent)
    await site.begin()
    const lost = { weight: 0, lost: true }
    await site.apply({ ...silent, ...lost }, { ...other, ...lost })
    t.deepEqual(await site.flowsTo(silent.address), ['tcp'], 'it would find no other')
    const third = { ...other, taskId: 'third', address: '10.32.0.67' }
    await site.apply({ ...silent, ...lost }, { ...other, ...lost }, third)
    t.deepEqual(await site.flowsTo(silent.address), [])
    t.deepEqual(await site.flowsTo(other.address), ['tcp!'])
    t.is(await kept.ask(), 'living')
  },
)

kernelTest(
  'a daemon that comes back forgets what was lost meanwhile, and repairs nothing',
  async (t) => {
    await using site = await Site.make()
    const { silent, other } = site
    await site.apply(silent)
    const { answer } = await site.begin()
    await site.apply({ ...silent, weight: 0 }, other)
    await site.restart()
    await site.apply({ ...silent, weight: 0, lost: true }, other)
    t.deepEqual(await site.flowsTo(silent.address), [])
    t.is(await answer, 'living')
    t.is(await site.balancer.verify(), 0)
  },
)

kernelTest('a port that a client uses again leads to no lost replica', async (t) => {
  await using site = await Site.make()
  const { silent, other } = site
  await site.apply(silent)
  t.false(connects(site))
  await site.apply({ ...silent, weight: 0 }, other)
  t.false(connects(site), 'tracking remembers the port')
  await site.apply({ ...silent, weight: 0, lost: true }, other)
  t.true(connects(site))
})
