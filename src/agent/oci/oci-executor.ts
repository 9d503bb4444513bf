/**
 * Tasks as OCI containers: crun or runc under a monitor, without any daemon.
 *
 * ```
 * prepare: overlay mount · small files · network namespace · config.json · create (process waits)
 * start:   `started` mark · runtime start
 * release: network · runtime delete (cgroup) · unmount
 * ```
 * Each step can be cut by SIGKILL; `prepare` first removes what an earlier attempt left.
 * Source: reference runtime §1.3.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import { commandLine, CONTAINER_PATH_DEFAULT, mergeEnvironment } from '../command-line.ts'
import { readExitOrLoss, waitForExit } from '../exit-watch.ts'
import type {
  CheckResult,
  Executor,
  TaskExit,
  TaskNetworks,
  TaskPlan,
  TaskPresence,
} from '../ports.ts'
import { isAlive, markProcess, signalProcess } from '../process-mark.ts'
import type { ProcessMark } from '../process-mark.ts'
import { stopTask } from '../stop-process.ts'
import type { Mounter } from '../syscalls.ts'
import { TaskFiles } from '../task-files.ts'
import { checkContainer, writeCheckProcess } from './check-container.ts'
import { writeContainerFiles } from './container-files.ts'
import type { HostLimits } from './limits-of-host.ts'
import type { Monitor } from './monitor.ts'
import { specMounts } from './mounts.ts'
import { mountRoot } from './overlay.ts'
import type { CgroupFacts } from './resources.ts'
import { readFileInRoot } from './rootfs-path.ts'
import { containerState, deleteContainer } from './runtime.ts'
import type { OciRuntime } from './runtime.ts'
import type { SeccompFilter } from './seccomp.ts'
import { ociSpec } from './spec.ts'
import type { SpecInputs } from './spec.ts'
import { resolveUser } from './user.ts'
import type { ContainerUser } from './user.ts'

/** What the executor is made of; `probe.ts` finds it out. */
export interface OciComponents {
  readonly clock: Clock
  readonly runtime: OciRuntime
  readonly monitor: Monitor
  readonly mounter: Mounter
  readonly network: TaskNetworks
  readonly host: HostLimits
  readonly cgroups: CgroupFacts
  readonly seccomp: (capabilities: readonly string[]) => SeccompFilter | undefined
}

/** Where things are. */
export interface OciOptions {
  readonly volumesDirectory: string
  /** Why this runtime and monitor were chosen. */
  readonly reason: string
}

/** cgroup under which all containers of Skein are. */
const CGROUP_PARENT = '/skein'

/** Of a task directory, what survives `release`: the agent's and the monitor's words. */
const KEPT_FILES: ReadonlySet<string> = new Set([
  'task.json',
  'process.json',
  'started',
  'exits',
  'log',
  'stdout.log',
  'stderr.log',
  'monitor.log',
  'runtime.log',
])

/** Containers under crun or runc. */
export class OciExecutor implements Executor {
  readonly name: string
  readonly isolation = 'container'
  readonly hasNetwork = true
  readonly reason: string
  readonly #parts: OciComponents
  readonly #options: OciOptions

  constructor(components: OciComponents, options: OciOptions) {
    this.#parts = components
    this.#options = options
    this.name = `${components.runtime.name}+${components.monitor.name}`
    this.reason = options.reason
  }

