/**
 * The codecs against bytes that were recorded from ipvsadm, iproute2 and nft, and from kernels that
 * answered them: what a tool sends and what we send for the same mean the same.
 */
import test from 'ava'
import { macText } from './address.ts'
import { Attributes } from './attributes.ts'
import { decodeConnection, deleteConnection } from './conntrack.ts'
import { decodeDestination, decodeService, decodeTimeouts } from './ipvs-reply.ts'
import {
  deleteDestination,
  deleteService,
  newDestination,
  newService,
  setTimeouts,
} from './ipvs.ts'
import type { DestinationOptions, ServiceKey, ServiceOptions } from './ipvs.ts'
import { decodeLink } from './link-reply.ts'
import { newLink, setBridgePort, setLink } from './link.ts'
import type { NetlinkMessage } from './message.ts'
import {
  decodeForwardingEntry,
  decodeNeighbour,
  setForwardingEntry,
  setNeighbour,
} from './neighbour.ts'
import { NetlinkError, errnoName } from './netlink-error.ts'
import { addElements, decodeElements } from './nft-element.ts'
import { addressField, fieldsBytes, portField } from './nft-field.ts'
import { decodeAddress, decodeRoute, newRoute, setAddress } from './route.ts'
import { decodeRule, newRule } from './rule.ts'
import { decodeOpenSocket, dumpOpenSockets } from './sock-diag.ts'
import { recorded, first, encoded, IPVS, WEB, DNS6, PLAIN } from './testing/recorded.ts'

const DIRECT: DestinationOptions = {
  forwarding: 'direct',
  weight: 0,
  upperThreshold: 0,
  lowerThreshold: 0,
}

const SERVICES: readonly [string, ServiceKey, ServiceOptions][] = [
  ['service-tcp', WEB, PLAIN],
  [
    'service-udp6',
    DNS6,
    {
      scheduler: 'mh',
      onePacket: false,
      schedulerFallback: true,
      schedulerPort: true,
      persistence: { timeoutSeconds: 300, prefixBits: 64 },
    },
  ],
  [
    'service-mark',
    { type: 'mark', mark: 7, family: 'ipv4' },
    {
      ...PLAIN,
      scheduler: 'lc',
      onePacket: true,
      persistence: { timeoutSeconds: 60, prefixBits: 24 },
    },
  ],
]

for (const [name, key, options] of SERVICES) {
  test(`what ipvsadm sends for ${name} is what we send`, (t) => {
    const theirs = first(recorded(name))
    const ours = encoded(newService(IPVS, { key, options }))
    t.is(ours.type, theirs.type)
    t.is(ours.payload.getUint8(0), theirs.payload.getUint8(0), 'command')
    for (const message of [theirs, ours]) {
      const { stats: _, ...service } = decodeService(message)
      t.deepEqual(service, { key, options })
    }
  })
}

const DESTINATIONS: readonly [string, ServiceKey, string, number, DestinationOptions][] = [
  [
    'destination-masquerade',
    WEB,
    '10.32.1.7',
    8080,
    { forwarding: 'masquerade', weight: 3, upperThreshold: 20, lowerThreshold: 10 },
  ],
  [
    'destination-gue',
    WEB,
    '10.32.1.8',
    80,
    {
      ...DIRECT,
      forwarding: 'tunnel',
      weight: 1,
      tunnel: { type: 'gue', port: 6080, flags: 0 },
    },
  ],
  ['destination-direct6', DNS6, 'fd00::7', 53, DIRECT],
]

/** Requests have no counters: zeros, as in an answer, so that the decoder for answers reads both. */
function destinationOf(message: NetlinkMessage): Map<number, string> {
  const found = new Map<number, string>()
  const destination = new Attributes(message.payload, 4).nested(2)
  for (let type = 1; type < 16; type += 1) {
    const bytes = destination?.bytes(type)
    if (bytes !== undefined) found.set(type, Buffer.from(bytes).toString('hex'))
  }
  return found
}

