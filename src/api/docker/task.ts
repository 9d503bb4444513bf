/** Tasks as Docker's API shows them. Source: recorded answers 256, 270, 351, 357, 359. */
import type { Task } from '../../store/objects.ts'
import { INGRESS_NETWORK } from '../../control/network-commands.ts'
import { driverOf } from '../../control/networks.ts'
import { hasIpv6, isIpv6Network } from '../../store/ipv6.ts'
import type { StoreView } from '../../store/view.ts'
import { ipv6WithPrefix, portJson, withPrefix } from './service.ts'

/** One element of `GET /tasks`. */
export function taskJson(task: Task, store: StoreView): object {
  const places = placesOf(task, store)
  return {
    ID: task.id,
    Version: { Index: task.meta.version },
    CreatedAt: task.meta.createdAt,
    UpdatedAt: task.meta.updatedAt,
    Labels: {},
    Spec: task.spec,
    ServiceID: task.serviceId,
    ...(task.slot > 0 ? { Slot: task.slot } : {}),
    ...(task.nodeId === '' ? {} : { NodeID: task.nodeId }),
    Status: statusJson(task),
    DesiredState: task.desiredState,
    ...(places.length === 0 ? {} : { NetworksAttachments: places.map(attachmentJson) }),
  }
}

function statusJson(task: Task): object {
  const { status } = task
  const hostPorts = task.ports.filter((port) => port.publishMode === 'host')
  return {
    Timestamp: status.timestamp,
    State: status.state,
    Message: status.message,
    ...(status.err === undefined ? {} : { Err: status.err }),
    ...(status.container === undefined
      ? {}
      : {
          ContainerStatus: {
            ContainerID: status.container.id,
            PID: status.container.pid,
            ExitCode: status.container.exitCode ?? 0,
          },
        }),
    PortStatus: hostPorts.length === 0 ? {} : { Ports: hostPorts.map(portJson) },
  }
}

/** A network that a task is on. */
interface Place {
  /** Absent: published ports, on no network that users made. */
  readonly id?: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly driver: string
  /** `10.0.1.5/24`; that of IPv6 behind it. */
  readonly addresses: readonly string[]
}

/**
 * The task's networks with its addresses there: the same on all but those with their own, and one
 * of IPv6 where the network has it.
 */
function placesOf(task: Task, store: StoreView): Place[] {
  const { address } = task
  if (address === undefined) return []
  const ipv6 = hasIpv6(store, task) ? ipv6WithPrefix(address, undefined, store) : []
  const own = (task.networks ?? []).flatMap((attachment): Place[] => {
    const network = store.get('networks', attachment.networkId)
    if (network === undefined) return []
    const found = attachment.address
    const shown = found === undefined ? `${address}/32` : withPrefix(found, network)
    const { Name: name, Labels: labels = {} } = network.spec
    const addresses = isIpv6Network(network) ? [shown, ...ipv6] : [shown]
    return [{ id: network.id, name, labels, driver: driverOf(network), addresses }]
  })
  const published = task.ports.some((port) => port.publishMode === 'ingress')
  if (own.length > 0 && !published) return own
  const ingress = { name: INGRESS_NETWORK, labels: {}, driver: 'overlay' }
  return [...own, { ...ingress, addresses: [`${address}/32`, ...ipv6] }]
}

function attachmentJson({ id, name, labels, driver, addresses }: Place): object {
  const identity = id === undefined ? {} : { ID: id }
  const ingress = id === undefined ? { Ingress: true } : {}
  const Spec = { Name: name, Labels: labels, ...ingress, Scope: 'swarm' }
  return { Network: { ...identity, Spec, DriverState: { Name: driver } }, Addresses: addresses }
}

/** The networks of a task's container by name, as `GET /containers/json` has them. */
export function containerNetworks(task: Task, store: StoreView): Readonly<Record<string, object>> {
  return Object.fromEntries(
    placesOf(task, store).map(({ id = '', name, addresses }) => {
      const [ipv4 = '', ipv4Bits = '0'] = addresses[0]?.split('/') ?? []
      const [ipv6 = '', ipv6Bits = '0'] = addresses[1]?.split('/') ?? []
      const endpoint = {
        NetworkID: id,
        IPAddress: ipv4,
        IPPrefixLen: Number(ipv4Bits),
        GlobalIPv6Address: ipv6,
        GlobalIPv6PrefixLen: Number(ipv6Bits),
      }
      return [name, endpoint]
    }),
  )
}
