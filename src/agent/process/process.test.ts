import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import { chooseExecutor } from '../choose-executor.ts'
import {
  executorConformance,
  runTask,
  startTask,
  untilOutput,
} from '../testing/executor-conformance.ts'
import type { ExecutorPlace } from '../testing/executor-conformance.ts'
import { makeRootfs, rootfsRefusal } from '../testing/rootfs.ts'
import { launchScript, quote } from './launch-script.ts'
import { ProcessExecutor } from './process-executor.ts'

const dataDirectory = await mkdtemp(join(tmpdir(), 'skein-agent-process-'))
const rootfs = join(dataDirectory, 'rootfs')
const refusal = rootfsRefusal()
const components = { clock: systemClock, random: systemRandom, log: silentLogger }
const volumesDirectory = join(dataDirectory, 'volumes')
const plain = new ProcessExecutor(components, { mode: 'host', volumesDirectory, reason: 'test' })
let rooted: ExecutorPlace | undefined
if (refusal === undefined) {
  await mkdir(rootfs)
  await makeRootfs(rootfs)
  const executor = await chooseExecutor(components, {
    dataDirectory,
    wanted: 'process',
    swarm: { nodeId: () => 'process-test', addressPools: () => [] },
  })
  if (executor.isolation === 'chroot') rooted = { executor, dataDirectory, rootfs }
}

test.after.always(() => rm(dataDirectory, { recursive: true, force: true }))

const host = (): ExecutorPlace => ({ executor: plain, dataDirectory, rootfs })
const inRoot = (): ExecutorPlace => {
  if (rooted === undefined) throw new Error('no root of its own')
  return rooted
}
executorConformance(test, 'plain process', host)
if (rooted === undefined) {
  const reason = refusal ?? 'neither root nor user namespaces'
  test.skip(`processes cannot have a root of their own here: ${reason}`, (t) => t.pass())
} else {
  executorConformance(test, 'process with its own root', inRoot)
}
const withRoot = rooted === undefined ? test.skip : test

withRoot('a process sees its image’s files and not the host’s', async (t) => {
  await writeFile(join(dataDirectory, 'secret'), 'host')
  const script = `cat /etc/passwd | wc -l; cat ${dataDirectory}/secret 2>/dev/null; echo $?`
  const { output } = await runTask(t, inRoot(), { script })
  t.deepEqual(output, ['stdout:2', 'stdout:1'])
})

withRoot('working directory, user and mounts are as asked', async (t) => {
  const source = join(dataDirectory, 'shared')
  await mkdir(source, { recursive: true })
  await writeFile(join(source, 'word'), 'hello\n')
  const { output } = await runTask(t, inRoot(), {
    script: 'pwd; cat /shared/word; touch /shared/x 2>/dev/null; echo $?',
    container: {
      Dir: '/var',
      Mounts: [{ Type: 'bind', Source: source, Target: '/shared', ReadOnly: true }],
    },
  })
  t.deepEqual(output, ['stdout:/var', 'stdout:hello', 'stdout:1'])
})

test('a plain process refuses mounts, which it cannot have', async (t) => {
  const container = { Mounts: [{ Type: 'tmpfs' as const, Target: '/x' }] }
  const attempt = startTask(t, host(), { script: 'true', container })
  await t.throwsAsync(attempt, { code: 'INVALID_ARGUMENT' })
})

test('target ports become loopback ports, told to the process and reported', async (t) => {
  const script = 'echo "$PORT $SKEIN_PORT_80 $SKEIN_PORT_443"; echo up; sleep 600'
  const plan = await startTask(t, host(), { script, targetPorts: [80, 443] })
  await untilOutput(plan.directory, 'up')
  const presence = await plain.inspect(plan.directory)
  const ports = presence.state === 'running' ? (presence.ports ?? []) : []
  t.deepEqual(
    ports.map((port) => port.targetPort),
    [80, 443],
  )
  const [first, second] = ports.map((port) => port.hostPort)
  const output = await readFile(join(plan.directory, 'stdout.log'), 'utf8')
  t.is(output, `${first} ${first} ${second}\nup\n`)
})

test('stopping ends the whole process group', async (t) => {
  const script = 'sleep 601 & echo "child $!"; echo up; wait'
  const plan = await startTask(t, host(), { script })
  await untilOutput(plan.directory, 'up')
  const output = await readFile(join(plan.directory, 'stdout.log'), 'utf8')
  const child = /child (\d+)/.exec(output)?.[1] ?? '0'
  await plain.stop(plan.directory, { signalName: 'SIGTERM', graceMs: 5_000 })
  const deadline = systemClock.monotonicMs() + 5_000
  const state = (): Promise<string> =>
    readFile(`/proc/${child}/stat`, 'utf8').catch(() => 'gone Z ')
  while (!/ [ZX] /.test(await state()) && systemClock.monotonicMs() < deadline);
  t.regex(await state(), / [ZX] /)
})

test('isolation is said honestly', (t) => {
  t.is(plain.isolation, 'none')
  if (rooted !== undefined) t.is(rooted.executor.isolation, 'chroot')
})

test('every word of a launch script is quoted', (t) => {
  t.is(quote(`it's $HOME`), String.raw`'it'\''s $HOME'`)
  const script = launchScript({
    mode: 'host',
    directory: '/d',
    lower: [],
    mounts: [],
    argv: ['echo', '$(reboot)'],
    env: ['A=`reboot`'],
    cwd: '/d/home',
  })
  t.true(script.includes("exec env -i 'A=`reboot`' 'echo' '$(reboot)'"))
})
