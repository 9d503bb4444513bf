/**
 * Sockets and subscriptions of the addon against this machine's kernel: order, refusals, withdrawal, what
 * does not fit, what does not answer, and what must not be left behind. Needs root and the built addon.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { decodeLink, isLinkGone } from './link-reply.ts'
import { deleteLink, dumpLinks, getLink, newLink, setLink } from './link.ts'
import { NetlinkMonitor } from './monitor.ts'
import type { Native } from './native.ts'
import { RTNLGRP } from './route-layout.ts'
import { NetlinkSocket } from './socket.ts'
import { eventually, kernelTest, linkOf, openIn } from './testing/sandbox.ts'

const openDescriptors = (): number => readdirSync('/proc/self/fd').length

kernelTest('events of links arrive in order, and end with the subscription', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  const seen: string[] = []
  const lost: unknown[] = []
  const monitor = await NetlinkMonitor.open(
    sandbox.native,
    { protocol: 'route', netns: sandbox.netns, groups: [RTNLGRP.link, RTNLGRP.ipv4Route] },
    {
      onMessage: (message) => {
        if (message.type < 20) seen.push(`${isLinkGone(message)} ${decodeLink(message).name}`)
      },
      onLost: (error) => lost.push(error),
    },
  )
  await socket.request(newLink({ name: 'e0' }, { kind: 'bridge' }))
  await socket.request(deleteLink('e0'))
  await eventually(() => seen.includes('true e0'), 'the deletion is told')
  t.true(seen.indexOf('false e0') < seen.indexOf('true e0'))
  monitor.close()
  const { length } = seen
  await socket.request(newLink({ name: 'e1' }, { kind: 'bridge' }))
  await sleep(20)
  t.is(seen.length, length)
  t.deepEqual(lost, [])
})

kernelTest('a reader that is too slow is told that events were lost', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  await socket.request(newLink({ name: 'e0' }, { kind: 'bridge' }))
  const raw = await sandbox.native.open(0, sandbox.netns, 4096, 0)
  const errors: number[] = []
  sandbox.native.subscribe(raw, RTNLGRP.link, (_, errno) => errors.push(errno))
  const changes = Array.from({ length: 3000 }, (_, index) =>
    setLink('e0', { mtu: 1300 + (index % 2) }),
  )
  t.deepEqual(await socket.batch(changes), [])
  await eventually(() => errors.some((errno) => errno !== 0), 'an overrun is told')
  t.true(
    errors.every((errno) => errno === 0 || errno === 105),
    `ENOBUFS alone: ${errors.join()}`,
  )
  sandbox.native.close(raw)
})

kernelTest(
  'answers that do not fit are ENOBUFS, and everything was executed',
  async (t, sandbox) => {
    const { native, netns } = sandbox
    const raw = await native.open(0, netns, 2048, 4 << 20)
    const small: Native = { ...native, open: () => Promise.resolve(raw) }
    await using socket = await NetlinkSocket.open(small, { protocol: 'route', netns })
    const requests = Array.from({ length: 200 }, (_, index) => ({
      ...newLink({ name: `l${index}`, up: false }, { kind: 'bridge' }),
      flags: 0x604,
    }))
    const error = await t.throwsAsync(() => socket.batch(requests))
    t.like(error, { errno: 'ENOBUFS', code: 'RESOURCE_EXHAUSTED' })
    await using other = await openIn(sandbox)
    t.is(
      (await other.dump(dumpLinks())).map(decodeLink).filter((l) => l.kind === 'bridge').length,
      200,
    )
    await t.notThrowsAsync(() => socket.request(setLink('l199', { mtu: 1400 })))
  },
)

kernelTest('requests of one socket keep their order and their answers', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  const names = Array.from({ length: 100 }, (_, index) => `l${index}`)
  const made = names.map((name) => socket.request(newLink({ name, up: false }, { kind: 'bridge' })))
  const read = names.map((name) => linkOf(socket, name))
  await Promise.all(made)
  t.deepEqual(
    (await Promise.all(read)).map((link) => link.name),
    names,
  )
})

kernelTest('a withdrawn request is ABORTED and the next one is served', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  const before = AbortSignal.abort()
  t.like(await t.throwsAsync(() => socket.request(getLink('lo'), { signal: before })), {
    code: 'ABORTED',
  })
  const controller = new AbortController()
  const withdrawn = socket.dump(dumpLinks(), { signal: controller.signal })
  controller.abort()
  t.like(await t.throwsAsync(() => withdrawn), { code: 'ABORTED' })
  t.is((await linkOf(socket, 'lo')).index, 1)
})

/** The addon, waiting for the answer to a message that was never sent while `isDeaf.now`. */
function deafNative(native: Native, isDeaf: { now: boolean }): Native {
  const exchange = (...[socket, request, last, ...rest]: Parameters<Native['exchange']>) =>
    native.exchange(socket, request, isDeaf.now ? last + 1 : last, ...rest)
  return { ...native, exchange }
}

