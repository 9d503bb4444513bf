/** From a task and its image to everything that an executor needs. */
import type { ReadyImage } from '../image/ports.ts'
import type { Node, Service, Task } from '../store/objects.ts'
import { bridgeName, gatewayOf } from './networking.ts'
import type { TaskNetworking, TaskPlan } from './ports.ts'
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
  return {
    task: { ...task, spec },
    image,
    directory,
    hostname: wanted === '' ? task.id.slice(0, HOSTNAME_DIGITS) : expand(wanted),
    env: (container.Env ?? []).map(expand),
    ...(networking === undefined ? {} : { networking }),
  }
}

/** Where a task is on its node's bridge; undefined while it or its node has no address. */
export function taskNetworking(
  task: Task,
  node: Node | undefined,
  nameservers: readonly string[],
): TaskNetworking | undefined {
  if (task.address === undefined || node?.subnet === undefined) return undefined
  const prefix = node.subnet.split('/')[1] ?? '32'
  return {
    cidr: `${task.address}/${prefix}`,
    gateway: gatewayOf(node.subnet),
    bridge: bridgeName(node.id),
    nameservers,
  }
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
