/**
 * The node's container network where the kernel's data plane is not used (`src/network/plane/`, by
 * way of {@link TaskNetworks}): one bridge that carries the gateway address, a veth pair and a
 * network namespace per task, and an nftables table that lets containers reach the outside under
 * the node's address.
 *
 * All names derive from the node's or the task's id, so several daemons on one host never meet. A
 * task's MAC derives from its address: a successor that takes over an address is not sent to its
 * predecessor's MAC by a neighbour cache. Detaching deletes the veth first: it vanishes at once,
 * while the kernel destroys a namespace at leisure.
 * Source: reference runtime §1.1, network.md "Local side".
 */
import { readFile, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { TaskNetworking, TaskNetworks } from './ports.ts'
import { runCommand, runTool } from './run-command.ts'

/** Characters of an id in a device name; Linux takes 15 in all. */
const BRIDGE_ID_DIGITS = 8
const VETH_ID_DIGITS = 12

/** Name of a node's bridge. */
export function bridgeName(nodeId: string): string {
  return `sk${nodeId.slice(-BRIDGE_ID_DIGITS)}`
}

/** Name of the nftables table that belongs to a bridge. */
export function tableName(bridge: string): string {
  return `skein_${bridge.slice(-BRIDGE_ID_DIGITS)}`
}

/** Where the namespace of a task can be opened. */
export function networkNamespacePath(taskId: string): string {
  return `/run/netns/${namespaceName(taskId)}`
}

/** What the node's network needs. */
export interface NodeNetworkOptions {
  /** Asked when needed: this node has another id in each swarm, and none outside. */
  readonly nodeId: () => string
  /** The cluster's pools: traffic to them keeps its source address. */
  readonly addressPools: () => readonly string[]
  /** Makes the host forward packets; default: writes the setting, which then stays. */
  readonly enableForwarding?: () => Promise<void>
}

/** Makes and removes bridge, firewall table and tasks' namespaces. */
export class NodeNetwork implements TaskNetworks {
  readonly #log: Logger
  readonly #options: NodeNetworkOptions
  /** The bridge as it was made, `address/prefix`; the promise is shared by concurrent starts. */
  #bridge:
    | { readonly name: string; readonly gatewayCidr: string; readonly made: Promise<void> }
    | undefined

  constructor(components: { readonly log: Logger }, options: NodeNetworkOptions) {
    this.#log = components.log
    this.#options = options
  }

  /** Connects a task. Returns the path of its namespace. @throws RUNTIME_FAILED */
  async attach(taskId: string, networking: TaskNetworking): Promise<string> {
    const prefix = networking.cidr.split('/')[1] ?? '32'
    await this.#ensureBridge(networking.bridge, `${networking.gateway}/${prefix}`)
    const namespace = namespaceName(taskId)
    const veth = vethName(taskId)
    const peer = `peer name eth0 address ${macOf(networking.cidr)} netns ${namespace}`
    await ip([
      `netns add ${namespace}`,
      `link add ${veth} up master ${networking.bridge} type veth ${peer}`,
    ])
    await ip(
      [
        'link set lo up',
        `address add ${networking.cidr} dev eth0`,
        'link set eth0 up',
        `route add default via ${networking.gateway}`,
      ],
      namespace,
    )
    return networkNamespacePath(taskId)
  }

  /** Disconnects a task. Nothing to do is no error. */
  async detach(taskId: string): Promise<void> {
    await undo(detachLines(taskId), `network of task ${taskId}`)
  }

  /**
   * Makes a bridge, a namespace and a veth pair under the names of `id`, and removes them: whether
   * this host can network containers at all.
   * @throws UNAVAILABLE (no `ip`), RUNTIME_FAILED with its words
   */
  async probe(id: string): Promise<void> {
    const bridge = `skb${id.slice(-VETH_ID_DIGITS)}`
    const peer = `peer name eth0 netns ${namespaceName(id)}`
    try {
      await ip([
        `link add ${bridge} type bridge`,
        `netns add ${namespaceName(id)}`,
        `link add ${vethName(id)} master ${bridge} type veth ${peer}`,
      ])
    } finally {
      await undo([`link delete ${bridge}`, ...detachLines(id)], `network probe ${id}`)
    }
  }

  /** Removes bridge and table. */
  async dispose(): Promise<void> {
    const bridge = this.#bridge?.name ?? bridgeName(this.#options.nodeId())
    const table = tableName(bridge)
    this.#bridge = undefined
    await runCommand(['ip', 'link', 'delete', bridge])
    const script = `add table ip ${table}\ndelete table ip ${table}\n`
    await runNft(script).catch((error: unknown) => {
      // Without nft there is no table either.
      if (isSwarmError(error, 'UNAVAILABLE')) return
      this.#log.warn({ err: error, table }, 'cannot remove an nftables table')
    })
  }

  async #ensureBridge(bridge: string, gatewayCidr: string): Promise<void> {
    if (this.#bridge?.gatewayCidr !== gatewayCidr || this.#bridge.name !== bridge) {
      const made = this.#makeBridge(bridge, gatewayCidr)
      const entry = { name: bridge, gatewayCidr, made }
      this.#bridge = entry
      // A failed attempt is not remembered: the cause may be gone at the next task.
      made.catch(() => {
        if (this.#bridge === entry) this.#bridge = undefined
      })
    }
    await this.#bridge.made
  }

  async #makeBridge(bridge: string, gatewayCidr: string): Promise<void> {
    try {
      const { code } = await runCommand(['ip', 'link', 'show', 'dev', bridge])
      const create = code === 0 ? [] : [`link add ${bridge} type bridge`]
      const address = `address replace ${gatewayCidr} dev ${bridge}`
      await ip([...create, address, `link set ${bridge} up`])
      await (this.#options.enableForwarding ?? enableForwarding)()
    } catch (cause) {
      throw new SwarmError('RUNTIME_FAILED', `bridge ${bridge}: cannot make it`, { cause })
    }
    await this.#makeTable(bridge, gatewayCidr)
  }

  /** Containers work without it, but reach nothing outside: worth a warning, not a failed task. */
  async #makeTable(bridge: string, gatewayCidr: string): Promise<void> {
    const table = tableName(bridge)
    const inside = [...new Set([subnetOf(gatewayCidr), ...this.#options.addressPools()])]
    const conditions = inside.map((pool) => `ip daddr != ${pool}`).join(' ')
    const rule = `ip saddr ${subnetOf(gatewayCidr)} oifname != "${bridge}" ${conditions} masquerade`
    const script = `add table ip ${table}
delete table ip ${table}
table ip ${table} {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${rule}
  }
}
`
    try {
      await runNft(script)
    } catch (error) {
      this.#log.warn({ err: error, bridge }, 'containers cannot reach outside addresses')
    }
  }
}

async function ip(lines: readonly string[], namespace?: string): Promise<void> {
  const where = namespace === undefined ? [] : ['-n', namespace]
  await runTool(['ip', ...where, '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

/** Runs deletions; what is not there is no error. */
async function undo(lines: readonly string[], subject: string): Promise<void> {
  const result = await runCommand(['ip', '-force', '-batch', '-'], { input: lines.join('\n') })
  const faults = result.stderr
    .split('\n')
    .filter((line) => line !== '' && !/Cannot find device|No such file|^Command failed/.test(line))
  if (faults.length === 0) return
  throw new SwarmError('RUNTIME_FAILED', `${subject}: ${faults.join('; ')}`)
}

/** The veth first: it vanishes at once. */
function detachLines(taskId: string): string[] {
  return [`link delete ${vethName(taskId)}`, `netns delete ${namespaceName(taskId)}`]
}

/** Runs a script, which is one transaction. */
async function runNft(script: string): Promise<void> {
  await runTool(['nft', '-f', '-'], { input: script })
}

async function enableForwarding(): Promise<void> {
  const file = '/proc/sys/net/ipv4/ip_forward'
  if ((await readFile(file, 'utf8')).trim() !== '1') await writeFile(file, '1')
}

function namespaceName(taskId: string): string {
  return `skein-${taskId}`
}

function vethName(taskId: string): string {
  return `skv${taskId.slice(-VETH_ID_DIGITS)}`
}

/** A locally administered address: stable for the same IPv4 address in the same subnet. */
function macOf(cidr: string): string {
  const digest = createHash('sha256').update(cidr).digest('hex')
  const tail = digest.slice(0, 10).match(/../g) ?? []
  return ['02', ...tail].join(':')
}

/** Network address and prefix of `10.1.2.3/24`: `10.1.2.0/24`. */
export function subnetOf(cidr: string): string {
  const [address = '', prefixText = '32'] = cidr.split('/')
  const prefix = Number(prefixText)
  const mask = prefix === 0 ? 0 : (~0 << (32 - prefix)) >>> 0
  return `${textOf((numberOf(address) & mask) >>> 0)}/${prefix}`
}

/** The gateway of a subnet: its first address. */
export function gatewayOf(subnet: string): string {
  return textOf(numberOf(subnetOf(subnet).split('/')[0] ?? '') + 1)
}

function numberOf(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
}

function textOf(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.')
}
