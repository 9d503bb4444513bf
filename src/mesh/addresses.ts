/**
 * `host:port` as people write it, multiaddrs as libp2p wants them. An address never contains the
 * peer id: it is a hint where somebody might be found, the key says who it is.
 */
import { isIP } from 'node:net'
import { SwarmError } from '../base/errors.ts'

/** Docker's port for cluster traffic. */
export const DEFAULT_MESH_PORT = 2377

const HOST_NAME =
  /^(?=.{1,253}$)[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?(\.[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?)*$/i
const MULTIADDR = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})$/

/** A place to listen at or to dial. IPv6 addresses without brackets. */
export interface HostPort {
  readonly host: string
  readonly port: number
}

/**
 * Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address. @throws INVALID_ARGUMENT
 */
export function parseHostPort(text: string, defaultPort: number = DEFAULT_MESH_PORT): HostPort {
  if (isIP(text) === 6) return { host: text, port: defaultPort }
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  if (match?.[1] !== undefined ? isIP(host) !== 6 : !isHost(host)) {
    throw new SwarmError('INVALID_ARGUMENT', `address "${text}": is not host:port`)
  }
  const port = match?.[3] === undefined ? defaultPort : Number(match[3])
  if (port > 65_535) {
    throw new SwarmError('INVALID_ARGUMENT', `address "${text}": port is above 65535`)
  }
  return { host, port }
}

/** `host:port` with IPv6 in brackets. */
export function hostPortText({ host, port }: HostPort): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`
}

/** `/ip4/…/tcp/…`, `/ip6/…/tcp/…` or `/dns/…/tcp/…`. */
export function multiaddrOf({ host, port }: HostPort): string {
  const version = isIP(host)
  return `/${version === 0 ? 'dns' : `ip${version}`}/${host}/tcp/${port}`
}

/**
 * The host and port of a TCP multiaddr; a trailing `/p2p/…` is ignored. @throws INVALID_ARGUMENT
 */
export function hostPortOf(text: string): HostPort {
  const match = MULTIADDR.exec(withoutPeerId(text))
  if (match?.[2] === undefined || match[3] === undefined || Number(match[3]) > 65_535) {
    throw new SwarmError('INVALID_ARGUMENT', `address "${text}": is not a TCP multiaddr`)
  }
  return { host: match[2], port: Number(match[3]) }
}

/** `text` without its `/p2p/…` part. */
export function withoutPeerId(text: string): string {
  return text.replace(/\/p2p\/[^/]+$/, '')
}

function isHost(text: string): boolean {
  return isIP(text) === 4 || HOST_NAME.test(text)
}
