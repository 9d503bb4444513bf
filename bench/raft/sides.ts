/** The clusters that are compared: three processes each, on loopback, durable. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ServerSettings } from './kv-server.ts'
import type { Target } from './load.ts'

const SERVERS = 3
const serverProgram = new URL('kv-server.ts', import.meta.url).pathname

/**
 * As in the `skein` script, but for a young generation of 3 × 8 MiB at most, which is as fast as
 * without a bound: the old generation at most doubles before it is collected, buffers count in it
 * (else 64 MiB of dead ones may wait), and threads share allocator arenas.
 */
const NODE_FLAGS = [
  '--max-semi-space-size=8',
  '--heap-growing-percent=100',
  '--external-memory-accounted-in-global-limit',
]
const NODE_ENVIRONMENT = { MALLOC_ARENA_MAX: '1' }

/** Names of the sides; the first is what the others are compared with. */
export const SIDES = ['etcd', 'mesh', 'tcp'] as const
export type SideName = (typeof SIDES)[number]

/** How the raft-ts servers are run. */
export interface SideOptions {
  readonly fsyncMs: number
  readonly snapshotThreshold: number
  /** Whether raft-ts servers count their durable writes (`logWrites` in their status). */
  readonly countWrites?: boolean
  /** Where to write processor profiles; none when absent. */
  readonly profile?: string
}

/** One cluster under test. */
export class Side implements AsyncDisposable {
  readonly name: SideName
  readonly target: Target
  /** Holds all that the servers write. */
  readonly directory: string
  readonly #peerPorts: readonly number[]
  readonly #options: SideOptions
  readonly #processes: ChildProcess[] = []

  static async start(name: SideName, options: SideOptions): Promise<Side> {
    const ports = await freePorts(2 * SERVERS)
    const side = new Side(name, ports, options)
    if (name !== 'etcd') compileInto(side.#compiledDirectory())
    await Promise.all(Array.from({ length: SERVERS }, (_, n) => side.startServer(n, true)))
    return side
  }

  private constructor(name: SideName, ports: readonly number[], options: SideOptions) {
    this.name = name
    this.#options = options
    this.#peerPorts = ports.slice(0, SERVERS)
    this.target = { protocol: name === 'etcd' ? 'etcd' : 'kv', ports: ports.slice(SERVERS) }
    this.directory = mkdtempSync(join(tmpdir(), `bench-raft-${name}-`))
  }

  /** Process ids, by position. */
  get pids(): readonly number[] {
    return this.#processes.map(({ pid = 0 }) => pid)
  }

  /** Starts server `n`, for the first time or again. */
  async startServer(n: number, isFirst: boolean): Promise<void> {
    const directory = join(this.directory, String(n))
    mkdirSync(directory, { recursive: true })
    const log = openSync(join(directory, 'output'), 'a')
    const [program, ...words] =
      this.name === 'etcd'
        ? this.#etcdCommand(n, directory)
        : this.#kvCommand(n, directory, isFirst)
    const env = environment(this.#compiledDirectory())
    const child = spawn(program ?? '', words, { stdio: ['ignore', log, log], env })
    this.#processes[n] = child
    child.on('exit', (code) => {
      if (code === 1) process.stderr.write(readFileSync(join(directory, 'output'), 'utf8'))
    })
  }

  /** Resolves when server `n` is gone. */
  async gone(n: number): Promise<void> {
    const child = this.#processes[n]
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      await once(child, 'exit')
    }
  }

  /** Resident memory of each server, MiB. */
  memory(): readonly number[] {
    return this.pids.map((pid) => {
      const text = readFileSync(`/proc/${pid}/status`, 'utf8')
      return Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) / 1024
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#processes) child.kill('SIGTERM')
    await Promise.all(this.#processes.map((_, n) => this.gone(n)))
    rmSync(this.directory, { recursive: true, force: true })
  }

  #compiledDirectory(): string {
    return join(this.directory, 'compiled')
  }

  #kvCommand(number: number, directory: string, bootstrap: boolean): readonly string[] {
    const { fsyncMs, snapshotThreshold, countWrites = false, profile } = this.#options
    const settings: ServerSettings = {
      number,
      peerPorts: this.#peerPorts,
      clientPort: this.target.ports[number] ?? 0,
      directory,
      transport: this.name === 'mesh' ? 'mesh' : 'tcp',
      log: this.name === 'mesh' ? 'level' : 'file',
      fsyncMs,
      snapshotThreshold,
      countWrites,
      bootstrap,
    }
    const flags =
      profile === undefined
        ? []
        : [
            '--cpu-prof',
            `--cpu-prof-dir=${profile}`,
            `--cpu-prof-name=${this.name}-${number}.cpuprofile`,
          ]
    return [process.execPath, ...NODE_FLAGS, ...flags, serverProgram, JSON.stringify(settings)]
  }

  /** Slows etcd's durable writes from outside; the tracer is a detached child, so the pid stays. */
  #delayedSyncs(): readonly string[] {
    const { fsyncMs } = this.#options
    if (fsyncMs === 0) return []
    const calls = 'fsync,fdatasync'
    return [
      ...['strace', '-D', '-f', '--seccomp-bpf', '-qq', '-o', '/dev/null'],
      ...['-e', `trace=${calls}`, '-e', `inject=${calls}:delay_exit=${fsyncMs}ms`],
    ]
  }

  #etcdCommand(n: number, directory: string): readonly string[] {
    const peer = (at: number): string => `http://127.0.0.1:${this.#peerPorts[at]}`
    const client = `http://127.0.0.1:${this.target.ports[n]}`
    const cluster = this.#peerPorts.map((_, at) => `server${at}=${peer(at)}`).join()
    return [
      ...this.#delayedSyncs(),
      'etcd',
      ...['--name', `server${n}`, '--data-dir', join(directory, 'data')],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer(n), '--initial-advertise-peer-urls', peer(n)],
      ...['--initial-cluster', cluster, '--initial-cluster-state', 'new'],
      ...['--initial-cluster-token', 'bench', '--log-level', 'error', '--logger', 'zap'],
    ]
  }
}

/** Compiled code is kept there, so that no server loads the compiler of TypeScript itself. */
function environment(compiledDirectory: string): NodeJS.ProcessEnv {
  return { ...process.env, ...NODE_ENVIRONMENT, NODE_COMPILE_CACHE: compiledDirectory }
}

function compileInto(directory: string): void {
  const words = [...NODE_FLAGS, serverProgram]
  const { status } = spawnSync(process.execPath, words, { env: environment(directory) })
  if (status !== 0) throw new Error(`${serverProgram}: compiling it ended with ${status}`)
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => {
    const address = server.address()
    return typeof address === 'object' ? (address?.port ?? 0) : 0
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
