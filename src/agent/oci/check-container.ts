/**
 * Health checks of containers: `exec` of the OCI runtime, with the container's own process section
 * (user, capabilities, environment, directory, limits) and the check's arguments.
 *
 * Runtimes put what they execute into sessions of their own, whose numbers they do not tell. So a
 * check carries a mark in its environment; what is found with it in the container's cgroup when
 * the check has ended is killed. A file on tmpfs, which the runtime writes, says that a check was
 * begun: one that outlived the daemon that began it is ended before the next.
 */
import { existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import type { HealthCheck } from '../health/health-check.ts'
import { runCheck } from '../health/run-check.ts'
import { readTextFile } from '../json-file.ts'
import type { CheckResult } from '../ports.ts'
import { isAlive, markProcess, signalProcess } from '../process-mark.ts'
import { toolEnvironment } from '../run-command.ts'
import { TaskFiles } from '../task-files.ts'
import type { OciRuntime } from './runtime.ts'
import type { OciSpec } from './spec.ts'

/** The `process` section that a check is run with, in the bundle. */
const PROCESS_FILE = 'check.json'

/** The variable that all processes of a check inherit. */
const MARK = 'SKEIN_HEALTH_CHECK'

/** Rounds in which processes of an ended check are looked for: one may fork while we look. */
const SWEEP_ROUNDS_MAX = 10

/** Writes what {@link checkContainer} runs. */
export async function writeCheckProcess(
  directory: string,
  spec: OciSpec,
  check: HealthCheck,
): Promise<void> {
  const { env } = spec.process
  const process = { ...spec.process, args: check.argv, env: [...env, `${MARK}=1`] }
  await writeFile(join(directory, PROCESS_FILE), JSON.stringify(process), { mode: 0o600 })
}

/** Runs the check of a running container. */
export async function checkContainer(
  { clock, runtime }: { readonly clock: Clock; readonly runtime: OciRuntime },
  directory: string,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<CheckResult> {
  const files = new TaskFiles(directory)
  const begunFile = await begunFileOf(runtime, files.id)
  const sweep = (): Promise<void> => endChecks(files)
  if (existsSync(begunFile)) await sweep()
  const argv = [
    runtime.path,
    `--root=${runtime.stateRoot}`,
    'exec',
    '--process',
    join(directory, PROCESS_FILE),
    '--pid-file',
    begunFile,
    files.id,
  ]
  const result = await runCheck(clock, { argv, env: toolEnvironment(), sweep, ...options })
  await rm(begunFile, { force: true })
  return result
}

async function begunFileOf(runtime: OciRuntime, id: string): Promise<string> {
  const directory = `${runtime.stateRoot}-checks`
  await mkdir(directory, { recursive: true, mode: 0o700 })
  return join(directory, id)
}

/** Kills every process of a check in the container. */
async function endChecks(files: TaskFiles): Promise<void> {
  const first = await files.readProcess()
  if (first === undefined || !isAlive(first)) return
  const list = await processListOf(first.pid, files.id)
  if (list === undefined) return
  for (let round = 0; round < SWEEP_ROUNDS_MAX; round += 1) {
    const pids = (await readTextFile(list))?.split('\n') ?? []
    let found = 0
    for (const pid of pids) if (pid !== '' && (await killMarked(Number(pid)))) found += 1
    if (found === 0) return
  }
}

/** `cgroup.procs` of the container. */
async function processListOf(pid: number, id: string): Promise<string | undefined> {
  const lines = (await readTextFile(`/proc/${pid}/cgroup`))?.split('\n') ?? []
  const own = lines.find((line) => line.endsWith(`/${id}`))
  if (own === undefined) return undefined
  const [, controllers = '', path = ''] = own.split(':')
  const hierarchy = controllers.replace(/^name=/, '')
  return join('/sys/fs/cgroup', hierarchy, path, 'cgroup.procs')
}

async function killMarked(pid: number): Promise<boolean> {
  const SIGKILL = 9
  const mark = markProcess(pid)
  const environment = await readTextFile(`/proc/${pid}/environ`)
  const isMarked = environment?.split('\0').includes(`${MARK}=1`) === true
  return isMarked && mark !== undefined && signalProcess(mark, SIGKILL)
}
