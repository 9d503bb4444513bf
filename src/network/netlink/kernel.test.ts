/**
 * Requests of every kind against this machine's kernel, in network namespaces of the test's own,
 * each compared with what iproute2 and nft print. Needs root and the built addon; says so where it
 * has not.
 */
import { closeSync, openSync, readFileSync } from 'node:fs'
import { decodeFamily, getFamily, resolveFamily } from './generic.ts'
import { decodeLink } from './link-reply.ts'
import { deleteLink, dumpLinks, newLink, setBridgePort, setIpv4Conf, setLink } from './link.ts'
import {
  decodeForwardingEntry,
  decodeNeighbour,
  deleteForwardingEntry,
  deleteNeighbour,
  dumpForwardingEntries,
  dumpNeighbours,
  setForwardingEntry,
  setNeighbour,
  setProxyNeighbour,
} from './neighbour.ts'
import { isNetlinkError } from './netlink-error.ts'
import type { NetlinkError } from './netlink-error.ts'
import {
  decodeAddress,
  decodeRoute,
  deleteAddress,
  deleteRoute,
  dumpAddresses,
  dumpRoutes,
  matchesFilter,
  newRoute,
  setAddress,
  setRoute,
} from './route.ts'
import { decodeRule, deleteRule, dumpRules, newRule } from './rule.ts'
import { NetlinkSocket } from './socket.ts'
import { readSysctl, writeSysctl } from './sysctl.ts'
import { kernelTest, linkOf, openIn } from './testing/sandbox.ts'

kernelTest('devices of every kind are made as wanted, and iproute2 agrees', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  await socket.request(newLink({ name: 'br0' }, { kind: 'bridge', multicastSnooping: false }))
  const bridge = await linkOf(socket, 'br0')
  const vxlan = { kind: 'vxlan', id: 4242, port: 4789, local: '192.168.50.1' } as const
  const mac = '02:aa:00:00:00:01'
  await socket.request(newLink({ name: 'vx0', mtu: 1450, macAddress: mac }, vxlan))
  const v6 = { kind: 'vxlan', id: 4243, port: 4790, local: 'fd00::1', learning: true } as const
  await socket.request(newLink({ name: 'vx6', up: false }, v6))
  const veth = { kind: 'veth', peer: { name: 'pair1', mtu: 1400 } } as const
  await socket.request(newLink({ name: 'pair0', mtu: 1400, master: bridge.index }, veth))
  const parent = (await linkOf(socket, 'pair1')).index
  await socket.request(newLink({ name: 'mv0' }, { kind: 'macvlan', parent, mode: 'bridge' }))

  const details = sandbox.run('ip -d link')
  t.regex(details, /br0: <[^>]*UP[^>]*>/)
  t.regex(details, /mcast_snooping 0/)
  t.regex(details, /vx0: <[^>]*UP[^>]*> mtu 1450/)
  t.regex(details, /vxlan id 4242 local 192\.168\.50\.1 .*dstport 4789 .*nolearning/)
  t.regex(details, new RegExp(`link/ether ${mac}`))
  t.regex(details, /vx6: <(?![^>]*UP)[^>]*>/)
  t.regex(details, /vxlan id 4243 local fd00::1 .*dstport 4790/)
  t.regex(details, /pair0@pair1: .* mtu 1400 .* master br0/)
  t.regex(details, /macvlan mode bridge/)

  const links = (await socket.dump(dumpLinks())).map(decodeLink)
  const byName = new Map(links.map((link) => [link.name, link]))
  t.like(byName.get('vx0'), { kind: 'vxlan', mtu: 1450, macAddress: mac, isUp: true })
  t.like(byName.get('vx0')?.vxlan, { id: 4242, port: 4789, local: '192.168.50.1', learning: false })
  t.like(byName.get('vx6')?.vxlan, { id: 4243, port: 4790, local: 'fd00::1', learning: true })
  t.like(byName.get('pair0'), { kind: 'veth', master: bridge.index, parent })
  t.is(byName.get('br0')?.kind, 'bridge')
  const ports = (await socket.dump(dumpLinks({ master: bridge.index }))).map(decodeLink)
  t.deepEqual(
    ports.map((port) => port.name),
    ['pair0'],
  )
})

