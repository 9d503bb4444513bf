/**
 * Tasks as plain supervised processes, for nodes without a container runtime or without root. A
 * task gets a session of its own and, where the kernel allows it, its image's files as root
 * directory; it shares everything else with the host, its network above all. So it must listen
 * where it is told:
 * `SKEIN_PORT_<target port>` on loopback (`PORT` for the first), which the node reports as the
 * task's ports. Limits are not enforced. `isolation` says all this honestly.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { delay } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { TaskStatus } from '../../store/objects.ts'
import { CONTAINER_PATH_DEFAULT, commandLine, mergeEnvironment } from '../command-line.ts'
import { readExitOrLoss, waitForExit } from '../exit-watch.ts'
import { readJsonFile, readTextFile, writeJsonFile } from '../json-file.ts'
import { specMounts } from '../oci/mounts.ts'
import { readFileInRoot } from '../oci/rootfs-path.ts'
import { resolveUser } from '../oci/user.ts'
import type { ContainerUser } from '../oci/user.ts'
import type { CheckResult, Executor, TaskExit, TaskPlan, TaskPresence } from '../ports.ts'
import { isAlive, killOrphans, markProcess, signalProcess } from '../process-mark.ts'
import { toolEnvironment } from '../run-command.ts'
import { spawnShMonitor } from '../sh-monitor.ts'
import { stopTask } from '../stop-process.ts'
import { TaskFiles, readPidFile } from '../task-files.ts'
import { checkProcess, writeProcessCheck } from './check-process.ts'
import { launchPrefix, launchScript } from './launch-script.ts'
import type { ProcessMode } from './launch-script.ts'
import { freeLoopbackPort } from './loopback-ports.ts'

/** Longest wait for the script to reach the task's own program, milliseconds. */
const START_TIMEOUT_MS = 10_000
const POLL_MS = 5

/** What survives `release`. */
const KEPT_FILES: ReadonlySet<string> = new Set([
  'task.json',
  'process.json',
  'started',
  'exits',
  'stdout.log',
  'stderr.log',
])

/** How the executor works. */
export interface ProcessOptions {
  readonly mode: ProcessMode
  readonly volumesDirectory: string
  readonly reason: string
}

type TaskPorts = NonNullable<TaskStatus['ports']>

/** Processes under the sh monitor. */
export class ProcessExecutor implements Executor {
  readonly name = 'process'
  readonly isolation: string
  readonly hasNetwork = false
  readonly reason: string
  readonly #clock: Clock
  readonly #options: ProcessOptions

  constructor(components: { readonly clock: Clock }, options: ProcessOptions) {
    this.#clock = components.clock
    this.#options = options
    this.isolation = options.mode === 'host' ? 'none' : 'chroot'
    this.reason = options.reason
  }

  async prepare(plan: TaskPlan, options: { readonly signal: AbortSignal }): Promise<void> {
    const { directory } = plan
    await removeAllBut(directory, new Set(['task.json']))
    options.signal.throwIfAborted()
    for (const name of ['exits', 'rootfs', 'upper', 'work', 'l', 'home']) {
      await mkdir(join(directory, name), { mode: 0o755 })
    }
    const ports = await allocatePorts(plan)
    await writeJsonFile(join(directory, 'ports.json'), ports)
    const identity = await this.#identity(plan, ports)
    if (plan.readiness?.type === 'check') {
      await writeProcessCheck(directory, { ...identity, argv: plan.readiness.check.argv })
    }
    const script = launchScript({
      mode: this.#options.mode,
      directory,
      lower: await linkLayers(plan),
      mounts: await this.#mounts(plan),
      argv: commandLine(plan.image.config, plan.task.spec.ContainerSpec),
      ...identity,
    })
    await writeFile(join(directory, 'launch'), script, { mode: 0o600 })
  }