for (const [name, service, address, port, options] of DESTINATIONS) {
  test(`what ipvsadm sends for ${name} is what we send`, (t) => {
    const theirs = first(recorded(name))
    const ours = encoded(newDestination(IPVS, { service, key: { address, port }, options }))
    t.is(ours.payload.getUint8(0), theirs.payload.getUint8(0), 'command')
    const wanted = destinationOf(theirs)
    const sent = destinationOf(ours)
    // ipvsadm pads addresses to 16 bytes, and names tunnel options where there is no tunnel.
    t.true(wanted.get(1)?.startsWith(sent.get(1) ?? 'none'))
    for (const [type, hex] of sent) if (type !== 1) t.is(wanted.get(type), hex, `attribute ${type}`)
    for (const type of [2, 3, 4, 5, 6, 11]) t.true(sent.has(type), `attribute ${type}`)
  })
}

test('deletions and timeouts are what ipvsadm sends', (t) => {
  const gone = encoded(
    deleteDestination(IPVS, { service: WEB, key: { address: '10.32.1.7', port: 8080 } }),
  )
  const wanted = first(recorded('delete-destination'))
  t.is(gone.payload.getUint8(0), wanted.payload.getUint8(0))
  t.is(destinationOf(gone).get(2), destinationOf(wanted).get(2))
  const mark = { type: 'mark', mark: 7, family: 'ipv4' } as const
  const service = first(recorded('delete-service'))
  t.is(encoded(deleteService(IPVS, mark)).payload.getUint8(0), service.payload.getUint8(0))
  const timeouts = { tcpSeconds: 8100, tcpFinSeconds: 0, udpSeconds: 45 }
  t.deepEqual(decodeTimeouts(first(recorded('timeouts'))), timeouts)
  t.deepEqual(decodeTimeouts(encoded(setTimeouts(IPVS, timeouts))), timeouts)
})

test("the kernel's tables are read as ipvsadm was told to make them", (t) => {
  const services = recorded('list-0')
    .filter((message) => message.type === IPVS)
    .map(decodeService)
  const byScheduler = (scheduler: string) =>
    services.find((service) => service.options.scheduler === scheduler)
  t.is(services.length, 3)
  for (const [, key, options] of SERVICES) {
    const service = byScheduler(options.scheduler)
    t.deepEqual({ key: service?.key, options: service?.options }, { key, options })
    t.is(service?.stats.connections, 0)
  }
  const destinations = ['list-1', 'list-2']
    .flatMap(recorded)
    .filter((message) => message.type === IPVS)
    .map(decodeDestination)
  t.is(destinations.length, 3)
  for (const [, , address, port, options] of DESTINATIONS) {
    const found = destinations.find((each) => each.key.address === address)
    t.like(found, { key: { address, port }, ...options, activeConnections: 0 })
  }
  const answered = recorded('list-timeouts').filter((message) => message.type === IPVS)
  t.deepEqual(answered.map(decodeTimeouts), [
    { tcpSeconds: 8100, tcpFinSeconds: 120, udpSeconds: 45 },
  ])
})

test('impossible services and destinations are refused before the kernel sees them', (t) => {
  const service =
    (key: ServiceKey, options = PLAIN) =>
    () =>
      newService(IPVS, { key, options })
  const destination =
    (options: Partial<DestinationOptions>, port = 80) =>
    () =>
      newDestination(IPVS, {
        service: WEB,
        key: { address: '10.32.1.7', port },
        options: { ...DIRECT, ...options },
      })
  for (const call of [
    service({ ...WEB, port: 0 }),
    service({ ...WEB, port: 65_536 }),
    service({ type: 'mark', mark: 0, family: 'ipv4' }),
    service(WEB, { ...PLAIN, scheduler: 'x;y' }),
    service(WEB, { ...PLAIN, persistence: { timeoutSeconds: 0, prefixBits: 32 } }),
    service(WEB, { ...PLAIN, persistence: { timeoutSeconds: 9, prefixBits: 33 } }),
    destination({ weight: 65_536 }),
    destination({ weight: -1 }),
    destination({ weight: 1.5 }),
    destination({ upperThreshold: 1, lowerThreshold: 2 }),
    destination({}, 0),
  ]) {
    t.like(t.throws(call), { code: 'INVALID_ARGUMENT' })
  }
  t.notThrows(
    service({ ...WEB, port: 0 }, { ...PLAIN, persistence: { timeoutSeconds: 9, prefixBits: 32 } }),
  )
})

