/**
 * What users may do to services and nodes, as pure functions from the store to the actions to
 * propose. Refusals carry Docker's texts. Shared by every way in (API today).
 * Source: swarmkit `manager/controlapi/{service,node}.go`, in their behaviour;
 * `reference/swarm.md`.
 */
import { isDeepStrictEqual } from 'node:util'
import { SwarmError } from '../base/errors.ts'
import { isTerminal, type Node, type Service } from '../store/objects.ts'
import { labelFault } from '../store/service-labels.ts'
import type { NodeSpec, ServiceSpec } from '../store/spec.ts'
import type { Action, Draft } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { parseConstraints } from './constraints.ts'
import { assertHealthcheck } from './healthcheck.ts'
import { INGRESS_NETWORK } from './network-commands.ts'
import { attachmentsOf, hasOwnStack } from './networks.ts'
import { assertPortsFree } from './published-ports.ts'
import { replicasOf, serviceMode } from './service-mode.ts'
import { isEligible } from './global.ts'

/** A new service. @throws ALREADY_EXISTS, INVALID_ARGUMENT, UNIMPLEMENTED */
export function createService(
  store: StoreView,
  request: { readonly id: string; readonly spec: ServiceSpec },
): Action[] {
  const { id, spec } = request
  assertSpec(spec)
  if (store.find('services', 'name', spec.Name).length > 0) {
    throw new SwarmError(
      'ALREADY_EXISTS',
      `name conflicts with an existing object: service ${spec.Name} already exists`,
    )
  }
  assertNetworks(store, spec)
  assertLabels(spec)
  assertPortsFree(store, spec)
  return [{ type: 'create', table: 'services', object: { id, spec, specVersion: 0 } }]
}

/** What `service update` asks for. */
export interface ServiceUpdate {
  readonly id: string
  /** The version that the caller read. */
  readonly version: number
  readonly spec: ServiceSpec
  /** Go back to the previous spec; `spec` is then ignored. */
  readonly rollback?: boolean
  /** Wall clock, RFC 3339; for display. */
  readonly at: string
}

/**
 * A new spec for a service; the leader then replaces tasks as the update configuration says.
 * @throws NOT_FOUND, OUT_OF_SEQUENCE, INVALID_ARGUMENT, FAILED_PRECONDITION, UNIMPLEMENTED
 */
export function updateService(store: StoreView, request: ServiceUpdate): Action[] {
  const service = expectService(store, request.id)
  assertVersion(service, request.version)
  const spec = request.rollback === true ? previousSpecOf(service) : request.spec
  assertSpec(spec)
  if (spec.Name !== service.spec.Name) {
    throw new SwarmError('UNIMPLEMENTED', 'renaming services is not supported')
  }
  if (serviceMode(spec) !== serviceMode(service.spec)) {
    throw new SwarmError('UNIMPLEMENTED', 'service mode change is not allowed')
  }
  assertNetworks(store, spec)
  assertLabels(spec)
  // What it has or waits for already is the allocator's to settle, as in swarmkit.
  if (!isDeepStrictEqual(spec.EndpointSpec, service.spec.EndpointSpec)) {
    assertPortsFree(store, spec, service.id)
  }
  const { meta: _meta, updateStatus: _updateStatus, ...rest } = service
  const rollbackStatus = {
    state: 'rollback_started',
    startedAt: request.at,
    message: 'manually requested rollback',
  } as const
  const object: Draft<Service> = {
    ...rest,
    spec,
    ...(request.rollback === true ? { updateStatus: rollbackStatus } : {}),
  }
  return [{ type: 'update', table: 'services', object, version: request.version }]
}

/** Another number of replicas, nothing else. @throws NOT_FOUND, INVALID_ARGUMENT */
export function scaleService(
  store: StoreView,
  request: { readonly id: string; readonly replicas: number; readonly at: string },
): Action[] {
  const service = expectService(store, request.id)
  if (serviceMode(service.spec) !== 'replicated') {
    throw new SwarmError('INVALID_ARGUMENT', 'scale can only be used with replicated mode')
  }
  const spec = { ...service.spec, Mode: { Replicated: { Replicas: request.replicas } } }
  const { id, at } = request
  return updateService(store, { id, version: service.meta.version, spec, at })
}

/** Takes a service away; its tasks stop. @throws NOT_FOUND */
export function removeService(store: StoreView, id: string): Action[] {
  expectService(store, id)
  return [{ type: 'remove', table: 'services', id }]
}

/**
 * A new spec (role, availability, labels) for a node.
 * @throws NOT_FOUND, OUT_OF_SEQUENCE, FAILED_PRECONDITION
 */
export function updateNode(
  store: StoreView,
  request: { readonly id: string; readonly version: number; readonly spec: NodeSpec },
): Action[] {
  const node = expectNode(store, request.id)
  assertVersion(node, request.version)
  const demotes = node.spec.Role === 'manager' && request.spec.Role === 'worker'
  if (demotes && managersOf(store).length === 1) {
    throw new SwarmError(
      'FAILED_PRECONDITION',
      'attempting to demote the last manager of the swarm',
    )
  }
  const { meta: _meta, ...rest } = node
  const object = { ...rest, spec: request.spec }
  return [{ type: 'update', table: 'nodes', object, version: request.version }]
}

