/** What a task with raw sockets can make others believe: nothing. In namespaces of the test's own. */
import { at } from '../../base/assert.ts'
import { kernelTest } from '../netlink/testing/sandbox.ts'
import { arpFrame, sendFrame, solicitationFrame, udpFrame } from '../testing/raw-frames.ts'
import { ipv6Of } from '../../store/ipv6.ts'
import { macOfBridge, macOfTask, planeNames, vethName } from './names.ts'
import { Overlay } from './testing/overlay.ts'
import type { OverlayTask } from './testing/overlay.ts'

const PORT = 9_999

function macOf(task: OverlayTask): string {
  return macOfTask(`${task.address}/24`)
}

kernelTest('a task sends its own MAC and addresses and no others', async (t, sandbox) => {
  await using overlay = await Overlay.create(sandbox, 1)
  const node = at(overlay.nodes, 0)
  overlay.network('front', '10.96.0.0/24', { EnableIPv6: true })
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  const [liar, victim, server] = [
    await overlay.task('liar', node, ['front']),
    await overlay.task('victim', node, ['front']),
    await overlay.task('server', node, ['front']),
  ]
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  const { bridge, table } = planeNames(node.id)
  const toMac = macOfBridge(node.id)
  const { gateway, ipv6Prefix = '' } = overlay.wanted(node)
  overlay.run(
    server.netns,
    `nft 'table ip seen { chain input { type filter hook input priority 0;
       udp dport ${PORT} counter; }; }'`,
  )
  const seen = (): number => {
    const text = overlay.run(server.netns, 'nft list table ip seen')
    return Number(/counter packets (\d+)/.exec(text)?.[1])
  }
  const say = (fromMac: string, from: string): void => {
    sendFrame(liar.netns, udpFrame({ fromMac, toMac, from, to: server.address }, PORT))
  }
  const stranger = node.subnet.replace('0/24', '77')
  const entries = (address: string): string =>
    overlay.run(node.netns, `ip neigh show ${address} dev ${bridge}`)
  const portOf = (task: OverlayTask): string =>
    overlay.run(node.netns, `bridge fdb show br ${bridge} | grep ${macOf(task)}`)
  const lie = (): void => {
    say(macOf(victim), victim.address)
    say(macOf(liar), victim.address)
    say(macOf(victim), liar.address)
    for (const from of [stranger, victim.address]) {
      const ends = { fromMac: macOf(liar), toMac, from, to: gateway }
      sendFrame(liar.netns, arpFrame(ends, macOf(liar)))
      sendFrame(liar.netns, arpFrame({ ...ends, fromMac: macOf(victim) }, macOf(victim)))
      const ends6 = { ...ends, from: ipv6Of(ipv6Prefix, from), to: ipv6Of(ipv6Prefix, gateway) }
      sendFrame(liar.netns, solicitationFrame(ends6, macOf(liar)))
    }
    // What is honest comes last: when it is there, all before it was looked at.
    say(macOf(liar), liar.address)
  }

  const before = [victim.address, ipv6Of(ipv6Prefix, victim.address)].map(entries)
  lie()
  t.is(seen(), 1, 'only what it says in its own name is heard')
  t.is(entries(stranger), '')
  t.is(entries(ipv6Of(ipv6Prefix, stranger)), '')
  t.deepEqual([victim.address, ipv6Of(ipv6Prefix, victim.address)].map(entries), before)
  t.true(portOf(victim).includes(vethName(victim.id)), 'its port is its own')
  await overlay.serve(victim.netns, 'victim')
  t.is(overlay.ask(server.netns, victim.address), `victim ${server.address}`)

  // The same without the guard: the lies were real.
  overlay.run(node.netns, `nft delete table bridge ${table}`)
  lie()
  t.true(seen() > 2, 'in the name of a neighbour')
  t.not(entries(stranger), '')
  t.not(entries(ipv6Of(ipv6Prefix, stranger)), '')
  t.true(portOf(victim).includes(vethName(victim.id)), 'ports learn nothing all the same')
  node.plane.forget()
  for (const report of await overlay.apply()) t.deepEqual(report.faults, [])
  const heard = seen()
  lie()
  t.is(seen(), heard + 1, 'the guard is back')
})
