/** The same in IPv6: who reaches what, and as whom it is seen. */
import assert from 'node:assert/strict'
import type { Case } from '../ipvs/case.ts'
import { until } from '../harness/daemon.ts'
import { counts, fewest, inWorld, markedConnections, names, sources } from './in-world.ts'
import { ask } from './requests.ts'
import type { Answers } from './requests.ts'
import { REPLICAS } from './the-world.ts'
import { namespaceOf, resolve } from '../harness/task-names.ts'
import { CLIENT, HOSTS } from './world.ts'

const PER_HOST = 12

export const IPV6_CASES: readonly Case[] = [
  inWorld(
    'published ports answer in IPv6 on every host, and replicas see the client',
    async (own, note) => {
      await until('all replicas to answer in IPv6', async () => {
        const seen = await ask(own.client, own.published6(0), 2 * REPLICAS)
        return seen.failed === 0 && names(seen).length === REPLICAS
      })
      for (let host = 0; host < HOSTS; host += 1) {
        const result = await ask(own.client, own.published6(host), PER_HOST)
        note(`outside to host ${host + 1} in IPv6: ${counts(result)}`)
        assertSpread(result)
        assert.deepEqual(
          sources(result),
          [own.hosts.addresses6[CLIENT]],
          'the client itself is seen',
        )
        const connections = markedConnections(own, host, 'ipv6')
        assert.ok(Math.max(...connections) >= PER_HOST, `IPVS did it: ${connections.join(' ')}`)
      }
      const [task] = await own.tasksOf('web')
      assert.ok(task)
      for (const from of [own.hosts.names[0] ?? '', namespaceOf(task)]) {
        const result = await ask(from, own.published6(1), PER_HOST)
        note(`${from} to host 2 in IPv6: ${counts(result)}`)
        assertSpread(result)
      }
    },
  ),

  inWorld(
    'a container finds a service in IPv6 by name, and all of its replicas',
    async (own, note) => {
      const [[web], [db]] = await Promise.all([own.tasksOf('web'), own.tasksOf('db')])
      assert.ok(web !== undefined && db !== undefined)
      const [vip = '', ...more] = resolve(web, 'web', 'AAAA')
      assert.match(vip, /^fd/)
      assert.deepEqual(more, [])
      const addresses = resolve(web, 'tasks.web', 'AAAA')
      assert.equal(new Set(addresses).size, REPLICAS)
      const url = `http://[${vip}]/cgi-bin/who`
      const result = await ask(namespaceOf(web), url, PER_HOST)
      note(`container to its own service's IPv6 address: ${counts(result)}`)
      assertSpread(result)
      const others = sources(result).filter((source) => addresses.includes(source))
      assert.equal(others.length, 1, 'others see the container’s own address')
      assert.deepEqual(resolve(db, 'db', 'AAAA'), [], 'its network has no IPv6')
      const via = own.hosts.addresses6[0] ?? ''
      own.hosts.run(CLIENT, 'ip', '-6', 'route', 'replace', vip, 'via', via)
      for (const [from, address] of [
        [namespaceOf(db), url],
        [own.client, url],
        [namespaceOf(web), `http://[${vip}]:2377/`],
      ] as const) {
        assert.equal((await ask(from, address, 1)).failed, 1, `${address} answers ${from}`)
      }
    },
  ),
]

function assertSpread(result: Answers): void {
  assert.equal(result.failed, 0)
  assert.equal(names(result).length, REPLICAS, 'all of them, itself included')
  const each = [...Map.groupBy(result.answers, ([answer]) => answer.split(' ')[1]).values()]
  const times = each.map((seen) => seen.reduce((sum, [, count]) => sum + count, 0))
  assert.ok(
    times.every((count) => count >= fewest(PER_HOST)),
    'evenly',
  )
}
