/**
 * nf_tables and connection tracking against this machine's kernel, in namespaces of the test's own,
 * compared with what nft prints. Needs root and the built addon; says so where it has not.
 */
import type { ExecutionContext } from 'ava'
import {
  decodeConnection,
  deleteConnection,
  deleteConnections,
  dumpConnections,
} from './conntrack.ts'
import type { Connection } from './conntrack.ts'
import { setLink } from './link.ts'
import { isNetlinkError } from './netlink-error.ts'
import { NFNL_SUBSYS_NFTABLES } from './nfnetlink.ts'
import { addElements, deleteElements, flushElements, newElements } from './nft-element.ts'
import { readElements } from './nft-element-reader.ts'
import type { NftElement } from './nft-element.ts'
import {
  addressField,
  fieldsBytes,
  interfaceField,
  macField,
  numberField,
  portField,
  protocolField,
} from './nft-field.ts'
import {
  decodeGeneration,
  decodeTableName,
  deleteChain,
  deleteSet,
  deleteTable,
  dumpTables,
  getGeneration,
  newChain,
  newSet,
  newTable,
} from './nftables.ts'
import type { NetlinkRequest } from './message-writer.ts'
import type { NetlinkSocket } from './socket.ts'
import { kernelTest, openIn } from './testing/sandbox.ts'

const TABLE = { family: 'ipv4', name: 'skein' } as const

const change = (socket: NetlinkSocket, ...requests: NetlinkRequest[]): Promise<void> =>
  socket.transaction(NFNL_SUBSYS_NFTABLES, requests)

const elementsOf = readElements

const slot = (service: number, index: number, backend = index): NftElement => ({
  key: [
    addressField(`10.96.${service >> 8}.${service & 255}`),
    protocolField('tcp'),
    portField(80),
    numberField(index),
  ],
  data: [addressField(`10.32.${backend}.1`), portField(8080)],
})

/** A command that sends one datagram: what it gets back does not matter. */
const udpTo = (host: string, port: number): string => `bash -c 'echo x >/dev/udp/${host}/${port}'`

async function refusal(t: ExecutionContext, promise: Promise<void>): Promise<string> {
  const error = await t.throwsAsync(promise)
  return isNetlinkError(error) ? error.errno : String(error)
}

