/** Which nodes the overlay's tunnels can join: what their advertised addresses allow. Pure. */
import { isIP } from 'node:net'
import type { Node } from '../store/objects.ts'

/** Why no tunnel leads from `self` to `node`; undefined when one does. */
export function tunnelRefusal(node: Node, self: Node): string | undefined {
  const host = node.advertiseHost
  if (!isTunnelEnd(self.advertiseHost)) return `this node advertises ${self.advertiseHost}`
  if (!isTunnelEnd(host)) return `it advertises ${host}`
  if (isOnOneHost(node, self)) return `it is on this host`
  if (isIP(host) !== isIP(self.advertiseHost)) return `${host} is of the other address family`
  return undefined
}

/** Whether tunnels can end at `host`: an address, and not of loopback. */
export function isTunnelEnd(host: string): boolean {
  return isIP(host) !== 0 && !host.startsWith('127.') && host !== '::1' && host !== '0.0.0.0'
}

/** Whether two nodes share a kernel, whose routes lead to the tasks of both without a tunnel. */
export function isOnOneHost(node: Node, self: Node): boolean {
  return node.advertiseHost === self.advertiseHost
}
