/**
 * The data plane on this machine's kernel: three nodes, a client and containers as network
 * namespaces. A plain DNAT rule stands in for the balancer. Needs root, the built addon, nft and
 * busybox; says so where it has not.
 */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { at } from '../../base/assert.ts'
import { errorText } from '../../base/errors.ts'
import { NetlinkMonitor } from '../netlink/monitor.ts'
import { decodeGeneration, getGeneration } from '../netlink/nftables.ts'
import { RTM, RTNLGRP } from '../netlink/route-layout.ts'
import { decodeForwardingEntry } from '../netlink/neighbour.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { kernelTest } from '../netlink/testing/sandbox.ts'
import { chooseDriver, probeCapabilities } from './capabilities.ts'
import { ipv6Of } from '../../store/ipv6.ts'
import { macOfTask, planeNames } from './names.ts'
import { Plane } from './plane.ts'
import { CLIENT_ADDRESS, Overlay } from './testing/overlay.ts'
import type { OverlayNode } from './testing/overlay.ts'

/** So long the kernel says nothing of itself when all links are up. */
const SETTLED_MS = 1_500

/** Who asks. */
interface Place {
  readonly id: string
  readonly netns: string
}

kernelTest('packets go where networks allow, and keep their sources', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox)
  const [n1, n2] = [at(overlay.nodes, 0), at(overlay.nodes, 1)]
  overlay.network('front', '10.96.0.0/24')
  overlay.network('back', '10.97.0.0/24')
  overlay.network('vault', '10.98.0.0/24', { Internal: true })
  overlay.service('web', { front: '10.96.0.2' })
  overlay.service('self', { front: '10.96.0.3' })
  overlay.service('db', { back: '10.97.0.2' })
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  const a1 = await overlay.task('a1', n1, ['front'])
  const b1 = await overlay.task('b1', n1, ['back'])
  const m1 = await overlay.task('m1', n1, ['front', 'back'])
  const x1 = await overlay.task('x1', n1, [])
  const i1 = await overlay.task('i1', n1, ['vault'])
  const a2 = await overlay.task('a2', n2, ['front'])
  const b2 = await overlay.task('b2', n2, ['back'])
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  for (const task of [a1, b1, m1, x1, i1, a2, b2]) await overlay.serve(task.netns, task.id)
  await overlay.serve(n1.netns, 'n1', 2222)
  await overlay.serve(overlay.client, 'client', 9000)
  const expected: Record<string, string> = {}
  const found: Record<string, string> = {}
  const expect = (from: Place, [host, port]: readonly [string, number], answer: string): void => {
    const what = `${from.id} → ${host}:${port}`
    expected[what] = answer
    found[what] = overlay.ask(from.netns, host, port)
  }

  expect(a1, [m1.address, 80], `m1 ${a1.address}`)
  expect(a1, [a2.address, 80], `a2 ${a1.address}`)
  expect(a2, [m1.address, 80], `m1 ${a2.address}`)
  expect(m1, [b2.address, 80], `b2 ${m1.address}`)
  expect(n1, [a2.address, 80], 'a2 10.32.1.1')
  for (const [from, to] of [
    [a1, b1],
    [a1, b2],
    [a1, x1],
    [a1, i1],
    [x1, a1],
    [x1, a2],
    [i1, a1],
    [b2, a1],
    [b2, a2],
  ] as const) {
    expect(from, [to.address, 80], 'refused')
  }
  const client = { id: 'client', netns: overlay.client }
  expect(a1, [CLIENT_ADDRESS, 9000], 'client 192.168.50.1')
  expect(x1, [CLIENT_ADDRESS, 9000], 'client 192.168.50.1')
  expect(i1, [CLIENT_ADDRESS, 9000], 'refused')
  expect(i1, [n1.address, 2222], 'refused')
  overlay.run(overlay.client, 'ip route add 10.0.0.0/8 via 192.168.50.1')
  expect(client, [a1.address, 80], 'refused')
  expect(client, [a2.address, 80], 'refused')

  for (const from of [a1, b1, x1, i1, n1, client]) {
    for (const address of ['10.96.0.2', '10.96.0.77', '10.97.0.2']) {
      expect(from, [address, 2222], 'refused')
    }
  }
  overlay.run(
    n1.netns,
    `nft -f - <<N
table ip balancer {
 chain pre { type nat hook prerouting priority dstnat;
  ip daddr 10.96.0.2 tcp dport 80 dnat to ${a2.address}
  ip daddr 10.96.0.3 tcp dport 80 dnat to ${a1.address}
  ip daddr 10.97.0.2 tcp dport 80 dnat to ${b1.address}
  ip daddr 192.168.50.1 tcp dport 8080 dnat to ${a2.address}:80
  ip daddr 192.168.50.1 tcp dport 8081 dnat to ${i1.address}:80
 }
 chain out { type nat hook output priority -100;
  ip daddr 10.96.0.2 tcp dport 80 dnat to ${a2.address}
  ip daddr 10.96.0.3 tcp dport 80 dnat to ${a1.address}
  ip daddr 192.168.50.1 tcp dport 8080 dnat to ${a2.address}:80
 }
}
N`,
  )
  expect(a1, ['10.96.0.2', 80], `a2 ${a1.address}`)
  expect(m1, ['10.96.0.3', 80], `a1 ${m1.address}`)
  expect(m1, ['10.97.0.2', 80], `b1 ${m1.address}`)
  expect(a1, ['10.96.0.3', 80], 'a1 10.32.1.1')
  expect(n1, ['10.96.0.2', 80], 'a2 10.32.1.1')
  expect(n1, ['10.96.0.3', 80], 'a1 10.32.1.1')
  for (const from of [b1, x1, i1, client]) {
    expect(from, ['10.96.0.2', 80], 'refused')
  }
  expect(a1, ['10.97.0.2', 80], 'refused')
  expect(client, ['192.168.50.1', 8080], `a2 ${CLIENT_ADDRESS}`)
  expect(client, ['192.168.50.1', 8081], `i1 ${CLIENT_ADDRESS}`)
  expect(n1, ['192.168.50.1', 8080], 'a2 192.168.50.1')
  expect(x1, ['192.168.50.1', 8080], `a2 ${x1.address}`)
  t.deepEqual(found, expected)
  const pings = (from: Place, address: string): boolean =>
    overlay.run(from.netns, `busybox ping -c 1 -W 1 ${address} | grep -c ' 0% packet' || true`) ===
    '1\n'
  t.true(pings(a1, '10.96.0.2'), 'a member of the network')
  t.true(pings(m1, '10.97.0.2'))
  for (const from of [b1, x1, client]) t.false(pings(from, '10.96.0.2'), from.id)
  t.false(pings(a1, '10.96.0.77'), 'an address without a service')
})

