/**
 * Published ports: a port is published in the ingress by one service at a time (per protocol); a
 * port published on hosts shares only with other host-mode ports. Ports that the user left open
 * come from 30000–32767 and stay with the service while it lives; in Docker those on hosts are each
 * node's own choice, here they are the same everywhere, too, so that a client can know them.
 * Source: swarmkit `manager/controlapi/service.go` for conflicts, `portallocator.go` for the range.
 */
import { isDeepStrictEqual } from 'node:util'
import { SwarmError } from '../base/errors.ts'
import type { AllocatedPort, Service } from '../store/objects.ts'
import type { PortConfig, ServiceSpec } from '../store/spec.ts'
import type { StoreView } from '../store/view.ts'
import type { Plan } from './plan.ts'

/** Range of ports that the allocator chooses from. */
export const DYNAMIC_PORT_FIRST = 30_000
export const DYNAMIC_PORT_LAST = 32_767

/** A port with everything settled but its number. */
type WantedPort = AllocatedPort

function wantedPorts(spec: ServiceSpec): WantedPort[] {
  return (spec.EndpointSpec?.Ports ?? []).map(wanted)
}

function wanted(port: PortConfig): WantedPort {
  return {
    ...(port.Name ? { name: port.Name } : {}),
    protocol: port.Protocol ?? 'tcp',
    targetPort: port.TargetPort,
    publishedPort: port.PublishedPort ?? 0,
    publishMode: port.PublishMode ?? 'ingress',
  }
}

/** UDP port of the overlay's tunnels, on every node. */
const TUNNEL_PORT = 4_789

/**
 * Refuses a spec whose ports another service has, or the swarm itself.
 * @throws INVALID_ARGUMENT with Docker's text
 */
export function assertPortsFree(store: StoreView, spec: ServiceSpec, ownId?: string): void {
  assertNoDuplicates(spec)
  assertNotOurs(store, spec)
  const others = store.list('services').filter((service) => service.id !== ownId)
  const conflict = findConflict(wantedPorts(spec), others)
  if (conflict !== undefined) throw new SwarmError('INVALID_ARGUMENT', conflict)
}

/** Where nodes talk to one another, the kernel or the daemon listens: no replica would answer. */
function assertNotOurs(store: StoreView, spec: ServiceSpec): void {
  const ours = new Map([[`udp/${TUNNEL_PORT}`, 'the tunnels between nodes']])
  for (const node of store.list('nodes')) {
    for (const address of node.addresses) {
      const port = /\/tcp\/(\d+)$/.exec(address)?.[1]
      if (port !== undefined) ours.set(`tcp/${port}`, `node ${node.description.hostname}`)
    }
  }
  for (const port of wantedPorts(spec)) {
    const owner = ours.get(portKey(port))
    if (owner === undefined) continue
    const fault = `port '${port.publishedPort}' is already in use by the swarm itself`
    throw new SwarmError('INVALID_ARGUMENT', `${fault}, for ${owner}`)
  }
}

function assertNoDuplicates(spec: ServiceSpec): void {
  const seen = new Set<string>()
  for (const port of wantedPorts(spec)) {
    if (port.publishedPort === 0) continue
    const key = `${port.publishMode}/${portKey(port)}`
    if (seen.has(key)) {
      throw new SwarmError('INVALID_ARGUMENT', 'EndpointSpec: duplicate published ports provided')
    }
    seen.add(key)
  }
}

/** Docker's sentence for the first of `ports` that one of `others` has, or undefined. */
function findConflict(
  ports: readonly WantedPort[],
  others: readonly Service[],
): string | undefined {
  for (const port of ports) {
    if (port.publishedPort === 0) continue
    for (const other of others) {
      const mode = conflictMode(port, portsOf(other))
      if (mode !== undefined) {
        return (
          `port '${port.publishedPort}' is already in use by service ` +
          `'${other.spec.Name}' (${other.id}) as ${mode}`
        )
      }
    }
  }
  return undefined
}

function conflictMode(port: WantedPort, taken: readonly AllocatedPort[]): string | undefined {
  const same = taken.filter((other) => portKey(other) === portKey(port))
  if (same.some((other) => other.publishMode === 'ingress')) return 'an ingress port'
  if (port.publishMode === 'ingress' && same.length > 0) return 'a host-published port'
  return undefined
}

/** Ports that a service has or asks for by number. */
function portsOf(service: Service): AllocatedPort[] {
  const asked = wantedPorts(service.spec).filter((port) => port.publishedPort !== 0)
  return [...(service.endpoint?.ports ?? []), ...asked]
}

function portKey(port: AllocatedPort): string {
  return `${port.protocol}/${port.publishedPort}`
}

/**
 * The ports that `service` is to have. A text says why that is not possible. Conflicts are with
 * what other services *hold*: of two that ask for one port, the first has it.
 */
export function settlePorts(plan: Plan, service: Service): readonly AllocatedPort[] | string {
  const others = plan.list('services').filter((other) => other.id !== service.id)
  const ports = wantedPorts(service.spec)
  const holders = others.map((other) => ({ ...other, spec: { ...other.spec, EndpointSpec: {} } }))
  const conflict = findConflict(ports, holders)
  if (conflict !== undefined) return conflict
  const taken = new Set(
    others.flatMap((other) => portsOf(other).map(portKey)).concat(ports.map(portKey)),
  )
  const settled: AllocatedPort[] = []
  for (const port of ports) {
    const number = settlePort(port, service, taken)
    if (number === undefined) return `no free port in ${DYNAMIC_PORT_FIRST}-${DYNAMIC_PORT_LAST}`
    const allocated = { ...port, publishedPort: number }
    taken.add(portKey(allocated))
    settled.push(allocated)
  }
  return settled
}

/** The number of a port: the asked one, the one it had, or the lowest free. */
function settlePort(
  port: WantedPort,
  service: Service,
  taken: ReadonlySet<string>,
): number | undefined {
  if (port.publishedPort !== 0) return port.publishedPort
  const before = service.endpoint?.ports.find((held) =>
    isDeepStrictEqual({ ...held, publishedPort: 0 }, port),
  )
  if (before !== undefined && !taken.has(portKey(before))) return before.publishedPort
  for (let number = DYNAMIC_PORT_FIRST; number <= DYNAMIC_PORT_LAST; number += 1) {
    if (!taken.has(portKey({ ...port, publishedPort: number }))) return number
  }
  return undefined
}
