/** `/services*` but for logs. */
import type { Service } from '../../store/objects.ts'
import type { ServiceSpec } from '../../store/spec.ts'
import type { StoreView } from '../../store/view.ts'
import { wallTimeText } from '../../base/clock.ts'
import { networkWarnings } from '../../control/network-warnings.ts'
import { sctpWarnings } from '../../control/sctp-ports.ts'
import { removeService, serviceCounts, updateService } from '../../control/commands.ts'
import { serviceMode } from '../../control/service-mode.ts'
import { assertSpecTexts, createServiceActions } from '../actions.ts'
import { serviceJson } from '../docker/service.ts'
import { Filters } from '../filters.ts'
import { pinImage } from '../image-pin.ts'
import { findService } from '../lookup.ts'
import { requireManager } from '../manager.ts'
import type { ApiComponents } from '../ports.ts'
import { empty, json } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { flag, jsonBody, parameter, versionParameter } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'
import { decodeServiceSpec } from '../schemas/service.ts'
import { inventName } from '../service-name.ts'

const SERVICE_FILTERS = ['id', 'name', 'label', 'mode', 'runtime'] as const

/** Routes of services. */
export function serviceRoutes(components: ApiComponents): readonly Route[] {
  return [
    route('GET', '/services', (request) => list(components, request)),
    route('POST', '/services/create', (request) => create(components, request)),
    route('GET', '/services/{id}', (request) => {
      const { store } = requireManager(components)
      const service = findService(store, parameter(request, 'id'))
      return json(serviceJson(service, store, { insertDefaults: flag(request, 'insertDefaults') }))
    }),
    route('POST', '/services/{id}/update', (request) => update(components, request)),
    route('DELETE', '/services/{id}', (request) => remove(components, request)),
  ]
}

function list(components: ApiComponents, request: ApiRequest): Reply {
  const { store } = requireManager(components)
  const filters = Filters.parse(request.query, SERVICE_FILTERS)
  filters.requireOneOf('mode', ['replicated', 'global', 'replicated-job', 'global-job'])
  const withStatus = flag(request, 'status')
  const services = store.list('services').filter((service) => matches(service, filters))
  return json(
    services.map((service) =>
      serviceJson(service, store, withStatus ? { counts: serviceCounts(store, service) } : {}),
    ),
  )
}

function matches(service: Service, filters: Filters): boolean {
  return (
    filters.prefix('id', service.id) &&
    filters.prefix('name', service.spec.Name) &&
    filters.labels('label', service.spec.Labels) &&
    filters.some('mode', (mode) => serviceMode(service.spec) === mode) &&
    filters.some(
      'runtime',
      (runtime) => runtime === (service.spec.TaskTemplate.Runtime ?? 'container'),
    )
  )
}

function warningsOf(store: StoreView, spec: ServiceSpec): readonly string[] {
  return [...sctpWarnings(store, spec), ...networkWarnings(store, spec)]
}

async function create(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const asked = decodeServiceSpec(await jsonBody(request))
  const named = asked.Name === '' ? { ...asked, Name: inventName(store, request.requestId) } : asked
  const pinned = await pinImage(components, named, request.signal)
  const { spec } = pinned
  const warnings = [...pinned.warnings, ...warningsOf(store, spec)]
  const { id, actions } = createServiceActions(store, { spec, requestId: request.requestId })
  await proposer.propose(actions, { requestId: request.requestId, signal: request.signal })
  return json({ ID: id, ...(warnings.length === 0 ? {} : { Warnings: warnings }) }, 201)
}

async function update(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const service = findService(store, parameter(request, 'id'))
  const version = versionParameter(request, 'service')
  const asked = decodeServiceSpec(await jsonBody(request))
  const rollback = request.query.get('rollback') === 'previous'
  const pinned = rollback
    ? { spec: asked, warnings: [] }
    : await pinChangedImage(components, request, { service, asked })
  const { spec } = pinned
  const warnings = [...pinned.warnings, ...warningsOf(store, spec)]
  if (!rollback) assertSpecTexts(spec)
  const at = wallTimeText(components.clock.wallMs())
  const actions = updateService(store, { id: service.id, version, spec, rollback, at })
  await proposer.propose(actions, { requestId: request.requestId, signal: request.signal })
  return json({ Warnings: warnings.length === 0 ? null : warnings })
}

/** An image that the update leaves alone keeps the digest, or the lack of one, that it has. */
async function pinChangedImage(
  components: ApiComponents,
  request: ApiRequest,
  { service, asked }: { readonly service: Service; readonly asked: Service['spec'] },
): ReturnType<typeof pinImage> {
  const before = service.spec.TaskTemplate.ContainerSpec.Image
  if (asked.TaskTemplate.ContainerSpec.Image === before) return { spec: asked, warnings: [] }
  return await pinImage(components, asked, request.signal)
}

async function remove(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const service = findService(store, parameter(request, 'id'))
  const actions = removeService(store, service.id)
  await proposer.propose(actions, { requestId: request.requestId, signal: request.signal })
  return empty()
}