/** All that the plane could touch, as text. Counters and expiry times are not part of it. */
function snapshot(overlay: Overlay, { netns }: OverlayNode): string {
  return overlay.run(
    netns,
    `ip -o link | sed 's/^[0-9]*: //; s/@if[0-9]*//'; ip -4 -o addr | sed 's/^[0-9]*: //'
     ip -4 route show table all | sort; ip -6 route show table all | grep -v fe80 | sort
     ip rule | sort; ip -6 rule | sort; bridge fdb | grep -v 33:33 | sort; ip neigh show nud permanent
     nft list ruleset`,
  )
}

kernelTest('what is so is not made again, and what goes leaves nothing', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox, 2)
  const [n1, n2] = [at(overlay.nodes, 0), at(overlay.nodes, 1)]
  overlay.run(
    n1.netns,
    `ip link add foreign type bridge; echo 1 >/proc/sys/net/ipv6/conf/foreign/disable_ipv6
     ip addr add 172.30.0.1/24 dev foreign; ip link set foreign up
     ip route add 10.99.0.0/16 via 192.168.50.2 proto 83; ip rule add fwmark 7 table 77 priority 20000
     ip route add local 10.98.0.0/16 dev lo proto 83
     nft 'add table ip foreign; add chain ip foreign c { type filter hook input priority 0; }'`,
  )
  const before = snapshot(overlay, n1)
  overlay.network('front', '10.96.0.0/24', { EnableIPv6: true })
  overlay.network('back', '10.97.0.0/24')
  overlay.service('web', { front: '10.96.0.2' })
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  const a1 = await overlay.task('a1', n1, ['front'])
  await overlay.task('a2', n2, ['front'])
  await overlay.apply()
  const made = snapshot(overlay, n1)
  t.not(made, before)

  const messages: (number | string)[] = []
  using monitor = await NetlinkMonitor.open(
    sandbox.native,
    { protocol: 'route', netns: n1.netns, groups: Object.values(RTNLGRP) },
    {
      onMessage: (message) => {
        // The kernel itself learns neighbours; ours are permanent.
        const isLearned =
          message.type === RTM.newNeighbour && !decodeForwardingEntry(message).isPermanent
        if (!isLearned) messages.push(message.type)
      },
      onLost: () => messages.push('lost'),
    },
  )
  await using netfilter = await NetlinkSocket.open(sandbox.native, {
    protocol: 'netfilter',
    netns: n1.netns,
  })
  const generation = async (): Promise<number> =>
    decodeGeneration(at(await netfilter.request(getGeneration()), 0))
  // The kernel itself tells of links that came up and of IPv6 addresses that nobody else has.
  do {
    messages.length = 0
    await sleep(SETTLED_MS)
  } while (messages.length > 0)
  const rules = await generation()
  t.deepEqual(await n1.plane.apply(overlay.wanted(n1)), { changes: 0, faults: [] })
  n1.plane.forget()
  t.deepEqual(await n1.plane.apply(overlay.wanted(n1)), { changes: 0, faults: [] })
  await n1.plane[Symbol.asyncDispose]()
  n1.plane = await Plane.open(sandbox.native, { nodeId: n1.id, netns: n1.netns })
  t.deepEqual(await n1.plane.apply(overlay.wanted(n1)), { changes: 0, faults: [] })
  t.is(await generation(), rules)
  t.deepEqual(messages, [], 'no message to the kernel changed anything')
  monitor.close()

  overlay.run(n1.netns, 'ip route del 10.32.2.0/24; ip rule del table 0xa200200')
  overlay.run(n1.netns, 'nft flush set ip skein_node0001 members')
  n1.plane.forget()
  t.true((await n1.plane.apply(overlay.wanted(n1))).changes >= 3)
  t.is(snapshot(overlay, n1), made, 'what somebody deleted is back')

  await overlay.removeTask(a1)
  overlay.network('more', '10.100.0.0/24')
  await overlay.apply()
  t.regex(overlay.run(n1.netns, 'ip route show table local'), /local 10\.100\.0\.0\/24/)
  t.notRegex(overlay.run(n1.netns, 'nft list table ip skein_node0001'), /10\.32\.1\.2 /)
  t.deepEqual(await n1.plane.remove(), [])
  t.is(snapshot(overlay, n1), before, 'all ours is gone, nothing of others')
  t.deepEqual(await n1.plane.remove(), [], 'nothing to remove is no fault')
})

