/**
 * Routes, neighbours, forwarding entries and rules of the plane. Per peer node: one route to its
 * subnet, one neighbour, one forwarding entry; and for answers to clients that came through it one
 * rule and one table with a default route. Per range of virtual addresses one local route, with the
 * gateway as the source of what this host itself sends there.
 *
 * Ours are those on our devices, and local routes and rules that carry our protocol number and our
 * gateway or bridge. Nobody else's are touched. The rule names the bridge: the tunnel's own outer
 * packet inherits the mark, and would be routed into itself.
 */
import {
  decodeForwardingEntry,
  decodeNeighbour,
  deleteForwardingEntry,
  deleteNeighbour,
  dumpForwardingEntries,
  dumpNeighbours,
  setForwardingEntry,
  setNeighbour,
} from '../netlink/neighbour.ts'
import type { ForwardingEntry, Neighbour } from '../netlink/neighbour.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { decodeRoute, deleteRoute, dumpRoutes, setRoute } from '../netlink/route.ts'
import type { Route } from '../netlink/route.ts'
import { TABLE_LOCAL, TABLE_MAIN } from '../netlink/route-layout.ts'
import { decodeRule, deleteRule, dumpRules, newRule } from '../netlink/rule.ts'
import type { Rule } from '../netlink/rule.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { difference } from './difference.ts'
import { ipv6Of, ipv6RangeOf } from '../../store/ipv6.ts'
import { planeNames } from './names.ts'
import type { PlaneFamily } from './plane-elements.ts'
import type { WantedPlane } from './wanted-plane.ts'

/** Who made a route or rule, in the kernel's own field: `S`. */
export const ROUTE_PROTOCOL = 83
/** Before the main table's 32766, behind what an administrator puts first. */
const RULE_PRIORITY = 20_000
const LOOPBACK_LINK = 1
const ANYWHERE = { ipv4: '0.0.0.0/0', ipv6: '::/0' } as const
/** IPv6 gives every route a metric; the kernel's own choice. */
const IPV6_METRIC = 1024

/** What the routes lie on. */
export interface RouteDevices {
  readonly bridge: { readonly name: string; readonly index: number }
  readonly vxlan: { readonly index: number } | undefined
}

/** Makes what leads to the peers so; the requests that failed, as texts, and how many were sent. */
export async function ensurePeers(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  devices: RouteDevices,
): Promise<{ readonly changes: number; readonly faults: readonly string[] }> {
  const requests: NetlinkRequest[] = []
  const { vxlan } = devices
  if (vxlan !== undefined) {
    const neighbours = wanted.peers.map((peer) => {
      return { address: peer.tunnelAddress, macAddress: peer.macAddress }
    })
    const place = { link: vxlan.index, neighbours }
    requests.push(...(await neighbourRequests(socket, wanted, place)))
    requests.push(...(await forwardingRequests(socket, wanted, vxlan.index)))
  }
  for (const family of familiesOf(wanted)) {
    requests.push(...(await routeRequests(socket, wanted, { family, devices })))
    requests.push(...(await ruleRequests(socket, wanted, family)))
  }
  return send(socket, requests)
}

/**
 * Makes tasks' MACs known so: nobody is asked on the wire, where another task might answer; and in
 * IPv6 the bridge has no link-local address to ask from (`ndisc_send_ns`).
 */
export async function ensureTaskNeighbours(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  bridge: { readonly index: number },
): Promise<{ readonly changes: number; readonly faults: readonly string[] }> {
  const neighbours = wanted.tasks.map(({ address, macAddress }) => ({ address, macAddress }))
  const place = { link: bridge.index, neighbours }
  return send(socket, await neighbourRequests(socket, wanted, place))
}

/** Makes the local routes of virtual addresses so. Only behind a firewall: every port is open. */
export async function ensureVirtualRanges(
  socket: NetlinkSocket,
  wanted: WantedPlane,
): Promise<{ readonly changes: number; readonly faults: readonly string[] }> {
  const requests: NetlinkRequest[] = []
  for (const family of familiesOf(wanted)) {
    const source = addressOf(wanted, family, wanted.gateway)
    const want = wanted.virtualRanges.map((range): Route => ({
      type: 'local',
      destination: rangeOf(wanted, family, range),
      link: LOOPBACK_LINK,
      source,
      table: TABLE_LOCAL,
      protocol: ROUTE_PROTOCOL,
      ...(family === 'ipv6' ? { metric: IPV6_METRIC } : {}),
    }))
    const have = await localRoutes(socket, family, source)
    const { missing, surplus } = difference(have, want, { have: routeText, want: routeText })
    requests.push(...surplus.map(deleteRoute), ...missing.map(setRoute))
  }
  return send(socket, requests)
}

