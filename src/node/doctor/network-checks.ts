/** The network: ports, MTU, forwarding, other firewalls, and how the kernel can balance. */
import { createSocket } from 'node:dgram'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { Server } from 'node:net'
import { loadNative } from '../../network/netlink/native.ts'
import { chooseDriver, probeCapabilities } from '../../network/plane/capabilities.ts'
import { fail, pass, warn } from './finding.ts'
import type { Check, Finding } from './finding.ts'

/** UDP port of the overlay's tunnels. */
const OVERLAY_PORT = 4_789

/** Smallest MTU of an uplink that carries the overlay's packets without cutting IPv6's least. */
const UPLINK_MTU_MIN = 1_350

/** Checks of the network. */
export function networkChecks(options: { readonly listenAddress: string }): readonly Check[] {
  return [
    { name: 'mesh port', run: () => checkMeshPort(options.listenAddress) },
    { name: 'overlay port', run: () => checkOverlayPort() },
    { name: 'MTU', run: () => checkMtu() },
    { name: 'bridge filter', run: () => checkBridgeFilter() },
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
  } as const
  const parts = (['addon', 'nftables', 'vxlan', 'ipvs', 'portGuard'] as const).map((name) => {
    const { isThere, text } = found[name]
    return isThere ? pass(name, text) : warn(name, text, advice[name])
  })
  const summary = `${driver}: ${reason}`
  const whole = driver === 'userspace' ? warn(KERNEL, summary, advice.root) : pass(KERNEL, summary)
  return [...parts, whole]
}

const KERNEL = 'kernel balancing'

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
