/**
 * The header that tells a backend who its client is, version 2 of the PROXY protocol: the first
 * bytes of a connection, before the client's own. Pure.
 * Source: the specification of HAProxy, `doc/proxy-protocol.txt`, §2.2.
 */
import { addressBytes } from '../netlink/address.ts'

/** No client begins a connection of any protocol with these bytes. */
const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
const VERSION_2_LOCAL = 0x20
const VERSION_2_PROXY = 0x21
const TCP_OVER_IPV4 = 0x11
const TCP_OVER_IPV6 = 0x21
const UNSPECIFIED = 0x00

/** Both ends of a client's connection, as the socket has them; without, the client is gone. */
export interface ClientConnection {
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
  readonly localAddress?: string | undefined
  readonly localPort?: number | undefined
}

/** The header of a connection. */
export function proxyHeader(connection: ClientConnection): Uint8Array {
  const { remoteAddress, remotePort, localAddress, localPort } = connection
  const isKnown = remoteAddress !== undefined && localAddress !== undefined
  if (!isKnown || remotePort === undefined || localPort === undefined) {
    return Uint8Array.of(...SIGNATURE, VERSION_2_LOCAL, UNSPECIFIED, 0, 0)
  }
  const [from, to] = [addressBytes(plain(remoteAddress)), addressBytes(plain(localAddress))]
  const ports = [remotePort, localPort].flatMap((port) => [port >> 8, port & 0xff])
  const body = [...from, ...to, ...ports]
  const family = from.length === 4 ? TCP_OVER_IPV4 : TCP_OVER_IPV6
  return Uint8Array.of(...SIGNATURE, VERSION_2_PROXY, family, 0, body.length, ...body)
}

/** Without a zone (`fe80::1%eth0`). */
function plain(address: string): string {
  return address.split('%')[0] ?? address
}