/** Removes rules and local routes; what lies on the devices goes with them. */
export async function removeRoutes(
  socket: NetlinkSocket,
  about: { readonly devices: readonly string[]; readonly gateways: readonly string[] },
): Promise<{ readonly changes: number; readonly faults: readonly string[] }> {
  const requests: NetlinkRequest[] = []
  for (const family of ['ipv4', 'ipv6'] as const) {
    requests.push(...(await ourRules(socket, family, about.devices)).map(deleteRule))
    for (const gateway of about.gateways) {
      if (gateway.includes(':') !== (family === 'ipv6')) continue
      requests.push(...(await localRoutes(socket, family, gateway)).map(deleteRoute))
    }
  }
  return send(socket, requests)
}

async function send(
  socket: NetlinkSocket,
  requests: readonly NetlinkRequest[],
): Promise<{ readonly changes: number; readonly faults: readonly string[] }> {
  const failures = await socket.batch(requests)
  return { changes: requests.length, faults: failures.map(({ error }) => error.message) }
}

function familiesOf(wanted: WantedPlane): readonly PlaneFamily[] {
  return wanted.ipv6Prefix === undefined ? ['ipv4'] : ['ipv4', 'ipv6']
}

function addressOf(wanted: WantedPlane, family: PlaneFamily, address: string): string {
  const { ipv6Prefix } = wanted
  return family === 'ipv4' || ipv6Prefix === undefined ? address : ipv6Of(ipv6Prefix, address)
}

function rangeOf(wanted: WantedPlane, family: PlaneFamily, range: string): string {
  const { ipv6Prefix } = wanted
  return family === 'ipv4' || ipv6Prefix === undefined ? range : ipv6RangeOf(ipv6Prefix, range)
}

async function neighbourRequests(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  place: {
    readonly link: number
    readonly neighbours: readonly Omit<Neighbour, 'link'>[]
  },
): Promise<NetlinkRequest[]> {
  const { link, neighbours } = place
  const have = (await socket.dump(dumpNeighbours(link)))
    .map(decodeNeighbour)
    .filter((one) => one !== undefined)
    .filter((one) => one.link === link && one.isPermanent)
  const want = familiesOf(wanted).flatMap((family) =>
    neighbours.map(({ address, macAddress }): Neighbour => {
      return { link, address: addressOf(wanted, family, address), macAddress }
    }),
  )
  const { missing, surplus } = difference(have, want, { have: neighbourText, want: neighbourText })
  return [...surplus.map(deleteNeighbour), ...missing.map(setNeighbour)]
}

async function forwardingRequests(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  link: number,
): Promise<NetlinkRequest[]> {
  const have = (await socket.dump(dumpForwardingEntries(link)))
    .map(decodeForwardingEntry)
    .filter((one) => one.link === link)
    .flatMap(({ macAddress, destination }): ForwardingEntry[] =>
      destination === undefined ? [] : [{ link, macAddress, destination }],
    )
  const want = wanted.peers.map(({ macAddress, underlayAddress }): ForwardingEntry => {
    return { link, macAddress, destination: underlayAddress }
  })
  const { missing, surplus } = difference(have, want, {
    have: forwardingText,
    want: forwardingText,
  })
  return [...surplus.map(deleteForwardingEntry), ...missing.map(setForwardingEntry)]
}

interface FamilyPlace {
  readonly family: PlaneFamily
  readonly devices: RouteDevices
}

async function routeRequests(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  { family, devices }: FamilyPlace,
): Promise<NetlinkRequest[]> {
  const links = [devices.vxlan?.index, devices.bridge.index]
  const have = (await routesOf(socket, { family, protocol: ROUTE_PROTOCOL })).filter(
    (route) => route.type === 'unicast' && links.includes(route.link),
  )
  const want = wantedRoutes(wanted, { family, devices })
  const { missing, surplus } = difference(have, want, { have: routeText, want: routeText })
  return [...surplus.map(deleteRoute), ...missing.map(setRoute)]
}