kernelTest(
  'a veth peer is born in another namespace and set up from outside',
  async (t, sandbox) => {
    await using socket = await openIn(sandbox)
    const inner = await sandbox.anotherNetns()
    const netnsFd = openSync(inner, 'r')
    try {
      const peer = { name: 'eth0', macAddress: '02:00:00:00:00:09', netnsFd }
      await socket.request(newLink({ name: 'out0' }, { kind: 'veth', peer }))
    } finally {
      closeSync(netnsFd)
    }
    await using inside = await NetlinkSocket.open(sandbox.native, {
      protocol: 'route',
      netns: inner,
    })
    const eth0 = await linkOf(inside, 'eth0')
    t.is(eth0.macAddress, '02:00:00:00:00:09')
    await inside.request(setLink('lo', { up: true }))
    await inside.request(setLink('eth0', { up: true }))
    await inside.request(setAddress({ link: eth0.index, prefix: '10.32.1.9/24' }))
    await inside.request(newRoute({ destination: '0.0.0.0/0', gateway: '10.32.1.1' }))
    t.regex(sandbox.run('ip route', inner), /default via 10\.32\.1\.1 dev eth0/)
    const outer = await linkOf(socket, 'out0')
    await socket.request(setAddress({ link: outer.index, prefix: '10.32.1.1/24' }))
    t.regex(sandbox.run('busybox ping -c 1 -W 5 10.32.1.9'), /1 packets received/)
  },
)

kernelTest('a device is changed and deleted, and a missing one is ENODEV', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  await socket.request(newLink({ name: 'a0', up: false }, { kind: 'bridge' }))
  const macAddress = '02:00:00:00:00:77'
  await socket.request(setLink('a0', { up: true, mtu: 1300, macAddress, linkLocalAddress: false }))
  t.like(await linkOf(socket, 'a0'), { isUp: true, mtu: 1300, macAddress })
  t.notRegex(sandbox.run('ip -6 addr show dev a0'), /fe80/)
  await socket.request(setLink('a0', { up: false }))
  const { index } = await linkOf(socket, 'a0')
  await socket.request(setLink(index, { newName: 'b0' }))
  t.is((await linkOf(socket, 'b0')).index, index)
  const taken = await t.throwsAsync(() =>
    socket.request(newLink({ name: 'b0' }, { kind: 'bridge' })),
  )
  t.true(isNetlinkError(taken, 'EEXIST'))
  await socket.request(deleteLink('b0'))
  const gone = await t.throwsAsync(() => socket.request(deleteLink(index)))
  t.true(isNetlinkError(gone, 'ENODEV'))
  t.like(gone, { code: 'NOT_FOUND', operation: `delete device ${index}` })
})

kernelTest('bridge ports are isolated, and a device gets its IPv4 settings', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  await socket.request(newLink({ name: 'br0' }, { kind: 'bridge' }))
  const master = (await linkOf(socket, 'br0')).index
  await socket.request(newLink({ name: 'p0', master }, { kind: 'veth', peer: { name: 'p1' } }))
  const port = await linkOf(socket, 'p0')
  await socket.request(setBridgePort(port.index, { isolated: true, hairpin: true }))
  t.regex(sandbox.run('bridge -d link show dev p0'), /hairpin on.*isolated on/)
  t.like((await linkOf(socket, 'p0')).bridgePort, { isolated: true, hairpin: true, learning: true })
  const conf = { proxy_arp_pvlan: 1, accept_local: 1, rp_filter: 2, send_redirects: 0 }
  await socket.request(setIpv4Conf(master, conf))
  for (const [name, value] of Object.entries(conf)) {
    const place = { name: `net/ipv4/conf/br0/${name}`, netns: sandbox.netns }
    t.is(await readSysctl(sandbox.native, place), String(value))
  }
})

kernelTest('addresses of both families are set, listed and deleted', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  await socket.request(newLink({ name: 'br0' }, { kind: 'bridge' }))
  const link = (await linkOf(socket, 'br0')).index
  for (const prefix of ['10.32.1.1/24', 'fd00:32:1::1/64']) {
    await socket.request(setAddress({ link, prefix }))
    await socket.request(setAddress({ link, prefix }))
  }
  const text = sandbox.run('ip addr show dev br0')
  t.regex(text, /inet 10\.32\.1\.1\/24/)
  t.regex(text, /inet6 fd00:32:1::1\/64/)
  t.notRegex(text, /fd00.*tentative/)
  const listed = async (): Promise<string[]> =>
    (await socket.dump(dumpAddresses(link)))
      .map(decodeAddress)
      .filter((address) => address.link === link && !address.prefix.startsWith('fe80'))
      .map((address) => address.prefix)
  t.deepEqual(await listed(), ['10.32.1.1/24', 'fd00:32:1::1/64'])
  await socket.request(deleteAddress({ link, prefix: '10.32.1.1/24' }))
  t.deepEqual(await listed(), ['fd00:32:1::1/64'])
  const gone = await t.throwsAsync(() =>
    socket.request(deleteAddress({ link, prefix: '10.32.1.1/24' })),
  )
  t.true(isNetlinkError(gone, 'EADDRNOTAVAIL'))
})

