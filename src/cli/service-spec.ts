/**
 * From the flags of `service create` to the spec that is sent, in the shape that docker's client
 * sends.
 */
import type {
  ContainerSpec,
  Placement,
  ResourceSpec,
  RestartPolicy,
  ServiceSpec,
  TaskSpec,
} from '../store/spec.ts'
import type { Arguments } from './arguments.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'
import { healthcheckMember } from './healthcheck.ts'
import { parseMount } from './mount.ts'
import { parseNetworkAttachment } from './network-attachment.ts'
import { parsePublish } from './publish.ts'
import { updateConfigOf } from './update-config.ts'

/** Environment of the client: `--env NAME` without a value takes it from there. */
type Environment = Readonly<Record<string, string | undefined>>

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
    EndpointSpec: { Mode: endpointMode(given), ...(ports.length === 0 ? {} : { Ports: ports }) },
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
  const grace = given.number('stop-grace-period', 'duration')
  return {
    Image: image,
    ...(args.length === 0 ? {} : { Args: args }),
    ...listMember('Env', env),
    ...(mounts.length === 0 ? {} : { Mounts: mounts }),
    ...(given.has('container-label') ? { Labels: pairs(given.list('container-label')) } : {}),
    ...textMember('Hostname', given.text('hostname')),
    ...textMember('User', given.text('user')),
    ...textMember('Dir', given.text('workdir')),
    ...textMember('StopSignal', given.text('stop-signal')),
    ...(given.has('entrypoint') ? { Command: words(given.text('entrypoint') ?? '') } : {}),
    ...(grace === undefined ? {} : { StopGracePeriod: grace }),
    ...healthcheckMember(given),
    ...(given.flag('init') ? { Init: true } : {}),
    ...(given.flag('read-only') ? { ReadOnly: true } : {}),
    ...(given.flag('tty') ? { TTY: true } : {}),
    ...listMember('CapabilityAdd', given.list('cap-add')),
    ...listMember('CapabilityDrop', given.list('cap-drop')),
  }
}

/** @throws CommandError */
function endpointMode(given: Arguments): 'vip' | 'dnsrr' {
  const mode = given.text('endpoint-mode') ?? 'vip'
  if (mode === 'vip' || mode === 'dnsrr') return mode
  throw new CommandError(
    `invalid argument "${mode}" for "--endpoint-mode" flag: none of vip, dnsrr`,
    { exitCode: EXIT_WRONG_FLAG, showUsage: true },
  )
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

function resources(given: Arguments, kind: 'limit' | 'reserve'): ResourceSpec {
  const cpus = given.number(`${kind}-cpu`, 'decimal')
  const memory = given.number(`${kind}-memory`, 'bytes')
  const pids = kind === 'limit' ? given.number('limit-pids', 'uint') : undefined
  return {
    ...(cpus === undefined ? {} : { NanoCPUs: cpus }),
    ...(memory === undefined ? {} : { MemoryBytes: memory }),
    ...(pids === undefined ? {} : { Pids: pids }),
  }
}

function restartPolicy(given: Arguments): RestartPolicy {
  const condition = given.text('restart-condition')
  const delay = given.number('restart-delay', 'duration')
  const attempts = given.number('restart-max-attempts', 'uint')
  const window = given.number('restart-window', 'duration')
  return {
    ...(condition === undefined ? {} : { Condition: restartCondition(condition) }),
    ...(delay === undefined ? {} : { Delay: delay }),
    ...(attempts === undefined ? {} : { MaxAttempts: attempts }),
    ...(window === undefined ? {} : { Window: window }),
  }
}

function restartCondition(text: string): 'none' | 'on-failure' | 'any' {
  if (text === 'none' || text === 'on-failure' || text === 'any') return text
  throw new CommandError(
    `invalid argument "${text}" for "--restart-condition" flag: none of none, on-failure, any`,
    { exitCode: EXIT_WRONG_FLAG, showUsage: true },
  )
}

function placement(given: Arguments): Placement {
  const constraints = given.list('constraint')
  const preferences = given.list('placement-pref').map((text) => {
    const descriptor = /^spread=(.+)$/.exec(text)?.[1]
    if (descriptor === undefined) {
      throw new CommandError(
        `unsupported placement preference "${text}" (only spread is supported)`,
      )
    }
    return { Spread: { SpreadDescriptor: descriptor } }
  })
  const most = given.number('replicas-max-per-node', 'uint')
  return {
    ...(constraints.length === 0 ? {} : { Constraints: constraints }),
    ...(preferences.length === 0 ? {} : { Preferences: preferences }),
    ...(most === undefined ? {} : { MaxReplicas: most }),
  }
}

/** `NAME=value` as it is; `NAME` with the client's own value, or not at all. */
function environmentEntry(text: string, environment: Environment): string[] {
  if (text.includes('=')) return [text]
  const value = environment[text]
  return value === undefined ? [] : [`${text}=${value}`]
}

function pairs(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [key = '', ...value] = text.split('=')
      return [key, value.join('=')]
    }),
  )
}

/** Splits a command as a shell would: quotes and backslashes keep spaces. */
function words(text: string): string[] {
  const found = text.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|((?:[^\s"'\\]|\\.)+)/gs)
  return Array.from(
    found,
    ([, double, single, bare]) => single ?? (double ?? bare ?? '').replaceAll(/\\(.)/gs, '$1'),
  )
}

function textMember<K extends string>(name: K, value: string | undefined): { [P in K]?: string } {
  return (value === undefined ? {} : { [name]: value }) as { [P in K]?: string }
}

function listMember<K extends string>(
  name: K,
  values: readonly string[],
): { [P in K]?: readonly string[] } {
  return (values.length === 0 ? {} : { [name]: values }) as { [P in K]?: readonly string[] }
}