function wantedRoutes(wanted: WantedPlane, { family, devices }: FamilyPlace): Route[] {
  const shared = {
    type: 'unicast',
    protocol: ROUTE_PROTOCOL,
    ...(family === 'ipv6' ? { metric: IPV6_METRIC } : {}),
  } as const
  const { bridge, vxlan } = devices
  const routes: Route[] = []
  if (family === 'ipv6') {
    const destination = rangeOf(wanted, family, wanted.subnet)
    routes.push({ ...shared, destination, link: bridge.index, table: TABLE_MAIN })
  }
  if (vxlan === undefined) return routes
  for (const peer of wanted.peers) {
    const gateway = addressOf(wanted, family, peer.nextHop)
    const way = { ...shared, link: vxlan.index, gateway, onlink: true }
    const source = addressOf(wanted, family, wanted.gateway)
    const destination = rangeOf(wanted, family, peer.subnet)
    routes.push(
      { ...way, destination, source, table: TABLE_MAIN },
      { ...way, destination: ANYWHERE[family], table: peer.mark },
    )
  }
  return routes
}

async function ruleRequests(
  socket: NetlinkSocket,
  wanted: WantedPlane,
  family: PlaneFamily,
): Promise<NetlinkRequest[]> {
  // From the tunnel come answers that this node passes on between two others.
  const { bridge, vxlan } = planeNames(wanted.nodeId)
  const inDevices = [bridge, vxlan]
  const have = await ourRules(socket, family, inDevices)
  const want = wanted.peers.flatMap(({ mark }) =>
    inDevices.map((inDevice, place): Rule => ({
      family,
      table: mark,
      priority: RULE_PRIORITY + place,
      inDevice,
      mark,
      protocol: ROUTE_PROTOCOL,
    })),
  )
  const { missing, surplus } = difference(have, want, { have: ruleText, want: ruleText })
  return [...surplus.map(deleteRule), ...missing.map(newRule)]
}

async function ourRules(
  socket: NetlinkSocket,
  family: PlaneFamily,
  inDevices: readonly string[],
): Promise<Rule[]> {
  try {
    return (await socket.dump(dumpRules(family)))
      .map(decodeRule)
      .filter((rule) => rule !== undefined)
      .filter(({ inDevice = '', protocol }) => {
        return inDevices.includes(inDevice) && protocol === ROUTE_PROTOCOL
      })
  } catch (error) {
    // A kernel without IPv6 has no rules of it.
    if (family === 'ipv6' && isNetlinkError(error, 'EOPNOTSUPP', 'EAFNOSUPPORT')) return []
    throw error
  }
}

async function localRoutes(
  socket: NetlinkSocket,
  family: PlaneFamily,
  source: string,
): Promise<Route[]> {
  const routes = await routesOf(socket, { family, protocol: ROUTE_PROTOCOL, table: TABLE_LOCAL })
  return routes.filter((route) => route.type === 'local' && route.source === source)
}

async function routesOf(
  socket: NetlinkSocket,
  filter: { readonly family: PlaneFamily; readonly protocol: number; readonly table?: number },
): Promise<Route[]> {
  try {
    const routes = (await socket.dump(dumpRoutes(filter))).map(decodeRoute)
    return routes.filter(
      (route) =>
        route.protocol === filter.protocol &&
        (filter.table === undefined || route.table === filter.table),
    )
  } catch (error) {
    if (isNetlinkError(error, 'ENOENT', 'EOPNOTSUPP', 'EAFNOSUPPORT')) return []
    throw error
  }
}

function routeText(route: Route): string {
  const { destination, type, link, gateway, source, table } = route
  return [destination, type, link, gateway, source, table].join(' ')
}

function neighbourText(one: Neighbour): string {
  return `${one.address} ${one.macAddress}`
}

function forwardingText(one: ForwardingEntry): string {
  return `${one.macAddress} ${one.destination}`
}

function ruleText(rule: Rule): string {
  return `${rule.priority} ${rule.inDevice} ${rule.mark} ${rule.table}`
}