test('open sockets are asked for as `ss` does, and read as the kernel answers it', (t) => {
  const sockets = {
    tcp4: ['127.0.0.1:8080', '0.0.0.0:80'],
    tcp6: ['::ffff:7f00:1:8082', '::1:8081', ':::443'],
    udp4: ['0.0.0.0:53'],
    udp6: ['::1:5353'],
  }
  for (const [name, expected] of Object.entries(sockets)) {
    const protocol = name.startsWith('tcp') ? 'tcp' : 'udp'
    const family = name.endsWith('4') ? 'ipv4' : 'ipv6'
    const theirs = first(recorded(`sockets-${name}`))
    const ours = encoded(dumpOpenSockets({ protocol, family }))
    t.deepEqual([ours.type, ours.flags], [theirs.type, theirs.flags])
    t.deepEqual(payloadOf(ours), payloadOf(theirs))
    const found = recorded(`reply-sockets-${name}`).map(decodeOpenSocket)
    const texts = found.map(({ address, port }) => `${address}:${port}`)
    t.deepEqual(texts.toSorted(), expected.toSorted(), name)
  }
})

/** What follows the header. */
function payloadOf({ payload }: NetlinkMessage): Uint8Array {
  const { buffer, byteOffset, byteLength } = payload
  return new Uint8Array(buffer, byteOffset, byteLength).slice()
}

test('links are what iproute2 sends, and are read as it shows them', (t) => {
  const macAddress = '02:aa:00:00:00:01'
  const vxlan = { id: 42, port: 4789, local: '192.168.50.1', learning: false }
  const theirs = decodeLink(first(recorded('vxlan')))
  const options = { name: 'vx7', mtu: 1450, macAddress, up: false }
  const ours = decodeLink(encoded(newLink(options, { kind: 'vxlan', ...vxlan })))
  t.deepEqual(ours, theirs)
  t.like(ours, { name: 'vx7', mtu: 1450, macAddress, kind: 'vxlan' })
  t.like(ours.vxlan, vxlan)
  t.like(decodeLink(first(recorded('link-reply'))), {
    name: 'vx7',
    mtu: 1450,
    macAddress,
    kind: 'vxlan',
    isUp: true,
  })
  t.like(decodeLink(first(recorded('link-reply'))).vxlan, vxlan)

  const bridge = newLink({ name: 'br7', up: false }, { kind: 'bridge', multicastSnooping: false })
  t.deepEqual(decodeLink(encoded(bridge)), decodeLink(first(recorded('bridge'))))
  const peer = { name: 'p1', macAddress: '02:00:00:00:00:09' }
  const veth = encoded(newLink({ name: 'p0', mtu: 1400, up: false }, { kind: 'veth', peer }))
  const peerOf = (message: NetlinkMessage): (string | undefined)[] => {
    const info = new Attributes(message.payload, 16).nested(18)
    const inner = info?.nested(2)?.nested(1, 16)
    return [info?.text(1), inner?.text(3), macText(inner?.bytes(1) ?? new Uint8Array())]
  }
  t.deepEqual(peerOf(veth), ['veth', 'p1', '02:00:00:00:00:09'])
  t.deepEqual(peerOf(first(recorded('veth'))), peerOf(veth))

  const port = decodeLink(first(recorded('port-reply')))
  t.is(port.bridgePort?.isolated, true)
  const master = first(recorded('master'))
  const index = master.payload.getInt32(4, true)
  const bridgeIndex = new Attributes(master.payload, 16).u32(10) ?? 0
  t.deepEqual(encoded(setLink(index, { master: bridgeIndex })).payload, master.payload)
  const isolated = new Attributes(encoded(setBridgePort(index, { isolated: true })).payload, 16)
  t.deepEqual(isolated.bytes(12), new Attributes(first(recorded('isolated')).payload, 16).bytes(12))
})

