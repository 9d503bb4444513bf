import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { TestFn } from 'ava'
import { systemClock } from '../../base/clock.ts'
import { newIdentifier } from '../../base/identifiers.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import { NodeNetwork, bridgeName, networkNamespacePath } from '../networking.ts'
import type { TaskNetworking } from '../ports.ts'
import {
  executorConformance,
  outputOf,
  runTask,
  startTask,
  untilOutput,
} from '../testing/executor-conformance.ts'
import type { ExecutorPlace } from '../testing/executor-conformance.ts'
import { makeRootfs, rootfsRefusal } from '../testing/rootfs.ts'
import { testPlan } from '../testing/test-plans.ts'
import { RUNTIME_CANDIDATES, findTool, probeRuntimes } from './probe.ts'
import type { RuntimeCandidate } from './probe.ts'

const SUBNET = '10.213.41'
const nodeId = newIdentifier(systemRandom)
const dataDirectory = await mkdtemp(join(tmpdir(), 'skein-agent-oci-'))
const rootfs = join(dataDirectory, 'rootfs')
const log = silentLogger
const network = new NodeNetwork(
  { log },
  { nodeId: () => nodeId, addressPools: () => ['10.213.0.0/16'] },
)
const components = { clock: systemClock, random: systemRandom, log, network }

const refusal = process.getuid?.() === 0 ? rootfsRefusal() : 'not root'
const places = new Map<string, ExecutorPlace>()
const reasons = new Map<string, string>()
if (refusal === undefined) {
  await mkdir(rootfs)
  await makeRootfs(rootfs)
  for (const candidate of RUNTIME_CANDIDATES) await tryCandidate(candidate)
}

async function tryCandidate(candidate: RuntimeCandidate): Promise<void> {
  const options = { dataDirectory, candidates: [candidate] }
  const { executor, refusals } = await probeRuntimes(components, options)
  const name = `${candidate.runtime}+${candidate.monitor}`
  if (executor !== undefined) places.set(name, { executor, dataDirectory, rootfs })
  reasons.set(name, refusals.join('; '))
}

function placeOf(name: string): () => ExecutorPlace {
  return () => {
    const place = places.get(name)
    if (place === undefined) throw new Error(`${name} does not work here`)
    return place
  }
}

test.after.always(async () => {
  await network.dispose()
  await rm(dataDirectory, { recursive: true, force: true })
})

for (const { runtime, monitor } of RUNTIME_CANDIDATES) {
  const name = `${runtime}+${monitor}`
  const reason = refusal ?? (places.has(name) ? undefined : reasons.get(name))
  if (reason === undefined) executorConformance(test.serial as TestFn, name, placeOf(name))
  else test.skip(`${name} cannot run here: ${reason}`, (t) => t.pass())
}

const best = [...places.keys()][0]
const withContainers = best === undefined ? test.serial.skip : test.serial
const place = placeOf(best ?? 'no runtime')
if (best === undefined)
  test.skip(`containers cannot run here: ${refusal ?? 'no runtime'}`, (t) => t.pass())

withContainers('probing finds the best runtime and says why', async (t) => {
  const { executor } = await probeRuntimes(components, { dataDirectory })
  t.is(executor?.name, best)
  t.regex(executor?.reason ?? '', /ran a test container/)
})

withContainers('a host that cannot network containers is told so, with the reason', async (t) => {
  const crippled = new NodeNetwork({ log }, { nodeId: () => nodeId, addressPools: () => [] })
  // A name that no device can have makes the real tool refuse for real.
  crippled.probe = (id) => NodeNetwork.prototype.probe.call(crippled, `${id.slice(0, -1)}/`)
  const options = { dataDirectory }
  const { executor, refusals } = await probeRuntimes({ ...components, network: crippled }, options)
  t.is(executor, undefined)
  t.regex(refusals.join(), /cannot be networked here: .*not a valid ifname/)
})

