/**
 * Hosts for tests: network namespaces on one bridge without an address, so that the test machine
 * itself is not on their network. Daemons run in them with a kernel's network of their own.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { Daemon } from './daemon.ts'
import { TestSwarm } from './swarm.ts'

/** npm puts another program named `nft` first. */
const TOOL_ENVIRONMENT = { ...process.env, PATH: '/usr/sbin:/sbin:/usr/bin:/bin' }

/** Where `ip netns` keeps namespaces. */
const NAMESPACES = '/run/netns'

/**
 * Namespaces `<prefix><process>-0`, `<prefix><process>-1`, … with `<network>.1`, `<network>.2`, …,
 * and in IPv6 `fd00:<network>::1`, `fd00:<network>::2`, …
 *
 * The process is in all names, in base 36, so that runs of one test do not meet; what runs that
 * were killed left behind goes when the next one begins. Networks may be equal: no bridge has an
 * address. A prefix has five characters at most, or cables' names are too long.
 */
export class TestHosts implements Disposable {
  readonly names: readonly string[]
  readonly addresses: readonly string[]
  readonly addresses6: readonly string[]
  readonly #bridge: string

  constructor(prefix: string, network: string, count: number) {
    removeAbandoned(prefix)
    const own = `${prefix}${process.pid.toString(36)}`
    this.names = Array.from({ length: count }, (_, index) => `${own}-${index}`)
    this.addresses = this.names.map((_, index) => `${network}.${index + 1}`)
    const network6 = `fd00:${network.replaceAll('.', ':')}`
    this.addresses6 = this.names.map((_, index) => `${network6}::${index + 1}`)
    this.#bridge = `${own}br`
    this[Symbol.dispose]()
    ip('link', 'add', this.#bridge, 'type', 'bridge')
    ip('link', 'set', this.#bridge, 'up')
    for (const [index, name] of this.names.entries()) {
      const cable = `${name}-0`
      ip('netns', 'add', name)
      ip('link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
      ip('link', 'set', cable, 'master', this.#bridge, 'up')
      ip('-n', name, 'addr', 'add', `${this.addresses[index]}/24`, 'dev', 'eth0')
      ip('-n', name, 'addr', 'add', `${this.addresses6[index]}/64`, 'dev', 'eth0', 'nodad')
      ip('-n', name, 'link', 'set', 'eth0', 'up')
      ip('-n', name, 'link', 'set', 'lo', 'up')
      ip('-n', name, 'route', 'add', 'default', 'via', `${network}.254`)
    }
  }

  /** Words before a command that make it run in the namespace of that name. */
  static inside(name: string): readonly string[] {
    return ['nsenter', `--net=${NAMESPACES}/${name}`]
  }

  /** Runs a command in a host and gives what it prints. @throws when it fails */
  run(index: number, ...command: readonly string[]): string {
    return runInside(this.names[index] ?? '', ...command)
  }

  /** Pulls or plugs the cable of a host. */
  cable(index: number, state: 'up' | 'down'): void {
    ip('link', 'set', `${this.names[index]}-0`, state)
  }

  [Symbol.dispose](): void {
    removeHosts(this.names, this.#bridge)
  }
}

/** One daemon on each of the first `size` hosts. */
export class HostSwarm extends TestSwarm {
  override readonly daemons: readonly Daemon[]

  /** `env` is of the daemon with the same index. */
  constructor(
    hosts: TestHosts,
    size = hosts.names.length,
    env: readonly Readonly<Record<string, string>>[] = [],
  ) {
    super(0, 0)
    this.daemons = hosts.names.slice(0, size).map((name, index) => {
      return new Daemon({
        name: `n${index + 1}`,
        directory: this.directory,
        listenAddress: `${hosts.addresses[index]}:2377`,
        wrapper: TestHosts.inside(name),
        env: env[index] ?? {},
      })
    })
  }

  /** Daemons that run and are one swarm; the first one has the image. */
  static async formed(
    hosts: TestHosts,
    size: number,
    { managers = size }: { readonly managers?: number } = {},
  ): Promise<HostSwarm> {
    await using undo = new AsyncDisposableStack()
    const swarm = undo.use(new HostSwarm(hosts, size))
    await swarm.start()
    await swarm.form(managers)
    await swarm.loadImage(swarm.node(0))
    undo.move()
    return swarm
  }
}

/** Runs a command in a namespace and gives what it prints. @throws when it fails */
export function runInside(namespace: string, ...command: readonly string[]): string {
  const [file = '', ...words] = [...TestHosts.inside(namespace), ...command]
  return execFileSync(file, words, {
    env: TOOL_ENVIRONMENT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Removes the hosts of processes that are no more. */
function removeAbandoned(prefix: string): void {
  const names = existsSync(NAMESPACES) ? readdirSync(NAMESPACES) : []
  const owned = Map.groupBy(names, (name) => ownerOf(prefix, name))
  for (const [owner, hosts] of owned) {
    if (owner === '' || existsSync(`/proc/${Number.parseInt(owner, 36)}`)) continue
    removeHosts(hosts, `${prefix}${owner}br`)
  }
}

/** The process in a host's name; empty when it is no host of this prefix. */
function ownerOf(prefix: string, name: string): string {
  if (!name.startsWith(prefix)) return ''
  return /^([0-9a-z]+)-\d+$/.exec(name.slice(prefix.length))?.[1] ?? ''
}

function removeHosts(names: readonly string[], bridge: string): void {
  for (const name of names) {
    tryIp('netns', 'del', name)
    tryIp('link', 'del', `${name}-0`)
  }
  tryIp('link', 'del', bridge)
}

function ip(...words: readonly string[]): void {
  execFileSync('ip', words, { env: TOOL_ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'] })
}

function tryIp(...words: readonly string[]): void {
  try {
    ip(...words)
  } catch {
    // Nothing to remove.
  }
}