kernelTest(
  'onlink routes, a local range with its source, and tables above 255',
  async (t, sandbox) => {
    await using socket = await openIn(sandbox)
    await socket.request(setLink('lo', { up: true }))
    await socket.request(newLink({ name: 'br0' }, { kind: 'bridge' }))
    const link = (await linkOf(socket, 'br0')).index
    await socket.request(setAddress({ link, prefix: '10.32.1.1/24' }))
    await socket.request(setAddress({ link, prefix: 'fd00:32:1::1/64' }))
    const peer = {
      destination: '10.32.2.0/24',
      gateway: '10.32.2.0',
      link,
      onlink: true,
      protocol: 77,
      mtu: 1400,
    }
    await socket.request(setRoute(peer))
    await socket.request(setRoute(peer))
    const range = {
      destination: '10.96.0.0/16',
      type: 'local',
      link: 1,
      source: '10.32.1.1',
      protocol: 77,
    } as const
    await socket.request(newRoute(range))
    const far = { destination: '0.0.0.0/0', gateway: '10.32.2.0', link, onlink: true, table: 1002 }
    await socket.request(newRoute(far))
    await socket.request(
      newRoute({ destination: 'fd00:32:2::/64', gateway: 'fd00:32:1::2', metric: 50 }),
    )

    const main = sandbox.run('ip route show table all')
    t.regex(main, /10\.32\.2\.0\/24 via 10\.32\.2\.0 dev br0 proto 77 .*onlink/)
    t.regex(main, /mtu 1400/)
    t.regex(main, /local 10\.96\.0\.0\/16 dev lo table local proto 77 .*src 10\.32\.1\.1/)
    t.regex(main, /default via 10\.32\.2\.0 dev br0 table 1002/)
    t.regex(sandbox.run('ip -6 route'), /fd00:32:2::\/64 via fd00:32:1::2 dev br0 .*metric 50/)
    t.regex(sandbox.run('ip route get 10.96.3.4'), /local 10\.96\.3\.4 .*src 10\.32\.1\.1/)

    const filter = { family: 'ipv4', protocol: 77 } as const
    const ours = (await socket.dump(dumpRoutes(filter)))
      .map(decodeRoute)
      .filter((route) => matchesFilter(route, filter))
    t.deepEqual(
      ours.toSorted((a, b) => (a.destination < b.destination ? -1 : 1)),
      [
        { ...peer, type: 'unicast', table: 254 },
        { ...range, onlink: false, table: 255 },
      ],
    )
    await socket.request(deleteRoute(peer))
    await socket.request(deleteRoute({ destination: '10.96.0.0/16', type: 'local' }))
    t.is(
      (await socket.dump(dumpRoutes(filter))).map(decodeRoute).filter((r) => r.protocol === 77)
        .length,
      0,
    )
    t.true(isNetlinkError(await t.throwsAsync(() => socket.request(deleteRoute(peer))), 'ESRCH'))
  },
)

kernelTest('the kernel explains a refusal in its own words', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  const error = await t.throwsAsync(() =>
    socket.request(newRoute({ destination: '10.1.0.0/16', gateway: '10.99.0.1' })),
  )
  t.like(error, { errno: 'ENETUNREACH', code: 'FAILED_PRECONDITION' })
  t.regex((error as NetlinkError).detail ?? '', /gateway/)
  t.true(error.message.startsWith('add route 10.1.0.0/16: ENETUNREACH'))
})

kernelTest('rules by device and mark are made, listed and deleted', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  const rule = {
    family: 'ipv4',
    table: 1002,
    priority: 500,
    inDevice: 'br0',
    mark: 2,
    mask: 0xff,
    source: '10.32.0.0/16',
    protocol: 77,
  } as const
  await socket.request(newRule(rule))
  t.regex(
    sandbox.run('ip rule'),
    /500:\s+from 10\.32\.0\.0\/16 fwmark 0x2\/0xff iif br0.*lookup 1002 proto 77/,
  )
  const rules = async (): Promise<unknown[]> =>
    (await socket.dump(dumpRules('ipv4'))).map(decodeRule).filter((r) => r?.protocol === 77)
  t.deepEqual(await rules(), [rule])
  t.true(isNetlinkError(await t.throwsAsync(() => socket.request(newRule(rule))), 'EEXIST'))
  await socket.request(deleteRule(rule))
  t.deepEqual(await rules(), [])
})

