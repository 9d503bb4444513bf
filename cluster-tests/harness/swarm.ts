/** A swarm of real daemons on loopback addresses, made for one test and removed with all it left. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeDemoImage } from '../../scripts/make-image.ts'
import { Daemon, SKEIN, api, run, skeinOk, until } from './daemon.ts'
import type { DaemonOptions } from './daemon.ts'

const PORT = 2377

/** Tag of the demonstration image. */
export const IMAGE = 'hello:1'

/** A task as `GET /tasks` gives it, as far as tests look. */
export interface TaskJson {
  readonly ID: string
  readonly NodeID: string
  readonly Slot: number
  readonly DesiredState: string
  readonly Status: {
    readonly State: string
    readonly Message: string
    readonly Err?: string
    readonly ContainerStatus?: { readonly PID: number; readonly ExitCode?: number }
  }
}

/** A node as `GET /nodes` gives it, as far as tests look. */
export interface NodeJson {
  readonly ID: string
  readonly Spec: { readonly Role: string; readonly Availability: string }
  readonly Status: { readonly State: string; readonly Addr: string }
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability: string }
}

/** Processes in a daemon's task directories (`docs/architecture.md`, the truth about tasks). */
function taskPids(tasks: string, file: 'pid' | 'monitor.pid' = 'pid'): number[] {
  if (!existsSync(tasks)) return []
  return readdirSync(tasks).flatMap((task) => {
    const path = join(tasks, task, file)
    const pid = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0
    return pid > 0 && existsSync(`/proc/${pid}`) ? [pid] : []
  })
}

let cachedImage: Promise<string> | undefined

/** Path of the demonstration image's tar, made once a process. */
export function demoImage(): Promise<string> {
  cachedImage ??= (async () => {
    const directory = mkdtempSync(join(tmpdir(), 'skein-image-'))
    process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
    const output = join(directory, 'hello.tar')
    await makeDemoImage({ output, tag: IMAGE })
    return output
  })()
  return cachedImage
}

/** What a test may choose of a daemon. */
export type DaemonSettings = Pick<DaemonOptions, 'wrapper' | 'env' | 'dataDirectory'>

/** Daemons on 127.`subnet`.0.1, .2, … */
export class TestSwarm {
  readonly daemons: readonly Daemon[]
  readonly directory: string

  /** `settings` are of the daemon with the same index. */
  constructor(size: number, subnet: number, settings: readonly DaemonSettings[] = []) {
    this.directory = mkdtempSync(join(tmpdir(), 'skein-test-'))
    this.daemons = Array.from({ length: size }, (_, index) => {
      return new Daemon({
        name: `n${index + 1}`,
        directory: this.directory,
        listenAddress: `127.${subnet}.0.${index + 1}:${PORT}`,
        ...settings[index],
      })
    })
  }

  /** The daemon with this index; a test knows how many it asked for. */
  node(index: number): Daemon {
    const daemon = this.daemons[index]
    if (daemon === undefined) throw new Error(`no daemon ${index}`)
    return daemon
  }

  async start(): Promise<void> {
    await Promise.all(this.daemons.map((daemon) => daemon.start()))
  }

  /** `swarm init` on the first, the others join: `managers` managers in all, the rest workers. */
  async form(managers: number): Promise<void> {
    const first = this.node(0)
    await skeinOk(first, 'swarm', 'init')
    for (const [index, daemon] of this.daemons.entries()) {
      if (index > 0) await this.join(daemon, index < managers ? 'manager' : 'worker')
    }
    await this.untilReady(first, this.daemons.length)
  }

  async join(daemon: Daemon, role: 'manager' | 'worker'): Promise<void> {
    const first = this.node(0)
    const token = await skeinOk(first, 'swarm', 'join-token', '--quiet', role)
    await skeinOk(daemon, 'swarm', 'join', '--token', token, first.options.listenAddress)
  }

  async loadImage(daemon = this.node(0)): Promise<void> {
    await skeinOk(daemon, 'image', 'load', '--input', await demoImage())
  }

  async nodes(daemon: Daemon): Promise<NodeJson[]> {
    return (await api(daemon.socket, 'GET', '/nodes')) as NodeJson[]
  }

  async tasks(daemon: Daemon): Promise<TaskJson[]> {
    return (await api(daemon.socket, 'GET', '/tasks')) as TaskJson[]
  }

  /** Tasks wanted and seen running, as `daemon` knows. */
  async running(daemon: Daemon): Promise<TaskJson[]> {
    const tasks = await this.tasks(daemon)
    return tasks.filter(
      (task) => task.Status.State === 'running' && task.DesiredState === 'running',
    )
  }

  async untilRunning(daemon: Daemon, count: number, timeoutMs = 30_000): Promise<TaskJson[]> {
    return until(
      `${count} tasks running on ${daemon.options.name}'s account`,
      async () => {
        const running = await this.running(daemon)
        return running.length === count && running
      },
      timeoutMs,
    )
  }

  async untilReady(daemon: Daemon, count: number): Promise<void> {
    await until(`${count} nodes ready`, async () => {
      const nodes = await this.nodes(daemon)
      return nodes.filter((node) => node.Status.State === 'ready').length === count
    })
  }

  /** The daemon that leads, as the given ones agree. */
  async leader(among: readonly Daemon[] = this.daemons): Promise<Daemon> {
    return until('a leader', async () => {
      for (const daemon of among) {
        const info = (await api(daemon.socket, 'GET', '/info')) as { Swarm: { NodeID: string } }
        const nodes = await this.nodes(daemon).catch(() => [])
        const self = nodes.find((node) => node.ID === info.Swarm.NodeID)
        if (self?.ManagerStatus?.Leader === true) return daemon
      }
      return undefined
    })
  }

  /** Ends all daemons, and removes their containers, interfaces and files. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.daemons) {
      await daemon.kill('SIGKILL')
      const purge = ['daemon', '--data-dir', daemon.dataDirectory, '--purge']
      const [command, ...rest] = [...(daemon.options.wrapper ?? []), SKEIN, ...purge]
      const result = await run(command ?? SKEIN, rest)
      if (result.code !== 0) throw new Error(`purge: ${result.stdout}${result.stderr}`)
    }
    await rm(this.directory, { recursive: true, force: true })
  }

  /** Main processes of all containers, as each of these daemons knows of its own. */
  containerPids(daemons = this.daemons): number[] {
    return daemons.flatMap((daemon) => taskPids(join(daemon.dataDirectory, 'tasks')))
  }

  /** Ends a daemon and all that runs on its node at once, without a last word from any of them. */
  async cutPower(daemon: Daemon): Promise<void> {
    await daemon.kill('SIGKILL')
    const tasks = join(daemon.dataDirectory, 'tasks')
    // The monitors first: they must not see, and write down, how their containers end.
    for (const pid of taskPids(tasks, 'monitor.pid')) process.kill(pid, 'SIGKILL')
    for (const pid of taskPids(tasks)) process.kill(pid, 'SIGKILL')
  }

  /** The daemons' logs; for the message of a failed test. */
  logs(): string {
    return this.daemons
      .map((daemon) => `--- ${daemon.options.name}\n${readFileSync(daemon.logPath, 'utf8')}`)
      .join('\n')
  }
}
