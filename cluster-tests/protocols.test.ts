/**
 * Services over IPv6, UDP and SCTP, and affinity, with real daemons and containers: three hosts as
 * network namespaces and clients outside, the kernel's driver (nftables, or IPVS); and the same of
 * UDP and affinity for nodes that balance in userspace. Every answer says who answered and whom it
 * saw.
 */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { rawSocket, netnsPlace } from '../src/network/testing/netns-sockets.ts'
import { LOOPBACK_STAGE } from '../src/network/conformance-peers.ts'
import type { Place } from '../src/network/conformance-peers.ts'
import { IPPROTO_SCTP, askBySctp, serveSctp } from '../src/network/testing/sctp.ts'
import { skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { docker, hasDocker } from './harness/docker.ts'
import { HostSwarm, TestHosts, runInside } from './harness/hosts.ts'
import { askAll, census, openFlows } from './harness/census.ts'
import { DatagramAsker, loadSpeaker, speak, speakerCommand } from './harness/speaker.ts'
import { IMAGE, TestSwarm } from './harness/swarm.ts'
import type { TaskJson } from './harness/swarm.ts'
import { namespaceOf, resolve } from './harness/task-names.ts'
import { runningTasks, taskPlace } from './harness/task-places.ts'
import { nodeIdOf } from './harness/web.ts'

const NODES = 3
const CLIENT = 3
const REPLICAS = 6
const CLIENTS = 12
/** Of the nodes that share a kernel: 127.86.0.1, … */
const LOOPBACK_SUBNET = 86
const PORT = { web: 8081, old: 8082, sticky: 8083, udp: 8053, sctp: 9000 } as const
/** Milliseconds for an answer: more than this process itself may be kept from reading it. */
const PATIENT_MS = 3_000
/** Milliseconds after which the next datagram is sent where losses are expected. */
const EAGER_MS = 300
/** For an announcement to be everywhere: below a second, and more on a machine that is busy. */
const HEARD_MS = 10_000
/** Digits of a task's id that are its host name. */
const ID_DIGITS = 12

const isPossible = process.getuid?.() === 0 && existsSync('/usr/sbin/nft')
const kernelTest = isPossible ? test.serial : test.serial.skip

interface Site {
  readonly hosts: TestHosts
  readonly swarm: HostSwarm
}

const sites: Site[] = []

function site(): Site {
  const [made] = sites
  if (made === undefined) throw new Error('the swarm was not made')
  return made
}

if (isPossible) {
  test.before(async (t) => {
    t.timeout(300_000)
    const hosts = new TestHosts('skt-p', '172.31.83', NODES + 1)
    const swarm = new HostSwarm(hosts, NODES)
    sites.push({ hosts, swarm })
    await swarm.start()
    await swarm.form(NODES)
    await loadSpeaker(swarm.node(0))
    await skeinOk(swarm.node(0), 'network', 'create', '--ipv6', 'six')
    const create = ['service', 'create', '--detach', '--restart-delay', '0s']
    const ports = ['-p', `${PORT.web}:80`, '-p', `${PORT.udp}:53/udp`]
    const web = ['--name', 'web', '--network', 'six', ...ports, '--replicas', String(REPLICAS)]
    const grace = ['--stop-grace-period', '5s']
    await skeinOk(swarm.node(0), ...create, ...web, ...grace, ...speakerCommand())
    await swarm.untilRunning(swarm.node(0), REPLICAS, 120_000)
  })
  test.after.always(async () => {
    for (const { hosts, swarm } of sites) {
      await swarm[Symbol.asyncDispose]()
      hosts[Symbol.dispose]()
    }
  })
}

function clientPlace(index = 0, family: 'ipv4' | 'ipv6' = 'ipv6'): Place {
  const { hosts } = site()
  const addresses = family === 'ipv6' ? hosts.addresses6 : hosts.addresses
  const own = addresses[CLIENT] ?? ''
  const last = family === 'ipv6' ? own.replace(/::\d+$/, `::1${index}`) : `172.31.83.1${index}`
  const netns = `/run/netns/${hosts.names[CLIENT]}`
  return netnsPlace(netns, index === 0 ? own : last)
}

function tasksOf(service: string): Promise<TaskJson[]> {
  return runningTasks(site().swarm.node(0), service)
}

/** A task of the service on this host. */
async function taskOn(service: string, host: number): Promise<TaskJson> {
  const nodeId = await nodeIdOf(site().swarm.node(host))
  const found = (await tasksOf(service)).find((task) => task.NodeID === nodeId)
  if (found === undefined) throw new Error(`no task of ${service} on host ${host}`)
  return found
}

kernelTest(
  'published ports answer in IPv6 on every host, and replicas see the client',
  async (t) => {
    t.timeout(120_000)
    const { hosts } = site()
    await until('all replicas to answer', async () => {
      const { names } = await census(clientPlace(), hosts.addresses6[0] ?? '', PORT.web, 24)
      return names.size === REPLICAS
    })
    for (const host of hosts.addresses6.slice(0, NODES)) {
      const { names, seen, failed } = await census(clientPlace(), host, PORT.web, 10 * REPLICAS)
      t.is(failed, 0, host)
      t.is(names.size, REPLICAS, `every replica answers through ${host}`)
      t.deepEqual(seen, [hosts.addresses6[CLIENT]], 'the client’s own address')
      t.log(`${host}: ${[...names.values()].join(' ')}`)
      const self = netnsPlace(`/run/netns/${hosts.names[0]}`, hosts.addresses6[0] ?? '')
      t.is((await census(self, host, PORT.web, 18)).failed, 0, `from a host: ${host}`)
    }
  },
)

kernelTest('containers find services by name in IPv6, and reach them and themselves', async (t) => {
  t.timeout(120_000)
  const { hosts } = site()
  const own = await taskOn('web', 0)
  const place = taskPlace(own)
  const [virtual = '', ...more] = resolve(own, 'web', 'AAAA')
  t.regex(virtual, /^fd/)
  t.deepEqual(more, [])
  t.is(resolve(own, 'tasks.web', 'AAAA').length, REPLICAS)
  const { names, seen, failed } = await census(place, virtual, 80, 10 * REPLICAS)
  t.deepEqual([failed, names.size], [0, REPLICAS])
  t.true(names.has(own.ID.slice(0, ID_DIGITS)), 'itself, too')
  t.true(seen.includes(place.address), 'others see its own address')
  for (const host of hosts.addresses6.slice(0, NODES)) {
    t.is((await census(place, host, PORT.web, 18)).failed, 0, `${host} from a container`)
  }
  t.is((await census(place, virtual, 2377, 1)).failed, 1, 'a port that nobody serves')
  hosts.run(CLIENT, 'ip', '-6', 'route', 'replace', virtual, 'via', hosts.addresses6[0] ?? '')
  t.is((await census(clientPlace(), virtual, 80, 1)).failed, 1, 'from outside')
})

kernelTest('no connection fails in IPv6 while replicas come and go', async (t) => {
  t.timeout(180_000)
  const { hosts, swarm } = site()
  const over = new AbortController()
  let [asked, failed] = [0, 0]
  const loops = hosts.addresses6.slice(0, NODES).map(async (host) => {
    while (!over.signal.aborted) {
      asked += 1
      if ((await speak(clientPlace(), { host, port: PORT.web })) === undefined) failed += 1
    }
  })
  for (const replicas of [2, REPLICAS]) {
    await skeinOk(swarm.node(0), 'service', 'scale', '--detach', `web=${replicas}`)
    await until('it is so', async () => (await tasksOf('web')).length === replicas, 60_000)
    await sleep(3_000)
  }
  over.abort()
  await Promise.all(loops)
  t.log(`${failed} of ${asked} connections failed`)
  t.is(failed, 0)
  t.true(asked > 100)
})

kernelTest('a program that knows no IPv6 is reached in it through every host', async (t) => {
  t.timeout(120_000)
  const { hosts, swarm } = site()
  const create = ['service', 'create', '--detach', '--restart-delay', '0s', '--name', 'old']
  const flags = ['-p', `${PORT.old}:80`, '-p', '8054:53/udp', '--replicas', '3']
  await skeinOk(swarm.node(0), ...create, ...flags, ...speakerCommand('ipv4'))
  for (const host of hosts.addresses6.slice(0, NODES)) {
    await until(`all to answer through ${host}`, async () => {
      const { names, failed } = await census(clientPlace(), host, PORT.old, 12)
      return names.size === 3 && failed === 0
    })
    using asker = await DatagramAsker.open(clientPlace(), { host, port: 8_054 })
    t.truthy(await asker.ask(), 'datagrams, too')
  }
  await skeinOk(swarm.node(0), 'service', 'rm', 'old')
})

for (const family of ['ipv4', 'ipv6'] as const) {
  kernelTest(
    `datagrams are spread, and move at once from replicas that go (${family})`,
    async (t) => {
      t.timeout(180_000)
      const { hosts, swarm } = site()
      const addresses = family === 'ipv4' ? hosts.addresses : hosts.addresses6
      await skeinOk(swarm.node(0), 'service', 'scale', '--detach', `web=${REPLICAS}`)
      await until('six', async () => (await tasksOf('web')).length === REPLICAS, 60_000)
      await sleep(500)
      const flows = await openFlows(addresses.slice(0, NODES), clientPlace(0, family), PORT.udp)
      t.teardown(() => flows.forEach((flow) => flow[Symbol.dispose]()))
      const first = await Promise.all(flows.map((flow) => flow.ask()))
      const again = await Promise.all(flows.map((flow) => flow.ask()))
      t.deepEqual(again, first, 'a flow stays with its replica')
      t.false(first.includes(undefined))
      const names = new Set(first.map((answer) => answer?.split(' ')[0]))
      t.true(names.size >= REPLICAS - 2, `${names.size} replicas have ${flows.length} flows`)
      const seen = new Set(first.map((answer) => answer?.split(' ')[1]))
      t.deepEqual([...seen], [addresses[CLIENT]])

      const asking = askAll(flows, PATIENT_MS)
      await skeinOk(swarm.node(0), 'service', 'scale', '--detach', 'web=3')
      await until('three', async () => (await tasksOf('web')).length === 3, 60_000)
      await sleep(1_000)
      const { asked, lost } = await asking.report()
      t.log(`scaled down: ${lost} of ${asked} datagrams without an answer`)
      t.is(lost, 0, 'flows move before their replica stops')
      await assertServed(t, flows, 'web')

      const [victim] = await tasksOf('web')
      const killed = askAll(flows, EAGER_MS)
      process.kill(victim?.Status.ContainerStatus?.PID ?? fail('no process'), 'SIGKILL')
      await sleep(3_000)
      const after = await killed.report()
      t.log(`killed: ${after.lost} of ${after.asked} lost, the longest gap ${after.gapMs} ms`)
      t.true(after.gapMs < 2_000, `${after.gapMs} ms`)
    },
  )
}

function fail(what: string): never {
  throw new Error(what)
}

/** Every flow is answered by a replica that is to run. */
async function assertServed(
  t: ExecutionContext,
  flows: readonly DatagramAsker[],
  service: string,
): Promise<void> {
  const running = new Set((await tasksOf(service)).map((task) => task.ID.slice(0, ID_DIGITS)))
  for (const flow of flows) {
    const [name = ''] = (await flow.ask())?.split(' ') ?? []
    t.true(running.has(name), `${name} answers`)
  }
}

kernelTest('affinity sends a client to one replica through every host', async (t) => {
  t.timeout(120_000)
  const { hosts, swarm } = site()
  const create = ['service', 'create', '--detach', '--restart-delay', '0s', '--name', 'sticky']
  const label = ['--label', 'skein.affinity=client-ip', '--network', 'six']
  const flags = ['-p', `${PORT.sticky}:80`, '--replicas', '4']
  await skeinOk(swarm.node(0), ...create, ...label, ...flags, ...speakerCommand())
  for (let index = 0; index < CLIENTS; index += 1) {
    const [four, six] = [clientPlace(10 + index, 'ipv4'), clientPlace(10 + index)]
    for (const prefix of [`${four.address}/24`, `${six.address}/64`]) {
      const nodad = prefix.includes(':') ? ['nodad'] : []
      hosts.run(CLIENT, 'ip', 'addr', 'add', prefix, 'dev', 'eth0', ...nodad)
    }
  }
  await until('four', async () => (await tasksOf('sticky')).length === 4, 60_000)
  await sleep(1_000)
  for (const family of ['ipv4', 'ipv6'] as const) {
    const addresses = (family === 'ipv4' ? hosts.addresses : hosts.addresses6).slice(0, NODES)
    const replicas = new Set<string>()
    for (let index = 0; index < CLIENTS; index += 1) {
      const client = clientPlace(10 + index, family)
      const own = new Set<string>()
      for (const host of addresses) {
        const { names, failed } = await census(client, host, PORT.sticky, 4)
        t.is(failed, 0)
        for (const name of names.keys()) own.add(name)
      }
      t.is(own.size, 1, `${client.address} has one replica`)
      for (const name of own) replicas.add(name)
    }
    t.log(`${family}: ${CLIENTS} clients have ${replicas.size} of 4 replicas`)
    t.true(replicas.size >= 2)
  }
  await skeinOk(swarm.node(0), 'service', 'rm', 'sticky')
})

kernelTest(
  'other nodes hear of a host’s new address long before they are told by the minute',
  async (t) => {
    t.timeout(60_000)
    const { hosts } = site()
    const others = [1, 2]
    // Each routes answers to connections of that address back through its host.
    const known = (address: string): boolean =>
      others.every((host) => hosts.run(host, 'nft', 'list', 'ruleset').includes(address))
    for (const cidr of ['172.31.83.77/24', 'fd00:172:31:83::77/64']) {
      const [address = ''] = cidr.split('/')
      t.false(known(address))
      const nodad = cidr.includes(':') ? ['nodad'] : []
      const beganMs = performance.now()
      hosts.run(0, 'ip', 'addr', 'add', cidr, 'dev', 'eth0', ...nodad)
      await until(`all to know ${address}`, async () => known(address), HEARD_MS)
      t.log(`${address} is in all kernels after ${Math.round(performance.now() - beganMs)} ms`)
      hosts.run(0, 'ip', 'addr', 'del', cidr, 'dev', 'eth0')
      await until(`all to forget ${address}`, async () => !known(address), HEARD_MS)
    }
  },
)

/** By the docker CLI where there is one. */
async function createByDocker(daemon: Daemon, words: readonly string[]): Promise<void> {
  if (!(await hasDocker())) {
    await skeinOk(daemon, ...words)
    return
  }
  const { code, stderr } = await docker(daemon, ...words)
  if (code !== 0) throw new Error(`docker ${words.join(' ')}: ${stderr}`)
}

kernelTest('SCTP passes published ports of every host, in both families', async (t) => {
  t.timeout(120_000)
  const { hosts, swarm } = site()
  await swarm.loadImage(swarm.node(0))
  const create = ['service', 'create', '--detach', '--restart-delay', '0s', '--name', 'signal']
  const flags = ['--network', 'six', '-p', `${PORT.sctp}:9100/sctp`, '--replicas', '3']
  await createByDocker(swarm.node(0), [...create, ...flags, IMAGE])
  await until('three', async () => (await tasksOf('signal')).length === 3, 60_000)
  const tasks = await tasksOf('signal')
  for (const task of tasks) {
    const netns = `/run/netns/${namespaceOf(task)}`
    const four = /inet ([\d.]+)\//.exec(
      runInside(namespaceOf(task), 'ip', '-4', '-o', 'addr', 'show', 'dev', 'eth0'),
    )
    for (const address of [four?.[1] ?? '', taskPlace(task).address]) {
      const socket = rawSocket(netns, address, IPPROTO_SCTP)
      t.teardown(() => socket.close())
      void serveSctp(socket, task.ID, 9_100)
    }
  }
  await sleep(500)
  const netns = `/run/netns/${hosts.names[CLIENT]}`
  for (const addresses of [hosts.addresses, hosts.addresses6]) {
    const own = addresses[CLIENT] ?? ''
    const client = rawSocket(netns, own, IPPROTO_SCTP)
    t.teardown(() => client.close())
    const seen = new Set<string>()
    for (let index = 0; index < 8 * NODES; index += 1) {
      const host = addresses[index % NODES] ?? ''
      const [first = '', second = ''] = await askBySctp(client, 30_000 + index, {
        host,
        port: PORT.sctp,
      })
      t.is(first, second)
      seen.add(first)
    }
    t.deepEqual([...seen].toSorted(), tasks.map((task) => `${task.ID} ${own}`).toSorted())
  }
  await skeinOk(swarm.node(0), 'service', 'rm', 'signal')
})