  async start(plan: TaskPlan): Promise<{ readonly pid: number; readonly ports?: TaskPorts }> {
    const files = new TaskFiles(plan.directory)
    await files.markStarted()
    const argv = [...launchPrefix(this.#options.mode), join(plan.directory, 'launch')]
    await spawnShMonitor(files, { argv, cwd: plan.directory, env: toolEnvironment() })
    const pid = await this.#awaitPid(files)
    const mark = markProcess(pid)
    if (mark !== undefined) await files.writeProcess(mark)
    return { pid, ports: await readPorts(plan.directory) }
  }

  check(
    directory: string,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<CheckResult> {
    const components = { clock: this.#clock, mode: this.#options.mode }
    return checkProcess(components, new TaskFiles(directory), options)
  }

  async inspect(directory: string): Promise<TaskPresence> {
    const files = new TaskFiles(directory)
    const exit = await files.readExit()
    if (exit !== undefined) return { state: 'exited', exit }
    const mark = await files.readProcess()
    if (mark !== undefined && isAlive(mark)) {
      return { state: 'running', pid: mark.pid, ports: await readPorts(directory) }
    }
    if (mark === undefined && !files.wasStarted()) return { state: 'absent' }
    const late = await readExitOrLoss(files, this.#clock)
    return { state: 'exited', exit: late ?? { exitCode: undefined, outOfMemory: false } }
  }

  wait(directory: string, options: { readonly signal: AbortSignal }): Promise<TaskExit> {
    return waitForExit(new TaskFiles(directory), this.#clock, options.signal)
  }

  async stop(
    directory: string,
    options: { readonly signalName: string; readonly graceMs: number },
  ): Promise<void> {
    const files = new TaskFiles(directory)
    const mark = await files.readProcess()
    if (mark === undefined) return
    const send = (signal: number): boolean => signalProcess(mark, signal)
    await stopTask(files, this.#clock, { ...options, send })
    killOrphans(mark)
  }

  /** Mounts vanish with the processes' namespace; what the first process left behind is killed. */
  async release(directory: string): Promise<void> {
    if (!existsSync(join(directory, 'launch'))) return
    const mark = await new TaskFiles(directory).readProcess()
    if (mark !== undefined) killOrphans(mark)
    await removeAllBut(directory, KEPT_FILES)
  }

  async remove(directory: string): Promise<void> {
    if (!existsSync(directory)) return
    await this.stop(directory, { signalName: 'SIGKILL', graceMs: 0 })
    await rm(directory, { recursive: true, force: true })
  }

  async dispose(): Promise<void> {
    // Tasks share nothing that belongs to the node.
  }

  async #mounts(plan: TaskPlan): ReturnType<typeof specMounts> {
    const mounts = plan.task.spec.ContainerSpec.Mounts ?? []
    if (this.#options.mode === 'host' && mounts.length > 0) {
      const message = 'mounts: this node runs tasks as plain processes, without a root of their own'
      throw new SwarmError('INVALID_ARGUMENT', message)
    }
    return specMounts(mounts, { volumesDirectory: this.#options.volumesDirectory })
  }

  /** User, environment and working directory of the process. */
  async #identity(
    plan: TaskPlan,
    ports: TaskPorts,
  ): Promise<{ env: string[]; cwd: string; user?: { uid: number; gid: number } }> {
    const container = plan.task.spec.ContainerSpec
    const { config } = plan.image
    const user = await userOf(plan)
    const hosted = this.#options.mode === 'host'
    const home = hosted ? join(plan.directory, 'home') : user.home
    const env = mergeEnvironment(
      [`PATH=${CONTAINER_PATH_DEFAULT}`, `HOSTNAME=${plan.hostname}`, `HOME=${home}`],
      config.env,
      portVariables(ports),
      plan.env,
    )
    const inside = container.Dir ?? config.workingDirectory
    const cwd = hosted ? home : isAbsolute(inside) ? inside : `/${inside}`
    const { uid, gid } = user
    // In a user namespace of one id, and without root, there is nobody else to become.
    const canChange = process.getuid?.() === 0 && this.#options.mode !== 'user-chroot'
    return canChange && uid !== 0 ? { env, cwd, user: { uid, gid } } : { env, cwd }
  }

  async #awaitPid(files: TaskFiles): Promise<number> {
    const deadline = this.#clock.monotonicMs() + START_TIMEOUT_MS
    for (;;) {
      // In this order: a short task may write both files between the two looks.
      const ended = (await files.readExit()) !== undefined
      const pid = await readPidFile(files.pid)
      if (pid !== undefined) return pid
      if (ended || this.#clock.monotonicMs() > deadline) {
        const words = (await readTextFile(files.rawLog('stderr')))?.trim() ?? ''
        throw new SwarmError(
          'RUNTIME_FAILED',
          `process ${files.id}: ${words || 'no start in time'}`,
        )
      }
      await delay(this.#clock, POLL_MS)
    }
  }
}

async function allocatePorts(plan: TaskPlan): Promise<TaskPorts> {
  const exposed = plan.image.config.exposedPorts
    .filter((port) => !port.includes('/') || port.endsWith('/tcp'))
    .map((port) => Number.parseInt(port, 10))
  const published = plan.task.ports
    .filter((port) => port.protocol === 'tcp')
    .map((port) => port.targetPort)
  const targets = [...new Set([...published, ...exposed])].filter((port) => port > 0)
  const ports: { targetPort: number; hostPort: number }[] = []
  for (const targetPort of targets) ports.push({ targetPort, hostPort: await freeLoopbackPort() })
  return ports
}

function portVariables(ports: TaskPorts): string[] {
  const first = ports[0]
  const named = ports.map((port) => `SKEIN_PORT_${port.targetPort}=${port.hostPort}`)
  return first === undefined ? named : [`PORT=${first.hostPort}`, ...named]
}

/** Only this module writes the file. */
async function readPorts(directory: string): Promise<TaskPorts> {
  const value = await readJsonFile(join(directory, 'ports.json'))
  return Array.isArray(value) ? (value as TaskPorts) : []
}

async function linkLayers(plan: TaskPlan): Promise<string[]> {
  const layers = plan.image.layerDirectories.toReversed()
  const names = layers.map((_, index) => join('l', index.toString(36)))
  await Promise.all(
    layers.map((layer, index) => symlink(layer, join(plan.directory, names[index] ?? ''))),
  )
  if (names.length > 0) return names
  await mkdir(join(plan.directory, 'empty'))
  return ['empty']
}

async function userOf(plan: TaskPlan): Promise<ContainerUser> {
  const container = plan.task.spec.ContainerSpec
  const layers = plan.image.layerDirectories.toReversed()
  const find = async (path: string): Promise<string> => {
    for (const layer of layers) {
      const text = await readFileInRoot(layer, path)
      if (text !== '') return text
    }
    return ''
  }
  const user = container.User ?? plan.image.config.user
  const groups = container.Groups ?? []
  return resolveUser({
    user,
    groups,
    passwd: await find('/etc/passwd'),
    group: await find('/etc/group'),
  })
}

async function removeAllBut(directory: string, kept: ReadonlySet<string>): Promise<void> {
  const doomed = (await readdir(directory)).filter((name) => !kept.has(name))
  await Promise.all(
    doomed.map((name) => rm(join(directory, name), { recursive: true, force: true })),
  )
}
