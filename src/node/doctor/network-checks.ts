/** The network: ports, MTU, forwarding, other firewalls, and how the kernel can balance. */
import { createSocket } from 'node:dgram'
import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { Server } from 'node:net'
import { loadNative } from '../../network/netlink/native.ts'
import { chooseDriver, probeCapabilities } from '../../network/plane/capabilities.ts'
import { join } from 'node:path'
import { fail, pass, warn } from './finding.ts'
import { checkHostFirewall } from './firewall-check.ts'
import type { FirewallPlaces } from './firewall-check.ts'
import type { Check, Finding } from './finding.ts'
import { HOST_PLACES } from './host-checks.ts'
import type { HostPlaces } from './host-checks.ts'

/** UDP port of the overlay's tunnels. */
const OVERLAY_PORT = 4_789

/** Smallest MTU of an uplink that carries the overlay's packets without cutting IPv6's least. */
const UPLINK_MTU_MIN = 1_350

/** Checks of the network. */
export function networkChecks(
  options: { readonly listenAddress: string },
  places: FirewallPlaces = HOST_PLACES,
): readonly Check[] {
  return [
    { name: 'mesh port', run: () => checkMeshPort(options.listenAddress) },
    { name: 'overlay port', run: () => checkOverlayPort() },
    { name: 'MTU', run: () => checkMtu() },
    { name: 'bridge filter', run: () => checkBridgeFilter() },
    { name: 'host firewall', run: () => checkHostFirewall(places) },
    { name: SETTINGS, run: () => checkSettings(places) },
    { name: 'kernel balancing', run: () => checkKernel() },
  ]
}

/** One finding for each thing that balancing in the kernel stands on. */
async function checkKernel(): Promise<readonly Finding[]> {
  const found = await probeCapabilities(loadNative())
  const { driver, reason } = chooseDriver(found)
  const advice = {
    root: 'run the daemon as root; without, userspace balances published ports',
    addon: 'install a C compiler (apt install gcc libc6-dev), then npm rebuild',
    nftables: 'apt install nftables; the kernel needs nf_tables with nat',
    vxlan: 'the kernel needs vxlan: without it containers reach no other node',
    ipvs: 'the kernel needs ip_vs; nftables balances meanwhile',
    portGuard:
      'the kernel needs nf_tables_bridge: without, a task with raw sockets can forge a neighbour',
    macvlan: 'the kernel needs macvlan for networks of that driver',
    ipvlan: 'the kernel needs ipvlan for networks of that driver',
  } as const
  const names = ['addon', 'nftables', 'vxlan', 'ipvs', 'portGuard', 'macvlan', 'ipvlan'] as const
  const parts = names.map((name) => {
    const { isThere, text } = found[name]
    const check = name === 'portGuard' ? 'guard of tasks' : name
    return isThere ? pass(check, text) : warn(check, text, advice[name])
  })
  const summary = `${driver}: ${reason}`
  const whole = driver === 'userspace' ? warn(KERNEL, summary, advice.root) : pass(KERNEL, summary)
  return [...parts, whole]
}

const KERNEL = 'kernel balancing'
const SETTINGS = 'kernel settings'
/** Connections that the kernel should be able to track: a busy service has ten thousands. */
const CONNECTIONS_MIN = 65_536

async function checkMeshPort(listenAddress: string): Promise<Finding> {
  const check = 'mesh port'
  const separator = listenAddress.lastIndexOf(':')
  const host = listenAddress.slice(0, separator).replaceAll(/[[\]]/g, '')
  const port = Number(listenAddress.slice(separator + 1))
  const fault = await tryListen(createServer(), { host, port })
  if (fault === undefined) return pass(check, `${listenAddress} is free`)
  if (fault === 'EADDRINUSE') {
    const advice = 'fine if that is the daemon of this node, else choose --listen-addr'
    return warn(check, `${listenAddress} is in use`, advice)
  }
  return fail(check, `${listenAddress}: ${fault}`, 'choose an address of this host: --listen-addr')
}

function tryListen(
  server: Server,
  where: { readonly host: string; readonly port: number },
): Promise<string | undefined> {
  return new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    server.listen(where, () => server.close(() => resolve(undefined)))
  })
}

function checkOverlayPort(): Promise<Finding> {
  const check = 'overlay port'
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const message = `UDP port ${OVERLAY_PORT}: ${error.code ?? error.message}`
      resolve(warn(check, message, 'another overlay (Docker, Flannel) or this node has it'))
    })
    socket.bind(OVERLAY_PORT, () => {
      socket.close(() => resolve(pass(check, `UDP port ${OVERLAY_PORT} is free`)))
    })
  })
}

async function checkMtu(): Promise<Finding> {
  const routes = await readFile('/proc/net/route', 'utf8')
  const uplinks = routes
    .split('\n')
    .map((row) => row.split('\t'))
    .filter(([, destination, , , , , , mask]) => destination === '00000000' && mask === '00000000')
    .map(([device = '']) => device)
  const [uplink] = uplinks
  if (uplink === undefined) {
    const message = 'no default route: the node reaches only its own networks'
    return warn('MTU', message, 'fine for a closed site')
  }
  const mtu = Number(await readFile(`/sys/class/net/${uplink}/mtu`, 'utf8'))
  if (mtu >= UPLINK_MTU_MIN) return pass('MTU', `${mtu} on ${uplink}`)
  return warn('MTU', `${mtu} on ${uplink}`, `at least ${UPLINK_MTU_MIN} avoids cut packets`)
}

/** Settings that a node changes or leans on. Without `/proc/sys` to write to there is no plane. */
async function checkSettings({ proc }: Pick<HostPlaces, 'proc'>): Promise<Finding> {
  const forwarding = join(proc, 'sys/net/ipv4/ip_forward')
  const isRoot = process.getuid?.() === 0
  const isWritable = await access(forwarding, constants.W_OK).then(
    () => true,
    () => false,
  )
  if (isRoot && !isWritable) {
    const advice = 'mount /proc/sys for writing; without, containers have no network'
    return fail(SETTINGS, `${forwarding}: cannot be written`, advice)
  }
  const tracked = Number(await textOf(join(proc, 'sys/net/netfilter/nf_conntrack_max')))
  if (tracked > 0 && tracked < CONNECTIONS_MIN) {
    const advice = `sysctl net.netfilter.nf_conntrack_max=${CONNECTIONS_MIN}: more are dropped`
    return warn(SETTINGS, `the kernel tracks ${tracked} connections at most`, advice)
  }
  const forwards = (await textOf(forwarding))?.trim() === '1'
  const filter = (await textOf(join(proc, 'sys/net/ipv4/conf/all/rp_filter')))?.trim()
  const words = [
    forwards ? 'forwards packets' : 'will be told to forward packets',
    `reverse path filter ${filter ?? 'unknown'}`,
    tracked > 0 ? `tracks ${tracked} connections` : 'connection tracking not loaded yet',
  ]
  return pass(SETTINGS, words.join(', '))
}

/** The content; undefined when there is no such file, or it is not for us. */
async function textOf(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined)
}

async function checkBridgeFilter(): Promise<Finding> {
  const check = 'bridge filter'
  const path = '/proc/sys/net/bridge/bridge-nf-call-iptables'
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined || text.trim() === '0')
    return pass(check, 'bridged packets pass untouched')
  const message = 'bridged packets pass the IP firewall of the host'
  return warn(check, message, 'sysctl net.bridge.bridge-nf-call-iptables=0, unless Docker needs it')
}
