/** `/networks*`, and the empty lists of secrets and configs, of which Skein has none yet. */
import { createHash } from 'node:crypto'
import { SwarmError } from '../../base/errors.ts'
import { IDENTIFIER_BYTES, IDENTIFIER_DIGITS, base36 } from '../../base/identifiers.ts'
import {
  createNetwork,
  pruneNetworks,
  removalOf,
  removeNetwork,
} from '../../control/network-commands.ts'
import type { NetworkSpec } from '../../store/spec.ts'
import type { Action } from '../../store/transaction.ts'
import type { StoreView } from '../../store/view.ts'
import { isCustom, networkList } from '../docker/network.ts'
import type { NetworkJson } from '../docker/network.ts'
import { Filters } from '../filters.ts'
import { requireManager } from '../manager.ts'
import type { ApiComponents } from '../ports.ts'
import { empty, json } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { flag, jsonBody, parameter } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'
import { decodeNetworkSpec } from '../schemas/network.ts'

const NETWORK_FILTERS = ['id', 'name', 'driver', 'scope', 'type', 'label', 'dangling'] as const

/** Routes of networks, secrets and configs. */
export function networkRoutes(components: ApiComponents): readonly Route[] {
  const emptyList = (keys: readonly string[]): Route['handler'] => {
    return (request) => {
      requireManager(components)
      Filters.parse(request.query, keys)
      return json([])
    }
  }
  return [
    route('GET', '/networks', (request) => list(components, request)),
    route('POST', '/networks/create', (request) => create(components, request)),
    route('POST', '/networks/prune', (request) => prune(components, request)),
    route('GET', '/networks/{id}', (request) => {
      const store = components.context()?.store
      const name = parameter(request, 'id')
      const found = store === undefined ? undefined : findJson(store, name)
      if (found === undefined || store === undefined) throw notFound(name)
      const verbose = flag(request, 'verbose') && isCustom(found)
      return json({ ...found, ...(verbose ? { Services: servicesOn(store, found.Id) } : {}) })
    }),
    route('DELETE', '/networks/{id}', (request) => remove(components, request)),
    route('GET', '/secrets', emptyList(['id', 'name', 'names', 'label'])),
    route('GET', '/configs', emptyList(['id', 'name', 'names', 'label'])),
  ]
}

function list(components: ApiComponents, request: ApiRequest): Reply {
  const filters = Filters.parse(request.query, NETWORK_FILTERS)
  filters.requireOneOf('type', ['custom', 'builtin'])
  const store = components.context()?.store
  if (store === undefined) return json([])
  const used = new Set(
    store.list('services').flatMap(({ endpoint }) => endpoint?.networks?.map(idOf) ?? []),
  )
  return json(networkList(store).filter((network) => matches(network, filters, used)))
}

function idOf(attachment: { readonly networkId: string }): string {
  return attachment.networkId
}

function matches(network: NetworkJson, filters: Filters, used: ReadonlySet<string>): boolean {
  const dangling = isCustom(network) && !used.has(network.Id)
  return (
    filters.prefix('id', network.Id) &&
    filters.some('name', (name) => network.Name.includes(name)) &&
    filters.some('driver', (driver) => driver === network.Driver) &&
    filters.some('scope', (scope) => scope === network.Scope) &&
    filters.some('type', (type) => (type === 'custom') === isCustom(network)) &&
    filters.some('dangling', (value) => ['1', 'true'].includes(value) === dangling) &&
    filters.labels('label', network.Labels ?? {})
  )
}

async function create(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const spec = decodeNetworkSpec(await jsonBody(request))
  const { requestId, signal } = request
  const { id, actions } = creation(store, spec, requestId)
  await proposer.propose(actions, { requestId, signal })
  return json({ Id: id, Warning: '' }, 201)
}

/** The same request again means the same network and has its first result. */
function creation(
  store: StoreView,
  spec: NetworkSpec,
  requestId: string,
): { readonly id: string; readonly actions: readonly Action[] } {
  const hash = createHash('sha256').update('skein network\0').update(requestId).digest()
  const id = base36(hash.subarray(0, IDENTIFIER_BYTES), IDENTIFIER_DIGITS)
  if (store.get('networks', id) === undefined) {
    return { id, actions: createNetwork(store, { id, spec }) }
  }
  return { id, actions: [{ type: 'create', table: 'networks', object: { id, spec } }] }
}

