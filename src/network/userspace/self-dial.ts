/**
 * Keeps a published port from being its own backend. A task that answers on this node's own address
 * (the process executor's do) could stop listening, and the balancer, listening on all addresses,
 * could be what answers there: each connection would then open another to itself until no socket is
 * left.
 *
 * A server is looked at again when it changes, or a server on a port that it dials.
 */
import { isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { Backend, VirtualServer } from '../ports.ts'

const WILDCARDS: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

/** Who listens on which port, and who dials it. */
export class SelfDials {
  /** Servers by id, by protocol and the port that they listen on. */
  readonly #listening = new Map<string, Map<string, VirtualServer>>()
  /** Ids of servers, by protocol and port of their backends on this node. */
  readonly #dialling = new Map<string, Set<string>>()

  /** Puts `after` in the place of `before`; the ids of other servers to look at again. */
  replace(before: VirtualServer | undefined, after: VirtualServer | undefined): string[] {
    if (before !== undefined) {
      const { id } = before
      withdraw(this.#listening, portText(before, before.port), (servers) => servers.delete(id))
      for (const port of localPorts(before)) {
        withdraw(this.#dialling, portText(before, port), (ids) => ids.delete(id))
      }
    }
    if (after !== undefined) this.#add(after)
    const isMoved = before?.port !== after?.port || before?.address !== after?.address
    if (!isMoved) return []
    return [before, after].flatMap((server) =>
      server === undefined ? [] : [...(this.#dialling.get(portText(server, server.port)) ?? [])],
    )
  }

  /** Whether dialling a backend of `server` would reach a published port of this node. */
  reaches({ protocol }: VirtualServer, backend: Backend): boolean {
    if (!backend.local) return false
    const there = this.#listening.get(portText({ protocol }, backend.port))?.values() ?? []
    return [...there].some(({ address }) =>
      WILDCARDS.has(address) ? isOwnAddress(backend.address) : address === backend.address,
    )
  }

  #add(server: VirtualServer): void {
    const { id } = server
    const listening = portText(server, server.port)
    const there = this.#listening.get(listening)
    if (there === undefined) this.#listening.set(listening, new Map([[id, server]]))
    else there.set(id, server)
    for (const port of localPorts(server)) {
      const dialling = portText(server, port)
      const ids = this.#dialling.get(dialling)
      if (ids === undefined) this.#dialling.set(dialling, new Set([id]))
      else ids.add(id)
    }
  }
}

function withdraw<T extends { readonly size: number }>(
  index: Map<string, T>,
  key: string,
  remove: (entries: T) => void,
): void {
  const entries = index.get(key)
  if (entries === undefined) return
  remove(entries)
  if (entries.size === 0) index.delete(key)
}

function localPorts({ backends }: VirtualServer): Set<number> {
  return new Set(backends.flatMap(({ local, port }) => (local ? [port] : [])))
}

function portText({ protocol }: Pick<VirtualServer, 'protocol'>, port: number): string {
  return `${protocol} ${port}`
}

function isOwnAddress(address: string): boolean {
  if (isIPv4(address) && address.startsWith('127.')) return true
  return Object.values(networkInterfaces()).some((list) =>
    list?.some((candidate) => candidate.address === address),
  )
}
