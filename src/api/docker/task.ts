/** Tasks as Docker's API shows them. Source: recorded answers 256, 270, 351, 357, 359. */
import type { Task } from '../../store/objects.ts'
import { portJson } from './service.ts'
import { INGRESS_NAME } from './network.ts'

/** One element of `GET /tasks`. */
export function taskJson(task: Task): object {
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
    ...(task.address === undefined ? {} : { NetworksAttachments: [attachmentJson(task.address)] }),
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

function attachmentJson(address: string): object {
  return {
    Network: {
      Spec: { Name: INGRESS_NAME, Labels: {}, Ingress: true, Scope: 'swarm' },
      DriverState: { Name: 'overlay' },
    },
    Addresses: [`${address}/32`],
  }
}
