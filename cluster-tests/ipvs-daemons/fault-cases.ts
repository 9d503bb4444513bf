/** What users notice little of: slow and broken wires, and the end of a host. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Case } from '../ipvs/case.ts'
import { until } from '../harness/daemon.ts'
import { counts, inWorld, names, untilSpread } from './in-world.ts'
import { ask, load } from './requests.ts'
import { REPLICAS } from './the-world.ts'
import { HOSTS } from './world.ts'
import type { World } from './world.ts'

const REQUESTS = 20
/** Lost packets are sent again, after a second, two, four. */
const PATIENT = { limitS: 60 }
/** As a client that asks again waits. */
const IMPATIENT = { limitS: 5 }
const LOADS_PER_HOST = 3
/** A link is dead after 2 s; a request that was on its way fails when its client gives up. */
const FAILING_MAX_MS = 20_000
/** How long there is load after a host's death. */
const DEATH_MS = 30_000
/** The swarm's words between the ends of the wire that is cut are said through the third host. */
const CUT_MS = 20_000

export const FAULT_CASES: readonly Case[] = [
  inWorld(
    '50 ms of delay and 5 % of loss between hosts slow requests and lose none',
    async (own, note) => {
      const hosts = Array.from({ length: HOSTS }, (_, host) => host)
      await untilSpread(own)
      try {
        for (const host of hosts) {
          own.hosts.run(host, 'tc', ...qdisc('add'), 'netem', 'delay', '50ms', 'loss', '5%')
        }
        const results = await Promise.all(
          hosts.map((host) => ask(own.client, own.published(host), REQUESTS, PATIENT)),
        )
        for (const [host, result] of results.entries()) {
          note(`host ${host + 1}, 50 ms and 5 %: ${counts(result)}`)
          assert.equal(result.failed, 0)
          assert.equal(names(result).length, REPLICAS)
        }
        for (const host of hosts) {
          const sent = own.hosts.run(host, 'tc', '-s', 'qdisc', 'show', 'dev', 'eth0')
          const [, packets, dropped] = /(\d+) pkt \(dropped (\d+)/.exec(sent) ?? []
          note(`host ${host + 1} sent ${packets} packets, and lost ${dropped}`)
          assert.ok(Number(dropped) > 0)
        }
        await own.swarm.untilReady(own.swarm.node(0), HOSTS)
      } finally {
        for (const host of hosts) own.hosts.run(host, 'tc', ...qdisc('del'))
      }
    },
  ),

  inWorld('a cut wire between two hosts is bridged by the third', async (own, note) => {
    await untilSpread(own)
    const loads = [0, 1, 2].map((host) => load(own.client, own.published(host), IMPATIENT))
    try {
      cutWire(own, 0, 2)
      await sleep(CUT_MS)
      await until('hosts 1 and 3 to answer', async () => {
        const seen = await Promise.all(
          [0, 2].map((host) => ask(own.client, own.published(host), REQUESTS)),
        )
        for (const each of seen) note(`wire 1–3 is cut: ${counts(each)}`)
        return seen.every(({ failed }) => failed === 0)
      })
      await own.swarm.untilReady(own.swarm.node(0), HOSTS)
    } finally {
      mendWire(own, 0)
      for (const [host, each] of loads.entries()) {
        const result = await each.stop()
        note(`host ${host + 1} meanwhile: ${counts(result)}, within ${result.failingMs} ms`)
      }
    }
    await untilSpread(own)
  }),

  inWorld('the end of a host costs few requests', async (own, note) => {
    await untilSpread(own)
    const loads = [0, 1].flatMap((host) =>
      Array.from({ length: LOADS_PER_HOST }, () =>
        load(own.client, own.published(host), IMPATIENT),
      ),
    )
    await sleep(3_000)
    own.hosts.cable(2, 'down')
    await own.swarm.cutPower(own.swarm.node(2))
    await sleep(DEATH_MS)
    const results = await Promise.all(loads.map((each) => each.stop()))
    const asked = results.reduce((sum, each) => sum + each.asked, 0)
    const failed = results.reduce((sum, each) => sum + each.failed, 0)
    const failingMs = Math.max(...results.map((each) => each.failingMs))
    note(`host 3 ended under load: ${asked} requests, ${failed} failed, within ${failingMs} ms`)
    assert.ok(failingMs < FAILING_MAX_MS, 'the others take over soon')
    const after = await Promise.all(
      [0, 1].map((host) => ask(own.client, own.published(host), REQUESTS)),
    )
    for (const [host, result] of after.entries()) {
      note(`host ${host + 1} afterwards: ${counts(result)}`)
      assert.equal(result.failed, 0)
    }
  }),
]

function qdisc(action: 'add' | 'del'): string[] {
  return ['qdisc', action, 'dev', 'eth0', 'root']
}

/** Nothing passes between two hosts, in either direction. */
function cutWire(own: World, one: number, other: number): void {
  const address = own.hosts.addresses[other]
  own.hosts.run(
    one,
    ...[
      'nft',
      `add table ip wire; add chain ip wire in { type filter hook prerouting priority -400; }`,
    ],
  )
  own.hosts.run(one, 'nft', `add rule ip wire in ip saddr ${address} drop`)
  own.hosts.run(one, 'nft', 'add chain ip wire out { type filter hook postrouting priority 400; }')
  own.hosts.run(one, 'nft', `add rule ip wire out ip daddr ${address} drop`)
}

function mendWire(own: World, one: number): void {
  own.hosts.run(one, 'nft', 'delete table ip wire')
}