kernelTest('200 peers are neighbours and forwarding entries in one batch', async (t, sandbox) => {
  await using socket = await openIn(sandbox)
  await socket.request(newLink({ name: 'vx0' }, { kind: 'vxlan', id: 42, port: 4789 }))
  await socket.request(newLink({ name: 'br0' }, { kind: 'bridge' }))
  const link = (await linkOf(socket, 'vx0')).index
  const peers = Array.from({ length: 200 }, (_, index) => ({
    link,
    macAddress: `02:aa:00:00:01:${index.toString(16).padStart(2, '0')}`,
    address: `10.33.${index}.0`,
    destination: `192.168.51.${index + 1}`,
  }))
  const requests = peers.flatMap((peer) => [setNeighbour(peer), setForwardingEntry(peer)])
  t.deepEqual(await socket.batch(requests), [])
  t.deepEqual(await socket.batch(requests), [])
  t.regex(sandbox.run('ip neigh show dev vx0'), /10\.33\.7\.0 lladdr 02:aa:00:00:01:07 PERMANENT/)
  t.regex(
    sandbox.run('bridge fdb show dev vx0'),
    /02:aa:00:00:01:07 dst 192\.168\.51\.8 .*permanent/,
  )

  const neighbours = (await socket.dump(dumpNeighbours(link)))
    .map(decodeNeighbour)
    .filter((entry) => entry?.isPermanent)
  t.deepEqual(
    neighbours.map((entry) => entry?.address ?? '').toSorted(),
    peers.map((peer) => peer.address).toSorted(),
  )
  t.true(neighbours.every((entry) => entry?.link === link))
  const entries = (await socket.dump(dumpForwardingEntries(link)))
    .map(decodeForwardingEntry)
    .filter((entry) => entry.destination !== undefined)
  t.deepEqual(
    entries.map((entry) => `${entry.macAddress} ${entry.destination}`).toSorted(),
    peers.map((peer) => `${peer.macAddress} ${peer.destination}`).toSorted(),
  )
  const failures = await socket.batch(
    peers.flatMap((peer, index) => [
      deleteNeighbour(peer),
      deleteForwardingEntry(peer),
      ...(index === 99 ? [deleteNeighbour(peer), deleteForwardingEntry(peer)] : []),
    ]),
  )
  t.deepEqual(
    failures.map(({ index, error }) => [index, error.errno]),
    [
      [200, 'ENOENT'],
      [201, 'ENOENT'],
    ],
  )
  t.is(sandbox.run('ip neigh show dev vx0; bridge fdb show dev vx0 | grep dst || true'), '')
  await socket.request(setProxyNeighbour({ link, address: 'fd00::9' }))
  t.regex(sandbox.run('ip -6 neigh show proxy'), /fd00::9 dev vx0\s+proxy/)
})

kernelTest(
  'the generic controller is found by name, and a missing family is ENOENT',
  async (t, sandbox) => {
    await using socket = await NetlinkSocket.open(sandbox.native, {
      protocol: 'generic',
      netns: sandbox.netns,
    })
    const family = await resolveFamily(socket, 'nlctrl')
    t.is(family.id, 16)
    t.true(family.groups.has('notify'))
    const all = (await socket.dump({ ...getFamily('nlctrl'), body: (w) => w.rawU32(3) })).map(
      decodeFamily,
    )
    t.true(all.some((each) => each.name === 'nlctrl'))
    const error = await t.throwsAsync(() => resolveFamily(socket, 'NO_SUCH_FAMILY'))
    t.like(error, { errno: 'ENOENT', code: 'NOT_FOUND' })
  },
)

kernelTest('a sysctl is read and written in a namespace alone', async (t, { native, netns }) => {
  const place = { name: 'net/ipv4/conf/lo/rp_filter', netns }
  const ours = readFileSync('/proc/sys/net/ipv4/conf/lo/rp_filter', 'utf8')
  await writeSysctl(native, place, '2')
  t.is(await readSysctl(native, place), '2')
  t.is(readFileSync('/proc/sys/net/ipv4/conf/lo/rp_filter', 'utf8'), ours)
  const missingOne = { name: 'net/ipv4/no_such_setting', netns }
  t.like(await t.throwsAsync(() => readSysctl(native, missingOne)), { errno: 'ENOENT' })
  t.like(await t.throwsAsync(() => writeSysctl(native, place, 'many')), { errno: 'EINVAL' })
})