async function remove(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const name = parameter(request, 'id')
  const found = findJson(store, name)
  if (found === undefined) throw notFound(name)
  const network = store.get('networks', found.Id)
  if (network === undefined) {
    const message = `${found.Name} is a pre-defined network and cannot be removed`
    throw new SwarmError('PERMISSION_DENIED', message)
  }
  const { requestId, signal } = request
  await proposer.propose(removeNetwork(store, network), { requestId, signal })
  return empty()
}

/** Removes what nobody uses, as Docker does with the swarm's networks. */
async function prune(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const filters = Filters.parse(request.query, ['label', 'label!', 'until'])
  const until = filters.values('until').map((text) => momentOf(text, components.clock.wallMs()))
  const chosen = store.list('networks').filter(({ spec, meta }) => {
    const labels = spec.Labels ?? {}
    const isExcluded = filters.has('label!') && filters.labels('label!', labels)
    const isOld = until.every((ms) => Date.parse(meta.createdAt) < ms)
    return filters.labels('label', labels) && !isExcluded && isOld
  })
  const removed = pruneNetworks(store, chosen)
  const { requestId, signal } = request
  if (removed.length > 0) {
    await proposer.propose(removed.map(removalOf), { requestId, signal })
  }
  const names = removed.map(({ spec }) => spec.Name).toSorted()
  return json({ NetworksDeleted: names.length === 0 ? null : names })
}

/** `2026-01-01T00:00:00Z`, seconds since 1970, how long ago (`1h30m`). @throws INVALID_ARGUMENT */
function momentOf(text: string, nowMs: number): number {
  const units = { h: 3_600_000, m: 60_000, s: 1_000 } as const
  if (/^(?:\d+[hms])+$/.test(text)) {
    const parts = [...text.matchAll(/(\d+)([hms])/g)]
    return parts.reduce((ms, [, count, unit]) => {
      return ms - Number(count) * units[unit as keyof typeof units]
    }, nowMs)
  }
  const moment = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text)
  if (!Number.isNaN(moment)) return moment
  throw new SwarmError('INVALID_ARGUMENT', `Invalid filter 'until=${text}'`)
}

function findJson(store: StoreView, reference: string): NetworkJson | undefined {
  const all = networkList(store)
  const exact =
    all.find((network) => network.Id === reference) ??
    all.find((network) => network.Name === reference)
  if (exact !== undefined || reference === '') return exact
  const prefixed = all.filter((network) => network.Id.startsWith(reference))
  if (prefixed.length > 1) {
    const count = `${prefixed.length} matches found on ID prefix`
    const message = `network ${reference} is ambiguous (${count})`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  return prefixed[0]
}

/** What `--verbose` shows: the services on the network, their addresses, ports and tasks. */
function servicesOn(store: StoreView, networkId: string): object {
  const shown = store.list('services').flatMap((service) => {
    const on = service.endpoint?.networks?.some((one) => one.networkId === networkId)
    if (on !== true) return []
    const tasks = store.find('tasks', 'serviceId', service.id)
    const running = tasks.filter((task) => task.status.state === 'running')
    const virtual = service.endpoint?.virtualAddresses?.find((one) => one.networkId === networkId)
    const ports = (service.endpoint?.ports ?? []).map(
      (port) => `Target: ${port.targetPort}, Publish: ${port.publishedPort}`,
    )
    const entry = {
      VIP: virtual?.address ?? '',
      Ports: ports,
      LocalLBIndex: 0,
      Tasks: running.map((task) => ({
        Name: `${task.serviceName}.${task.slot > 0 ? task.slot : task.nodeId}.${task.id}`,
        EndpointID: task.id,
        EndpointIP: task.address ?? '',
        Info: { 'Host IP': store.get('nodes', task.nodeId)?.advertiseHost ?? '' },
      })),
    }
    return [[service.spec.Name, entry] as const]
  })
  return Object.fromEntries(shown)
}

function notFound(name: string): SwarmError {
  return new SwarmError('NOT_FOUND', `network ${name} not found`)
}
