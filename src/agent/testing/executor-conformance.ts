/** What every executor must do, run by each implementation's tests. */
import { readFileSync, readdirSync } from 'node:fs'
import type { ExecutionContext, TestFn } from 'ava'
import { delay, systemClock } from '../../base/clock.ts'
import { systemRandom } from '../../base/random.ts'
import type { CheckResult, Executor, TaskPlan } from '../ports.ts'
import { TaskFiles } from '../task-files.ts'
import { readTaskLog } from '../task-log.ts'
import type { PlanWishes } from './test-plans.ts'
import { testPlan } from './test-plans.ts'

/** An executor under test and where it works. */
export interface ExecutorPlace {
  readonly executor: Executor
  readonly dataDirectory: string
  readonly rootfs: string
}

const SIGNAL = AbortSignal.timeout(60_000)

/** All output lines of a task, `stream:text`. */
export async function outputOf(directory: string): Promise<string[]> {
  const components = { clock: systemClock, isFinished: () => Promise.resolve(true) }
  const lines: string[] = []
  for await (const { stream, line } of readTaskLog(new TaskFiles(directory), {}, components)) {
    lines.push(`${stream}:${line}`)
  }
  return lines
}

/** Prepares and starts a task that the test's end removes. */
export async function startTask(
  t: ExecutionContext,
  place: ExecutorPlace,
  wishes: PlanWishes,
): Promise<TaskPlan> {
  const plan = await testPlan(place, wishes)
  t.teardown(() => place.executor.remove(plan.directory))
  await place.executor.prepare(plan, { signal: SIGNAL })
  await place.executor.start(plan)
  return plan
}

/** Runs a task to its end; gives its output and exit code. */
export async function runTask(
  t: ExecutionContext,
  place: ExecutorPlace,
  wishes: PlanWishes,
): Promise<{ readonly output: string[]; readonly exitCode: number | undefined }> {
  const plan = await startTask(t, place, wishes)
  const { exitCode } = await place.executor.wait(plan.directory, { signal: SIGNAL })
  return { output: await outputOf(plan.directory), exitCode }
}

/** Resolves when the task has printed `line`. */
export async function untilOutput(directory: string, line: string): Promise<void> {
  const components = { clock: systemClock, isFinished: () => Promise.resolve(SIGNAL.aborted) }
  const query = { follow: true, signal: SIGNAL }
  for await (const entry of readTaskLog(new TaskFiles(directory), query, components)) {
    if (entry.line === line) return
  }
  throw new Error(`task in ${directory} ended without printing "${line}"`)
}

/** Adds the tests to `test`. `name` begins their titles; `place` is asked when a test runs. */
export function executorConformance(test: TestFn, name: string, place: () => ExecutorPlace): void {
  lifeTests(test, name, place)
  stopTests(test, name, place)
  checkTests(test, name, place)
}

function lifeTests(test: TestFn, name: string, place: () => ExecutorPlace): void {
  test(`${name}: environment, streams and exit code come through`, async (t) => {
    const script = 'echo "$FROM_IMAGE $FROM_SPEC"; echo problem >&2; exit 42'
    const { output, exitCode } = await runTask(t, place(), { script, env: ['FROM_SPEC=it is'] })
    t.deepEqual(output.toSorted(), ['stderr:problem', 'stdout:yes it is'])
    t.is(exitCode, 42)
  })

  test(`${name}: a task passes through absent, running, exited, also seen anew`, async (t) => {
    const { executor } = place()
    const plan = await testPlan(place(), { script: 'echo up; sleep 600' })
    t.teardown(() => executor.remove(plan.directory))
    t.is((await executor.inspect(plan.directory)).state, 'absent')
    await executor.prepare(plan, { signal: SIGNAL })
    const { pid } = await executor.start(plan)
    await untilOutput(plan.directory, 'up')
    const presence = await executor.inspect(plan.directory)
    t.is(presence.state, 'running')
    t.is(presence.state === 'running' ? presence.pid : 0, pid)
    await executor.stop(plan.directory, { signalName: 'KILL', graceMs: 0 })
    t.deepEqual(await executor.inspect(plan.directory), {
      state: 'exited',
      exit: { exitCode: 137, outOfMemory: false },
    })
  })

  test(`${name}: output outlives release; release and remove are idempotent`, async (t) => {
    const { executor } = place()
    const plan = await startTask(t, place(), { script: 'echo kept' })
    await executor.wait(plan.directory, { signal: SIGNAL })
    await executor.release(plan.directory)
    await executor.release(plan.directory)
    t.deepEqual(await outputOf(plan.directory), ['stdout:kept'])
    t.is((await executor.inspect(plan.directory)).state, 'exited')
    await executor.remove(plan.directory)
    await executor.remove(plan.directory)
    t.is((await executor.inspect(plan.directory)).state, 'absent')
  })

  test(`${name}: prepare can be repeated after it was cut off`, async (t) => {
    const { executor } = place()
    const plan = await testPlan(place(), { script: 'exit 5' })
    t.teardown(() => executor.remove(plan.directory))
    await executor.prepare(plan, { signal: SIGNAL })
    await executor.prepare(plan, { signal: SIGNAL })
    await executor.start(plan)
    t.is((await executor.wait(plan.directory, { signal: SIGNAL })).exitCode, 5)
  })
}

