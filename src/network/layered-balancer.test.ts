import test from 'ava'
import { SwarmError } from '../base/errors.ts'
import { silentLogger } from '../base/log.ts'
import { LayeredBalancer, kernelPart } from './layered-balancer.ts'
import type { Backend, BalancerFault, LoadBalancer, ServerChange, VirtualServer } from './ports.ts'
import { changeTo, takeOver } from './server-change.ts'

const ROUTED = {
  taskId: 'a',
  nodeId: 'n',
  local: false,
  routed: true,
  address: '10.32.0.1',
  port: 80,
}
const TUNNELLED = { ...ROUTED, taskId: 'b', routed: false, address: '10.32.1.1' }
const LOOPBACK = { ...ROUTED, taskId: 'c', local: true, address: '127.0.0.1' }

function server(backends: readonly Backend[], more: Partial<VirtualServer> = {}): VirtualServer {
  return { id: 's/tcp', protocol: 'tcp', address: '0.0.0.0', port: 80, backends, ...more }
}

const serving = (backend: Omit<Backend, 'weight'>): Backend => ({ ...backend, weight: 4 })
const draining = (backend: Omit<Backend, 'weight'>): Backend => ({ ...backend, weight: 0 })

/** A driver that records what it is given and has the faults that it is told. */
class Recorder implements LoadBalancer {
  readonly name: LoadBalancer['name']
  readonly reason = 'test'
  readonly hasVirtualAddresses: boolean
  readonly #given = new Map<string, VirtualServer>()
  faults: readonly BalancerFault[] = []
  error: Error | undefined

  constructor(name: LoadBalancer['name']) {
    this.name = name
    this.hasVirtualAddresses = name !== 'userspace'
  }

  get given(): readonly VirtualServer[] {
    return [...this.#given.values()]
  }

  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.change(changeTo(this.#given, wanted))
  }

  change(change: ServerChange): Promise<readonly BalancerFault[]> {
    takeOver(this.#given, change)
    return this.error === undefined ? Promise.resolve(this.faults) : Promise.reject(this.error)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

function layers(): { kernel: Recorder; userspace: Recorder; layered: LayeredBalancer } {
  const [kernel, userspace] = [new Recorder('ipvs'), new Recorder('userspace')]
  return {
    kernel,
    userspace,
    layered: new LayeredBalancer({ kernel, userspace, log: silentLogger }),
  }
}

test('the kernel is given the backends that its packets reach', (t) => {
  const all = [serving(ROUTED), serving(TUNNELLED), serving(LOOPBACK)]
  t.deepEqual(kernelPart(server(all))?.backends, [serving(ROUTED)])
  t.is(kernelPart(server([serving(TUNNELLED), serving(LOOPBACK)])), undefined)
  t.is(kernelPart(server([])), undefined)
})

test('a port whose only serving backend the kernel cannot reach stays in userspace', (t) => {
  t.is(kernelPart(server([draining(ROUTED), serving(TUNNELLED)])), undefined)
  t.deepEqual(kernelPart(server([draining(ROUTED), draining(TUNNELLED)]))?.backends, [
    draining(ROUTED),
  ])
  t.deepEqual(kernelPart(server([serving(ROUTED), draining(LOOPBACK)]))?.backends, [
    serving(ROUTED),
  ])
})

test('a port with the PROXY protocol is userspace alone: no kernel writes headers', (t) => {
  const backends = [serving(ROUTED)]
  t.is(kernelPart(server(backends, { proxyProtocol: 'v2' })), undefined)
  t.not(kernelPart(server(backends)), undefined)
})

test('a virtual address is the kernel’s also when nobody serves it', (t) => {
  const virtual = server([serving(TUNNELLED)], { protocol: 'any', address: '10.96.0.2', port: 0 })
  t.deepEqual(kernelPart(virtual), { ...virtual, backends: [] })
})

test('userspace has every published port, and no virtual address', async (t) => {
  const { kernel, userspace, layered } = layers()
  const virtual = server([], { id: 's/net', protocol: 'any', address: '10.96.0.2', port: 0 })
  const port = server([serving(ROUTED), serving(TUNNELLED)])
  const sctp = server([serving(ROUTED)], { id: 's/sctp', protocol: 'sctp' })
  t.deepEqual(await layered.apply([virtual, port, sctp]), [])
  t.deepEqual(userspace.given, [port])
  t.deepEqual(
    kernel.given.map(({ id }) => id),
    ['s/net', 's/tcp', 's/sctp'],
  )
  t.deepEqual([layered.name, layered.hasVirtualAddresses], ['ipvs', true])
})

test('a fault of the kernel is one only where userspace cannot stand in', async (t) => {
  const { kernel, layered } = layers()
  const virtual = server([], { id: 's/net', protocol: 'any', address: '10.96.0.2', port: 0 })
  const port = server([serving(ROUTED)])
  kernel.faults = [virtual, port].map(({ id }) => ({ id, message: 'EINVAL' }))
  t.deepEqual(await layered.apply([virtual, port]), [{ id: 's/net', message: 'EINVAL' }])
  kernel.error = new SwarmError('PERMISSION_DENIED', 'ipvs: EPERM')
  t.deepEqual(await layered.apply([virtual, port]), [{ id: 's/net', message: 'ipvs: EPERM' }])
  kernel.error = new TypeError('a mistake')
  await t.throwsAsync(layered.apply([port]), { instanceOf: TypeError })
})

test('a port that another program has is not taken from it by the kernel', async (t) => {
  const { kernel, userspace, layered } = layers()
  userspace.faults = [{ id: 's/tcp', message: 'port 80/tcp: EADDRINUSE' }]
  const other = server([serving(ROUTED)], { id: 'o/tcp', port: 81 })
  t.deepEqual(await layered.apply([server([serving(ROUTED)]), other]), userspace.faults)
  t.deepEqual(kernel.given, [other])
})

test('a change reaches each driver as what it is to that driver', async (t) => {
  const { kernel, userspace, layered } = layers()
  const ids = (driver: Recorder): string[] => driver.given.map(({ id }) => id)
  await layered.apply([server([serving(ROUTED)]), server([serving(ROUTED)], { id: 'o', port: 81 })])
  t.deepEqual(
    [ids(userspace), ids(kernel)],
    [
      ['s/tcp', 'o'],
      ['s/tcp', 'o'],
    ],
  )
  // Only userspace reaches the one that serves now.
  await layered.change({ set: [server([serving(TUNNELLED)])], removed: [] })
  t.deepEqual([ids(userspace), ids(kernel)], [['s/tcp', 'o'], ['o']])
  // Another program took the port, and gives it back.
  userspace.faults = [{ id: 'o', message: 'port 81/tcp: EADDRINUSE' }]
  t.deepEqual(await layered.change({ set: [], removed: [] }), userspace.faults)
  t.deepEqual(ids(kernel), [])
  userspace.faults = []
  t.deepEqual(await layered.change({ set: [], removed: ['s/tcp'] }), [])
  t.deepEqual([ids(userspace), ids(kernel)], [['o'], ['o']])
})
