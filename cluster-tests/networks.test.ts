/**
 * Networks that are not the overlay, with real daemons, containers and traffic: macvlan and ipvlan
 * over a device that two hosts share, a bridge of each node, the host's own stack, none; and a
 * parent that is not there. Two hosts as network namespaces.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import test from 'ava'
import { defined } from '../src/base/assert.ts'
import { api, run, skein, skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { HostSwarm, TestHosts, runInside } from './harness/hosts.ts'
import { IMAGE, type TaskJson } from './harness/swarm.ts'
import { resolve } from './harness/task-names.ts'

const isPossible = process.getuid?.() === 0 && existsSync('/usr/sbin/nft')
const kernelTest = isPossible ? test.serial : test.serial.skip

const PREFIX = 'skt-n'
const CREATE = ['service', 'create', '--detach', '--mode', 'global', '--restart-condition', 'none']

/** Tasks of a service in the order of their nodes, when so many run. */
async function tasksOf(daemon: Daemon, service: string, count = 2): Promise<TaskJson[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: [service] }))
  return until(`${count} tasks of ${service}`, async () => {
    const tasks = (await api(daemon.socket, 'GET', `/tasks?filters=${filters}`)) as TaskJson[]
    const running = tasks.filter((task) => task.Status.State === 'running')
    return running.length === count && running.toSorted((a, b) => (a.NodeID < b.NodeID ? -1 : 1))
  })
}

function inside(task: TaskJson | undefined, ...command: readonly string[]): string {
  return runInside(`skein-${task?.ID}`, ...command)
}

/** Addresses of a device of a task. */
function addressOn(task: TaskJson | undefined, device: string): string {
  const text = inside(task, 'ip', '-4', '-o', 'addr', 'show', 'dev', device)
  return /inet (\S+)\//.exec(text)?.[1] ?? ''
}

/** Whether a web server answers there, from a task. */
function answers(task: TaskJson | undefined, address: string): boolean {
  try {
    inside(task, 'curl', '-s', '-m', '3', '-o', '/dev/null', `http://${address}/`)
    return true
  } catch {
    return false
  }
}

function resolved(task: TaskJson | undefined, name: string): string[] {
  return resolve(defined(task, 'the task'), name).toSorted()
}

/** One manager, and as many workers as there are further hosts. */
function start(hosts: TestHosts): Promise<HostSwarm> {
  return HostSwarm.formed(hosts, hosts.names.length, { managers: 1 })
}

kernelTest('tasks of two hosts meet on the network of a shared parent', async (t) => {
  using hosts = new TestHosts(PREFIX, '172.31.84', 2)
  await using swarm = await start(hosts)
  const first = swarm.node(0)
  const kinds = [
    ['lan', 'macvlan', '192.168.71.0/24', 'macvlan_mode=bridge'],
    ['l2', 'ipvlan', '192.168.72.0/24', 'ipvlan_mode=l2'],
  ] as const
  for (const [name, driver, subnet, mode] of kinds) {
    const range = ['--subnet', subnet, '--gateway', subnet.replace('0/24', '1')]
    const options = ['-o', 'parent=eth0', '-o', mode, '-o', 'com.docker.network.driver.mtu=1300']
    const made = await skein(first, 'network', 'create', '-d', driver, ...range, ...options, name)
    t.is(made.code, 0, made.stderr)
    await skeinOk(first, ...CREATE, '--name', `on-${name}`, '--network', name, IMAGE)
    const filters = encodeURIComponent(JSON.stringify({ service: [`on-${name}`] }))
    const states = await until('tasks that run or failed', async () => {
      const tasks = (await api(first.socket, 'GET', `/tasks?filters=${filters}`)) as TaskJson[]
      const settled = tasks.filter(({ Status: { State: state } }) =>
        ['running', 'rejected', 'failed'].includes(state),
      )
      return settled.length >= 2 && settled
    })
    const failure = states.find(({ Status: { State: state } }) => state !== 'running')
    const error = String(failure?.Status.Err)
    if (failure !== undefined && /UNIMPLEMENTED|EOPNOTSUPP|no .*vlan/.test(error)) {
      // This kernel cannot; that it says so is all that can be seen here.
      t.log(`${driver}: not on this kernel: ${error}`)
      await skeinOk(first, 'service', 'rm', `on-${name}`)
      continue
    }
    const [one, two] = await tasksOf(first, `on-${name}`)
    const [here, there] = [addressOn(one, 'eth1'), addressOn(two, 'eth1')]
    t.true(here.startsWith(subnet.slice(0, 11)) && there !== here, `${here} ${there}`)
    t.true(answers(one, there), `${driver}: ${here} → ${there}`)
    t.true(answers(two, here), `${driver}: ${there} → ${here}`)
    t.deepEqual(resolved(one, `tasks.on-${name}`), [here, there].toSorted())
    t.regex(inside(one, 'ip', 'link', 'show', 'eth1'), /mtu 1300/)
    t.notRegex(inside(one, 'ip', 'link', 'show', 'eth0'), /mtu 1300/)
    await skeinOk(first, 'service', 'rm', `on-${name}`)
  }
})