kernelTest('IPv6 goes where networks have it, and a false source nowhere', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox, 2)
  const [n1, n2] = [at(overlay.nodes, 0), at(overlay.nodes, 1)]
  overlay.network('front', '10.96.0.0/24', { EnableIPv6: true })
  overlay.network('back', '10.97.0.0/24')
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  const a1 = await overlay.task('a1', n1, ['front'])
  const b1 = await overlay.task('b1', n1, ['back'])
  const a2 = await overlay.task('a2', n2, ['front'])
  const m1 = await overlay.task('m1', n1, ['front', 'back'])
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  for (const task of [a1, b1, a2, m1]) await overlay.serve(task.netns, task.id)
  await overlay.serve(n1.netns, 'n1', 2222)
  const prefix = overlay.wanted(n1).ipv6Prefix ?? ''
  const six = (address: string): string => ipv6Of(prefix, address)
  t.is(overlay.ask(a1.netns, six(a2.address)), `a2 ${six(a1.address)}`)
  t.is(overlay.ask(a2.netns, six(m1.address)), `m1 ${six(a2.address)}`)
  t.is(overlay.ask(a1.netns, six(m1.address)), `m1 ${six(a1.address)}`)
  t.is(overlay.ask(n1.netns, six(a2.address)), `a2 ${six('10.32.1.1')}`)
  t.is(overlay.ask(b1.netns, six(a2.address)), 'refused')
  t.is(overlay.ask(m1.netns, six(b1.address)), 'refused', 'the network back has no IPv6')
  t.is(overlay.ask(a1.netns, six('10.96.0.2'), 2222), 'refused')
  t.is(overlay.ask(n1.netns, six('10.96.0.2'), 2222), 'refused')
  t.is(overlay.ask(a1.netns, six('10.32.1.1'), 2222), 'refused')

  overlay.run(
    a2.netns,
    `nft 'add table ip seen; add counter ip seen false; add chain ip seen c { type filter hook input priority 0; };
       add rule ip seen c ip saddr ${a1.address} counter name false'`,
  )
  const seen = (): string =>
    /packets (\d+)/.exec(overlay.run(a2.netns, 'nft list counter ip seen false'))?.[1] ?? ''
  overlay.run(b1.netns, `ip addr add ${a1.address}/32 dev lo`)
  const way = `default via 10.32.1.1 dev eth0 onlink src ${a1.address}`
  overlay.run(b1.netns, `ip route replace ${way}`)
  t.is(overlay.ask(b1.netns, a2.address), 'lost')
  t.is(seen(), '0', 'a task cannot speak as another one')
  t.is(overlay.ask(a1.netns, a2.address), `a2 ${a1.address}`, 'nor take its answers')
  t.not(seen(), '0')
})

