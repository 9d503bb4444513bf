/**
 * A cluster of network namespaces on this machine: nodes and a client on one switch, containers as
 * namespaces with a small web server that says who it is and whom it sees. The store is real, and
 * the plane of each node is made by the code under test.
 */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Store } from '../../../store/store.ts'
import type { Network, Service, Task } from '../../../store/objects.ts'
import {
  clusterDraft,
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  writeTo,
} from '../../../store/testing/fixtures.ts'
import type { Action, Draft } from '../../../store/transaction.ts'
import type { Sandbox } from '../../netlink/testing/sandbox.ts'
import { ipv6Of } from '../../../store/ipv6.ts'
import { planeNames } from '../names.ts'
import { Plane } from '../plane.ts'
import type { PlaneReport } from '../plane.ts'
import { TaskLinks } from '../task-links.ts'
import { wantedPlane } from '../wanted-plane.ts'
import type { WantedPlane } from '../wanted-plane.ts'

/** Where programs are; npm puts its own first. */
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** Seconds that a packet may stay unanswered before that counts as lost. */
const ANSWER_SECONDS = 3
export const CLIENT_ADDRESS = '192.168.50.100'
export const CLIENT_ADDRESS_6 = 'fd50::100'

/** A node: its namespace and what the code under test made there. */
export interface OverlayNode {
  readonly id: string
  readonly netns: string
  readonly address: string
  readonly subnet: string
  plane: Plane
  readonly links: TaskLinks
}

/** A container. */
export interface OverlayTask {
  readonly id: string
  readonly node: OverlayNode
  readonly netns: string
  readonly address: string
}

/** The cluster of one test. */
export class Overlay implements AsyncDisposable {
  readonly store = new Store()
  readonly nodes: OverlayNode[] = []
  readonly #sandbox: Sandbox
  readonly #directory = mkdtempSync(join(tmpdir(), 'skein-plane-'))
  readonly #processes: ChildProcess[] = []
  readonly #tasks: OverlayTask[] = []
  readonly #hasIpv6: boolean
  client = ''

  private constructor(sandbox: Sandbox, hasIpv6: boolean) {
    this.#sandbox = sandbox
    this.#hasIpv6 = hasIpv6
  }

  /**
   * Makes switch, client, nodes; with IPv6 they have the addresses `fd50::N`, too. The planes are
   * not applied.
   */
  static async create(
    sandbox: Sandbox,
    nodeCount = 3,
    { hasIpv6 = false }: { readonly hasIpv6?: boolean } = {},
  ): Promise<Overlay> {
    const overlay = new Overlay(sandbox, hasIpv6)
    sandbox.run('ip link add switch type bridge; ip link set switch up')
    sandbox.run('echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables || true')
    overlay.client = await overlay.#plug(`${CLIENT_ADDRESS}/24`)
    overlay.write({ type: 'create', table: 'cluster', object: clusterDraft() })
    for (let index = 1; index <= nodeCount; index += 1) await overlay.#addNode(index)
    return overlay
  }

  /** Writes to the store that all nodes read. */
  write(...actions: Action[]): void {
    writeTo(this.store, ...actions)
  }

  network(id: string, subnet: string, spec: Partial<Network['spec']> = {}): void {
    const object = { id, spec: { Name: id, ...spec }, subnet }
    this.write({ type: 'create', table: 'networks', object })
  }

  service(id: string, addresses: Readonly<Record<string, string>>): void {
    const virtualAddresses = Object.entries(addresses).map(([networkId, address]) => {
      return { networkId, address }
    })
    const object: Draft<Service> = {
      ...serviceDraft(id, serviceSpec(id)),
      endpoint: { ports: [], allocatedFor: 0, virtualAddresses },
    }
    this.write({ type: 'create', table: 'services', object })
  }

  /** Writes a task to the store and connects it. Its node must have its plane. */
  async task(
    id: string,
    node: OverlayNode,
    on: readonly string[],
    fields: Partial<Draft<Task>> = {},
  ): Promise<OverlayTask> {
    const place = this.#tasks.filter((task) => task.node === node).length + 2
    const address = node.subnet.replace('0/24', String(place))
    const networks = on.map((networkId) => ({ networkId, aliases: [] }))
    const object = taskDraft(id, { nodeId: node.id, address, networks, ...fields })
    this.write({ type: 'create', table: 'tasks', object })
    const wanted = this.wanted(node)
    const prefix = wanted.ipv6Prefix
    const netns = await node.links.attach(id, {
      cidr: `${address}/24`,
      gateway: wanted.gateway,
      bridge: planeNames(node.id).bridge,
      ...(node.plane.mtu === undefined ? {} : { mtu: node.plane.mtu }),
      ...(prefix === undefined
        ? {}
        : { ipv6: { address: ipv6Of(prefix, address), gateway: ipv6Of(prefix, wanted.gateway) } }),
    })
    const task = { id, node, netns, address }
    this.#tasks.push(task)
    return task
  }

