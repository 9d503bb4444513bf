/** A disk without a free byte: said clearly, nothing acknowledged is lost, the swarm goes on. */
import { join } from 'node:path'
import test from 'ava'
import type { Daemon } from './harness/daemon.ts'
import { skein, skeinOk, until } from './harness/daemon.ts'
import { fetchText } from './harness/http.ts'
import { SmallDisk } from './harness/small-disk.ts'
import { TestSwarm } from './harness/swarm.ts'
import { createWeb, nodeIdOf, pids } from './harness/web.ts'

const DISK_MIB = 24

/** Writes until one is refused; how many were acknowledged, and the refusal. */
async function writeUntilRefused(
  daemon: Daemon,
): Promise<{ readonly acknowledged: number; readonly refusal: string }> {
  const id = await nodeIdOf(daemon)
  for (let count = 0; count < 200; count += 1) {
    const label = `n${count}=${'x'.repeat(4_000)}`
    const result = await skein(daemon, 'node', 'update', '--label-add', label, id)
    if (result.code !== 0) return { acknowledged: count, refusal: result.stderr }
  }
  throw new Error('200 writes on a full disk were acknowledged')
}

test.serial('a lone manager says that its disk is full and loses nothing it said', async (t) => {
  using disk = new SmallDisk(DISK_MIB)
  await using swarm = new TestSwarm(1, 41, [{ dataDirectory: join(disk.path, 'n1') }])
  await swarm.start()
  await swarm.form(1)
  const daemon = swarm.node(0)
  const before = pids(await createWeb(swarm, 2, 8041))
  disk.fill()
  const { acknowledged, refusal } = await writeUntilRefused(daemon)
  t.log(`${acknowledged} writes acknowledged; then: ${refusal.trim()}`)
  t.regex(refusal, /disk is full/)
  await until('the log to say so', async () => {
    const log = await Promise.resolve(daemon.log())
    return log.includes('STORAGE_FULL') && log.includes('takes no part in the swarm')
  })

  const info = await until('the node to say so', async () => {
    const text = await skeinOk(daemon, 'info')
    return text.includes('Swarm: error') && text
  })
  t.regex(info, /Error: .*disk is full/)
  const nodes = await skein(daemon, 'node', 'ls')
  t.not(nodes.code, 0)
  t.regex(nodes.stderr, /disk is full/)
  t.regex((await skein(daemon, 'service', 'scale', '--detach', 'web=9')).stderr, /disk is full/)
  for (const pid of before) t.notThrows(() => process.kill(pid, 0), 'the container goes on')
  t.regex(await until('an answer', () => fetchText(daemon.host, 8041)), /^replica/)

  disk.free()
  await daemon.kill('SIGTERM')
  await daemon.start()
  t.deepEqual(pids(await swarm.untilRunning(daemon, 2)), before)
  const id = await nodeIdOf(daemon)
  const labels = Object.keys(
    (JSON.parse(await skeinOk(daemon, 'node', 'inspect', id)) as LabelledJson[])[0]?.Spec.Labels ??
      {},
  )
  for (let count = 0; count < acknowledged; count += 1) t.true(labels.includes(`n${count}`))
  await skeinOk(daemon, 'service', 'scale', '--detach', 'web=3')
  await swarm.untilRunning(daemon, 3)
})

interface LabelledJson {
  readonly Spec: { readonly Labels: Readonly<Record<string, string>> }
}

test.serial('a daemon that starts on a full disk refuses clearly, and starts later', async (t) => {
  using disk = new SmallDisk(DISK_MIB)
  await using swarm = new TestSwarm(1, 42, [{ dataDirectory: join(disk.path, 'n1') }])
  await swarm.start()
  await swarm.form(1)
  const daemon = swarm.node(0)
  const before = pids(await createWeb(swarm, 1, 8042))
  await daemon.kill('SIGTERM')
  disk.fill()
  const failure = await t.throwsAsync(daemon.start())
  t.log(daemon.log().trim().split('\n').at(-1))
  t.regex(failure.message, /disk is full/)
  for (const pid of before) t.notThrows(() => process.kill(pid, 0), 'the container goes on')
  disk.free()
  await daemon.start()
  t.deepEqual(pids(await swarm.untilRunning(daemon, 1)), before)
})

test.serial('an image that does not fit is refused clearly and leaves room', async (t) => {
  using disk = new SmallDisk(DISK_MIB)
  await using swarm = new TestSwarm(1, 42, [{ dataDirectory: join(disk.path, 'n1') }])
  await swarm.start()
  await swarm.form(1)
  disk.fill()
  const refused = await t.throwsAsync(swarm.loadImage())
  t.log(refused.message.trim())
  t.regex(refused.message, /exit 1\n.*no space left on device/)
  disk.free()
  await swarm.loadImage()
  await skeinOk(swarm.node(0), 'service', 'create', '--detach', '--name', 'w', 'hello:1')
  await swarm.untilRunning(swarm.node(0), 1)
})

for (const [who, full] of [
  ['the leader', 0],
  ['a follower', 2],
] as const) {
  test.serial(`${who} of three managers has a full disk: the others go on`, async (t) => {
    using disk = new SmallDisk(DISK_MIB)
    const small = { dataDirectory: join(disk.path, `n${full + 1}`) }
    const settings = [{}, {}, {}].map((none, index) => (index === full ? small : none))
    await using swarm = new TestSwarm(3, 43 + full, settings)
    await swarm.start()
    await swarm.form(3)
    const tasks = await createWeb(swarm, 3, 8043)
    const victim = swarm.node(full)
    const victimId = await nodeIdOf(victim)
    const own = pids(tasks.filter((task) => task.NodeID === victimId))
    t.is(own.length, 1)
    const others = swarm.daemons.filter((daemon) => daemon !== victim)
    disk.fill()
    const { refusal } = await writeUntilRefused(victim)
    t.regex(refusal, /disk is full/)
    t.regex(await skeinOk(victim, 'info'), /Swarm: error[^]* Error: .*disk is full/)
    const startedAt = performance.now()
    const next = await swarm.leader(others)
    await skeinOk(next, 'service', 'scale', '--detach', 'web=4')
    t.log(`writes go on ${(performance.now() - startedAt).toFixed(0)} ms after the refusal`)
    for (const pid of own) t.notThrows(() => process.kill(pid, 0), 'the container goes on')
    t.regex(await fetchText(victim.host, 8043), /^replica/)
    await until('four replicas on the others', async () => {
      const running = await swarm.running(next)
      return running.filter((task) => task.NodeID !== victimId).length === 4
    })
    t.regex(await skeinOk(next, 'node', 'ls'), /Down/)

    disk.free()
    await victim.kill('SIGTERM')
    await victim.start()
    await swarm.untilReady(next, 3)
    await swarm.untilRunning(victim, 4)
    await skeinOk(victim, 'service', 'scale', '--detach', 'web=2')
    await swarm.untilRunning(next, 2)
    await until('the containers of two replicas only', async () => {
      return Promise.resolve(swarm.containerPids().length === 2)
    })
  })
}
