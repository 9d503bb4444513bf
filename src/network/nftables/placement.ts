/**
 * What the kernel should have of a virtual server: the chain that picks, and who has which slot.
 * Pure.
 *
 * Invariants: backends that this node's kernel does not reach, and those on loopback, where no
 * packet is sent on, have no slot. A published port that is served by such alone is left to the
 * layer below; one that nobody serves is refused here. A virtual address is never left: what does
 * not pick refuses, or the node's own programs would answer on it. Backends that take no new
 * connection stand in slots that no number reaches, so that the table itself says, also after a
 * restart, whose connections may go on.
 */
import { at } from '../../base/assert.ts'
import { canonicalAddress } from '../netlink/address.ts'
import { ANY_ADDRESS, addressFamily, isLoopbackAddress } from '../ports.ts'
import type { AddressFamily, Backend, VirtualServer } from '../ports.ts'
import { REFUSE_CHAIN, pickChain } from './skeleton.ts'
import type { FrontendKind } from './skeleton.ts'
import { shareSlots } from './slots.ts'

/** Number of the first slot that no packet picks. */
export const DRAINING_SLOTS = 0x8000_0000

/** Protocols with ports. */
export type Transport = 'tcp' | 'udp' | 'sctp'

/** What a server answers on. */
export type Frontend =
  | { readonly kind: 'vip'; readonly address: string }
  | {
      readonly kind: 'port'
      readonly family: AddressFamily
      readonly protocol: Transport
      readonly port: number
    }
  | {
      readonly kind: 'bound'
      readonly address: string
      readonly protocol: Transport
      readonly port: number
    }

/** Where a slot leads. The port is 0 behind a virtual address: the client's stays. */
export interface Target {
  readonly address: string
  readonly port: number
}

/** What the table has, or should have, for a frontend. */
export interface Placement {
  readonly frontend: Frontend
  /** Undefined: no packet is sent to the slots. */
  readonly chain: string | undefined
  readonly slots: ReadonlyMap<number, Target>
  /**
   * Targets, as text, whose node cannot be reached. The kernel's table does not say it, so of what
   * is read from there it is empty, and what they did not answer is forgotten once more.
   */
  readonly lost: ReadonlySet<string>
}

/** What becomes of a virtual server. */
export interface Compiled {
  readonly server: VirtualServer
  /** What the server answers on, as text; empty if it is left to the layer below. */
  readonly owner: string
  /** Undefined: left to the layer below. */
  readonly placement: Placement | undefined
  readonly fault: string | undefined
}

/** A frontend as text; equal for equal ones. */
export function frontendText(frontend: Frontend): string {
  switch (frontend.kind) {
    case 'vip':
      return `virtual address ${frontend.address}`
    case 'port':
      return `port ${frontend.port}/${frontend.protocol} of ${ANY_ADDRESS[frontend.family]}`
    case 'bound':
      return `port ${frontend.port}/${frontend.protocol} of ${frontend.address}`
    default:
      return frontend satisfies never
  }
}

/** The family whose table a frontend is in. */
export function frontendFamily(frontend: Frontend): AddressFamily {
  return frontend.kind === 'port' ? frontend.family : addressFamily(frontend.address)
}

/** A target as text; equal for equal ones. */
export function targetText({ address, port }: Target): string {
  return `${address}:${port}`
}

/** Decides what the kernel does for a server. */
export function compileServer(server: VirtualServer): Compiled {
  const left = { server, owner: '', placement: undefined, fault: undefined }
  const family = addressFamily(server.address)
  const usable = server.backends.filter((backend) => isUsable(backend, family))
  // In an order that does not change, so that few slots do.
  const active = usable
    .filter(({ weight }) => weight > 0)
    .toSorted((a, b) => (a.taskId < b.taskId ? -1 : 1))
  const frontend = frontendOf(server)
  if (frontend === undefined) return left
  if (frontend.kind !== 'vip' && belongsBelow(server, { usable, active })) return left
  const { picked, chain } = pickersOf(server, frontend.kind, active)
  const slots = new Map<number, Target>()
  for (const [slot, index] of picked.entries()) slots.set(slot, targetOf(at(active, index)))
  const served = new Set(picked)
  const resting = usable.filter(({ weight }) => weight === 0)
  const crowded = active.filter((_, index) => !served.has(index))
  for (const [index, backend] of [...resting, ...crowded].entries()) {
    slots.set(DRAINING_SLOTS + index, targetOf(backend))
  }
  const lost = new Set(resting.flatMap((one) => (one.lost ? [targetText(targetOf(one))] : [])))
  const fault = faultOf(server, { usable, crowded })
  const owner = frontendText(frontend)
  return { server, owner, placement: { frontend, chain, slots, lost }, fault }
}

/** Whether both ask for the same. */
export function isSameServer(a: VirtualServer, b: VirtualServer): boolean {
  return (
    a.protocol === b.protocol &&
    a.address === b.address &&
    a.port === b.port &&
    a.scheduler === b.scheduler &&
    a.backends.length === b.backends.length &&
    a.backends.every((backend, index) => isSameBackend(backend, at(b.backends, index)))
  )
}

function isSameBackend(a: Backend, b: Backend): boolean {
  return (
    a.weight === b.weight &&
    a.port === b.port &&
    a.address === b.address &&
    a.taskId === b.taskId &&
    a.local === b.local &&
    a.routed === b.routed &&
    a.lost === b.lost
  )
}

function frontendOf({ protocol, address: given, port }: VirtualServer): Frontend | undefined {
  const address = canonicalAddress(given)
  if (protocol === 'any') return { kind: 'vip', address }
  if (isLoopbackAddress(address)) return undefined
  const family = addressFamily(address)
  if (address === ANY_ADDRESS[family]) return { kind: 'port', family, protocol, port }
  return { kind: 'bound', address, protocol, port }
}

function isUsable({ local, routed, address }: Backend, family: AddressFamily): boolean {
  const isReached = (local || routed === true) && !isLoopbackAddress(address)
  return isReached && addressFamily(address) === family
}

function belongsBelow(
  server: VirtualServer,
  { usable, active }: { readonly usable: readonly Backend[]; readonly active: readonly Backend[] },
): boolean {
  if (usable.length === 0) return server.backends.length > 0
  // The kernel could take new connections nowhere while the layer below could.
  return active.length === 0 && server.backends.some(({ weight }) => weight > 0)
}

function pickersOf(
  server: VirtualServer,
  kind: FrontendKind,
  active: readonly Backend[],
): { readonly picked: readonly number[]; readonly chain: string } {
  if (active.length === 0) return { picked: [], chain: REFUSE_CHAIN }
  const { how, slots } = shareSlots(active, server.scheduler === 'mh')
  return { picked: slots, chain: pickChain(kind, how, slots.length) }
}

function targetOf({ address, port }: Backend): Target {
  return { address: canonicalAddress(address), port }
}

function faultOf(
  server: VirtualServer,
  about: { readonly usable: readonly Backend[]; readonly crowded: readonly Backend[] },
): string | undefined {
  if (server.backends.length > 0 && about.usable.length === 0) {
    return `virtual address ${server.address}: the kernel reaches none of its replicas`
  }
  if (about.crowded.length === 0) return undefined
  return `${about.crowded.length} of ${server.backends.length} replicas are beyond the limit of slots`
}
