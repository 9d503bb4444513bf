/** Tasks as Docker's API shows them. Source: recorded answers 256, 270, 351, 357, 359. */
import type { Task } from '../../store/objects.ts'
import { INGRESS_NETWORK } from '../../control/network-commands.ts'
import { driverOf } from '../../control/networks.ts'
import { hasIpv6, isIpv6Network } from '../../store/ipv6.ts'
import type { StoreView } from '../../store/view.ts'
import { ipv6WithPrefix, portJson, withPrefix } from './service.ts'

/** One element of `GET /tasks`. */
export function taskJson(task: Task, store: StoreView): object {
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
    ...(task.address === undefined ? {} : { NetworksAttachments: attachments(task, store) }),
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

/**
 * The task's networks with its addresses there: the same on all but those with their own, and one
 * of IPv6 where the network has it.
 */
function attachments(task: Task, store: StoreView): object[] {
  const address = task.address ?? ''
  const ipv6 = hasIpv6(store, task) ? ipv6WithPrefix(address, undefined, store) : []
  const own = (task.networks ?? []).flatMap((attachment) => {
    const network = store.get('networks', attachment.networkId)
    if (network === undefined) return []
    const found = attachment.address
    const shown = found === undefined ? `${address}/32` : withPrefix(found, network)
    const { Name, Labels = {} } = network.spec
    const spec = { Name, Labels, Scope: 'swarm' }
    const addresses = isIpv6Network(network) ? [shown, ...ipv6] : [shown]
    return [attachmentJson({ ID: network.id, Spec: spec }, driverOf(network), addresses)]
  })
  const published = task.ports.some((port) => port.publishMode === 'ingress')
  if (own.length > 0 && !published) return own
  const spec = { Name: INGRESS_NETWORK, Labels: {}, Ingress: true, Scope: 'swarm' }
  return [...own, attachmentJson({ Spec: spec }, 'overlay', [`${address}/32`, ...ipv6])]
}

function attachmentJson(network: object, driver: string, addresses: readonly string[]): object {
  return { Network: { ...network, DriverState: { Name: driver } }, Addresses: addresses }
}
