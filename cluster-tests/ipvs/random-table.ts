/** Random tables over a small universe, so that successive tables share much. */
import { at } from '../../src/base/assert.ts'
import type { Random } from '../../src/base/random.ts'
import type { ServiceKey, ServiceOptions } from '../../src/network/netlink/ipvs.ts'
import { SCHEDULERS } from '../../src/store/service-labels.ts'
import type { VirtualServer } from '../../src/network/ports.ts'
import { tableService } from '../../src/network/ipvs/table.ts'
import type { TableDestination, TableService } from '../../src/network/ipvs/table.ts'

/** Keys of every kind; two marks are equal in both families. */
export const SERVICE_KEYS: readonly ServiceKey[] = [
  { type: 'mark', mark: 7, family: 'ipv4' },
  { type: 'mark', mark: 7, family: 'ipv6' },
  { type: 'mark', mark: 0x0a60_0002, family: 'ipv4' },
  { type: 'address', protocol: 'tcp', address: '10.96.0.1', port: 80 },
  { type: 'address', protocol: 'udp', address: '10.96.0.1', port: 80 },
  { type: 'address', protocol: 'sctp', address: '10.96.0.2', port: 9_999 },
  { type: 'address', protocol: 'tcp', address: 'fd00::1', port: 443 },
  { type: 'address', protocol: 'udp', address: 'fd00::1', port: 53 },
]

/** One of a list. */
export function pick<T>(random: Random, list: readonly T[]): T {
  return at(list, random.integer(list.length))
}

/** True once in `one`. */
export function chance(random: Random, one: number): boolean {
  return random.integer(one) === 0
}

/** A service with random options and up to four destinations. */
export function randomService(random: Random, key: ServiceKey): TableService {
  const count = random.integer(5)
  const destinations = Array.from({ length: count }, () => randomDestination(random, key))
  return tableService(key, randomOptions(random, key), destinations)
}

/** The service with some of its options or destinations changed. */
export function mutatedService(random: Random, service: TableService): TableService {
  const { key, options, destinations } = service
  const list = [...destinations.values()]
  switch (random.integer(4)) {
    case 0:
      return tableService(key, randomOptions(random, key), list)
    case 1:
      return tableService(key, options, [...list, randomDestination(random, key)])
    case 2:
      return tableService(key, options, list.slice(1))
    default:
      return tableService(
        key,
        options,
        list.map((each) => reweighted(random, each)),
      )
  }
}

function reweighted(random: Random, destination: TableDestination): TableDestination {
  return { ...destination, options: { ...destination.options, weight: random.integer(100) } }
}

function isIpv6(key: ServiceKey): boolean {
  return key.type === 'mark' ? key.family === 'ipv6' : key.address.includes(':')
}

function randomOptions(random: Random, key: ServiceKey): ServiceOptions {
  const bitsMax = isIpv6(key) ? 128 : 32
  const persistence = {
    timeoutSeconds: 60 + random.integer(600),
    prefixBits: bitsMax - random.integer(9),
  }
  const isUdp = key.type === 'address' && key.protocol === 'udp'
  return {
    scheduler: pick(random, SCHEDULERS),
    onePacket: isUdp && chance(random, 3),
    schedulerFallback: chance(random, 3),
    schedulerPort: chance(random, 3),
    ...(chance(random, 3) ? { persistence } : {}),
  }
}

function randomDestination(random: Random, key: ServiceKey): TableDestination {
  const last = 11 + random.integer(5)
  const address = isIpv6(key) ? `fd00::a:${last.toString(16)}` : `10.32.0.${last}`
  const port = key.type === 'mark' ? pick(random, [0, 8_080]) : pick(random, [80, 8_080])
  const upperThreshold = chance(random, 3) ? 10 + random.integer(1_000) : 0
  const lowerThreshold = upperThreshold === 0 ? 0 : random.integer(10)
  const weight = pick(random, [0, 1, 4, 100, 65_535])
  const limits = { weight, upperThreshold, lowerThreshold }
  const tunnel = pick(random, [
    { type: 'ipip', port: 0, flags: 0 },
    { type: 'gue', port: 6_080, flags: 0 },
    { type: 'gre', port: 0, flags: 0 },
  ] as const)
  const forwarding = pick(random, ['masquerade', 'direct', 'tunnel'] as const)
  const options =
    forwarding === 'tunnel' ? { forwarding, ...limits, tunnel } : { forwarding, ...limits }
  return { key: { address, port }, options }
}

/** Virtual servers over a small universe: virtual addresses and published ports. */
export function randomServers(random: Random): VirtualServer[] {
  const servers: VirtualServer[] = []
  for (let index = 0; index < 6; index += 1) {
    if (chance(random, 3)) continue
    servers.push(randomServer(random, index))
  }
  return servers
}

function randomServer(random: Random, index: number): VirtualServer {
  const isVirtual = index < 2
  const protocol = isVirtual ? 'any' : pick(random, ['tcp', 'tcp', 'udp', 'sctp'] as const)
  const count = random.integer(5)
  const backends = Array.from({ length: count }, (_, n) => ({
    taskId: `task${n}`,
    nodeId: 'n',
    local: true,
    address: `10.32.0.${11 + n}`,
    port: isVirtual ? 0 : 8_080,
    weight: pick(random, [0, 1, 4]),
  }))
  const common = { backends, ...(chance(random, 2) ? {} : { scheduler: pick(random, SCHEDULERS) }) }
  return isVirtual
    ? { id: `s${index}/net`, protocol, address: `10.96.0.${index + 2}`, port: 0, ...common }
    : { id: `s${index}/pub`, protocol, address: '0.0.0.0', port: 8_000 + index, ...common }
}

/**
 * What the driver should make of servers, in ipvsadm's words; written from the rules, not from the
 * code.
 */
export function expectedLines(servers: readonly VirtualServer[], hasIpv6: boolean): string[] {
  const families = hasIpv6 ? (['', ' -6'] as const) : ([''] as const)
  return servers
    .flatMap((server) => families.flatMap((family) => expectedService(server, family)))
    .toSorted()
}

function expectedService(server: VirtualServer, family: '' | ' -6'): string[] {
  const { scheduler = 'wrr', protocol, backends } = server
  const flags = scheduler === 'mh' || scheduler === 'sh' ? ` -b ${scheduler}-fallback` : ''
  const serving = backends.filter((backend) => backend.weight > 0)
  const kept = protocol === 'udp' && serving.length > 0 ? serving : backends
  const mark = `-f ${expectedMark(server, family)}${family}`
  const destinations = kept.map(({ address, port, weight }) => {
    const last = Number(address.split('.')[3]).toString(16)
    const where = family === '' ? `${address}:${port}` : `[fd12:3456::a20:${last}]:${port}`
    return `-a ${mark} -r ${where} -m -w ${weight}`
  })
  return [`-A ${mark} -s ${scheduler}${flags}`, ...destinations]
}

/** Signed, as ipvsadm prints it. */
function expectedMark({ protocol, address, port }: VirtualServer, family: '' | ' -6'): number {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
  const first = family === '' ? a : a + 128
  if (protocol === 'any') return (first << 24) | (b << 16) | (c << 8) | d
  const base = family === '' ? 0xfe : 0xfc
  return (base << 24) | ({ tcp: 6, udp: 17, sctp: 132 }[protocol] << 16) | port
}
