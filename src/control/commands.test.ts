import test from 'ava'
import { encodeTransaction } from '../store/codec.ts'
import type { ServiceSpec } from '../store/spec.ts'
import { StoreStateMachine } from '../store/state-machine.ts'
import type { Store } from '../store/store.ts'
import {
  nodeDraft,
  serviceSpec,
  taskDraft,
  taskSpec,
  transactionOf,
} from '../store/testing/fixtures.ts'
import type { Action } from '../store/transaction.ts'
import {
  createService,
  removeNode,
  removeService,
  scaleService,
  serviceCounts,
  updateNode,
  updateService,
} from './commands.ts'
import { meetsConstraintTexts, parseConstraints } from './constraints.ts'

const AT = '2026-01-01T00:00:00.000Z'

/** A store and a way to write to it. */
function world(): { readonly store: Store; readonly write: (actions: readonly Action[]) => void } {
  const machine = new StoreStateMachine()
  let index = 0
  const write = (actions: readonly Action[]): void => {
    index += 1
    const data = encodeTransaction(transactionOf(`r${index}`, actions))
    const [result] = machine.apply([{ index, term: 1, data }])
    if (result?.ok !== true) throw new Error(JSON.stringify(result))
  }
  return { store: machine.store, write }
}

function node(id: string, role: 'manager' | 'worker', state: 'ready' | 'down' = 'ready'): Action {
  const object = nodeDraft(id, {
    spec: { Role: role, Availability: 'active' },
    status: { state, message: '' },
  })
  return { type: 'create', table: 'nodes', object }
}

function published(port: number, mode: 'ingress' | 'host' = 'ingress'): Partial<ServiceSpec> {
  const Ports = [{ TargetPort: 80, PublishedPort: port, PublishMode: mode }]
  return { EndpointSpec: { Ports } }
}

test('creating refuses a taken name with Docker’s text', (t) => {
  const { store, write } = world()
  write(createService(store, { id: 's1', spec: serviceSpec('web') }))
  t.throws(() => createService(store, { id: 's2', spec: serviceSpec('web') }), {
    code: 'ALREADY_EXISTS',
    message: 'name conflicts with an existing object: service web already exists',
  })
})

test('creating refuses bad constraints, bad replicas and what is not built', (t) => {
  const { store } = world()
  const attempt = (spec: ServiceSpec) => () => createService(store, { id: 's', spec })
  const constrained = taskSpec({ Placement: { Constraints: ['node.role=manager'] } })
  t.throws(attempt(serviceSpec('web', 1, { TaskTemplate: constrained })), {
    code: 'INVALID_ARGUMENT',
  })
  t.throws(attempt(serviceSpec('web', -1)), { code: 'INVALID_ARGUMENT' })
  t.throws(attempt({ ...serviceSpec('web'), Mode: { GlobalJob: {} } }), { code: 'UNIMPLEMENTED' })
})

test('a null where a spec could have a value is nothing, as Go’s clients mean it', (t) => {
  const { store, write } = world()
  const Mode = { Replicated: { Replicas: 2 }, Global: null }
  const EndpointSpec = { Ports: null }
  const spec = { ...serviceSpec('web'), Mode, EndpointSpec } as unknown as ServiceSpec
  write(createService(store, { id: 's1', spec }))
  const service = store.get('services', 's1')
  t.is(service && serviceCounts(store, service).desiredTasks, 2)
})

test('ports conflict as in Docker: ingress with all, host with ingress alone', (t) => {
  const { store, write } = world()
  write(createService(store, { id: 's1', spec: serviceSpec('web', 1, published(8080)) }))
  write(createService(store, { id: 's2', spec: serviceSpec('log', 1, published(514, 'host')) }))
  const attempt = (fields: Partial<ServiceSpec>) => () =>
    createService(store, { id: 's3', spec: serviceSpec('new', 1, fields) })
  t.throws(attempt(published(8080)), {
    message: "port '8080' is already in use by service 'web' (s1) as an ingress port",
  })
  t.throws(attempt(published(8080, 'host')), {
    message: "port '8080' is already in use by service 'web' (s1) as an ingress port",
  })
  t.throws(attempt(published(514)), {
    message: "port '514' is already in use by service 'log' (s2) as a host-published port",
  })
  t.notThrows(attempt(published(514, 'host')))
  const udp = [{ TargetPort: 80, PublishedPort: 8080, Protocol: 'udp' as const }]
  t.notThrows(attempt({ EndpointSpec: { Ports: udp } }))
  const double = [
    { TargetPort: 80, PublishedPort: 90 },
    { TargetPort: 81, PublishedPort: 90 },
  ]
  t.throws(attempt({ EndpointSpec: { Ports: double } }), { code: 'INVALID_ARGUMENT' })
})

test('updating refuses stale versions, other names and other modes', (t) => {
  const { store, write } = world()
  write(createService(store, { id: 's1', spec: serviceSpec('web') }))
  const attempt = (version: number, spec: ServiceSpec) => () =>
    updateService(store, { id: 's1', version, spec, at: AT })
  t.throws(attempt(9, serviceSpec('web', 2)), {
    code: 'OUT_OF_SEQUENCE',
    message: 'update out of sequence',
  })
  t.throws(attempt(1, serviceSpec('other')), { message: 'renaming services is not supported' })
  t.throws(attempt(1, { ...serviceSpec('web'), Mode: { Global: {} } }), {
    message: 'service mode change is not allowed',
  })
  t.throws(() => updateService(store, { id: 'x', version: 1, spec: serviceSpec('x'), at: AT }), {
    code: 'NOT_FOUND',
    message: 'service x not found',
  })
})