kernelTest('what this host can do is found by trying it', async (t, sandbox) => {
  const found = await probeCapabilities({ type: 'loaded', native: sandbox.native })
  t.true(found.nftables.isThere, found.nftables.text)
  t.true(found.vxlan.isThere, found.vxlan.text)
  t.is(chooseDriver(found).driver, found.ipvs.isThere ? 'ipvs' : 'nftables')
  const absent = await probeCapabilities({ type: 'absent', reason: 'not built' })
  t.deepEqual(chooseDriver(absent), { driver: 'userspace', reason: 'not built' })
  const ipvs = { isThere: true, text: 'the kernel has IPVS' }
  t.deepEqual(chooseDriver({ ...found, ipvs }), { driver: 'ipvs', reason: ipvs.text })
  const told = { reason: 'the daemon was told so' }
  t.deepEqual(chooseDriver({ ...found, ipvs }, 'nftables'), { driver: 'nftables', ...told })
  t.deepEqual(chooseDriver({ ...found, ipvs }, 'userspace'), { driver: 'userspace', ...told })
  t.is(chooseDriver(absent, 'nftables').driver, 'userspace')
})

kernelTest(
  'a task is connected as wanted, and disconnected without a trace',
  async (t, sandbox) => {
    await using overlay = await Overlay.create(sandbox, 1)
    const n1 = at(overlay.nodes, 0)
    overlay.network('front', '10.96.0.0/24')
    t.deepEqual((await n1.plane.apply(overlay.wanted(n1))).faults, [])
    t.is(n1.plane.mtu, 1450)
    const before = overlay.run(n1.netns, 'ip -o link | cut -d: -f2')
    const { bridge } = planeNames(n1.id)
    const link = { cidr: '10.32.1.9/24', gateway: '10.32.1.1', bridge, mtu: 1400 }
    const extras = [
      { kind: 'macvlan', parent: 'eth0', cidr: '192.168.50.77/24' },
      { kind: 'macvlan', parent: 'eth0', mode: 'private', cidr: '192.168.51.77/24' },
    ] as const
    const netns = await n1.links.attach('task1', { ...link, extras })
    const inside = overlay.run(
      netns,
      'ip -d link; ip -o -4 addr; ip route; ip -6 addr show dev eth0',
    )
    t.regex(inside, /eth0@if\d+: .* mtu 1400 /)
    t.regex(inside, /inet 10\.32\.1\.9\/32 /)
    t.regex(inside, /default via 10\.32\.1\.1 dev eth0 .*onlink/)
    t.regex(inside, /macvlan mode bridge[^]*macvlan mode private/)
    t.true(inside.includes(macOfTask('192.168.50.77/24')))
    t.notRegex(inside, /fe80/)
    t.regex(overlay.run(n1.netns, 'bridge -d link show dev skvtask1'), /isolated on/)
    await overlay.serve(overlay.client, 'client')
    t.is(overlay.ask(netns, CLIENT_ADDRESS), 'client 192.168.50.77', 'by its own address there')

    const again = await n1.links.attach('task1', link)
    t.is(again, netns)
    t.notRegex(overlay.run(netns, 'ip link'), /eth1/, 'what was there before is gone')
    await n1.links.detach('task1')
    await n1.links.detach('task1')
    t.false(existsSync(netns))

    for (const [wrong, words] of [
      [{ ...link, bridge: 'nothing' }, /"nothing": does not exist/],
      [{ ...link, extras: [{ ...extras[0], parent: 'eth9' }] }, /"eth9": does not exist/],
      [{ ...link, extras: [{ ...extras[0], mode: 'loud' }] }, /macvlan mode "loud"/],
    ] as const) {
      const error = await t.throwsAsync(n1.links.attach('task2', wrong))
      t.regex(errorText(error), words)
      t.false(existsSync(n1.links.namespacePath('task2')))
    }
    await n1.links.probe('probe00001')
    t.is(overlay.run(n1.netns, 'ip -o link | cut -d: -f2'), before)
  },
)