kernelTest(
  'bridge, host and none are what their names say, and several are all of them',
  async (t) => {
    using hosts = new TestHosts(PREFIX, '172.31.84', 2)
    await using swarm = await start(hosts)
    const first = swarm.node(0)
    for (const [name, driver] of [
      ['near', 'bridge'],
      ['wide', 'overlay'],
    ] as const) {
      await skeinOk(first, 'network', 'create', '-d', driver, name)
    }
    const near = ['--network', 'near']
    await skeinOk(first, ...CREATE, '--name', 'a', ...near, IMAGE)
    await skeinOk(first, ...CREATE, '--name', 'b', ...near, '--network', 'wide', IMAGE)
    await skeinOk(first, ...CREATE, '--name', 'alone', '--network', 'none', IMAGE)
    await skeinOk(first, ...CREATE, '--name', 'bare', '--network', 'host', IMAGE)
    const [a, b] = [await tasksOf(first, 'a'), await tasksOf(first, 'b')]
    const [ownB, farB] = [addressOn(b[0], 'eth0'), addressOn(b[1], 'eth0')]
    t.deepEqual(resolved(a[0], 'b'), [ownB], 'a bridge is of one node')
    t.true(answers(a[0], ownB))
    t.false(answers(a[0], farB))
    t.deepEqual(resolved(b[0], 'tasks.b.wide'), [ownB, farB].toSorted())
    t.true(answers(b[0], farB), 'its other network spans the nodes')
    t.is(resolved(b[0], 'b.wide').length, 1)
    t.deepEqual(resolved(a[0], 'b.wide'), [], 'a name of a network that it is not on')

    const [alone] = await tasksOf(first, 'alone')
    const pid = String(alone?.Status.ContainerStatus?.PID)
    const devices = (await run('nsenter', ['-t', pid, '-n', 'ip', '-br', 'link'])).stdout
    t.regex(devices, /^lo +\S+.*\n$/, 'loopback and nothing else')
    await tasksOf(first, 'bare')
    const url = `http://${hosts.addresses[1]}/`
    t.notThrows(
      () => hosts.run(0, 'curl', '-s', '-m', '3', '-o', '/dev/null', url),
      'the node itself',
    )

    const busy = await skein(first, 'network', 'rm', 'near')
    t.regex(busy.stderr, /near is in use by service a \(\S+\), service b \(\S+\)/)
  },
)

