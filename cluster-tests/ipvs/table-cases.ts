/** The table: what is programmed, what is left alone, what happens after failures. */
import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { seededRandom } from '../../src/base/random.ts'
import { serviceText } from '../../src/network/netlink/ipvs.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import { HostSettings } from '../../src/network/host-settings.ts'
import { missingSchedulers } from '../../src/network/ipvs/schedulers.ts'
import { NetlinkSocket } from '../../src/network/netlink/socket.ts'
import { SCHEDULERS } from '../../src/store/service-labels.ts'
import type { VirtualServer } from '../../src/network/ports.ts'
import { nativeSettings } from '../../src/network/setting-access.ts'
import { tableDifference, tableOf } from '../../src/network/ipvs/table.ts'
import type { IpvsTable, TableService } from '../../src/network/ipvs/table.ts'
import { freshNamespace, openBalancer, openTable, within } from './case.ts'
import type { Case, CaseContext } from './case.ts'
import { ipvsadmLines, ipvsadmThresholds, tableLines, thresholdLines } from './ipvsadm-text.ts'
import {
  SERVICE_KEYS,
  chance,
  expectedLines,
  mutatedService,
  pick,
  randomServers,
  randomService,
} from './random-table.ts'
import { bothFamilies } from './topology.ts'

/** Both kinds together are 10,000. */
const SEQUENCES_OF_EACH_KIND = 5_000
/** ipvsadm is asked after every so many. */
const SEQUENCES_PER_IPVSADM = 250

const everything = (): boolean => true

/** Servers of `count`, each with `width` backends. */
export function plainServers(count: number, width: number, weight = 4): VirtualServer[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `service${index}/tcp`,
    protocol: 'tcp',
    address: '0.0.0.0',
    port: 10_000 + index,
    backends: Array.from({ length: width }, (_unused, n) => ({
      taskId: `t${index}.${n}`,
      nodeId: 'n',
      local: false,
      routed: true,
      address: `10.${32 + (index >> 8)}.${index & 255}.${n + 1}`,
      port: 8_080,
      weight,
    })),
  }))
}

async function everyOperation({ native, note }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  await using table = await openTable(native, netns)
  const random = seededRandom(4)
  let operations = 0
  let known: IpvsTable = new Map()
  for (let round = 0; round < 40; round += 1) {
    const wanted = tableOf(
      SERVICE_KEYS.filter(() => !chance(random, 5)).map((key) => randomService(random, key)),
    )
    const steps = tableDifference(known, wanted)
    operations += steps.length
    assert.deepEqual(await table.write(steps), [])
    assert.deepEqual(ipvsadmLines(netns), tableLines(wanted))
    assert.deepEqual(ipvsadmThresholds(netns), thresholdLines(wanted))
    assert.deepEqual(tableLines(await table.read(everything)), tableLines(wanted))
    assert.deepEqual(tableDifference(await table.read(everything), wanted), [])
    known = wanted
  }
  note(`${operations} operations in 40 tables, each compared with ipvsadm -Sn`)
}

async function randomTables({ native, note }: CaseContext): Promise<void> {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 32))
  const random = seededRandom(seed)
  const netns = freshNamespace()
  await using table = await openTable(native, netns)
  const wanted = new Map<string, TableService>()
  let operations = 0
  for (let round = 1; round <= SEQUENCES_OF_EACH_KIND; round += 1) {
    // Somebody else writes, too: what is wanted must come out of any state.
    if (chance(random, 10))
      await table.write(tableDifference(await table.read(everything), new Map()))
    for (let change = random.integer(4); change >= 0; change -= 1) {
      const key = pick(random, SERVICE_KEYS)
      const text = serviceText(key)
      const service = wanted.get(text)
      if (service === undefined) wanted.set(text, randomService(random, key))
      else if (chance(random, 4)) wanted.delete(text)
      else wanted.set(text, mutatedService(random, service))
    }
    const steps = tableDifference(await table.read(everything), wanted)
    operations += steps.length
    assert.deepEqual(await table.write(steps), [], `seed ${seed}, sequence ${round}`)
    const lines = tableLines(wanted)
    const there = await table.read(everything)
    assert.deepEqual(tableLines(there), lines, `seed ${seed}, sequence ${round}`)
    assert.deepEqual(
      thresholdLines(there),
      thresholdLines(wanted),
      `seed ${seed}, sequence ${round}`,
    )
    if (round % SEQUENCES_PER_IPVSADM === 0)
      assert.deepEqual(ipvsadmLines(netns), lines, `seed ${seed}`)
  }
  note(`seed ${seed}: ${SEQUENCES_OF_EACH_KIND} sequences, ${operations} operations`)
}

