/** Who reaches what, and as whom it is seen. */
import assert from 'node:assert/strict'
import { isIPv6 } from 'node:net'
import type { Case } from '../ipvs/case.ts'
import { until } from '../harness/daemon.ts'
import { Peer } from '../ipvs/topology.ts'
import {
  counts,
  fewest,
  inWorld,
  markedConnections,
  names,
  sources,
  untilSpread,
} from './in-world.ts'
import { ask } from './requests.ts'
import { REPLICAS } from './the-world.ts'
import { namespaceOf, resolve } from '../harness/task-names.ts'
import { CLIENT, HOSTS, PORT, UDP_TARGET_PORT } from './world.ts'

const PER_HOST = 12
const CLIENT_ADDRESSES = Array.from({ length: 6 }, (_, index) => `172.31.78.${101 + index}`)

export const SPREAD_CASES: readonly Case[] = [
  inWorld('published ports of every host reach all replicas from every side', async (own, note) => {
    for (let host = 0; host < HOSTS; host += 1) assert.equal(await own.driverOf(host), 'ipvs')
    note('driver: ipvs on every host')
    await untilSpread(own)
    const [task] = await own.tasksOf('web')
    assert.ok(task)
    const sides = {
      outside: own.client,
      'host 1': own.hosts.names[0] ?? '',
      container: namespaceOf(task),
    }
    for (let host = 0; host < HOSTS; host += 1) {
      for (const [side, namespace] of Object.entries(sides)) {
        const result = await ask(namespace, own.published(host), PER_HOST)
        note(`${side} to host ${host + 1}: ${counts(result)}`)
        assert.equal(result.failed, 0)
        assert.equal(names(result).length, REPLICAS, 'all of them, itself included')
        assert.ok(
          [...result.answers.values()].every((count) => count >= fewest(PER_HOST)),
          'evenly',
        )
        if (side !== 'outside') continue
        assert.deepEqual(sources(result), [own.hosts.addresses[3]], 'the client itself is seen')
      }
      const connections = markedConnections(own, host)
      assert.ok(Math.max(...connections) >= PER_HOST, `IPVS did it: ${connections.join(' ')}`)
    }
  }),

  inWorld('names and virtual addresses are those of the networks of a task', async (own, note) => {
    const [[web], [db]] = await Promise.all([own.tasksOf('web'), own.tasksOf('db')])
    assert.ok(web !== undefined && db !== undefined)
    const [vip = ''] = resolve(web, 'web')
    const [dbVip = ''] = resolve(db, 'db')
    const [dbAddress = ''] = resolve(db, 'tasks.db')
    assert.equal(resolve(web, 'tasks.web').length, REPLICAS)
    assert.deepEqual(resolve(web, 'db'), [])
    const itself = await ask(namespaceOf(web), scriptAt(vip), PER_HOST)
    note(`container to its own service's address: ${counts(itself)}`)
    assert.equal(itself.failed, 0)
    assert.equal(names(itself).length, REPLICAS)
    const refused: [string, string][] = [
      ...[dbVip, dbAddress, vip.replace(/\d+$/, '200'), `${vip}:2377`].map(
        (address): [string, string] => [namespaceOf(web), address],
      ),
      [namespaceOf(db), vip],
    ]
    for (const address of [vip, dbVip, dbAddress]) {
      const via = own.hosts.addresses[0] ?? ''
      own.hosts.run(3, 'ip', 'route', 'replace', `${address}/32`, 'via', via)
      refused.push([own.client, address])
    }
    for (const [from, address] of refused) {
      const { asked, failed } = await ask(from, scriptAt(address), 1)
      assert.equal(asked, 1)
      assert.equal(failed, 1, `${address} answers ${from}`)
    }
    note(`${refused.length} forbidden addresses: silent`)
  }),

  inWorld('affinity sends a client to one replica through every host', async (own, note) => {
    for (const address of CLIENT_ADDRESSES) {
      own.hosts.run(3, 'ip', 'addr', 'replace', `${address}/24`, 'dev', 'eth0')
    }
    const anyHost = `http://{${own.hosts.addresses.slice(0, HOSTS).join(',')}}:${PORT}/cgi-bin/who`
    await own.update('/services/web', () => ({ Labels: { 'skein.affinity': 'client-ip' } }))
    const chosen = await until('every client to have one replica', async () => {
      const seen = await Promise.all(
        CLIENT_ADDRESSES.map((from) => ask(own.client, anyHost, 2, { from })),
      )
      return seen.every((each) => each.failed === 0 && names(each).length === 1) && seen
    })
    const replicas = new Set(chosen.flatMap(names))
    note(`${chosen.length} clients × ${HOSTS} hosts: one replica each, ${replicas.size} in use`)
    assert.ok(replicas.size > 1, 'not one for all')
    await own.update('/services/web', () => ({ Labels: {} }))
    await untilSpread(own)
  }),

  inWorld(
    'a published UDP port reaches all replicas through every host, in both families',
    async (own, note) => {
      const tasks = await own.tasksOf('web')
      const servers = tasks.map((task) => new Peer(`/run/netns/${namespaceOf(task)}`))
      const client = new Peer(`/run/netns/${own.client}`)
      await Promise.all([client, ...servers].map((peer) => peer.ready()))
      await Promise.all(
        servers.map((peer, index) =>
          peer.ask({ type: 'serve', name: `r${index}`, port: UDP_TARGET_PORT }),
        ),
      )
      let socket = 0
      const send = (host: string): Promise<string> => {
        socket += 1
        return client.ask({ type: 'datagram', host, port: PORT, connection: `${socket}` })
      }
      const { addresses, addresses6 } = own.hosts
      for (const address of [...addresses.slice(0, HOSTS), ...addresses6.slice(0, HOSTS)]) {
        await until(`${address} to answer by UDP`, async () => (await send(address)) !== 'silence')
        const answers: string[] = []
        for (let count = 0; count < PER_HOST; count += 1) answers.push(await send(address))
        const spread = Map.groupBy(answers, (answer) => answer)
        note(
          `UDP, ${address}: ${[...spread].map(([who, all]) => `${who} × ${all.length}`).join(', ')}`,
        )
        assert.equal(spread.size, REPLICAS)
        const itself = (isIPv6(address) ? addresses6 : addresses)[CLIENT]
        assert.ok(
          answers.every((answer) => answer.endsWith(` ${itself}`)),
          'the client is seen',
        )
      }
      for (const peer of [client, ...servers]) peer.end()
    },
  ),
]

function scriptAt(address: string): string {
  return `http://${address}/cgi-bin/who`
}