function stopTests(test: TestFn, name: string, place: () => ExecutorPlace): void {
  test(`${name}: the stop signal is delivered and its handler’s exit code kept`, async (t) => {
    const script = 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.05; done'
    const plan = await startTask(t, place(), { script })
    await untilOutput(plan.directory, 'up')
    await place().executor.stop(plan.directory, { signalName: 'SIGTERM', graceMs: 10_000 })
    const exit = await place().executor.wait(plan.directory, { signal: SIGNAL })
    t.is(exit.exitCode, 3)
    t.deepEqual(await outputOf(plan.directory), ['stdout:up', 'stdout:bye'])
  })

  test(`${name}: a task that ignores its stop signal is killed after the grace`, async (t) => {
    const script = 'trap "" TERM; echo up; while :; do sleep 0.05; done'
    const plan = await startTask(t, place(), { script })
    await untilOutput(plan.directory, 'up')
    const before = systemClock.monotonicMs()
    await place().executor.stop(plan.directory, { signalName: 'SIGTERM', graceMs: 300 })
    t.true(systemClock.monotonicMs() - before >= 290)
    const exit = await place().executor.wait(plan.directory, { signal: SIGNAL })
    t.is(exit.exitCode, 137)
  })

  test(`${name}: a signal ends all waiters with their reason, not the task`, async (t) => {
    const plan = await startTask(t, place(), { script: 'echo up; sleep 600' })
    await untilOutput(plan.directory, 'up')
    const controller = new AbortController()
    const waits = [1, 2].map(() =>
      place().executor.wait(plan.directory, { signal: controller.signal }),
    )
    controller.abort(new Error('enough'))
    for (const wait of waits) await t.throwsAsync(wait)
    t.is((await place().executor.inspect(plan.directory)).state, 'running')
  })
}

/** Starts a task that has come up and runs its check once. */
async function checkOnce(
  t: ExecutionContext,
  place: ExecutorPlace,
  wishes: PlanWishes & { readonly timeoutMs?: number; readonly signal?: AbortSignal },
): Promise<{ readonly plan: TaskPlan; readonly result: CheckResult }> {
  const { timeoutMs = 10_000, signal = SIGNAL, ...planned } = wishes
  const plan = await startTask(t, place, { script: 'echo up; sleep 600', ...planned })
  await untilOutput(plan.directory, 'up')
  return { plan, result: await place.executor.check(plan.directory, { timeoutMs, signal }) }
}

/** Whether no process with this last argument is left: the kernel takes a moment to end one. */
async function vanish(word: string): Promise<boolean> {
  const deadline = systemClock.monotonicMs() + 2_000
  const isThere = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').endsWith(`${word}\0`)
    } catch {
      // Not a process, or gone.
      return false
    }
  }
  while (readdirSync('/proc').some(isThere)) {
    if (systemClock.monotonicMs() > deadline) return false
    await delay(systemClock, 20)
  }
  return true
}

function checkTests(test: TestFn, name: string, place: () => ExecutorPlace): void {
  test(`${name}: a check sees the task’s environment, directory and user`, async (t) => {
    const script = 'echo "$(pwd) $(id -u) $FROM_SPEC"; echo up; sleep 600'
    const check = 'echo "$(pwd) $(id -u) $FROM_SPEC"; echo $FROM_IMAGE >&2; exit 7'
    const wishes = { script, check, env: ['FROM_SPEC=it is'] }
    const { plan, result } = await checkOnce(t, place(), wishes)
    t.is(result.exitCode, 7)
    const [words = ''] = await outputOf(plan.directory)
    t.deepEqual(result.output.split('\n').toSorted(), [words.replace('stdout:', ''), 'yes'])
    t.true(result.isGone())
  })

  test(`${name}: a check that takes too long is killed with all that it began`, async (t) => {
    const seconds = String(1e6 + systemRandom.integer(1e6))
    const check = `echo begun; sleep ${seconds} & sleep ${seconds}`
    const { plan, result } = await checkOnce(t, place(), { check, timeoutMs: 400 })
    t.is(result.exitCode, undefined)
    t.regex(result.output, /exceeded timeout \(400 ms\): begun/)
    t.true(result.isGone())
    t.true(await vanish(seconds))
    t.is((await place().executor.inspect(plan.directory)).state, 'running')
  })

  test(`${name}: what a check leaves in the background neither stays nor delays it`, async (t) => {
    const seconds = String(1e6 + systemRandom.integer(1e6))
    // runc itself waits until nobody holds the check's output.
    const quiet = place().executor.name.startsWith('runc') ? '>/dev/null 2>&1' : ''
    const check = `sleep ${seconds} ${quiet} & echo well`
    const { result } = await checkOnce(t, place(), { check })
    t.is(result.exitCode, 0)
    t.is(result.output, 'well')
    t.true(await vanish(seconds))
  })

  test(`${name}: a check that floods is read to its end and kept to a limit`, async (t) => {
    const { result } = await checkOnce(t, place(), { check: 'yes | head -n 500000; exit 3' })
    t.is(result.exitCode, 3)
    t.is(result.output.length, 4095, '4096 bytes without the last newline')
  })

  test(`${name}: a withdrawn check ends at once, one of an ended task fails`, async (t) => {
    const seconds = String(1e6 + systemRandom.integer(1e6))
    const before = systemClock.monotonicMs()
    const wishes = { check: `sleep ${seconds}`, signal: AbortSignal.timeout(500) }
    const { plan, result } = await checkOnce(t, place(), wishes)
    t.is(result.exitCode, undefined)
    t.true(systemClock.monotonicMs() - before < 8_000)
    t.true(await vanish(seconds))
    const { executor } = place()
    await executor.stop(plan.directory, { signalName: 'KILL', graceMs: 0 })
    const late = await executor.check(plan.directory, { timeoutMs: 5_000, signal: SIGNAL })
    t.not(late.exitCode, 0)
  })
}
