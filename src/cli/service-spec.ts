/**
 * From the flags of `service create` to the spec that is sent, in the shape that docker's client
 * sends.
 */
import type { ContainerSpec, Placement, ServiceSpec, TaskSpec } from '../store/spec.ts'
import type { Arguments } from './arguments.ts'
import { CommandError } from './command.ts'
import { healthcheckMember } from './healthcheck.ts'
import { parseMount } from './mount.ts'
import { parseNetworkAttachment } from './network-attachment.ts'
import { parsePublish } from './publish.ts'
import {
  containerSettings,
  endpointMode,
  environmentEntry,
  listMember,
  pairs,
  preferenceOf,
  resources,
  restartPolicy,
} from './service-parts.ts'
import type { Environment } from './service-parts.ts'
import { updateConfigOf } from './update-config.ts'

/** @throws CommandError */
export function serviceSpecOf(given: Arguments, environment: Environment): ServiceSpec {
  const ports = given.list('publish').flatMap(parsePublish)
  const update = updateConfigOf(given, 'update')
  const rollback = updateConfigOf(given, 'rollback')
  return {
    Name: given.text('name') ?? '',
    Labels: pairs(given.list('label')),
    TaskTemplate: taskTemplate(given, environment),
    Mode: modeOf(given),
    ...(update === undefined ? {} : { UpdateConfig: update }),
    ...(rollback === undefined ? {} : { RollbackConfig: rollback }),
    EndpointSpec: {
      Mode: endpointMode(given) ?? 'vip',
      ...(ports.length === 0 ? {} : { Ports: ports }),
    },
  }
}

function taskTemplate(given: Arguments, environment: Environment): TaskSpec {
  const restart = restartPolicy(given)
  return {
    ContainerSpec: containerSpec(given, environment),
    Resources: {
      Limits: resources(given, 'limit'),
      Reservations: resources(given, 'reserve'),
    },
    ...(Object.keys(restart).length === 0 ? {} : { RestartPolicy: restart }),
    Placement: placement(given),
    ...networksMember(given),
    ForceUpdate: 0,
    Runtime: 'container',
  }
}

function containerSpec(given: Arguments, environment: Environment): ContainerSpec {
  const [image = '', ...args] = given.positionals
  const env = given.list('env').flatMap((text) => environmentEntry(text, environment))
  const mounts = given.list('mount').map(parseMount)
  return {
    Image: image,
    ...(args.length === 0 ? {} : { Args: args }),
    ...listMember('Env', env),
    ...(mounts.length === 0 ? {} : { Mounts: mounts }),
    ...(given.has('container-label') ? { Labels: pairs(given.list('container-label')) } : {}),
    ...containerSettings(given),
    ...healthcheckMember(given),
    ...listMember('CapabilityAdd', given.list('cap-add')),
    ...listMember('CapabilityDrop', given.list('cap-drop')),
  }
}

function networksMember(given: Arguments): Pick<TaskSpec, 'Networks'> {
  const networks = given.list('network').map(parseNetworkAttachment)
  return networks.length === 0 ? {} : { Networks: networks }
}

/** @throws CommandError for a mode that docker does not have, or replicas of a global service */
function modeOf(given: Arguments): NonNullable<ServiceSpec['Mode']> {
  const replicas = given.number('replicas', 'uint')
  const mode = given.text('mode') ?? 'replicated'
  switch (mode) {
    case 'replicated':
      return { Replicated: { Replicas: replicas ?? 1 } }
    case 'global':
      if (replicas !== undefined) {
        throw new CommandError('replicas can only be used with replicated or replicated-job mode')
      }
      return { Global: {} }
    case 'replicated-job':
      return { ReplicatedJob: { MaxConcurrent: replicas ?? 1, TotalCompletions: replicas ?? 1 } }
    case 'global-job':
      return { GlobalJob: {} }
    default:
      throw new CommandError(`Unknown mode: ${mode}, only replicated and global supported`)
  }
}

function placement(given: Arguments): Placement {
  const constraints = given.list('constraint')
  const preferences = given.list('placement-pref').map(preferenceOf)
  const most = given.number('replicas-max-per-node', 'uint')
  return {
    ...(constraints.length === 0 ? {} : { Constraints: constraints }),
    ...(preferences.length === 0 ? {} : { Preferences: preferences }),
    ...(most === undefined ? {} : { MaxReplicas: most }),
  }
}