kernelTest('closing ends an exchange that waits, and those behind it', async (t, sandbox) => {
  const { native, netns } = sandbox
  const deaf = deafNative(native, { now: true })
  const socket = await NetlinkSocket.open(deaf, { protocol: 'route', netns })
  const waits = t.throwsAsync(() => socket.request(getLink('lo')))
  const behind = t.throwsAsync(() => socket.request(getLink('lo')))
  await sleep(50)
  socket.close()
  socket.close()
  t.like(await waits, { errno: 'ECANCELED', code: 'SHUTTING_DOWN' })
  t.like(await behind, { code: 'SHUTTING_DOWN' })
  t.like(await t.throwsAsync(() => socket.request(getLink('lo'))), { code: 'SHUTTING_DOWN' })
})

kernelTest(
  'a kernel that does not answer is TIMED_OUT, and the socket works on',
  async (t, sandbox) => {
    const { native, netns } = sandbox
    const isDeaf = { now: true }
    const options = { protocol: 'route', netns, timeoutMs: 50 } as const
    await using socket = await NetlinkSocket.open(deafNative(native, isDeaf), options)
    const error = await t.throwsAsync(() => socket.request(getLink('lo')))
    t.like(error, { errno: 'ETIMEDOUT', code: 'TIMED_OUT' })
    isDeaf.now = false
    t.is((await linkOf(socket, 'lo')).index, 1)
  },
)

kernelTest('wrong arguments are refused, never followed', async (t, { native, netns }) => {
  const socket = await native.open(0, netns, 0, 0)
  const bytes = new Uint8Array(16)
  const calls: readonly (() => unknown)[] = [
    () => native.exchange({} as never, bytes, 1, 0, 10),
    () => native.exchange(socket, 'text' as never, 1, 0, 10),
    () => native.exchange(socket, new Uint16Array(8) as never, 1, 0, 10),
    () => native.close(undefined as never),
    () => native.close(Object.create(socket) as never),
    () => native.subscribe(socket, 'x' as never, null),
    () => native.readFile(null, 'a\0b'),
    () => native.readFile(null, undefined as never),
    () => (native.open as () => unknown)(),
  ]
  for (const call of calls) t.is((t.throws(call) as { errno?: number }).errno, 22)
  t.throws(() => native.subscribe(socket, 0xffff_ffff, null))
  const none = await t.throwsAsync(() => native.open(0, '/no/such/netns', 0, 0))
  t.like(none, { errno: 2 })
  const notNetns = await t.throwsAsync(() => native.open(0, '/dev/null', 0, 0))
  t.like(notNetns, { errno: 22 })
  native.close(socket)
  native.close(socket)
})

kernelTest(
  '10,000 sockets and exchanges leave no descriptor and no memory behind',
  async (t, sandbox) => {
    const { native, netns } = sandbox
    const round = async (count: number): Promise<void> => {
      for (let index = 0; index < count; index += 1) {
        await using socket = await NetlinkSocket.open(native, { protocol: 'route', netns })
        await socket.request(getLink('lo'))
      }
    }
    await round(1000)
    const [descriptors, rssBytes] = [openDescriptors(), process.memoryUsage.rss()]
    await round(9000)
    await using socket = await openIn(sandbox)
    for (let index = 0; index < 10_000; index += 1) await socket.request(getLink('lo'))
    t.true(openDescriptors() <= descriptors + 4, `${openDescriptors()} after ${descriptors}`)
    const grownBytes = process.memoryUsage.rss() - rssBytes
    t.log(`grown by ${(grownBytes / 1024).toFixed(0)} KiB`)
    t.true(grownBytes < 32 << 20, `grown by ${grownBytes} bytes`)
  },
)

kernelTest(
  'workers that end at work take their sockets and subscriptions with them',
  async (t, sandbox) => {
    const code = `
    const { workerData, parentPort } = require('node:worker_threads')
    const native = require(workerData.addon)
    const message = Buffer.alloc(32)
    message.writeUInt32LE(32, 0); message.writeUInt16LE(18, 4); message.writeUInt16LE(5, 6)
    message.writeUInt32LE(1, 8); message.writeInt32LE(1, 20)
    ;(async () => {
      const events = await native.open(0, workerData.netns, 0, 0)
      native.subscribe(events, 1, () => {})
      for (let index = 0; ; index += 1) {
        const socket = await native.open(0, workerData.netns, 0, 0)
        await native.exchange(socket, message, 1, 0, 1000)
        if (index === 5) parentPort.postMessage('busy')
      }
    })()`
    const descriptors = openDescriptors()
    const addon = join(import.meta.dirname, '../../../build/native/netlink.node')
    for (let index = 0; index < 5; index += 1) {
      const worker = new Worker(code, { eval: true, workerData: { addon, netns: sandbox.netns } })
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
      t.is(await worker.terminate(), 1)
    }
    await eventually(() => openDescriptors() <= descriptors + 4, 'the descriptors are closed')
  },
)

kernelTest(
  'a process with an open socket and a subscription exits by itself',
  async (t, { netns }) => {
    const addon = join(import.meta.dirname, '../../../build/native/netlink.node')
    const code = `
    const native = require(${JSON.stringify(addon)})
    ;(async () => {
      const socket = await native.open(0, ${JSON.stringify(netns)}, 0, 0)
      native.subscribe(socket, 1, () => {})
      console.log('subscribed')
    })()`
    const out = execFileSync(process.execPath, ['-e', code], { encoding: 'utf8', timeout: 30_000 })
    t.is(out, 'subscribed\n')
  },
)