  async prepare(plan: TaskPlan, options: { readonly signal: AbortSignal }): Promise<void> {
    const files = new TaskFiles(plan.directory)
    await this.#clear(files)
    options.signal.throwIfAborted()
    await mkdir(files.exitDirectory)
    await mountRoot(plan, this.#parts.mounter)
    const [inputs, networkNamespace] = await both(this.#inputs(plan), this.#attach(plan))
    const spec = ociSpec(networkNamespace === undefined ? inputs : { ...inputs, networkNamespace })
    await writeFile(join(plan.directory, 'config.json'), JSON.stringify(spec), { mode: 0o600 })
    if (plan.readiness?.type === 'check') {
      await writeCheckProcess(plan.directory, spec, plan.readiness.check)
    }
    options.signal.throwIfAborted()
    const pid = await this.#parts.monitor.create(this.#parts.runtime, files)
    if (pid !== undefined) await this.#remember(files, pid)
  }

  async start(plan: TaskPlan): Promise<{ readonly pid: number }> {
    const files = new TaskFiles(plan.directory)
    await files.markStarted()
    const pid = await this.#parts.monitor.start(this.#parts.runtime, files)
    await this.#remember(files, pid)
    return { pid }
  }

  check(
    directory: string,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<CheckResult> {
    return checkContainer(this.#parts, directory, options)
  }

  async inspect(directory: string): Promise<TaskPresence> {
    const files = new TaskFiles(directory)
    const exit = await files.readExit()
    if (exit !== undefined) return { state: 'exited', exit }
    const mark = await files.readProcess()
    if (mark !== undefined && !isAlive(mark)) return this.#lost(files)
    if (mark === undefined && !existsSync(join(directory, 'config.json'))) {
      return files.wasStarted() ? this.#lost(files) : { state: 'absent' }
    }
    const state = await containerState(this.#parts.runtime, files.id)
    if (state === undefined || state.pid <= 0) {
      return mark === undefined && !files.wasStarted() ? { state: 'absent' } : this.#lost(files)
    }
    if (mark === undefined) await this.#remember(files, state.pid)
    return { state: state.status === 'created' ? 'created' : 'running', pid: state.pid }
  }

  wait(directory: string, options: { readonly signal: AbortSignal }): Promise<TaskExit> {
    return waitForExit(new TaskFiles(directory), this.#parts.clock, options.signal)
  }

  async stop(
    directory: string,
    options: { readonly signalName: string; readonly graceMs: number },
  ): Promise<void> {
    const files = new TaskFiles(directory)
    const mark = await files.readProcess()
    if (mark === undefined) return
    const send = (signal: number): boolean => signalProcess(mark, signal)
    // A created container has nobody who would handle a signal: it waits inside the runtime.
    const graceMs = files.wasStarted() ? options.graceMs : 0
    await stopTask(files, this.#parts.clock, { ...options, graceMs, send })
  }

  async release(directory: string): Promise<void> {
    const files = new TaskFiles(directory)
    if (!existsSync(join(directory, 'config.json')) && !existsSync(join(directory, 'rootfs'))) {
      return
    }
    await Promise.all([
      this.#parts.network.detach(files.id),
      deleteContainer(this.#parts.runtime, files.id),
    ])
    await this.#parts.mounter.unmount(join(directory, 'rootfs'))
    await removeAllBut(directory, KEPT_FILES)
  }

  async remove(directory: string): Promise<void> {
    if (!existsSync(directory)) return
    await this.stop(directory, { signalName: 'SIGKILL', graceMs: 0 })
    await this.release(directory)
    await rm(directory, { recursive: true, force: true })
  }

  dispose(): Promise<void> {
    return this.#parts.network.dispose()
  }

  /** Undoes a broken attempt, so that `prepare` begins with nothing but the agent's record. */
  async #clear(files: TaskFiles): Promise<void> {
    await this.release(files.directory)
    await removeAllBut(files.directory, new Set(['task.json']))
  }

  async #attach(plan: TaskPlan): Promise<string | undefined> {
    if (plan.networking === undefined) return undefined
    return this.#parts.network.attach(plan.task.id, plan.networking)
  }

  async #inputs(plan: TaskPlan): Promise<SpecInputs> {
    const container = plan.task.spec.ContainerSpec
    const config = plan.image.config
    const place = { volumesDirectory: this.#options.volumesDirectory }
    const [user, smallFiles, mounts] = await Promise.all([
      userOf(plan),
      writeContainerFiles(plan),
      specMounts(container.Mounts ?? [], place),
    ])
    const cwd = container.Dir ?? config.workingDirectory
    const taken = new Set(mounts.map((mount) => mount.destination))
    return {
      plan,
      argv: commandLine(config, container),
      env: mergeEnvironment(
        [`PATH=${CONTAINER_PATH_DEFAULT}`, `HOSTNAME=${plan.hostname}`, `HOME=${user.home}`],
        config.env,
        plan.env,
      ),
      cwd: isAbsolute(cwd) ? cwd : `/${cwd}`,
      user,
      rootPath: 'rootfs',
      mounts: [...smallFiles.filter((mount) => !taken.has(mount.destination)), ...mounts],
      cgroupsPath: `${CGROUP_PARENT}/${plan.task.id}`,
      host: this.#parts.host,
      cgroups: this.#parts.cgroups,
      seccomp: this.#parts.seccomp,
    }
  }

  async #remember(files: TaskFiles, pid: number): Promise<ProcessMark | undefined> {
    const mark = markProcess(pid)
    // Already gone: the monitor has written, or is about to write, its exit code.
    if (mark !== undefined) await files.writeProcess(mark)
    return mark
  }

  async #lost(files: TaskFiles): Promise<TaskPresence> {
    const exit = await readExitOrLoss(files, this.#parts.clock)
    return { state: 'exited', exit: exit ?? { exitCode: undefined, outOfMemory: false } }
  }
}

/** Both results. When one fails, still waits for the other: what it makes must be there to undo. */
async function both<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([first, second])
  return [await first, await second]
}

async function userOf(plan: TaskPlan): Promise<ContainerUser> {
  const container = plan.task.spec.ContainerSpec
  const root = join(plan.directory, 'rootfs')
  const [passwd, group] = await Promise.all([
    readFileInRoot(root, '/etc/passwd'),
    readFileInRoot(root, '/etc/group'),
  ])
  const user = container.User ?? plan.image.config.user
  return resolveUser({ user, groups: container.Groups ?? [], passwd, group })
}

/** Deletes the entries of `directory` but for `kept`. Only after everything in it is unmounted. */
async function removeAllBut(directory: string, kept: ReadonlySet<string>): Promise<void> {
  const names = await readdir(directory)
  const doomed = names.filter((name) => !kept.has(name))
  await Promise.all(
    doomed.map((name) => rm(join(directory, name), { recursive: true, force: true })),
  )
}

/** Error for a node where nothing can run containers. */
export function noRuntime(reasons: readonly string[]): SwarmError {
  return new SwarmError('UNAVAILABLE', `no container runtime: ${reasons.join('; ')}`)
}