kernelTest('where some nodes have no plane, ports answer everywhere, and it is said', async (t) => {
  using hosts = new TestHosts(PREFIX, '172.31.84', 2)
  await using swarm = new HostSwarm(hosts, 2, [{}, { SKEIN_BALANCER: 'userspace' }])
  await swarm.start()
  await swarm.form(1)
  const first = swarm.node(0)
  await swarm.loadImage(first)
  await skeinOk(first, 'network', 'create', 'front')
  const wishes = ['--constraint', 'node.hostname==n2', '--publish', '7171:80']
  const made = await skein(
    first,
    ...CREATE,
    '--name',
    'web',
    ...wishes,
    '--network',
    'front',
    IMAGE,
  )
  t.regex(made.stderr, /networks: tasks on n2, .*front/)
  await tasksOf(first, 'web', 1)
  for (const address of hosts.addresses) {
    const url = `http://${address}:7171/`
    const ask = (): string => hosts.run(0, 'curl', '-s', '-m', '3', url)
    t.regex(await until(url, async () => Promise.resolve(ask())), /^replica /)
  }
})

kernelTest('names answer containers that ran on while their daemon did not', async (t) => {
  using hosts = new TestHosts(PREFIX, '172.31.84', 1)
  await using swarm = await start(hosts)
  const first = swarm.node(0)
  await skeinOk(first, 'network', 'create', 'front')
  await skeinOk(first, ...CREATE, '--name', 'web', '--network', 'front', IMAGE)
  const [web] = await tasksOf(first, 'web', 1)
  t.is(resolved(web, 'web').length, 1)
  await first.kill('SIGTERM')
  t.deepEqual(resolved(web, 'web'), [])
  await first.start()
  await until('the resolver', () => Promise.resolve(resolved(web, 'web').length === 1))
  t.deepEqual(
    (await tasksOf(first, 'web', 1)).map(({ ID: id }) => id),
    [web?.ID],
  )
})

kernelTest('what stops the network of a host is said by its daemon', async (t) => {
  using hosts = new TestHosts(PREFIX, '172.31.84', 1)
  await using swarm = await start(hosts)
  const first = swarm.node(0)
  const warned = (text: RegExp | undefined): Promise<boolean> =>
    until(`a warning of ${String(text)}`, async () => {
      const { Warnings: found } = (await api(first.socket, 'GET', '/info')) as {
        readonly Warnings: readonly string[] | null
      }
      return text === undefined ? found === null : found?.some((one) => text.test(one))
    })
  const rival = spawn('nsenter', [
    ...[`--net=/run/netns/${hosts.names[0]}`, 'busybox', 'httpd', '-f', '-p', '7070'],
  ])
  try {
    await skeinOk(first, ...CREATE, '--name', 'web', '--publish', '7070:80', IMAGE)
    await tasksOf(first, 'web', 1)
    t.true(await warned(/^WARNING: network: port 7070.tcp on 0.0.0.0: is already in use/))
  } finally {
    rival.kill()
  }
  await skeinOk(first, 'service', 'rm', 'web')
  t.true(await warned(undefined), 'it ends with its cause')
  hosts.run(0, 'nft', 'add table ip filter')
  const chain = '{ type filter hook forward priority 0; policy drop; }'
  hosts.run(0, 'nft', `add chain ip filter FORWARD ${chain}`)
  await first.kill('SIGTERM')
  await first.start()
  t.true(await warned(/chain FORWARD of the host's table ip filter drops by default/))
})

kernelTest('a parent that is not there is said in the state of the task', async (t) => {
  using hosts = new TestHosts(PREFIX, '172.31.84', 1)
  await using swarm = await start(hosts)
  const first = swarm.node(0)
  const range = ['--subnet', '192.168.73.0/24', '-o', 'parent=eth7']
  await skeinOk(first, 'network', 'create', '-d', 'macvlan', ...range, 'lost')
  await skeinOk(first, ...CREATE, '--name', 'web', '--network', 'lost', IMAGE)
  const filters = encodeURIComponent(JSON.stringify({ service: ['web'] }))
  const error = await until('a refused task', async () => {
    const [task] = (await api(first.socket, 'GET', `/tasks?filters=${filters}`)) as TaskJson[]
    return task?.Status.Err
  })
  t.regex(error, /device "eth7": does not exist; the network's option parent names it/)
})
