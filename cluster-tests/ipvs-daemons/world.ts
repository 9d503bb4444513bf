/**
 * Three hosts with daemons, and a client outside, in a guest kernel; set up once for all cases. An
 * emulated processor is slow to start programs: the API is called directly.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import type { Daemon } from '../harness/daemon.ts'
import { api, until } from '../harness/daemon.ts'
import { HostSwarm, TestHosts } from '../harness/hosts.ts'
import { IMAGE } from '../harness/swarm.ts'
import type { TaskJson } from '../harness/swarm.ts'

/** Published on every host, for TCP and UDP. */
export const PORT = 8_079
/** What the UDP port leads to. */
export const UDP_TARGET_PORT = 5_353
/** The namespace that is no host of the swarm. */
export const CLIENT = 3
export const HOSTS = 3
export const RUNNING_LIMIT_MS = 60_000

/** A daemon's restart takes an emulated machine minutes; its node shall not count as down meanwhile. */
const HEARTBEAT_PERIOD_NS = 600_000_000_000

/** Scripts that every container serves: `who` prints who asks and its own name, `ticks` never ends. */
const SCRIPTS = {
  who: '#!/bin/sh\necho; echo $REMOTE_ADDR $(hostname)\n',
  ticks: '#!/bin/sh\necho; while echo tick; do sleep 0.5; done\n',
} as const
/**
 * Told to stop it goes on for a while, as servers do that end well: connections that were under way
 * are slow to arrive on an emulated machine.
 */
const SERVE = "httpd -p 80 -h /www; trap 'sleep 5; exit 0' TERM; sleep 1000000 & wait"

/** The swarm and what stands around it. */
export class World {
  readonly hosts = new TestHosts('skt-i', '172.31.78', HOSTS + 1)
  readonly swarm = new HostSwarm(this.hosts, HOSTS)
  /** What containers serve. */
  readonly #www = joinPath(this.swarm.directory, 'www')

  /** A manager and workers that joined, with the image. */
  static async start(): Promise<World> {
    const world = new World()
    const { swarm } = world
    world.#writeScripts()
    progress('hosts')
    await swarm.start()
    progress('daemons')
    const first = swarm.node(0)
    await api(first.socket, 'POST', '/swarm/init', {
      ListenAddr: first.options.listenAddress,
      Spec: { Dispatcher: { HeartbeatPeriod: HEARTBEAT_PERIOD_NS } },
    })
    const { JoinTokens } = (await api(first.socket, 'GET', '/swarm')) as {
      readonly JoinTokens: { readonly Worker: string }
    }
    const workers = swarm.daemons.slice(1)
    await Promise.all(workers.map((daemon) => join(daemon, first, JoinTokens.Worker)))
    await swarm.untilReady(first, HOSTS)
    progress('swarm')
    await swarm.loadImage(first)
    progress('image')
    return world
  }

  get client(): string {
    return this.hosts.names[CLIENT] ?? ''
  }

  /** A script at a host's published port. */
  published(host: number, script = 'who'): string {
    return `http://${this.hosts.addresses[host]}:${PORT}/cgi-bin/${script}`
  }

  /** The same by the host's IPv6 address. */
  published6(host: number, script = 'who'): string {
    return `http://[${this.hosts.addresses6[host]}]:${PORT}/cgi-bin/${script}`
  }

  /** Creates a service of {@link SERVE}; `port` is published for TCP and UDP. */
  async createService(
    name: string,
    options: { readonly network: string; readonly replicas: number; readonly port?: number },
  ): Promise<void> {
    const { network, replicas, port } = options
    const published = { PublishedPort: port, PublishMode: 'ingress' }
    const ports = [
      { ...published, Protocol: 'tcp', TargetPort: 80 },
      { ...published, Protocol: 'udp', TargetPort: UDP_TARGET_PORT },
    ]
    await api(this.swarm.node(0).socket, 'POST', '/services/create', {
      Name: name,
      TaskTemplate: {
        ContainerSpec: {
          Image: IMAGE,
          Command: ['sh', '-c', SERVE],
          Mounts: [{ Type: 'bind', Source: this.#www, Target: '/www', ReadOnly: true }],
          StopGracePeriod: 20_000_000_000,
        },
        Networks: [{ Target: network }],
      },
      Mode: { Replicated: { Replicas: replicas } },
      EndpointSpec: { Ports: port === undefined ? [] : ports },
    })
  }

  /** Wants something else of a service or a node: its specification with `change` in it. */
  async update(path: string, change: (spec: Spec) => object): Promise<void> {
    const { socket } = this.swarm.node(0)
    const known = (await api(socket, 'GET', path)) as {
      readonly Version: { readonly Index: number }
      readonly Spec: Spec
    }
    const spec = { ...known.Spec, ...change(known.Spec) }
    await api(socket, 'POST', `${path}/update?version=${known.Version.Index}`, spec)
  }

  /** Wants so many replicas from now on. */
  async scale(name: string, replicas: number): Promise<void> {
    await this.update(`/services/${name}`, () => ({ Mode: { Replicated: { Replicas: replicas } } }))
  }

  /** The running tasks of a service. */
  async tasksOf(service: string): Promise<TaskJson[]> {
    const filters = encodeURIComponent(JSON.stringify({ service: { [service]: true } }))
    const { socket } = this.swarm.node(0)
    const tasks = (await api(socket, 'GET', `/tasks?filters=${filters}`)) as TaskJson[]
    return tasks.filter(
      (task) => task.Status.State === 'running' && task.DesiredState === 'running',
    )
  }

  /** What a host's daemon says that balances. */
  async driverOf(host: number): Promise<string> {
    const info = (await api(this.swarm.node(host).socket, 'GET', '/info')) as {
      readonly DriverStatus: readonly (readonly [string, string])[]
    }
    return info.DriverStatus.find(([name]) => /balancer/i.test(name))?.[1] ?? ''
  }

  #writeScripts(): void {
    const folder = joinPath(this.#www, 'cgi-bin')
    mkdirSync(folder, { recursive: true })
    for (const [name, text] of Object.entries(SCRIPTS)) {
      writeFileSync(joinPath(folder, name), text, { mode: 0o755 })
    }
  }

  /** What a host's kernel and daemon know; for a failed case. */
  diagnosis(host: number): string {
    const script =
      'ipvsadm -Ln --stats; ip -br a; ip r; ip rule; ip -6 r; ip -6 rule; nft list ruleset'
    return `${this.hosts.run(host, 'sh', '-c', script)}\n${this.swarm.node(host).log().slice(-6_000)}`
  }
}

/** A specification as the API gives it. */
export type Spec = Readonly<Record<string, unknown>>

/** Joins as a worker, again while nobody answers in time: all start up on the same processors. */
async function join(daemon: Daemon, first: Daemon, token: string): Promise<void> {
  const body = {
    ListenAddr: daemon.options.listenAddress,
    RemoteAddrs: [first.options.listenAddress],
    JoinToken: token,
  }
  await until(`${daemon.options.name} to be a member`, async () => {
    const info = (await api(daemon.socket, 'GET', '/info')) as {
      readonly Swarm: { readonly LocalNodeState: string }
    }
    const state = info.Swarm.LocalNodeState
    if (state === 'inactive') await api(daemon.socket, 'POST', '/swarm/join', body)
    return state === 'active'
  })
}

/** For whoever looks at a guest that did not come to its end. */
export function progress(step: string): void {
  process.stderr.write(`${Math.round(performance.now())} ms: ${step}\n`)
}
