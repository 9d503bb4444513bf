/**
 * Which ports are open in a process's network namespace, asked of the kernel by netlink
 * (sock_diag): it gives listeners alone, where its files make it walk all connections.
 */
import type { OpenPort, OpenPortReader } from '../agent/health/listening.ts'
import { netnsOfProcess } from '../network/netlink/native.ts'
import type { NativeLoad } from '../network/netlink/native.ts'
import { isNetlinkError } from '../network/netlink/netlink-error.ts'
import { decodeOpenSocket, dumpOpenSockets } from '../network/netlink/sock-diag.ts'
import type { OpenSocket } from '../network/netlink/sock-diag.ts'
import { NetlinkSocket } from '../network/netlink/socket.ts'

/** `::ffff:127.0.0.0/104` as it is printed. */
const MAPPED_LOOPBACK = /^::ffff:7f[0-9a-f]{2}:/

/** A reader, for the agent's components; none without the addon. */
export function openPortReader(load: NativeLoad): { readonly openPorts?: OpenPortReader } {
  if (load.type === 'absent') return {}
  const { native } = load
  const openPorts: OpenPortReader = async (pid, protocol) => {
    try {
      const place = { protocol: 'diag', netns: netnsOfProcess(pid) } as const
      await using socket = await NetlinkSocket.open(native, place)
      const ports: OpenPort[] = []
      for (const family of ['ipv4', 'ipv6'] as const) {
        const found = await socket.dump(dumpOpenSockets({ protocol, family }))
        ports.push(...found.map(decodeOpenSocket).map(openPort))
      }
      return ports
    } catch (error) {
      if (!isNetlinkError(error)) throw error
      // The process is gone, this is no root, or the kernel has no sock_diag: its files say more.
      return undefined
    }
  }
  return { openPorts }
}

function openPort({ address, port }: OpenSocket): OpenPort {
  const isIpv4 = address.startsWith('127.')
  return { port, isLoopback: isIpv4 || address === '::1' || MAPPED_LOOPBACK.test(address) }
}