/** Takes a node out of the swarm for good. @throws NOT_FOUND, FAILED_PRECONDITION */
export function removeNode(
  store: StoreView,
  request: { readonly id: string; readonly force: boolean },
): Action[] {
  const node = expectNode(store, request.id)
  if (node.spec.Role === 'manager') {
    throw new SwarmError(
      'FAILED_PRECONDITION',
      `node ${node.id} is a cluster manager and is a member of the raft cluster. ` +
        'It must be demoted to worker before removal',
    )
  }
  if (!request.force && node.status.state === 'ready') {
    throw new SwarmError('FAILED_PRECONDITION', `node ${node.id} is not down and can't be removed`)
  }
  return [{ type: 'remove', table: 'nodes', id: node.id }]
}

/** Docker's `ServiceStatus`. */
export interface ServiceCounts {
  readonly runningTasks: number
  readonly desiredTasks: number
  readonly completedTasks: number
}

/** How many tasks a service has and should have. */
export function serviceCounts(store: StoreView, service: Service): ServiceCounts {
  const tasks = store.find('tasks', 'serviceId', service.id)
  const downNodes = new Set(
    store
      .list('nodes')
      .filter((node) => node.status.state === 'down')
      .map((node) => node.id),
  )
  return {
    runningTasks: tasks.filter(
      (task) =>
        task.status.state === 'running' &&
        task.desiredState === 'running' &&
        !downNodes.has(task.nodeId),
    ).length,
    desiredTasks:
      serviceMode(service.spec) === 'global'
        ? store.list('nodes').filter((node) => isEligible(service, node)).length
        : replicasOf(service.spec),
    completedTasks: tasks.filter((task) => task.status.state === 'complete').length,
  }
}

/** Tasks of a node that have not ended. */
export function liveTasksOfNode(store: StoreView, nodeId: string): number {
  const tasks = store.find('tasks', 'nodeId', nodeId)
  return tasks.filter((task) => !isTerminal(task.status.state)).length
}

function managersOf(store: StoreView): Node[] {
  return store.list('nodes').filter((node) => node.spec.Role === 'manager')
}

function assertSpec(spec: ServiceSpec): void {
  const mode = serviceMode(spec)
  if (mode === 'replicated-job' || mode === 'global-job') {
    throw new SwarmError('UNIMPLEMENTED', `service "${spec.Name}": jobs are not built yet`)
  }
  assertHealthcheck(spec.TaskTemplate.ContainerSpec.Healthcheck)
  parseConstraints(spec.TaskTemplate.Placement?.Constraints ?? [])
  const replicas = replicasOf(spec)
  if (!Number.isSafeInteger(replicas) || replicas < 0) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `service "${spec.Name}": replicas is no natural number`,
    )
  }
}

/** A wrong value would silently be another balancing, or protocol, than was asked for. */
function assertLabels(spec: ServiceSpec): void {
  const fault = labelFault(spec.Labels ?? {})
  if (fault === undefined) return
  throw new SwarmError('INVALID_ARGUMENT', `service "${spec.Name}": ${fault}`)
}

function assertNetworks(store: StoreView, spec: ServiceSpec): void {
  const asked = spec.TaskTemplate.Networks ?? spec.Networks ?? []
  if (asked.some(({ Target: target }) => target === INGRESS_NETWORK)) {
    const what = `the ingress network "${INGRESS_NETWORK}"`
    const message = `Service cannot be explicitly attached to ${what}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  const attachments = attachmentsOf(store, spec)
  if (typeof attachments === 'string') {
    const code = attachments.endsWith('not found') ? 'NOT_FOUND' : 'INVALID_ARGUMENT'
    throw new SwarmError(code, attachments)
  }
  if (hasOwnStack(attachments)) assertNothingPublished(spec, attachments[0]?.networkId ?? '')
}

/** A task with its node's stack listens on the node's ports itself; one without has none. */
function assertNothingPublished(spec: ServiceSpec, networkId: string): void {
  for (const port of spec.EndpointSpec?.Ports ?? []) {
    const isItsOwn = port.PublishMode === 'host' && port.PublishedPort === port.TargetPort
    if (networkId === 'host' && isItsOwn) continue
    const why = {
      host: "a replica listens on its node's own ports, whatever is published",
      none: 'nothing reaches a replica',
    }[networkId]
    const message = `service "${spec.Name}": port ${port.TargetPort} cannot be published`
    throw new SwarmError('INVALID_ARGUMENT', `${message}: on network ${networkId} ${why}`)
  }
}

function previousSpecOf(service: Service): ServiceSpec {
  if (service.previousSpec !== undefined) return service.previousSpec
  throw new SwarmError('FAILED_PRECONDITION', `service ${service.id} does not have a previous spec`)
}

function assertVersion(object: Node | Service, version: number): void {
  if (object.meta.version === version) return
  throw new SwarmError('OUT_OF_SEQUENCE', 'update out of sequence')
}

function expectService(store: StoreView, id: string): Service {
  const service = store.get('services', id)
  if (service === undefined) throw new SwarmError('NOT_FOUND', `service ${id} not found`)
  return service
}

function expectNode(store: StoreView, id: string): Node {
  const node = store.get('nodes', id)
  if (node === undefined) throw new SwarmError('NOT_FOUND', `node ${id} not found`)
  return node
}
