/**
 * Which address this node tells its peers. Docker's rule: the advertised address is the listen
 * address unless that is a wildcard; then it is this machine's one global address, and with several
 * the user must choose.
 * Source: moby `daemon/cluster/listen_addr.go`, in its behaviour.
 */
import { networkInterfaces } from 'node:os'
import { isIPv4 } from 'node:net'
import { SwarmError } from '../base/errors.ts'
import { parseHostPort } from '../mesh/addresses.ts'
import type { HostPort } from '../mesh/addresses.ts'

/** Where this node listens and what it tells peers. */
export interface NodeAddresses {
  readonly listen: HostPort
  readonly advertised: HostPort
}

/** This machine's addresses by interface, as `os.networkInterfaces` gives them. */
export type Interfaces = Readonly<
  Record<string, readonly { readonly address: string; readonly internal: boolean }[] | undefined>
>

/** Interfaces of containers and bridges: no peer reaches this machine there. */
const INNER_INTERFACE = /^(docker|br-|veth|sk)/

/** Whether `host` stands for all addresses. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

/**
 * What to tell peers: `advertise` if given (an address or an interface's name, with or without a
 * port), else the listen address, else this machine's address. @throws INVALID_ARGUMENT
 */
export function chooseAdvertised(
  advertise: string,
  listen: HostPort,
  interfaces: Interfaces = networkInterfaces(),
): HostPort {
  if (advertise !== '') {
    const { host, port } = parseHostPort(advertise, listen.port)
    if (isWildcard(host)) {
      throw new SwarmError('INVALID_ARGUMENT', `advertise address "${advertise}": must be specific`)
    }
    return { host: interfaceAddress(host, interfaces) ?? host, port }
  }
  if (!isWildcard(listen.host)) return listen
  return { host: onlyGlobalAddress(interfaces), port: listen.port }
}

/**
 * The address of the interface `name`, IPv4 before IPv6; undefined when there is none of that name.
 */
function interfaceAddress(name: string, interfaces: Interfaces): string | undefined {
  const addresses = Object.hasOwn(interfaces, name) ? interfaces[name] : undefined
  if (addresses === undefined) return undefined
  const usable = addresses.map((one) => one.address).filter((one) => !isLinkLocal(one))
  const found = usable.find((address) => isIPv4(address)) ?? usable[0]
  if (found !== undefined) return found
  throw new SwarmError('INVALID_ARGUMENT', `interface ${name}: has no address to advertise`)
}

function onlyGlobalAddress(interfaces: Interfaces): string {
  const found: { readonly name: string; readonly address: string }[] = []
  for (const [name, addresses] of Object.entries(interfaces)) {
    if (INNER_INTERFACE.test(name)) continue
    for (const { address, internal } of addresses ?? []) {
      if (!internal && isIPv4(address) && !isLinkLocal(address)) found.push({ name, address })
    }
  }
  const [first, second] = found
  if (first === undefined) return '127.0.0.1'
  if (second === undefined) return first.address
  const choices = found.map((one) => `${one.address} on ${one.name}`).join(', ')
  throw new SwarmError(
    'INVALID_ARGUMENT',
    `could not choose an IP address to advertise since this system has multiple addresses ` +
      `(${choices}) - specify one with --advertise-addr`,
  )
}

/** Valid on one wire only; peers elsewhere cannot use it. */
function isLinkLocal(address: string): boolean {
  return isIPv4(address) ? address.startsWith('169.254.') : /^fe[89ab]/i.test(address)
}