async function randomServersThroughDriver({ native, note }: CaseContext): Promise<void> {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 32))
  const random = seededRandom(seed)
  const netns = freshNamespace()
  await using table = await openTable(native, netns)
  let balancer = await openBalancer(native, netns)
  let faults = 0
  for (let round = 1; round <= SEQUENCES_OF_EACH_KIND; round += 1) {
    const where = `seed ${seed}, sequence ${round}`
    const servers = randomServers(random)
    const isDisturbed = chance(random, 20)
    if (isDisturbed) await disturb(table, random.integer(3))
    if (chance(random, 200)) {
      await balancer.close()
      balancer = await openBalancer(native, netns)
    }
    assert.deepEqual(await balancer.apply(servers.flatMap(bothFamilies)), [], where)
    if (isDisturbed) {
      faults += 1
      await balancer.check()
    }
    const lines = expectedLines(servers, true)
    assert.deepEqual(tableLines(await table.read(everything)), lines, where)
    if (round % SEQUENCES_PER_IPVSADM === 0) assert.deepEqual(ipvsadmLines(netns), lines, where)
  }
  await balancer.close()
  note(
    `seed ${seed}: ${SEQUENCES_OF_EACH_KIND} sequences, ${faults} of them disturbed from outside`,
  )
}

/** Deletes some of the kernel's services behind the driver's back. */
async function disturb(table: Awaited<ReturnType<typeof openTable>>, keep: number): Promise<void> {
  const there = await table.read(everything)
  const kept = new Map([...there].slice(0, keep))
  assert.deepEqual(await table.write(tableDifference(there, kept)), [])
}

async function foreignServices({ native }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  within(
    netns,
    `ipvsadm -A -t 192.0.2.1:80 -s lc; ipvsadm -a -t 192.0.2.1:80 -r 192.0.2.2 -m -w 3
     ipvsadm -A -f 7 -s sh; ipvsadm -a -f 7 -r 192.0.2.3:0 -g; ipvsadm -A -f 7 -6 -s rr`,
  )
  const foreign = ipvsadmLines(netns)
  const balancer = await openBalancer(native, netns)
  const servers = plainServers(3, 2)
  assert.deepEqual(await balancer.apply(servers), [])
  assert.deepEqual(ipvsadmLines(netns), [...foreign, ...expectedLines(servers, false)].toSorted())
  await balancer.check()
  await balancer.remove()
  await balancer.close()
  assert.deepEqual(ipvsadmLines(netns), foreign)
}

async function restartAdopts({ native, note }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  const first = await openBalancer(native, netns)
  const servers = plainServers(20, 5)
  await first.apply(servers)
  await first.close()
  const wanted = [...servers.slice(0, 10), ...plainServers(25, 3).slice(20)]
  const sent: number[] = []
  const second = await openBalancer(counted(native, sent), netns)
  const beforeApply = sent.length
  assert.deepEqual(await second.apply(wanted), [])
  assert.deepEqual(ipvsadmLines(netns), expectedLines(wanted, false))
  // What is the same is not written again: reading is one exchange a service and one for the list.
  const exchanges = sent.length - beforeApply
  assert.equal(exchanges, 1 + 20 + 1)
  await second.close()
  note(`${exchanges} exchanges`)
}

async function partialFailure({ native }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  const balancer = await openBalancer(native, netns)
  const [good, bad, other] = plainServers(3, 2)
  assert.ok(good !== undefined && bad !== undefined && other !== undefined)
  const multicast = {
    ...bad,
    backends: bad.backends.map((each) => ({ ...each, address: '224.0.0.1' })),
  }
  const faults = await balancer.apply([good, multicast, other])
  assert.deepEqual(
    faults.map(({ id }) => id),
    [bad.id],
  )
  assert.match(faults[0]?.message ?? '', /EINVAL/)
  const standing = ipvsadmLines(netns)
  for (const line of expectedLines([good, other], false)) assert.ok(standing.includes(line), line)
  assert.deepEqual(await balancer.apply([good, bad, other]), [])
  assert.deepEqual(ipvsadmLines(netns), expectedLines([good, bad, other], false))
  await balancer.close()
}

