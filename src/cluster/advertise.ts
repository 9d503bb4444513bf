/**
 * Which address this node tells its peers. Docker's rule: the advertised address is the listen address unless that is a
 * wildcard; then it is this machine's one global address, and with several the user must choose.
 * Source: moby `daemon/cluster/listen_addr.go`, in its behaviour.
 */
import { networkInterfaces } from 'node:os'
import { isIP, isIPv4 } from 'node:net'
import { SwarmError } from '../base/errors.ts'
import { parseHostPort } from '../mesh/addresses.ts'
import type { HostPort } from '../mesh/addresses.ts'

/** Where this node listens and what it tells peers. */
export interface NodeAddresses {
  readonly listen: HostPort
  readonly advertised: HostPort
}

/** Whether `host` stands for all addresses. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

/**
 * What to tell peers: `advertise` if given (an address or an interface's name), else the listen
 * address, else this machine's address. @throws INVALID_ARGUMENT
 */
export function chooseAdvertised(advertise: string, listen: HostPort): HostPort {
  if (advertise !== '') {
    const onInterface = interfaceAddress(advertise)
    if (onInterface !== undefined) return { host: onInterface, port: listen.port }
    const chosen = parseHostPort(advertise, listen.port)
    if (isWildcard(chosen.host)) {
      throw new SwarmError('INVALID_ARGUMENT', `advertise address "${advertise}": must be specific`)
    }
    return chosen
  }
  if (!isWildcard(listen.host)) return listen
  return { host: onlyGlobalAddress(), port: listen.port }
}

function interfaceAddress(name: string): string | undefined {
  if (isIP(name) !== 0) return undefined
  return networkInterfaces()[name]?.find((address) => isIPv4(address.address))?.address
}

function onlyGlobalAddress(): string {
  const found: { readonly name: string; readonly address: string }[] = []
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if (/^(docker|br-|veth|sk)/.test(name)) continue
    for (const address of addresses ?? []) {
      if (!address.internal && isIPv4(address.address))
        found.push({ name, address: address.address })
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