test('a rollback takes the previous spec, and twice is a redo', (t) => {
  const { store, write } = world()
  write(createService(store, { id: 's1', spec: serviceSpec('web', 1) }))
  const rollback = (): Action[] => {
    const version = store.get('services', 's1')?.meta.version ?? 0
    return updateService(store, {
      id: 's1',
      version,
      spec: serviceSpec('web'),
      rollback: true,
      at: AT,
    })
  }
  t.throws(rollback, { message: 'service s1 does not have a previous spec' })
  write(scaleService(store, { id: 's1', replicas: 7, at: AT }))
  write(rollback())
  t.is(store.get('services', 's1')?.spec.Mode?.Replicated?.Replicas, 1)
  t.is(store.get('services', 's1')?.updateStatus?.state, 'rollback_started')
  write(rollback())
  t.is(store.get('services', 's1')?.spec.Mode?.Replicated?.Replicas, 7)
})

test('the last manager cannot be demoted, and managers and ready nodes cannot be removed', (t) => {
  const { store, write } = world()
  write([node('m1', 'manager'), node('w1', 'worker'), node('w2', 'worker', 'down')])
  const demote = (id: string) => () =>
    updateNode(store, { id, version: 1, spec: { Role: 'worker', Availability: 'active' } })
  t.throws(demote('m1'), {
    code: 'FAILED_PRECONDITION',
    message: 'attempting to demote the last manager of the swarm',
  })
  t.notThrows(demote('w1'))
  t.throws(() => removeNode(store, { id: 'm1', force: true }), {
    message: /It must be demoted to worker before removal$/,
  })
  t.throws(() => removeNode(store, { id: 'w1', force: false }), {
    message: "node w1 is not down and can't be removed",
  })
  t.throws(() => removeNode(store, { id: 'w9', force: true }), { code: 'NOT_FOUND' })
  write(removeNode(store, { id: 'w1', force: true }))
  write(removeNode(store, { id: 'w2', force: false }))
  write([node('m2', 'manager')])
  write(demote('m1')())
  t.is(store.get('nodes', 'm1')?.spec.Role, 'worker')
})

test('counts are of tasks that run, are wanted, and whose node is not down', (t) => {
  const { store, write } = world()
  write([node('n1', 'worker'), node('n2', 'worker', 'down')])
  write(createService(store, { id: 's1', spec: serviceSpec('web', 5) }))
  const task = (id: string, fields: Parameters<typeof taskDraft>[1]): Action => ({
    type: 'create',
    table: 'tasks',
    object: taskDraft(id, { serviceId: 's1', nodeId: 'n1', ...fields }),
  })
  write([
    task('t1', {}),
    task('t2', { nodeId: 'n2' }),
    task('t3', { desiredState: 'shutdown' }),
    task('t4', { status: { state: 'starting', timestamp: AT, message: '' } }),
  ])
  const service = store.get('services', 's1')
  t.deepEqual(service && serviceCounts(store, service), {
    runningTasks: 1,
    desiredTasks: 5,
    completedTasks: 0,
  })
  write(removeService(store, 's1'))
  t.throws(() => removeService(store, 's1'), { code: 'NOT_FOUND' })
})

test('constraints compare without case, by every key, and unknown keys never match', (t) => {
  const { store, write } = world()
  const base = nodeDraft('n1', {
    spec: { Role: 'manager', Availability: 'active', Labels: { Disk: 'SSD' } },
    advertiseHost: '10.1.2.3',
  })
  const description = { ...base.description, engineLabels: { gpu: 'yes' } }
  write([{ type: 'create', table: 'nodes', object: { ...base, description } }])
  const stored = store.get('nodes', 'n1')
  if (stored === undefined) throw new Error('no node')
  const meets = (text: string): boolean => meetsConstraintTexts([text], stored)
  const met = [
    'node.id==n1',
    'node.hostname != other',
    'node.role==Manager',
    'NODE.ROLE==manager',
    'node.labels.Disk==ssd',
    'node.labels.none!=x',
    'engine.labels.gpu == yes',
    'node.platform.os==linux',
    'node.platform.arch==x86_64',
    'node.ip==10.1.0.0/16',
    'node.ip!=10.2.0.0/16',
    'node.ip==10.1.2.3',
  ]
  const unmet = ['node.labels.disk==ssd', 'node.ip==10.1.2.4', 'node.color==red', 'color!=red']
  for (const text of met) t.true(meets(text), text)
  for (const text of unmet) t.false(meets(text), text)
})

test('constraints that are no constraints are refused with Docker’s texts', (t) => {
  const refusals: Readonly<Record<string, string>> = {
    'node.role=manager': 'constraint expected one operator from ==, !=',
    'node role==x': "key 'node role' is invalid",
    'node.role==': "value '' is invalid",
    'node.role=={x}': "value '{x}' is invalid",
  }
  for (const [text, message] of Object.entries(refusals)) {
    t.throws(() => parseConstraints([text]), { code: 'INVALID_ARGUMENT', message }, text)
  }
  t.deepEqual(parseConstraints(['a.b != c d']), [{ key: 'a.b', operator: '!=', value: 'c d' }])
})