withContainers('a container has its hostname, working directory, user and files', async (t) => {
  const script =
    'hostname; pwd; id -u; id -g; id -G; cat /etc/hostname; echo $HOME; head -1 /etc/hosts'
  const { output } = await runTask(t, place(), { script, container: { User: 'web', Dir: '/tmp' } })
  t.deepEqual(output, [
    'stdout:testhost',
    'stdout:/tmp',
    'stdout:1000',
    'stdout:1001',
    'stdout:1001 1005',
    'stdout:testhost',
    'stdout:/home/web',
    'stdout:127.0.0.1\tlocalhost',
  ])
})

withContainers('capabilities, no_new_privs and the system call filter are in effect', async (t) => {
  const script = `grep -E "^(CapEff|CapInh|NoNewPrivs|Seccomp):" /proc/self/status | tr '\\t' ' '
    mount -t tmpfs none /tmp 2>/dev/null; echo mount $?
    unshare -m true 2>/dev/null; echo unshare $?
    echo x 2>/dev/null > /proc/sys/kernel/hostname; echo sysctl $?
    ls /sys/firmware | wc -l`
  const { output } = await runTask(t, place(), { script })
  t.deepEqual(output.slice(0, 4), [
    'stdout:CapInh: 0000000000000000',
    'stdout:CapEff: 00000000a80425fb',
    'stdout:NoNewPrivs: 1',
    'stdout:Seccomp: 2',
  ])
  t.deepEqual(output.slice(4), [
    'stdout:mount 1',
    'stdout:unshare 1',
    'stdout:sysctl 1',
    'stdout:0',
  ])
})

withContainers('capabilities can be added and dropped', async (t) => {
  const container = { CapabilityDrop: ['ALL'], CapabilityAdd: ['NET_BIND_SERVICE'] }
  const { output } = await runTask(t, place(), {
    script: 'grep CapEff /proc/self/status',
    container,
  })
  t.deepEqual(output, ['stdout:CapEff:\t0000000000000400'])
})

withContainers('limits are in the task’s own cgroup, which vanishes with it', async (t) => {
  const resources = { Limits: { NanoCPUs: 500_000_000, MemoryBytes: 64 * 1024 * 1024, Pids: 33 } }
  const plan = await startTask(t, place(), { script: 'echo up; sleep 600', resources })
  const memory = `/skein/${plan.task.id}`
  const v1 = await readFile(`/sys/fs/cgroup/memory${memory}/memory.limit_in_bytes`, 'utf8').catch(
    () => undefined,
  )
  const value = v1 ?? (await readFile(`/sys/fs/cgroup${memory}/memory.max`, 'utf8'))
  t.is(value.trim(), String(64 * 1024 * 1024))
  const pids = v1 === undefined ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids'
  t.is((await readFile(`${pids}${memory}/pids.max`, 'utf8')).trim(), '33')
  await place().executor.remove(plan.directory)
  await t.throwsAsync(readFile(`${pids}${memory}/pids.max`, 'utf8'), { code: 'ENOENT' })
})

withContainers('a container over its memory limit ends with 137 and the reason', async (t) => {
  const script = 'x=$(head -c 200000000 /dev/zero | tr "\\0" x); echo survived'
  const resources = { Limits: { MemoryBytes: 16 * 1024 * 1024 } }
  const container = { Command: ['sh', '-c', `exec sh -c '${script}'`] }
  const plan = await startTask(t, place(), { container, resources })
  const exit = await place().executor.wait(plan.directory, { signal: AbortSignal.timeout(30_000) })
  t.true(exit.outOfMemory)
  t.not(exit.exitCode, 0)
})