kernelTest('nodes that balance in userspace do the same with datagrams and affinity', async (t) => {
  t.timeout(240_000)
  await using swarm = new TestSwarm(NODES, LOOPBACK_SUBNET)
  await swarm.start()
  await swarm.form(NODES)
  const first = swarm.node(0)
  await loadSpeaker(first)
  const create = ['service', 'create', '--detach', '--restart-delay', '0s', '--replicas', '4']
  const ports = ['-p', `${PORT.web}:80`, '-p', `${PORT.udp}:53/udp`]
  const free = ['--name', 'free', '--stop-grace-period', '5s', ...ports]
  const sticky = ['--name', 'sticky', '-p', `${PORT.sticky}:80`]
  await skeinOk(first, ...create, ...free, ...speakerCommand('ipv4'))
  const label = ['--label', 'skein.affinity=client-ip']
  await skeinOk(first, ...create, ...sticky, ...label, ...speakerCommand('ipv4'))
  await swarm.untilRunning(first, 8, 120_000)
  await sleep(1_000)
  const hosts = swarm.daemons.map((daemon) => daemon.host)

  const replicas = new Set<string>()
  for (const client of LOOPBACK_STAGE.neighbours) {
    const own = new Set<string>()
    for (const host of hosts) {
      const { names, failed } = await census(client, host, PORT.sticky, 4)
      t.is(failed, 0)
      for (const name of names.keys()) own.add(name)
    }
    t.is(own.size, 1, `${client.address} has one replica through every node`)
    for (const name of own) replicas.add(name)
  }
  t.log(`${LOOPBACK_STAGE.neighbours.length} clients have ${replicas.size} of 4 replicas`)
  t.true(replicas.size >= 3)

  const flows = await openFlows(hosts, LOOPBACK_STAGE.clients, PORT.udp)
  t.teardown(() => flows.forEach((flow) => flow[Symbol.dispose]()))
  const answers = await Promise.all(flows.map((flow) => flow.ask()))
  t.is(new Set(answers.map((answer) => answer?.split(' ')[0])).size, 4)
  const asking = askAll(flows, PATIENT_MS)
  await skeinOk(first, 'service', 'scale', '--detach', 'free=2')
  await sleep(6_000)
  const { asked, lost } = await asking.report()
  t.log(`scaled down: ${lost} of ${asked} datagrams without an answer`)
  t.true(lost <= flows.length, 'at most what was on its way to a node that had not heard')
  const signal = [...create, '--name', 'signal', '-p', `${PORT.sctp}:9100/sctp`]
  const refusal = await t.throwsAsync(skeinOk(first, ...signal, ...speakerCommand('ipv4')))
  t.regex(refusal.message, /port 9000\/sctp: no node balances in its kernel/)
})
