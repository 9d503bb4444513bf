/**
 * Logs of a service from all nodes that run it, through the daemon of one of them: with our own client
 * and, where it is installed, with docker's.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import test from 'ava'
import { SKEIN, run, skein, skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { IMAGE, TestSwarm } from './harness/swarm.ts'

/** Says its name once, then counts: `count 1`, `count 2` … ten a second, every tenth to standard error. */
const COUNTER =
  'trap "exit 0" TERM; echo hello; i=0; while :; do i=$((i+1)); echo count $i; ' +
  '[ $((i % 10)) = 0 ] && echo problem $i >&2; sleep 0.1; done'

/** Line of `service logs`: `web.1.<task>@<node>    | text`. */
const LINE = /^(?<service>\w+)\.(?<slot>\d+)\.(?<task>[0-9a-z]{12})@(?<node>\S+) +\| (?<text>.*)$/

interface LogLine {
  readonly slot: string
  readonly task: string
  readonly text: string
}

function lines(output: string): LogLine[] {
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const { slot = '?', task = '?', text = line } = LINE.exec(line)?.groups ?? {}
      return { slot, task, text }
    })
}

function slots(output: string): string[] {
  return [...new Set(lines(output).map((line) => line.slot))].toSorted()
}

/** Numbers that a slot counted, in the order in which they came. */
function counts(output: string, slot: string): number[] {
  return lines(output)
    .filter((line) => line.slot === slot && line.text.startsWith('count '))
    .map((line) => Number(line.text.slice('count '.length)))
}

function isWithoutGap(numbers: readonly number[]): boolean {
  return numbers.every((number, index) => index === 0 || number === (numbers[index - 1] ?? 0) + 1)
}

/** `service logs --follow` while it runs. */
class Follower {
  readonly #child: ChildProcess
  out = ''
  err = ''

  constructor(daemon: Daemon, ...options: readonly string[]) {
    const host = ['--host', `unix://${daemon.socket}`]
    this.#child = spawn(SKEIN, [...host, 'service', 'logs', '--follow', ...options], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.out += chunk.toString()))
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.err += chunk.toString()))
  }

  get exitCode(): number | null {
    return this.#child.exitCode
  }

  [Symbol.dispose](): void {
    this.#child.kill()
  }
}

async function startCounters(swarm: TestSwarm, replicas: number): Promise<void> {
  await swarm.loadImage()
  const name = ['--name', 'web', '--replicas', String(replicas), '--detach']
  await skeinOk(swarm.node(0), 'service', 'create', ...name, IMAGE, 'sh', '-c', COUNTER)
  await swarm.untilRunning(swarm.node(0), replicas)
}

test.serial('a manager gives out the logs of a service’s tasks on all nodes', async (t) => {
  await using swarm = new TestSwarm(2, 36)
  await swarm.start()
  await swarm.form(1)
  await startCounters(swarm, 2)
  const [first, second] = [swarm.node(0), swarm.node(1)]
  const tasks = await swarm.running(first)
  t.is(new Set(tasks.map((task) => task.NodeID)).size, 2, 'a task on each node')

  const all = await until('twenty counted', async () => {
    const result = await skein(first, 'service', 'logs', 'web')
    return ['1', '2'].every((slot) => counts(result.stdout, slot).length >= 20) && result
  })
  t.is(all.code, 0)
  for (const task of tasks) {
    const slot = String(task.Slot)
    const own = lines(all.stdout).filter((line) => line.slot === slot)
    t.true(own.every((line) => task.ID.startsWith(line.task)))
    t.is(own[0]?.text, 'hello')
    t.is(counts(all.stdout, slot)[0], 1)
    t.true(isWithoutGap(counts(all.stdout, slot)))
    t.true(
      lines(all.stderr).some((line) => line.slot === slot && line.text === 'problem 10'),
      'standard error stays standard error',
    )
  }

  const tail = await skein(first, 'service', 'logs', '--tail', '3', 'web')
  t.is(lines(tail.stdout + tail.stderr).length, 6, 'the last three of each task')
  const far = (await swarm.nodes(first)).find((node) => node.Status.Addr === second.host)
  const remote = tasks.find((task) => task.NodeID === far?.ID)?.ID ?? 'none'
  const raw = await skeinOk(first, 'service', 'logs', '--raw', '--tail', '1', remote)
  t.regex(raw, /^count \d+$/)
  const stamped = await skeinOk(first, 'service', 'logs', '-t', '--no-task-ids', 'web')
  t.regex(stamped, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z web\.\d@\S+ +\| /)
  const recent = await skeinOk(first, 'service', 'logs', '--since', '500ms', 'web')
  t.true(counts(recent, '1').length < 10 && !recent.includes('hello'))

  const refused = await skein(second, 'service', 'logs', 'web')
  t.is(refused.code, 1)
  t.regex(refused.stderr, /not a swarm manager/)
  const missing = await skein(first, 'service', 'logs', 'none')
  t.is(missing.stderr, 'no such task or service: none\n')

  const docker = await run('docker', [
    ...['--host', `unix://${first.socket}`, 'service', 'logs', '--tail', '5', 'web'],
  ]).catch(() => undefined)
  if (docker === undefined) t.log('skipped: the docker CLI is not on PATH')
  else t.deepEqual(slots(docker.stdout), ['1', '2'], docker.stderr)
})

test.serial('followed logs bring new tasks, and go on after a node was away', async (t) => {
  await using swarm = new TestSwarm(2, 37)
  await swarm.start()
  await swarm.form(1)
  await startCounters(swarm, 2)
  const [first, second] = [swarm.node(0), swarm.node(1)]
  using follower = new Follower(first, '--tail', '1', 'web')
  await until('lines of both tasks', async () => slots(follower.out).join() === '1,2')

  const nodes = await swarm.nodes(first)
  const away = nodes.find((node) => node.Status.Addr === second.host)?.ID ?? ''
  const slot = String(
    (await swarm.running(first)).find((task) => task.NodeID === away)?.Slot ?? 'none',
  )
  await second.kill('SIGKILL')
  const warning = `node ${away} is not available`
  await until('the follower to say what is missing', async () => follower.err.includes(warning))
  const other = slot === '1' ? '2' : '1'
  const before = counts(follower.out, other).length
  await until('the other task to go on', async () => {
    return counts(follower.out, other).length > before + 5
  })
  const partial = await skein(first, 'service', 'logs', '--tail', '2', 'web')
  t.is(partial.code, 1)
  t.deepEqual(slots(partial.stdout), [other], 'the reachable task comes all the same')
  t.regex(partial.stderr, /error from daemon in stream: Error grabbing logs: .*incomplete log/)
  t.true(partial.stderr.includes(warning))

  const missed = counts(follower.out, slot).length
  await second.start()
  await until('the task to be followed again', async () => {
    return counts(follower.out, slot).length > missed + 10
  })
  t.true(isWithoutGap(counts(follower.out, slot)), 'the container went on, and no line is lost')
  t.true(isWithoutGap(counts(follower.out, other)))

  await swarm.untilReady(first, 2)
  await skeinOk(first, 'service', 'scale', '--detach', 'web=3')
  await until('lines of the new task', async () => counts(follower.out, '3').length > 5)
  t.true(
    lines(follower.out).some((line) => line.slot === '3' && line.text === 'hello'),
    'a new task from its first line',
  )
  t.is(follower.exitCode, null)
  await skeinOk(first, 'service', 'rm', 'web')
  await until('the follower to end with the service', async () => follower.exitCode === 0)
  t.pass()
})