async function lostAnswers({ native, note }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  const overruns: unknown[] = []
  const narrow: Native = {
    ...native,
    // The smallest buffer for answers that the kernel grants.
    open: (protocol, path, _receiveBytes, sendBytes) => native.open(protocol, path, 1, sendBytes),
    exchange: async (...words) => {
      try {
        return await native.exchange(...words)
      } catch (error) {
        if (isOverrun(error)) overruns.push(error)
        throw error
      }
    },
  }
  const balancer = await openBalancer(narrow, netns)
  assert.deepEqual(await balancer.apply(plainServers(40, 10)), [])
  assert.deepEqual(overruns, [])
  // Now every change fails, and the answers that say so do not fit.
  within(netns, 'ipvsadm -C')
  const wanted = plainServers(40, 10, 9)
  assert.deepEqual(await balancer.apply(wanted), [])
  assert.notEqual(overruns.length, 0, 'no answer was lost')
  assert.deepEqual(ipvsadmLines(netns), expectedLines(wanted, false))
  await balancer.close()
  note(`${overruns.length} overruns of the receive buffer`)
}

function isOverrun(error: unknown): boolean {
  return error instanceof Error && 'errno' in error && error.errno === constants.errno.ENOBUFS
}

async function settings({ native }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  const balancer = await openBalancer(native, netns)
  const read = (name: string): string => within(netns, `cat /proc/sys/net/ipv4/vs/${name}`).trim()
  for (const name of [
    'conntrack',
    'expire_nodest_conn',
    'expire_quiescent_template',
    'sloppy_tcp',
    'conn_reuse_mode',
  ]) {
    assert.equal(read(name), '1', name)
  }
  assert.match(within(netns, 'ipvsadm -L --timeout'), /8100 \d+ 60/)
  await balancer.close()
}

async function restored({ native }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  const state = (): string =>
    within(netns, 'grep -H . /proc/sys/net/ipv4/vs/* 2>/dev/null; ipvsadm -L --timeout')
  // Loads the module.
  within(netns, 'ipvsadm -Ln')
  const before = state()
  const hostSettings = new HostSettings(nativeSettings(native, netns))
  const balancer = await openBalancer(native, netns, { settings: hostSettings })
  assert.notEqual(state(), before)
  await balancer.remove()
  await balancer.close()
  await hostSettings.restore()
  assert.equal(state(), before)
}

async function schedulers({ native, note }: CaseContext): Promise<void> {
  const netns = freshNamespace()
  await using socket = await NetlinkSocket.open(native, { protocol: 'generic', netns })
  const found = await missingSchedulers(socket, [...SCHEDULERS, 'pigeon'])
  note(`missing: ${found.join(', ')}`)
  assert.equal(found.at(-1), 'pigeon')
  const lacking = SCHEDULERS.filter((name) => name === 'mh' || found.includes(name))
  const balancer = await openBalancer(native, netns, { missingSchedulers: lacking })
  const [server] = plainServers(1, 2)
  assert.ok(server !== undefined)
  assert.deepEqual(await balancer.apply([{ ...server, scheduler: 'mh' }]), [])
  assert.match(within(netns, 'ipvsadm -Ln'), /^FWM +-?\d+ (?:sh|dh|wrr) /m)
  await balancer.close()
}

function counted(native: Native, sent: number[]): Native {
  return {
    ...native,
    exchange: (socket, request, ...rest) => {
      sent.push(request.length)
      return native.exchange(socket, request, ...rest)
    },
  }
}

/** The cases of this file. */
export const TABLE_CASES: readonly Case[] = [
  { title: 'every operation gives what ipvsadm shows', run: everyOperation },
  { title: 'settings and idle times of the namespace are set at start', run: settings },
  { title: 'settings and idle times go back as they were', run: restored },
  { title: 'a scheduler that the kernel lacks is found, and another stands in', run: schedulers },
  { title: 'what others made stays, also when all of ours is removed', run: foreignServices },
  {
    title: 'a restarted driver adopts its services and sends differences alone',
    run: restartAdopts,
  },
  { title: 'a refused backend is a fault of its server alone, and heals', run: partialFailure },
  { title: 'lost answers (ENOBUFS) end in the wanted table', run: lostAnswers },
  {
    title: '5,000 random sequences of all options leave the kernel as the model',
    run: randomTables,
  },
  {
    title: '5,000 random sequences through the driver leave the kernel as the model',
    run: randomServersThroughDriver,
  },
]