kernelTest(
  'tables, chains, sets and maps are made, and nft shows them as wanted',
  async (t, sandbox) => {
    await using socket = await openIn(sandbox, 'netfilter')
    const hook = { type: 'nat', hook: 'prerouting', priority: -100, policy: 'accept' } as const
    const table = TABLE
    await change(
      socket,
      newTable(table),
      newChain({ table, name: 'pre', hook }),
      newChain({ table, name: 'reject_all' }),
      newSet({ table, set: 'peers', key: ['ipv4_addr'] }, 1),
      newSet({ table, set: 'ranges', key: ['ipv4_addr', 'inet_service'], isInterval: true }, 2),
      newSet({ table, set: 'sticky', key: ['ether_addr'], timeoutMs: 60_000 }, 3),
      newSet(
        {
          table,
          set: 'slots',
          key: ['ipv4_addr', 'inet_proto', 'inet_service'],
          data: ['ipv4_addr'],
        },
        4,
      ),
      newSet({ table, set: 'ways', key: ['ifname'], data: 'verdict' }, 5),
    )
    await change(
      socket,
      ...addElements({ table, set: 'peers' }, [{ key: [addressField('10.1.1.1')] }]),
      ...addElements({ table, set: 'ranges' }, [
        {
          key: [addressField('10.32.0.0'), portField(80)],
          keyEnd: [addressField('10.32.0.255'), portField(90)],
        },
      ]),
      ...addElements({ table, set: 'sticky' }, [
        { key: [macField('02:00:00:00:00:01')], timeoutMs: 5000 },
      ]),
      ...addElements({ table, set: 'slots' }, [
        {
          key: [addressField('10.96.0.1'), protocolField('tcp'), portField(80)],
          data: [addressField('10.32.0.1')],
        },
      ]),
      ...addElements({ table, set: 'ways' }, [
        { key: [interfaceField('eth0')], data: { verdict: 'jump', chain: 'reject_all' } },
        { key: [interfaceField('eth1')], data: { verdict: 'drop' } },
      ]),
    )
    const shown = sandbox.run('nft list table ip skein')
    t.regex(shown, /chain pre \{\s+type nat hook prerouting priority dstnat; policy accept;/)
    t.regex(shown, /set peers \{\s+type ipv4_addr\s+elements = \{ 10\.1\.1\.1 \}/)
    t.regex(shown, /type ipv4_addr \. inet_service\s+flags interval\s/)
    t.regex(shown, /elements = \{ 10\.32\.0\.0\/24 \. 80-90 \}/)
    t.regex(shown, /type ether_addr\s+timeout 1m\s+elements = \{ 02:00:00:00:00:01 timeout 5s/)
    t.regex(shown, /type ipv4_addr \. inet_proto \. inet_service : ipv4_addr/)
    t.regex(shown, /10\.96\.0\.1 \. tcp \. 80 : 10\.32\.0\.1/)
    t.regex(shown, /"eth0" : jump reject_all/)
    t.regex(shown, /"eth1" : drop/)

    const [range] = await elementsOf(socket, { table, set: 'ranges' })
    t.deepEqual(range?.key, fieldsBytes([addressField('10.32.0.0'), portField(80)]))
    t.deepEqual(range?.keyEnd, fieldsBytes([addressField('10.32.0.255'), portField(90)]))
    const [sticky] = await elementsOf(socket, { table, set: 'sticky' })
    t.true((sticky?.expiresInMs ?? 0) > 0 && (sticky?.expiresInMs ?? 0) <= 5000)
    const ways = await elementsOf(socket, { table, set: 'ways' })
    t.deepEqual(ways.map((way) => `${way.verdict?.verdict} ${way.verdict?.chain}`).toSorted(), [
      'drop undefined',
      'jump reject_all',
    ])
    await change(
      socket,
      deleteSet({ table, set: 'ways' }),
      deleteChain({ table, name: 'reject_all' }),
    )
    t.notRegex(sandbox.run('nft list table ip skein'), /reject_all/)
    await change(socket, deleteTable(table))
    t.deepEqual((await socket.dump(dumpTables('ipv4'))).map(decodeTableName), [])
  },
)

kernelTest(
  '16,000 elements go into a map of a ruleset made by nft, and one is changed',
  async (t, sandbox) => {
    const key = 'typeof ip daddr . meta l4proto . th dport . numgen random mod 16'
    sandbox.run(`nft 'table ip skein { map slots { ${key} : ip daddr . th dport; }; }'`)
    await using socket = await openIn(sandbox, 'netfilter')
    const slots = { table: TABLE, set: 'slots' }
    const all: NftElement[] = []
    for (let service = 0; service < 1000; service += 1) {
      for (let index = 0; index < 16; index += 1) all.push(slot(service, index))
    }
    await change(socket, ...newElements(slots, all))
    const read = await elementsOf(socket, slots)
    t.is(read.length, 16_000)
    t.deepEqual(
      read.map((element) => Buffer.from(element.key).toString('hex')).toSorted(),
      all.map((element) => Buffer.from(fieldsBytes(element.key)).toString('hex')).toSorted(),
    )
    await change(
      socket,
      ...deleteElements(slots, [slot(5, 3)]),
      ...newElements(slots, [slot(5, 3, 99)]),
    )
    t.regex(
      sandbox.run(`nft get element ip skein slots '{ 10.96.0.5 . tcp . 80 . 3 }'`),
      /10\.96\.0\.5 \. tcp \. 80 \. 3 : 10\.32\.99\.1 \. 8080/,
    )
    await change(socket, flushElements(slots))
    t.deepEqual(await elementsOf(socket, slots), [])
  },
)

kernelTest('a set that was resized while it was read is read again', async (t, sandbox) => {
  await using socket = await openIn(sandbox, 'netfilter')
  const peers = { table: TABLE, set: 'peers' }
  await change(socket, newTable(TABLE), newSet({ ...peers, key: ['ipv4_addr'] }))
  const all = Array.from({ length: 600 }, (_, index) => ({
    key: [addressField(`10.1.${index >> 8}.${index & 255}`)],
  }))
  await change(socket, ...newElements(peers, all))
  let torn = 2
  const resized: Pick<NetlinkSocket, 'dump'> = {
    dump: async (request) => {
      const messages = await socket.dump(request)
      if (torn === 0) return messages
      torn -= 1
      return [...messages, ...messages.slice(0, 1)]
    },
  }
  const elements = await readElements(resized, peers)
  t.is(torn, 0)
  t.is(new Set(elements.map(({ key }) => key.join('.'))).size, all.length)
  torn = Infinity
  const error = await t.throwsAsync(readElements(resized, peers))
  t.true(isNetlinkError(error, 'EINTR'), String(error))
})

kernelTest(
  'a transaction is all or none, and names the message that failed',
  async (t, sandbox) => {
    await using socket = await openIn(sandbox, 'netfilter')
    const peers = { table: TABLE, set: 'peers' }
    await change(socket, newTable(TABLE), newSet({ ...peers, key: ['ipv4_addr'] }))
    const one = { key: [addressField('10.1.1.1')] }
    const two = { key: [addressField('10.1.1.2')] }
    await change(socket, ...newElements(peers, [one]))
    t.is(await refusal(t, change(socket, ...newElements(peers, [two, one]))), 'EEXIST')
    t.is((await elementsOf(socket, peers)).length, 1)
    const missing = { table: TABLE, set: 'no_such' }
    const error = await t.throwsAsync(
      change(socket, ...addElements(peers, [two]), ...addElements(missing, [two])),
    )
    t.like(error, { errno: 'ENOENT', operation: 'add elements to nft set ipv4 skein no_such' })
    t.is((await elementsOf(socket, peers)).length, 1)
    t.is(await refusal(t, change(socket, ...deleteElements(peers, [two]))), 'ENOENT')
    t.like(await t.throwsAsync(() => elementsOf(socket, missing)), { errno: 'ENOENT' })
    await change(socket, ...addElements(peers, [one, two]))
    t.is((await elementsOf(socket, peers)).length, 2)
    await change(socket)
  },
)

kernelTest(
  'a transaction for an older generation of the ruleset is refused',
  async (t, sandbox) => {
    await using socket = await openIn(sandbox, 'netfilter')
    const generation = async (): Promise<number> => {
      const [message] = await socket.request(getGeneration())
      return message === undefined ? -1 : decodeGeneration(message)
    }
    const before = await generation()
    const add = [newTable(TABLE)]
    await socket.transaction(NFNL_SUBSYS_NFTABLES, add, { generation: before })
    t.is(await generation(), before + 1)
    const late = socket.transaction(NFNL_SUBSYS_NFTABLES, [deleteTable(TABLE)], {
      generation: before,
    })
    t.like(await t.throwsAsync(late), { errno: 'ERESTART', code: 'OUT_OF_SEQUENCE' })
    t.deepEqual((await socket.dump(dumpTables('ipv4'))).map(decodeTableName), ['skein'])
  },
)

kernelTest('connections are read and deleted by where they really go', async (t, sandbox) => {
  await using route = await openIn(sandbox)
  await route.request(setLink('lo', { up: true }))
  sandbox.run(`nft 'table ip nat {
    chain out { type nat hook output priority -100; ip daddr 10.9.9.9 dnat to 127.0.0.1; };
    chain marks { type filter hook output priority 0; udp dport 5300 ct mark set 7; }; }'`)
  sandbox.run('ip route add local 10.9.9.0/24 dev lo')
  const send = (host: string, port: number): string => sandbox.run(udpTo(host, port))
  send('10.9.9.9', 5300)
  send('10.9.9.9', 5301)
  send('127.0.0.1', 5302)
  await using socket = await openIn(sandbox, 'netfilter')
  const udp = async (): Promise<Connection[]> =>
    (await socket.dump(dumpConnections({ family: 'ipv4' })))
      .map(decodeConnection)
      .filter((each) => each.protocol === 17)
  const all = await udp()
  t.is(all.length, 3)
  const balanced = all.filter((each) => each.original.destination === '10.9.9.9')
  t.is(balanced.length, 2)
  t.true(balanced.every((each) => each.reply.source === '127.0.0.1'))
  t.deepEqual(
    balanced.map((each) => each.original.destinationPort).toSorted((a, b) => a - b),
    [5300, 5301],
  )
  const marked = await socket.dump(
    dumpConnections({ family: 'ipv4', mark: { value: 7, mask: 0xff } }),
  )
  t.deepEqual(
    marked.map(decodeConnection).map((each) => [each.mark, each.original.destinationPort]),
    [[7, 5300]],
  )
  const count = await deleteConnections(
    socket,
    { family: 'ipv4' },
    (each) => each.protocol === 17 && each.original.destination === '10.9.9.9',
  )
  t.is(count, 2)
  t.deepEqual(
    (await udp()).map((each) => each.original.destinationPort),
    [5302],
  )
  const [gone] = balanced
  if (gone === undefined) throw new Error('there were two')
  t.like(await t.throwsAsync(() => socket.request(deleteConnection(gone))), { errno: 'ENOENT' })
})

/** A program that sends a datagram, always from the same port. */
const FROM_ONE_PORT = `
  const socket = require('dgram').createSocket('udp4')
  socket.bind(4999, () => socket.send('x', 5303, '10.9.9.9', () => socket.close()))`

kernelTest('a connection that came after one with the same numbers stays', async (t, sandbox) => {
  await using route = await openIn(sandbox)
  await route.request(setLink('lo', { up: true }))
  sandbox.run('ip route add local 10.9.9.0/24 dev lo')
  await using socket = await openIn(sandbox, 'netfilter')
  const filter = { family: 'ipv4' } as const
  const sentTo = async (target: string): Promise<Connection | undefined> => {
    sandbox.run(
      `nft 'add table ip t; delete table ip t; table ip t {
        chain out { type nat hook output priority -100; ip daddr 10.9.9.9 dnat to ${target}; }; }'`,
    )
    sandbox.run(`${process.execPath} -e "${FROM_ONE_PORT}"`)
    const seen = (await socket.dump(dumpConnections(filter))).map(decodeConnection)
    return seen.find(({ original }) => original.destinationPort === 5303)
  }
  const first = await sentTo('127.0.0.1')
  if (first === undefined) throw new Error('nothing was sent')
  t.is(await deleteConnections(socket, filter, () => true), 1)
  const second = await sentTo('127.0.0.2')
  t.deepEqual(second?.original, first.original)
  t.is(second?.reply.source, '127.0.0.2')
  t.like(await t.throwsAsync(() => socket.request(deleteConnection(first))), { errno: 'ENOENT' })
  t.is((await socket.dump(dumpConnections(filter))).length, 1)
})

kernelTest('connections of IPv6 are read and deleted', async (t, sandbox) => {
  await using route = await openIn(sandbox)
  await route.request(setLink('lo', { up: true }))
  sandbox.run(
    `nft 'table ip6 t { chain c { type filter hook output priority 0; ct state new accept; }; }'`,
  )
  sandbox.run(udpTo('::1', 5300))
  await using socket = await openIn(sandbox, 'netfilter')
  const filter = { family: 'ipv6' } as const
  const seen = (await socket.dump(dumpConnections(filter))).map(decodeConnection)
  t.deepEqual(
    seen.map((each) => [each.original.source, each.reply.source, each.original.destinationPort]),
    [['::1', '::1', 5300]],
  )
  t.is(await deleteConnections(socket, filter, () => true), 1)
  t.deepEqual(await socket.dump(dumpConnections(filter)), [])
})
