/**
 * Keeps a published port from being its own backend. A task that answers on this node's own address
 * (the process executor's do) could stop listening, and the balancer, listening on all addresses,
 * could be what answers there: each connection would then open another to itself until no socket is
 * left.
 */
import { isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { Backend, VirtualServer } from '../ports.ts'

const WILDCARDS: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

/** Whether dialling `backend` would reach one of `servers`. */
export function reachesItself(backend: Backend, servers: readonly VirtualServer[]): boolean {
  if (!backend.local) return false
  const onPort = servers.filter((server) => server.port === backend.port)
  return onPort.some((server) =>
    WILDCARDS.has(server.address)
      ? isOwnAddress(backend.address)
      : server.address === backend.address,
  )
}

function isOwnAddress(address: string): boolean {
  if (isIPv4(address) && address.startsWith('127.')) return true
  return Object.values(networkInterfaces()).some((list) =>
    list?.some((candidate) => candidate.address === address),
  )
}