  /** Removes a task from the store and disconnects it. */
  async removeTask(task: OverlayTask): Promise<void> {
    await task.node.links.detach(task.id)
    this.#tasks.splice(this.#tasks.indexOf(task), 1)
    const { meta } = this.store.get('tasks', task.id) ?? {}
    if (meta === undefined) throw new Error(`no task ${task.id}`)
    this.write({ type: 'remove', table: 'tasks', id: task.id, version: meta.version })
  }

  wanted(node: OverlayNode): WantedPlane {
    const wanted = wantedPlane({ store: this.store, nodeId: node.id })
    if (wanted === undefined) throw new Error(`no plane for ${node.id}`)
    return wanted
  }

  /** Applies the store to all nodes. */
  async apply(): Promise<PlaneReport[]> {
    const reports: PlaneReport[] = []
    for (const node of this.nodes) reports.push(await node.plane.apply(this.wanted(node)))
    return reports
  }

  /** A web server that answers with its name and the address that it sees. */
  async serve(netns: string, name: string, port = 80): Promise<void> {
    const directory = join(this.#directory, `${name}-${port}`)
    mkdirSync(join(directory, 'cgi-bin'), { recursive: true })
    const script = join(directory, 'cgi-bin', 'who')
    writeFileSync(script, `#!/bin/sh\necho\necho "${name} $REMOTE_ADDR"\n`)
    chmodSync(script, 0o755)
    this.start(netns, ['busybox', 'httpd', '-f', '-p', String(port), '-h', directory])
    this.run(netns, `for i in $(seq 100); do ${listens(port)} && exit 0; sleep 0.05; done; exit 1`)
    await Promise.resolve()
  }

  /** Starts a process that ends with the test. */
  start(netns: string, argv: readonly string[]): ChildProcess {
    const child = spawn('nsenter', [`--net=${netns}`, ...argv], {
      stdio: 'ignore',
      env: { PATH: SYSTEM_PATH },
      detached: true,
    })
    this.#processes.push(child)
    return child
  }

  /** Output of a command in a namespace. */
  run(netns: string, command: string): string {
    return execFileSync('nsenter', [`--net=${netns}`, 'sh', '-c', command], {
      encoding: 'utf8',
      env: { PATH: SYSTEM_PATH },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  /** `name address` of who answers, `refused`, or `lost` when nothing comes back. */
  ask(netns: string, host: string, port = 80): string {
    const place = host.includes(':') ? `[${host}]` : host
    const url = `http://${place}:${port}/cgi-bin/who`
    const ask = `timeout ${ANSWER_SECONDS} busybox wget -qO- ${url} 2>&1; echo " status $?"`
    const words = this.run(netns, ask)
    if (/status 0/.test(words)) {
      return (words.split('\n')[0] ?? '').replace(/\[(?:::ffff:)?([^\]]*)\]/, '$1')
    }
    return /status (?:124|143)/.test(words) ? 'lost' : `refused`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { pid } of this.#processes) if (pid !== undefined) process.kill(-pid, 'SIGKILL')
    for (const task of this.#tasks) await task.node.links.detach(task.id)
    for (const node of this.nodes) {
      await node.plane[Symbol.asyncDispose]()
      await node.links[Symbol.asyncDispose]()
    }
    // Only a test that failed has left any.
    const namespaces = join(this.#directory, 'netns')
    for (const name of existsSync(namespaces) ? readdirSync(namespaces) : []) {
      await this.#sandbox.native.removeNetns(join(namespaces, name))
    }
    rmSync(this.#directory, { recursive: true })
  }

  async #addNode(index: number): Promise<void> {
    const id = `node000${index}`
    const address = `192.168.50.${index}`
    const subnet = `10.32.${index}.0/24`
    const netns = await this.#plug(`${address}/24`)
    const plain = nodeDraft(id, { subnet, advertiseHost: address })
    const addresses = [address, ...(this.#hasIpv6 ? [`fd50::${index}`] : [])]
    const object = { ...plain, description: { ...plain.description, addresses } }
    this.write({ type: 'create', table: 'nodes', object })
    const { native } = this.#sandbox
    const plane = await Plane.open(native, { nodeId: id, netns })
    const links = await TaskLinks.open(native, { netns, directory: join(this.#directory, 'netns') })
    this.nodes.push({ id, netns, address, subnet, plane, links })
  }

  /** A namespace with a cable to the switch. */
  async #plug(prefix: string): Promise<string> {
    const netns = await this.#sandbox.anotherNetns()
    const port = `p${prefix.split('/')[0]?.split('.').at(-1) ?? ''}`
    const peer = `peer name eth0 netns ${netns}`
    this.#sandbox.run(`ip link add ${port} up master switch type veth ${peer}`)
    const off = this.#hasIpv6 ? 0 : 1
    this.run(netns, `echo ${off} >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set lo up`)
    this.run(netns, `ip addr add ${prefix} dev eth0; ip link set eth0 up`)
    if (!this.#hasIpv6) return netns
    const host = prefix.split('/')[0]?.split('.').at(-1) ?? ''
    this.run(netns, `ip addr add fd50::${host}/64 dev eth0 nodad`)
    return netns
  }
}

function listens(port: number): string {
  return `grep -q ":${port.toString(16).toUpperCase().padStart(4, '0')} " /proc/net/tcp /proc/net/tcp6`
}