test('addresses, routes, rules, neighbours and forwarding entries are what iproute2 sends', (t) => {
  const address = first(recorded('address'))
  const { link, prefix } = decodeAddress(address)
  t.is(prefix, '10.32.1.1/24')
  t.deepEqual(decodeAddress(encoded(setAddress({ link, prefix }))), { link, prefix })

  const onlink = decodeRoute(first(recorded('onlink')))
  t.deepEqual(onlink, {
    destination: '10.32.2.0/24',
    gateway: '10.32.2.0',
    link: 3,
    onlink: true,
    type: 'unicast',
    table: 254,
    protocol: 77,
  })
  t.deepEqual(decodeRoute(encoded(newRoute(onlink))), onlink)
  t.deepEqual(decodeRoute(first(recorded('route-reply'))), onlink)
  const local = decodeRoute(first(recorded('local')))
  t.like(local, { destination: '10.96.0.0/16', type: 'local', source: '10.32.1.1', table: 255 })
  t.deepEqual(decodeRoute(encoded(newRoute(local))), local)
  t.deepEqual(first(recorded('local')).payload.getUint8(6), 254, 'scope host')
  t.deepEqual(encoded(newRoute(local)).payload.getUint8(6), 254, 'scope host')

  const rule = decodeRule(first(recorded('rule')))
  if (rule === undefined) throw new Error('a rule that chooses a table')
  t.deepEqual(rule, {
    family: 'ipv4',
    table: 1002,
    priority: 500,
    inDevice: 'br7',
    mark: 2,
    mask: 0xff,
  })
  t.deepEqual(decodeRule(encoded(newRule(rule))), rule)
  const rules = recorded('rule-reply').filter((message) => message.type === 32)
  t.true(rules.map(decodeRule).some((each) => each?.table === 1002 && each.inDevice === 'br7'))

  const neighbour = decodeNeighbour(first(recorded('neighbour')))
  if (neighbour === undefined) throw new Error('a neighbour')
  t.like(neighbour, { address: '10.32.2.0', macAddress: '02:aa:00:00:00:02', isPermanent: true })
  t.deepEqual(decodeNeighbour(encoded(setNeighbour(neighbour))), neighbour)
  const entry = decodeForwardingEntry(first(recorded('fdb')))
  const { macAddress, destination = '' } = entry
  t.is(destination, '192.168.50.2')
  const ours = setForwardingEntry({ link: entry.link, macAddress, destination })
  t.deepEqual(encoded(ours).payload, first(recorded('fdb')).payload)
})

test('map elements are what nft sends, and are read from a dump', (t) => {
  const key = [addressField('10.96.0.1'), portField(80)]
  const data = [addressField('10.32.1.7')]
  const [request] = addElements({ table: { family: 'ipv4', name: 't' }, set: 'm' }, [{ key, data }])
  if (request === undefined) throw new Error('a request')
  const theirs = recorded('elements').find(isElements)
  if (theirs === undefined) throw new Error('an element')
  const wanted = {
    key: fieldsBytes(key),
    data: fieldsBytes(data),
    keyEnd: undefined,
    isIntervalEnd: false,
    verdict: undefined,
    expiresInMs: undefined,
  }
  t.deepEqual(decodeElements(theirs), [wanted])
  t.deepEqual(decodeElements(encoded(request)), [wanted])
  t.deepEqual(
    ['elements-reply-0', 'elements-reply-1']
      .flatMap(recorded)
      .filter(isElements)
      .flatMap(decodeElements),
    [wanted],
  )
})

const isElements = (message: NetlinkMessage): boolean => message.type === 0x0a0c

test('a connection is deleted by the bytes it was read with', (t) => {
  const tuple =
    '34000180' +
    '14000180080001000a00000108000200' +
    '0a60000' +
    '11c000280050001001100000006000200' +
    '14b4000006000300' +
    '00500000'
  const hex = `02000000${tuple}${tuple.replace('34000180', '34000280')}08000c0000000009`
  const payload = new DataView(Uint8Array.from(Buffer.from(hex, 'hex')).buffer)
  const connection = decodeConnection({ type: 0x100, flags: 0, sequence: 1, payload })
  t.like(connection, { protocol: 17, id: 9, zone: 0 })
  t.deepEqual(connection.original, {
    source: '10.0.0.1',
    sourcePort: 0x14b4,
    destination: '10.96.0.1',
    destinationPort: 80,
  })
  const sent = new Attributes(encoded(deleteConnection(connection)).payload, 4)
  t.deepEqual(sent.bytes(2), connection.replyBytes)
  t.false(sent.has(1), 'a later one may begin with the same numbers')
  t.is(sent.u32be(12), 9)
})

test('errors have the names of the kernel', (t) => {
  t.is(errnoName(3), 'ESRCH')
  t.is(errnoName(95), 'EOPNOTSUPP')
  t.is(errnoName(11), 'EAGAIN')
  t.is(errnoName(85), 'ERESTART')
  t.is(errnoName(9999), 'E9999')
  const error = new NetlinkError('EINVAL', 'add route 10.0.0.0/8', 'no gateway')
  t.is(error.message, 'add route 10.0.0.0/8: EINVAL (no gateway)')
  t.is(error.code, 'INVALID_ARGUMENT')
})
