/**
 * What the kernel should have, by frontend: the placements of all wanted servers, changed one by
 * one.
 *
 * Invariant: of servers that ask for one frontend the one with the least id has it, whatever came
 * first; the others have a fault, and take its place when it goes.
 */
import type { BalancerFault, ServerChange, VirtualServer } from '../ports.ts'
import { takeOver } from '../server-change.ts'
import type { TimeSlices } from '../time-slices.ts'
import { compileServer, frontendFamily, isSameServer } from './placement.ts'
import type { Compiled, Placement } from './placement.ts'

/** The wanted state of the kernel's table. */
export class WantedFrontends {
  readonly #slices: TimeSlices
  /** Whether the kernel can change the ports of SCTP. */
  readonly #hasSctp: () => boolean
  readonly #servers = new Map<string, VirtualServer>()
  /** What each server came to, by id. */
  readonly #compiled = new Map<string, Compiled>()
  /** Servers' ids by the text of their frontend; two only while there is a fault. */
  readonly #claims = new Map<string, Set<string>>()
  readonly #placements = new Map<string, Placement>()
  /** Of the placements those in IPv6: text of the frontend → server's id. */
  readonly #ipv6 = new Map<string, string>()
  /** What is wrong with servers, by id. */
  readonly #faults = new Map<string, readonly string[]>()

  constructor(slices: TimeSlices, { hasSctp }: { readonly hasSctp: () => boolean }) {
    this.#slices = slices
    this.#hasSctp = hasSctp
  }

  /** By id, as told last. */
  get servers(): ReadonlyMap<string, VirtualServer> {
    return this.#servers
  }

  /** By text of the frontend. */
  get placements(): ReadonlyMap<string, Placement> {
    return this.#placements
  }

  /** Ids of the servers in IPv6, by text of the frontend. */
  get ipv6(): ReadonlyMap<string, string> {
    return this.#ipv6
  }

  faults(): BalancerFault[] {
    return [...this.#faults].flatMap(([id, messages]) =>
      messages.map((message) => ({ id, message })),
    )
  }

  /** Takes a change over; texts of frontends whose placement may have changed. */
  async change(change: ServerChange): Promise<ReadonlySet<string>> {
    const touched = new Set<string>()
    for (const id of takeOver(this.#servers, change).keys()) {
      const owners = this.#compile(id)
      for (const owner of owners) {
        this.#settle(owner)
        touched.add(owner)
      }
      await this.#slices.maybeYield()
    }
    return touched
  }

  /** Compiles a server anew; the frontends that it had and has. */
  #compile(id: string): string[] {
    const server = this.#servers.get(id)
    const before = this.#compiled.get(id)
    if (before !== undefined && server !== undefined && isSameServer(before.server, server)) {
      return []
    }
    this.#compiled.delete(id)
    this.#faults.delete(id)
    if (before !== undefined) this.#withdraw(before.owner, id)
    if (server === undefined) return ownersOf(before)
    const compiled = this.#isLackingSctp(server) ? lackingSctp(server) : compileServer(server)
    this.#compiled.set(id, compiled)
    if (compiled.placement === undefined) this.#setFaults(id, compiled)
    else this.#claim(compiled.owner, id)
    return [...new Set([...ownersOf(before), ...ownersOf(compiled)])]
  }

  #isLackingSctp({ protocol }: VirtualServer): boolean {
    return protocol === 'sctp' && !this.#hasSctp()
  }

  /** Decides who has a frontend. */
  #settle(owner: string): void {
    const ids = [...(this.#claims.get(owner) ?? [])].toSorted()
    const [first] = ids
    this.#placements.delete(owner)
    this.#ipv6.delete(owner)
    for (const id of ids) {
      const compiled = this.#compiled.get(id)
      if (compiled?.placement === undefined) continue
      if (id === first) {
        this.#placements.set(owner, compiled.placement)
        if (frontendFamily(compiled.placement.frontend) === 'ipv6') this.#ipv6.set(owner, id)
        this.#setFaults(id, compiled)
      } else {
        this.#setFaults(id, compiled, `${owner}: is taken by ${first}`)
      }
    }
  }

  #setFaults(id: string, { fault }: Compiled, conflict?: string): void {
    const messages = [fault, conflict].filter((message) => message !== undefined)
    if (messages.length === 0) this.#faults.delete(id)
    else this.#faults.set(id, messages)
  }

  #claim(owner: string, id: string): void {
    const ids = this.#claims.get(owner)
    if (ids === undefined) this.#claims.set(owner, new Set([id]))
    else ids.add(id)
  }

  #withdraw(owner: string, id: string): void {
    const ids = this.#claims.get(owner)
    ids?.delete(id)
    if (ids?.size === 0) this.#claims.delete(owner)
  }
}

function ownersOf(compiled: Compiled | undefined): string[] {
  return compiled?.placement === undefined ? [] : [compiled.owner]
}

function lackingSctp(server: VirtualServer): Compiled {
  const what = 'this kernel does not track SCTP (CONFIG_NF_CT_PROTO_SCTP)'
  const fault = `port ${server.port}/sctp: ${what}`
  return { server, owner: '', placement: undefined, fault }
}