withContainers('bind mounts, volumes, tmpfs and a read-only root behave as asked', async (t) => {
  const source = join(dataDirectory, 'shared')
  await mkdir(source, { recursive: true })
  await writeFile(join(source, 'word'), 'hello\n')
  const script = `cat /shared/word; touch /shared/x 2>/dev/null; echo bind $?
    touch /x 2>/dev/null; echo root $?; touch /scratch/x; echo tmpfs $?
    touch /data/x; echo volume $?`
  const { output } = await runTask(t, place(), {
    script,
    container: {
      ReadOnly: true,
      Mounts: [
        { Type: 'bind', Source: source, Target: '/tmp', ReadOnly: true },
        { Type: 'bind', Source: source, Target: '/shared', ReadOnly: true },
        { Type: 'tmpfs', Target: '/scratch' },
        { Type: 'volume', Source: 'numbers', Target: '/data' },
      ],
    },
  })
  t.deepEqual(output, [
    'stdout:hello',
    'stdout:bind 1',
    'stdout:root 1',
    'stdout:tmpfs 0',
    'stdout:volume 0',
  ])
  t.is(await readFile(join(dataDirectory, 'volumes/numbers/x'), 'utf8'), '')
})

withContainers('one container’s writes are not seen by another of the same image', async (t) => {
  await runTask(t, place(), { script: 'echo mine > /etc/mark' })
  const { output } = await runTask(t, place(), { script: 'cat /etc/mark 2>/dev/null; echo $?' })
  t.deepEqual(output, ['stdout:1'])
})

withContainers('many layers with long paths become one root', async (t) => {
  const layers: string[] = []
  for (let index = 0; index < 60; index += 1) {
    const layer = join(dataDirectory, 'layers', 'l'.repeat(80), String(index))
    await mkdir(join(layer, 'etc'), { recursive: true })
    await writeFile(join(layer, 'etc/top'), `${index}\n`)
    await writeFile(join(layer, `etc/of-${index}`), '')
    layers.push(layer)
  }
  const { executor } = place()
  const plain = await testPlan(place(), { script: 'cat /etc/top; ls /etc | grep -c of-' })
  const image = { ...plain.image, layerDirectories: [rootfs, ...layers] }
  const plan = { ...plain, image }
  t.teardown(() => executor.remove(plan.directory))
  const signal = AbortSignal.timeout(30_000)
  await executor.prepare(plan, { signal })
  await executor.start(plan)
  t.is((await executor.wait(plan.directory, { signal })).exitCode, 0)
  t.deepEqual(await outputOf(plan.directory), ['stdout:59', 'stdout:60'])
})

withContainers('an endless log starts anew at its limit and stays readable', async (t) => {
  const script = 'yes 0123456789012345678901234567890123456789 | head -n 250000; echo last'
  const { output, exitCode } = await runTask(t, place(), { script })
  t.is(exitCode, 0)
  t.is(output.at(-1), 'stdout:last')
  t.true(output.length < 250_000)
})

withContainers('a data directory with a long path is no obstacle', async (t) => {
  const long = join(dataDirectory, 'long'.repeat(20), 'path'.repeat(20))
  await mkdir(long, { recursive: true })
  const deep = { ...place(), dataDirectory: long }
  const { output, exitCode } = await runTask(t, deep, { script: 'echo deep; exit 4' })
  t.deepEqual([output, exitCode], [['stdout:deep'], 4])
})

withContainers('a directory name with overlay’s own separators is no obstacle', async (t) => {
  const odd = join(dataDirectory, 'a:b,c')
  await mkdir(odd)
  const { output } = await runTask(t, { ...place(), dataDirectory: odd }, { script: 'echo odd' })
  t.deepEqual(output, ['stdout:odd'])
})

withContainers(
  'a program that does not exist is the runtime’s refusal, in its words',
  async (t) => {
    const plan = await testPlan(place(), { container: { Command: ['/no/such/program'] } })
    t.teardown(() => place().executor.remove(plan.directory))
    const attempt = async (): Promise<void> => {
      await place().executor.prepare(plan, { signal: AbortSignal.timeout(30_000) })
      await place().executor.start(plan)
    }
    await t.throwsAsync(attempt, { code: 'RUNTIME_FAILED', message: /no\/such\/program/ })
  },
)

