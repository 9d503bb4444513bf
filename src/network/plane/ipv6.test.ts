/**
 * Services in IPv6 over several nodes on this machine's kernel: the plane, the nftables balancer and
 * what the store wants of both. Who answers says whom it sees: the client's own address must have
 * come all the way, and the answer back through the node that was asked. Needs root, the addon, nft
 * and busybox; says so where it has not.
 */
import type { ExecutionContext } from 'ava'
import { at } from '../../base/assert.ts'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { serviceDraft, serviceSpec } from '../../store/testing/fixtures.ts'
import { kernelTest } from '../netlink/testing/sandbox.ts'
import type { Sandbox } from '../netlink/testing/sandbox.ts'
import { NftablesBalancer } from '../nftables/balancer.ts'
import { wantedServers } from '../wanted-servers.ts'
import { ipv6Of } from '../../store/ipv6.ts'
import { planeNames } from './names.ts'
import { CLIENT_ADDRESS_6, Overlay } from './testing/overlay.ts'
import type { OverlayTask } from './testing/overlay.ts'

const PORT = 8080
const VIP = '10.96.0.2'
const RUNNING = { state: 'running', timestamp: '2026-01-01T00:00:00Z', message: '' } as const
/** Requests to one address; each finds a replica by chance. */
const ASKED = 24

/** `web` on a network with IPv6, published, with a task on each node. */
async function startWeb(overlay: Overlay): Promise<OverlayTask[]> {
  overlay.network('front', '10.96.0.0/24', { EnableIPv6: true })
  overlay.network('back', '10.97.0.0/24')
  const port = { protocol: 'tcp', targetPort: 80, publishedPort: PORT } as const
  const endpoint = {
    ports: [{ ...port, publishMode: 'ingress' } as const],
    allocatedFor: 0,
    virtualAddresses: [{ networkId: 'front', address: VIP }],
  }
  const object = { ...serviceDraft('web', serviceSpec('web')), endpoint }
  overlay.write({ type: 'create', table: 'services', object })
  await overlay.apply()
  const tasks: OverlayTask[] = []
  for (const [index, node] of overlay.nodes.entries()) {
    const fields = { serviceId: 'web', status: RUNNING }
    const task = await overlay.task(`w${index + 1}`, node, ['front'], fields)
    await overlay.serve(task.netns, task.id)
    tasks.push(task)
  }
  return tasks
}

/** Lets each node balance as the store says. */
async function balance(t: ExecutionContext, { native }: Sandbox, overlay: Overlay): Promise<void> {
  for (const { id: nodeId, netns } of overlay.nodes) {
    const table = planeNames(nodeId).balancerTable
    const parts = { native, clock: systemClock, log: silentLogger }
    const balancer = await NftablesBalancer.open(parts, { table, netns })
    t.teardown(() => balancer.close())
    const scene = { store: overlay.store, routed: true, hasVirtualAddresses: true }
    const options = { nodeId, listenAddress: '0.0.0.0', hasIpv6: true }
    t.deepEqual(await balancer.apply(wantedServers(scene, options)), [])
  }
}

kernelTest('IPv6 clients reach services through each node, and are seen', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox, 3, { hasIpv6: true })
  const tasks = await startWeb(overlay)
  const [n1, n2, n3] = [at(overlay.nodes, 0), at(overlay.nodes, 1), at(overlay.nodes, 2)]
  const stranger = await overlay.task('stranger', n1, ['back'])
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  await balance(t, sandbox, overlay)
  const prefix = overlay.wanted(n1).ipv6Prefix ?? ''
  const six = (address: string): string => ipv6Of(prefix, address)
  const w1 = at(tasks, 0)
  const answers = (netns: string, host: string, port: number): string[] => {
    const all = Array.from({ length: ASKED }, () => overlay.ask(netns, host, port))
    return [...new Set(all)].toSorted()
  }

  for (const host of ['fd50::1', 'fd50::2', 'fd50::3']) {
    const expected = tasks.map(({ id }) => `${id} ${CLIENT_ADDRESS_6}`)
    t.deepEqual(answers(overlay.client, host, PORT), expected, `${host} from outside`)
  }
  const own = tasks.map(({ id }) => `${id} fd50::1`)
  t.deepEqual(answers(n1.netns, 'fd50::1', PORT), own, 'a node asks itself')
  const other = answers(n1.netns, 'fd50::2', PORT)
  t.is(other.length, 3, `a node asks another: ${other.join(', ')}`)
  t.false(other.includes('lost') || other.includes('refused'))
  const through = answers(w1.netns, 'fd50::3', PORT)
  t.is(through.length, 3, `a container asks another node: ${through.join(', ')}`)
  t.false(through.includes('lost') || through.includes('refused'))

  const virtual = answers(w1.netns, six(VIP), 80)
  const seen = six(w1.address)
  t.deepEqual(
    virtual,
    [`w1 ${six('10.32.1.1')}`, `w2 ${seen}`, `w3 ${seen}`].toSorted(),
    'a replica reaches its service, and itself by the gateway’s address',
  )
  t.deepEqual(answers(n1.netns, six(VIP), 80).length, 3, 'a node asks the virtual address')
  const ping = `busybox ping -c 1 -W 1 ${six(VIP)} || true`
  t.regex(overlay.run(w1.netns, ping), / 0% packet loss/, 'a member pings')
  t.regex(overlay.run(stranger.netns, ping), /100% packet loss/, 'a stranger pings')
  t.is(overlay.ask(stranger.netns, six(VIP)), 'refused', 'of another network')
  overlay.run(overlay.client, `ip -6 route add ${six(VIP)} via fd50::1`)
  t.is(overlay.ask(overlay.client, six(VIP)), 'refused', 'from outside')
  t.is(overlay.ask(w1.netns, six(VIP), 2222), 'refused', 'a port that nobody serves')
  t.truthy(n2.id && n3.id)
})

kernelTest('answers return through the node that was asked, in IPv6 too', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox, 2, { hasIpv6: true })
  await startWeb(overlay)
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  await balance(t, sandbox, overlay)
  const [n1, n2] = [at(overlay.nodes, 0), at(overlay.nodes, 1)]
  // What n2 itself sends to the client, instead of back through n1, would be counted here.
  overlay.run(
    n2.netns,
    `nft 'add table ip6 seen; add counter ip6 seen direct;
       add chain ip6 seen c { type filter hook postrouting priority 300; };
       add rule ip6 seen c oifname "eth0" ip6 daddr ${CLIENT_ADDRESS_6} tcp sport { 80, ${PORT} } counter name direct'`,
  )
  const answered = new Set<string>()
  for (let i = 0; i < ASKED; i += 1) answered.add(overlay.ask(overlay.client, 'fd50::1', PORT))
  t.deepEqual([...answered].toSorted(), [`w1 ${CLIENT_ADDRESS_6}`, `w2 ${CLIENT_ADDRESS_6}`])
  t.regex(overlay.run(n2.netns, 'nft list counter ip6 seen direct'), /packets 0 /)
  const rules = overlay.run(n2.netns, 'ip -6 rule')
  const { mark } = at(overlay.wanted(n2).peers, 0)
  t.true(rules.includes(`fwmark 0x${mark.toString(16)}`), `the way back to ${n1.id}`)
})
