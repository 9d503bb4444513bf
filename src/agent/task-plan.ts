/** From a task and its image to everything that an executor needs. */
import type { ReadyImage } from '../image/ports.ts'
import type { Network, Node, Service, Task } from '../store/objects.ts'
import { readinessOf } from './health/readiness.ts'
import { bridgeName, gatewayOf } from './networking.ts'
import type { ExtraInterface, TaskNetworking, TaskPlan } from './ports.ts'
import { expandTemplate } from './template.ts'
import type { TemplateValues } from './template.ts'

/** Digits of a task id that make the default host name: Docker shows as many of a container's. */
const HOSTNAME_DIGITS = 12

/** What is known around a task; node and service may be missing in a replica that is behind. */
export interface PlanInputs {
  readonly task: Task
  readonly image: ReadyImage
  readonly directory: string
  readonly node: Node | undefined
  readonly service: Service | undefined
  readonly networking: TaskNetworking | undefined
}

/** Makes the plan. @throws INVALID_ARGUMENT for a bad template */
export function makePlan(inputs: PlanInputs): TaskPlan {
  const { task, image, directory, networking } = inputs
  const values = templateValues(inputs)
  const expand = (text: string): string => expandTemplate(text, values)
  const container = task.spec.ContainerSpec
  const mounts = container.Mounts?.map((mount) =>
    mount.Source === undefined ? mount : { ...mount, Source: expand(mount.Source) },
  )
  const spec = {
    ...task.spec,
    ContainerSpec: mounts === undefined ? container : { ...container, Mounts: mounts },
  }
  const wanted = container.Hostname ?? ''
  const readiness = readinessOf(task, image.config)
  return {
    task: { ...task, spec },
    image,
    directory,
    hostname: wanted === '' ? task.id.slice(0, HOSTNAME_DIGITS) : expand(wanted),
    env: (container.Env ?? []).map(expand),
    ...(networking === undefined ? {} : { networking }),
    ...(readiness === undefined ? {} : { readiness }),
  }
}

/**
 * Where a task is on its node's bridge; undefined while it or its node has no address, and on the
 * network `none`.
 */
export function taskNetworking(
  task: Task,
  node: Node | undefined,
  about: {
    readonly nameservers: readonly string[]
    readonly networkOf: (id: string) => Network | undefined
  },
): TaskNetworking | undefined {
  if (task.address === undefined || node?.subnet === undefined) return undefined
  const attachments = task.networks ?? []
  if (attachments.some(({ networkId }) => networkId === NO_NETWORK)) return undefined
  const networks = attachments.flatMap(({ networkId, address }) => {
    const network = about.networkOf(networkId)
    return network === undefined ? [] : [{ network, address }]
  })
  const mtus = networks.flatMap(({ network }) => (isExtra(network) ? [] : mtuOf(network)))
  const extras = networks.flatMap(({ network, address }) => extraInterface(network, address))
  const prefix = node.subnet.split('/')[1] ?? '32'
  return {
    cidr: `${task.address}/${prefix}`,
    gateway: gatewayOf(node.subnet),
    bridge: bridgeName(node.id),
    nameservers: about.nameservers,
    ...(mtus.length === 0 ? {} : { mtu: Math.min(...mtus) }),
    ...(networks.some(({ network }) => isIpv6Overlay(network)) ? { hasIpv6: true } : {}),
    ...(extras.length === 0 ? {} : { extras }),
  }
}

const NO_NETWORK = 'none'
const HOST_NETWORK = 'host'
/** Whether the task is to use its node's own network stack. */
export function isOnHostNetwork(task: Pick<Task, 'networks'>): boolean {
  return (task.networks ?? []).some(({ networkId }) => networkId === HOST_NETWORK)
}

/** Docker's options of drivers. */
const MTU_OPTION = 'com.docker.network.driver.mtu'
/** Least that IPv4 works with (RFC 791). */
const MTU_MIN = 68

function isIpv6Overlay({ spec }: Network): boolean {
  const { Driver: driver = '' } = spec
  return spec.EnableIPv6 === true && (driver === '' || driver === 'overlay')
}

function mtuOf({ spec }: Network): number[] {
  const mtu = Number(spec.Options?.[MTU_OPTION])
  return Number.isInteger(mtu) && mtu >= MTU_MIN ? [mtu] : []
}

function extraInterface(network: Network, address: string | undefined): ExtraInterface[] {
  const { Driver: kind, Options: options } = network.spec
  if (!isExtra(network) || (kind !== 'macvlan' && kind !== 'ipvlan')) return []
  if (address === undefined || network.subnet === undefined) return []
  const mode = options?.[`${kind}_mode`]
  const cidr = `${address}/${network.subnet.split('/')[1] ?? '32'}`
  const [mtu] = mtuOf(network)
  const parent = options?.['parent'] ?? ''
  const asked = { ...(mode === undefined ? {} : { mode }), ...(mtu === undefined ? {} : { mtu }) }
  return [{ kind, parent, cidr, ...asked }]
}

/** Whether the network is a device of its own, with its own MTU. */
function isExtra({ spec }: Network): boolean {
  return spec.Driver === 'macvlan' || spec.Driver === 'ipvlan'
}

function templateValues(inputs: PlanInputs): TemplateValues {
  const { task, node, service } = inputs
  const slot = String(task.slot)
  return {
    service: {
      id: task.serviceId,
      name: task.serviceName,
      labels: service?.spec.Labels ?? {},
    },
    node: {
      id: task.nodeId,
      hostname: node?.description.hostname ?? '',
      os: node?.description.platform.os ?? '',
      architecture: node?.description.platform.architecture ?? '',
    },
    task: { id: task.id, name: `${task.serviceName}.${slot}.${task.id}`, slot },
  }
}
