/**
 * From what a client asks to the actions of one transaction. Ids derive from the request id, so that a
 * repeated request means the same object; what may be written is checked here against this replica, and
 * again, for what could have changed meanwhile (names, versions), when the transaction applies.
 */
import { createHash } from 'node:crypto'
import { SwarmError } from '../base/errors.ts'
import { IDENTIFIER_BYTES, IDENTIFIER_DIGITS, base36 } from '../base/identifiers.ts'
import type { Node, Service } from '../store/objects.ts'
import type { NodeSpec, ServiceSpec } from '../store/spec.ts'
import type { Action } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'

/** Docker's rule for service names: a DNS name component. */
const SERVICE_NAME = /^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$/

/** Longest service name (a DNS label). */
const SERVICE_NAME_MAX = 63

/** The service that `requestId` creates. @throws INVALID_ARGUMENT, ALREADY_EXISTS */
export function createServiceActions(
  store: StoreView,
  { spec, requestId }: { readonly spec: ServiceSpec; readonly requestId: string },
): { readonly id: string; readonly actions: readonly Action[] } {
  const hash = createHash('sha256').update('skein service\0').update(requestId).digest()
  const id = base36(hash.subarray(0, IDENTIFIER_BYTES), IDENTIFIER_DIGITS)
  checkSpec(store, spec, id)
  const [taken] = store.find('services', 'name', spec.Name)
  if (taken !== undefined && taken.id !== id) {
    throw new SwarmError(
      'ALREADY_EXISTS',
      `name conflicts with an existing object: service ${spec.Name} already exists`,
    )
  }
  return {
    id,
    actions: [{ type: 'create', table: 'services', object: { id, spec, specVersion: 0 } }],
  }
}

/** @throws INVALID_ARGUMENT, UNIMPLEMENTED, FAILED_PRECONDITION */
export function updateServiceActions(
  store: StoreView,
  update: {
    readonly service: Service
    readonly spec: ServiceSpec
    readonly version: number
    readonly rollback: boolean
  },
): readonly Action[] {
  const { service, version } = update
  const { meta: _meta, ...draft } = service
  if (update.rollback && service.previousSpec === undefined) {
    throw new SwarmError(
      'FAILED_PRECONDITION',
      `service ${service.id} does not have a previous spec`,
    )
  }
  const spec = update.rollback ? (service.previousSpec ?? update.spec) : update.spec
  if (spec.Name !== service.spec.Name) {
    throw new SwarmError('UNIMPLEMENTED', 'renaming services is not supported')
  }
  if (modeName(spec) !== modeName(service.spec)) {
    throw new SwarmError('UNIMPLEMENTED', 'service mode change is not allowed')
  }
  checkSpec(store, spec, service.id)
  return [{ type: 'update', table: 'services', object: { ...draft, spec }, version }]
}

/** The orchestrator removes its tasks when it sees the service gone. */
export function removeServiceActions(_store: StoreView, service: Service): readonly Action[] {
  return [{ type: 'remove', table: 'services', id: service.id }]
}

/** @throws FAILED_PRECONDITION for the demotion of the last manager */
export function updateNodeActions(
  store: StoreView,
  update: { readonly node: Node; readonly spec: NodeSpec; readonly version: number },
): readonly Action[] {
  const { node, spec, version } = update
  if (node.spec.Role === 'manager' && spec.Role === 'worker') {
    const managers = store.list('nodes').filter((other) => other.spec.Role === 'manager')
    if (managers.length === 1) {
      throw new SwarmError(
        'FAILED_PRECONDITION',
        'attempting to demote the last manager of the swarm',
      )
    }
  }
  const { meta: _meta, ...draft } = node
  return [{ type: 'update', table: 'nodes', object: { ...draft, spec }, version }]
}

/** @throws FAILED_PRECONDITION for a node that is up, or a manager, without force */
export function removeNodeActions(
  _store: StoreView,
  { node, force }: { readonly node: Node; readonly force: boolean },
): readonly Action[] {
  if (node.spec.Role === 'manager') {
    throw new SwarmError(
      'FAILED_PRECONDITION',
      `node ${node.id} is a cluster manager and is a member of the raft cluster. It must be demoted ` +
        'to worker before removal',
    )
  }
  if (!force && node.status.state !== 'down') {
    throw new SwarmError('FAILED_PRECONDITION', `node ${node.id} is not down and can't be removed`)
  }
  return [{ type: 'remove', table: 'nodes', id: node.id }]
}

function checkSpec(store: StoreView, spec: ServiceSpec, id: string): void {
  if (!SERVICE_NAME.test(spec.Name)) {
    throw new SwarmError('INVALID_ARGUMENT', 'name must be valid as a DNS name component')
  }
  if (spec.Name.length > SERVICE_NAME_MAX) {
    throw new SwarmError('INVALID_ARGUMENT', `name must be ${SERVICE_NAME_MAX} characters or fewer`)
  }
  const container = spec.TaskTemplate.ContainerSpec
  if (container.Image === '') {
    throw new SwarmError('INVALID_ARGUMENT', 'ContainerSpec: image reference must be provided')
  }
  checkPorts(store, spec, id)
}

function checkPorts(store: StoreView, spec: ServiceSpec, id: string): void {
  for (const port of spec.EndpointSpec?.Ports ?? []) {
    if ((port.PublishedPort ?? 0) === 0 || port.PublishMode === 'host') continue
    const taken = store
      .list('services')
      .find((other) => other.id !== id && publishes(other, port.PublishedPort, port.Protocol))
    if (taken === undefined) continue
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `port '${port.PublishedPort}' is already in use by service '${taken.spec.Name}' ` +
        `(${taken.id}) as an ingress port`,
    )
  }
}

function publishes(service: Service, publishedPort = 0, protocol = 'tcp'): boolean {
  const asked = (service.spec.EndpointSpec?.Ports ?? []).some(
    (port) => port.PublishedPort === publishedPort && (port.Protocol ?? 'tcp') === protocol,
  )
  const given = (service.endpoint?.ports ?? []).some(
    (port) => port.publishedPort === publishedPort && port.protocol === protocol,
  )
  return asked || given
}

function modeName(spec: ServiceSpec): string | undefined {
  return Object.keys(spec.Mode ?? { Replicated: {} })[0]
}
