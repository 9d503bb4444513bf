/**
 * What users may do to networks, as pure functions from the store to the actions to propose.
 * Refusals carry Docker's texts. Source: swarmkit `manager/controlapi/network.go`, in its
 * behaviour.
 */
import { SwarmError } from '../base/errors.ts'
import { isTerminal } from '../store/objects.ts'
import type { Network } from '../store/objects.ts'
import type { NetworkSpec } from '../store/spec.ts'
import type { Action } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { assertRange } from './network-range.ts'
import {
  NETWORK_DRIVERS,
  attachmentsOf,
  driverOf,
  givesAddresses,
  isPredefined,
} from './networks.ts'

/** Docker's name of the network that published ports belong to. */
export const INGRESS_NETWORK = 'ingress'

/** Docker's rule for names of objects. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/** Smallest MTU that IPv4 must carry, and the largest that a device has. */
const MTU_MIN = 576
const MTU_MAX = 65_535

/** Option that sets the MTU of tasks on the network. */
export const MTU_OPTION = 'com.docker.network.driver.mtu'

/** A new network. @throws ALREADY_EXISTS, INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED */
export function createNetwork(
  store: StoreView,
  request: { readonly id: string; readonly spec: NetworkSpec },
): Action[] {
  const { id, spec } = request
  if (isPredefined(spec.Name) || spec.Name === INGRESS_NETWORK) {
    const message = `operation is not permitted on predefined ${spec.Name} network`
    throw new SwarmError('PERMISSION_DENIED', message)
  }
  assertName(spec)
  assertDriver(spec)
  assertOptions(spec)
  assertMtu(spec)
  assertRange(store, spec)
  if (store.find('networks', 'name', spec.Name).length > 0) {
    throw new SwarmError('ALREADY_EXISTS', `network with name ${spec.Name} already exists`)
  }
  return [{ type: 'create', table: 'networks', object: { id, spec } }]
}

/** Takes a network away. @throws FAILED_PRECONDITION with the names of who uses it */
export function removeNetwork(store: StoreView, network: Network): Action[] {
  const users = usersOf(store, network.id)
  if (users.length > 0) {
    const more =
      users.length > USERS_NAMED_MAX ? `, and ${users.length - USERS_NAMED_MAX} more` : ''
    const who = `${users.slice(0, USERS_NAMED_MAX).join(', ')}${more}`
    const message = `network ${network.spec.Name} is in use by ${who}`
    throw new SwarmError('FAILED_PRECONDITION', message)
  }
  return [removalOf(network)]
}

/** Takes away those of `networks` that nobody uses. */
export function pruneNetworks(store: StoreView, networks: readonly Network[]): readonly Network[] {
  return networks.filter((network) => usersOf(store, network.id).length === 0)
}

/** The action that takes a network away that nobody uses. */
export function removalOf(network: Network): Action {
  return { type: 'remove', table: 'networks', id: network.id, version: network.meta.version }
}

/** Users that a refusal names. */
const USERS_NAMED_MAX = 8

/** Services on the network, also those to come; and tasks that are still there without one. */
function usersOf(store: StoreView, id: string): string[] {
  const services = store.list('services').filter(({ endpoint, spec }) => {
    const wanted = attachmentsOf(store, spec)
    return uses(endpoint?.networks, id) || (typeof wanted !== 'string' && uses(wanted, id))
  })
  const known = new Set(services.map((service) => service.id))
  const tasks = store
    .list('tasks')
    .filter((task) => !known.has(task.serviceId) && !isTerminal(task.status.state))
    .filter((task) => uses(task.networks, id))
  return [
    ...services.map((service) => `service ${service.spec.Name} (${service.id})`).toSorted(),
    ...tasks.map((task) => `task ${task.id} of ${task.serviceName}`),
  ]
}

function uses(networks: readonly { networkId: string }[] | undefined, id: string): boolean {
  return (networks ?? []).some(({ networkId }) => networkId === id)
}

/** A name is also the end of its members' names. */
function assertName({ Name: name }: NetworkSpec): void {
  if (NAME.test(name)) return
  const rule = 'letters and digits, behind them also "_", "." and "-"'
  throw new SwarmError('INVALID_ARGUMENT', `network: invalid name "${name}", not ${rule}`)
}

function assertDriver(spec: NetworkSpec): void {
  const driver = driverOf({ spec })
  if (!NETWORK_DRIVERS.some((one) => one === driver)) {
    const known = NETWORK_DRIVERS.join(', ')
    const message = `network ${spec.Name}: unknown driver "${driver}", not one of ${known}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  assertManagement(spec)
  if (givesAddresses({ spec })) assertParent(spec)
}

function assertManagement(spec: NetworkSpec): void {
  const ipam = spec.IPAM?.Driver ?? ''
  if (ipam !== '' && ipam !== 'default') {
    const message = `network ${spec.Name}: address management driver "${ipam}" is not supported`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  if (Object.keys(spec.IPAM?.Options ?? {}).length > 0) {
    const message = `network ${spec.Name}: address management has no options`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
}

/** What a macvlan or ipvlan needs. */
function assertParent(spec: NetworkSpec): void {
  const driver = driverOf({ spec })
  if (spec.Internal === true) {
    const message = `network ${spec.Name}: ${driver} is the parent's network, it cannot be internal`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  if ((spec.Options?.['parent'] ?? '') === '') {
    const message = `network ${spec.Name}: ${driver} needs the option parent, a device of the nodes`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
  if (spec.IPAM?.Config?.[0]?.Subnet === undefined) {
    const message = `network ${spec.Name}: ${driver} needs a subnet, that of its parent's network`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
}

/** Options of each driver, and what they may be where that is known beforehand. */
const DRIVER_OPTIONS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  overlay: { [MTU_OPTION]: [] },
  bridge: { [MTU_OPTION]: [] },
  macvlan: {
    [MTU_OPTION]: [],
    parent: [],
    macvlan_mode: ['bridge', 'private', 'vepa', 'passthru'],
  },
  ipvlan: { [MTU_OPTION]: [], parent: [], ipvlan_mode: ['l2', 'l3', 'l3s'] },
}

/** An option that nobody would obey is refused: `encrypted`, above all. */
function assertOptions(spec: NetworkSpec): void {
  const driver = driverOf({ spec })
  const known = DRIVER_OPTIONS[driver] ?? {}
  for (const [option, value] of Object.entries(spec.Options ?? {})) {
    const values = known[option]
    if (values === undefined) {
      const names = Object.keys(known).join(', ')
      const message = `network ${spec.Name}: ${driver} has no option "${option}", only ${names}`
      throw new SwarmError('UNIMPLEMENTED', message)
    }
    if (values.length === 0 || values.includes(value)) continue
    const message = `network ${spec.Name}: ${option} "${value}" is none of ${values.join(', ')}`
    throw new SwarmError('INVALID_ARGUMENT', message)
  }
}

function assertMtu(spec: NetworkSpec): void {
  const text = spec.Options?.[MTU_OPTION]
  if (text === undefined) return
  const mtu = Number(text)
  if (Number.isInteger(mtu) && mtu >= MTU_MIN && mtu <= MTU_MAX) return
  const message = `network ${spec.Name}: MTU "${text}" is not between ${MTU_MIN} and ${MTU_MAX}`
  throw new SwarmError('INVALID_ARGUMENT', message)
}