withContainers('containers reach each other and the node over the bridge', async (t) => {
  const networking = (host: number): TaskNetworking => ({
    cidr: `${SUBNET}.${host}/24`,
    gateway: `${SUBNET}.1`,
    bridge: bridgeName(nodeId),
    nameservers: ['192.0.2.53'],
  })
  const server = await startTask(t, place(), {
    script: 'mkdir /www; echo from-two > /www/index.html; echo up; exec httpd -f -p 80 -h /www',
    networking: networking(2),
  })
  await untilOutput(server.directory, 'up')
  const node = createServer((_, response) => response.end('from-node'))
  await new Promise<void>((resolve) => {
    node.listen(0, () => resolve())
  })
  t.teardown(() => node.close())
  const address = node.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const script = `ping -c 1 -W 2 ${SUBNET}.2 >/dev/null && echo pinged
    i=0; until wget -q -O - http://${SUBNET}.2/; do
      i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done
    wget -q -O - http://${SUBNET}.1:${port}/; echo
    cat /etc/resolv.conf; grep testhost /etc/hosts; ip route | head -1`
  const { output } = await runTask(t, place(), { script, networking: networking(3) })
  t.deepEqual(output, [
    'stdout:pinged',
    'stdout:from-two',
    'stdout:from-node',
    'stdout:nameserver 192.0.2.53',
    `stdout:${SUBNET}.3\ttesthost`,
    `stdout:default via ${SUBNET}.1 dev eth0 `,
  ])
  const response = await fetch(`http://${SUBNET}.2/`)
  t.is(await response.text(), 'from-two\n')
})

withContainers('a container reaches outside hosts, which need no route back to it', async (t) => {
  const suffix = nodeId.slice(-8)
  const outside = `skout-${suffix}`
  const device = `sko${suffix}`
  const ip = (...args: readonly string[]): Buffer => execFileSync('ip', args)
  t.teardown(() => {
    ip('link', 'delete', device)
    ip('netns', 'delete', outside)
  })
  ip('netns', 'add', outside)
  ip('link', 'add', device, 'up', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', outside)
  ip('address', 'add', '198.51.100.1/30', 'dev', device)
  ip('-n', outside, 'address', 'add', '198.51.100.2/30', 'dev', 'eth0')
  ip('-n', outside, 'link', 'set', 'eth0', 'up')
  const networking = {
    cidr: `${SUBNET}.20/24`,
    gateway: `${SUBNET}.1`,
    bridge: bridgeName(nodeId),
    nameservers: [],
  }
  const script = 'ping -c 1 -W 5 198.51.100.2 >/dev/null && echo reached'
  const { output } = await runTask(t, place(), { script, networking })
  t.deepEqual(output, ['stdout:reached'])
})

withContainers('an address can be used again at once after its holder was released', async (t) => {
  const networking = {
    cidr: `${SUBNET}.9/24`,
    gateway: `${SUBNET}.1`,
    bridge: bridgeName(nodeId),
    nameservers: [],
  }
  for (const word of ['first', 'second', 'third']) {
    const script = `mkdir /www; echo ${word} > /www/index.html
      httpd -p 80 -h /www; echo up; sleep 600`
    const plan = await startTask(t, place(), { script, networking })
    await untilOutput(plan.directory, 'up')
    t.is(await (await fetch(`http://${SUBNET}.9/`)).text(), `${word}\n`)
    await place().executor.stop(plan.directory, { signalName: 'KILL', graceMs: 0 })
    await place().executor.release(plan.directory)
    await t.throwsAsync(readFile(networkNamespacePath(plan.task.id)), { code: 'ENOENT' })
  }
})

withContainers('nothing is left of removed containers', (t) => {
  const mounts = execFileSync('cat', ['/proc/mounts'], { encoding: 'utf8' })
  t.false(mounts.includes(dataDirectory))
  const links = execFileSync('ip', ['-o', 'link', 'show', 'master', bridgeName(nodeId)])
  t.is(links.toString(), '')
})

test('tools are found on the usual path only when they can be run', (t) => {
  t.regex(findTool('sh') ?? '', /\/sh$/)
  t.is(findTool('no-such-tool-at-all'), undefined)
})