kernelTest('what cannot be made is said, and the rest is made', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox, 2)
  const [n1, n2] = [at(overlay.nodes, 0), at(overlay.nodes, 1)]
  overlay.network('front', '10.96.0.0/24')
  overlay.run(n1.netns, `ip link add ${planeNames(n1.id).bridge} type veth peer name other`)
  const { faults } = await n1.plane.apply(overlay.wanted(n1))
  t.is(faults.length, 1)
  t.regex(faults[0] ?? '', /exists and is no bridge/)
  t.notRegex(overlay.run(n1.netns, 'ip route show table local'), /10\.96/)
  overlay.run(n1.netns, 'ip link del other')
  t.deepEqual((await n1.plane.apply(overlay.wanted(n1))).faults, [])
  t.regex(overlay.run(n1.netns, 'ip route show table local'), /local 10\.96\.0\.0\/24/)

  overlay.network('lan', '192.168.50.0/24')
  const report = await n1.plane.apply(overlay.wanted(n1))
  t.regex(
    report.faults.join(),
    /^range 192\.168\.50\.0\/24: this host has 192\.168\.50\.1\/24 on eth0/,
  )
  t.deepEqual(await n1.plane.apply(overlay.wanted(n1)), { changes: 0, faults: report.faults })
  await overlay.serve(n1.netns, 'n1', 2222)
  t.is(overlay.ask(overlay.client, n1.address, 2222), `n1 ${CLIENT_ADDRESS}`)

  overlay.run(n2.netns, 'echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter')
  await n2.plane.apply(overlay.wanted(n2))
  const { bridge, vxlan } = planeNames(n2.id)
  const setting = (name: string): string =>
    overlay.run(n2.netns, `cat /proc/sys/net/${name}`).trim()
  t.is(setting('ipv4/conf/all/rp_filter'), '1', 'the host’s own stays')
  for (const device of [bridge, vxlan]) t.is(setting(`ipv4/conf/${device}/rp_filter`), '2')
  t.is(setting('ipv4/ip_forward'), '1')
})
