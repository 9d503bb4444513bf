/**
 * What `service update` makes of a service's spec: what its flags name changes, the rest stays as
 * it was. Removals come before additions, so that one command replaces. Source: docker `service
 * update`, in its behaviour.
 */
import type {
  ContainerSpec,
  Labels,
  Placement,
  PortConfig,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from '../store/spec.ts'
import type { Arguments } from './arguments.ts'
import { CommandError } from './command.ts'
import { changedHealthcheck } from './healthcheck.ts'
import { parseMount } from './mount.ts'
import { parseNetworkAttachment } from './network-attachment.ts'
import { parsePublish } from './publish.ts'
import {
  containerSettings,
  endpointMode,
  environmentEntry,
  pairs,
  preferenceOf,
  resources,
  restartPolicy,
} from './service-parts.ts'
import type { Environment } from './service-parts.ts'
import { updateConfigOf } from './update-config.ts'

/** What the change needs to know besides the flags. */
export interface ChangeScene {
  readonly environment: Environment
  /** Every name that a network of `--network-rm` or `--network-add` goes by, by what was given. */
  readonly networkNames: ReadonlyMap<string, readonly string[]>
}

/** @throws CommandError */
export function changedSpec(
  given: Arguments,
  spec: ServiceSpec,
  { environment, networkNames }: ChangeScene,
): ServiceSpec {
  const { TaskTemplate: template } = spec
  const pace = changedPace(given, 'update', spec.UpdateConfig)
  const wayBack = changedPace(given, 'rollback', spec.RollbackConfig)
  return {
    ...spec,
    ...labelsMember(given, 'label', spec.Labels),
    TaskTemplate: {
      ...template,
      ContainerSpec: changedContainer(given, template.ContainerSpec, environment),
      ...resourcesMember(given, template),
      ...restartMember(given, template),
      ...placementMember(given, template.Placement),
      ...networksMember(given, template, networkNames),
      ForceUpdate: (template.ForceUpdate ?? 0) + (given.flag('force') ? 1 : 0),
    },
    ...modeMember(given, spec),
    ...endpointMember(given, spec),
    ...(pace === undefined ? {} : { UpdateConfig: pace }),
    ...(wayBack === undefined ? {} : { RollbackConfig: wayBack }),
  }
}

/** Undefined when no flag says anything of it. */
function changedPace(
  given: Arguments,
  kind: 'update' | 'rollback',
  before: UpdateConfig | undefined,
): UpdateConfig | undefined {
  const asked = updateConfigOf(given, kind)
  if (asked === undefined || before === undefined) return asked
  const { Parallelism: parallelism, ...change } = asked
  const isChosen = given.has(`${kind}-parallelism`) && parallelism !== undefined
  return { ...before, ...change, ...(isChosen ? { Parallelism: parallelism } : {}) }
}

function changedContainer(
  given: Arguments,
  container: ContainerSpec,
  environment: Environment,
): ContainerSpec {
  const image = given.text('image')
  const args = given.text('args')
  const { Healthcheck: before, ...rest } = container
  const check = changedHealthcheck(given, before)
  return {
    ...rest,
    ...(image === undefined ? {} : { Image: image }),
    ...(args === undefined ? {} : { Args: args.split(/\s+/).filter((word) => word !== '') }),
    ...containerSettings(given),
    ...labelsMember(given, 'container-label', container.Labels),
    ...envMember(given, container.Env ?? [], environment),
    ...mountsMember(given, container.Mounts ?? []),
    ...capabilitiesMember(given, container),
    ...(check === undefined ? {} : { Healthcheck: check }),
  }
}

function labelsMember(
  given: Arguments,
  flag: 'label' | 'container-label',
  before: Labels | undefined,
): { readonly Labels?: Labels } {
  const added = pairs(given.list(`${flag}-add`))
  const gone = new Set(given.list(`${flag}-rm`))
  if (gone.size === 0 && Object.keys(added).length === 0) return {}
  const kept = Object.entries(before ?? {}).filter(([key]) => !gone.has(key))
  return { Labels: { ...Object.fromEntries(kept), ...added } }
}

function envMember(
  given: Arguments,
  before: readonly string[],
  environment: Environment,
): Pick<ContainerSpec, 'Env'> {
  const added = given.list('env-add').flatMap((text) => environmentEntry(text, environment))
  const gone = new Set([...given.list('env-rm'), ...added.map(nameOf)])
  if (gone.size === 0) return {}
  return { Env: [...before.filter((entry) => !gone.has(nameOf(entry))), ...added] }
}

function nameOf(entry: string): string {
  return entry.split('=')[0] ?? ''
}

/** Of two mounts on one target the one that is added counts. */
function mountsMember(
  given: Arguments,
  before: NonNullable<ContainerSpec['Mounts']>,
): Pick<ContainerSpec, 'Mounts'> {
  const added = given.list('mount-add').map(parseMount)
  const gone = new Set([...given.list('mount-rm'), ...added.map(({ Target: target }) => target)])
  if (gone.size === 0) return {}
  return { Mounts: [...before.filter(({ Target: target }) => !gone.has(target)), ...added] }
}

/** What is added is dropped no longer, and the other way round. */
function capabilitiesMember(
  given: Arguments,
  container: ContainerSpec,
): Pick<ContainerSpec, 'CapabilityAdd' | 'CapabilityDrop'> {
  const added = given.list('cap-add')
  const dropped = given.list('cap-drop')
  if (added.length + dropped.length === 0) return {}
  const { CapabilityAdd: addedBefore = [], CapabilityDrop: droppedBefore = [] } = container
  return {
    CapabilityAdd: merged(addedBefore, added, dropped),
    CapabilityDrop: merged(droppedBefore, dropped, added),
  }
}

function merged(
  before: readonly string[],
  more: readonly string[],
  less: readonly string[],
): readonly string[] {
  return [...new Set([...before, ...more])].filter((name) => !less.includes(name))
}

function resourcesMember(given: Arguments, template: TaskSpec): Pick<TaskSpec, 'Resources'> {
  const limits = resources(given, 'limit')
  const reservations = resources(given, 'reserve')
  if (Object.keys({ ...limits, ...reservations }).length === 0) return {}
  const { Resources: before } = template
  return {
    Resources: {
      ...before,
      Limits: { ...before?.Limits, ...limits },
      Reservations: { ...before?.Reservations, ...reservations },
    },
  }
}

function restartMember(given: Arguments, template: TaskSpec): Pick<TaskSpec, 'RestartPolicy'> {
  const change = restartPolicy(given)
  if (Object.keys(change).length === 0) return {}
  return { RestartPolicy: { ...template.RestartPolicy, ...change } }
}

function placementMember(given: Arguments, before: Placement = {}): Pick<TaskSpec, 'Placement'> {
  const constraints = changedList(before.Constraints ?? [], {
    added: given.list('constraint-add'),
    gone: given.list('constraint-rm'),
  })
  const preferences = changedList(before.Preferences ?? [], {
    added: given.list('placement-pref-add').map(preferenceOf),
    gone: given.list('placement-pref-rm').map(preferenceOf),
  })
  const most = given.number('replicas-max-per-node', 'uint')
  if (constraints === undefined && preferences === undefined && most === undefined) return {}
  return {
    Placement: {
      ...before,
      ...(constraints === undefined ? {} : { Constraints: constraints }),
      ...(preferences === undefined ? {} : { Preferences: preferences }),
      ...(most === undefined ? {} : { MaxReplicas: most }),
    },
  }
}

/** Undefined when nothing is to change. Values are compared by their content. */
function changedList<T>(
  before: readonly T[],
  change: { readonly added: readonly T[]; readonly gone: readonly T[] },
): readonly T[] | undefined {
  const { added, gone } = change
  if (added.length + gone.length === 0) return undefined
  const leaving = new Set([...gone, ...added].map((one) => JSON.stringify(one)))
  return [...before.filter((one) => !leaving.has(JSON.stringify(one))), ...added]
}

/** A spec names a network by its name or its id. */
function networksMember(
  given: Arguments,
  template: TaskSpec,
  networkNames: ChangeScene['networkNames'],
): Pick<TaskSpec, 'Networks'> {
  const added = given.list('network-add').map(parseNetworkAttachment)
  const removed = given.list('network-rm')
  if (added.length + removed.length === 0) return {}
  const leaving = new Set(
    [...removed, ...added.map(({ Target: target }) => target)].flatMap((name) => [
      name,
      ...(networkNames.get(name) ?? []),
    ]),
  )
  const before = template.Networks ?? []
  return { Networks: [...before.filter(({ Target: target }) => !leaving.has(target)), ...added] }
}

function endpointMember(given: Arguments, spec: ServiceSpec): Pick<ServiceSpec, 'EndpointSpec'> {
  const mode = endpointMode(given)
  const added = given.list('publish-add').flatMap(parsePublish)
  const removed = given.list('publish-rm').flatMap(parsePublish)
  if (mode === undefined && added.length + removed.length === 0) return {}
  const before = spec.EndpointSpec?.Ports ?? []
  const kept = before.filter(
    (port) =>
      !removed.some((gone) => sameTarget(port, gone)) &&
      !added.some((more) => samePublished(port, more)),
  )
  return {
    EndpointSpec: {
      ...spec.EndpointSpec,
      ...(mode === undefined ? {} : { Mode: mode }),
      Ports: [...kept, ...added],
    },
  }
}

function sameTarget(one: PortConfig, other: PortConfig): boolean {
  return one.TargetPort === other.TargetPort && protocolOf(one) === protocolOf(other)
}

/** One published port leads to one target: the one that was asked for last. */
function samePublished(one: PortConfig, other: PortConfig): boolean {
  return (
    one.PublishedPort !== undefined &&
    one.PublishedPort !== 0 &&
    one.PublishedPort === other.PublishedPort &&
    protocolOf(one) === protocolOf(other)
  )
}

function protocolOf({ Protocol: protocol = 'tcp' }: PortConfig): string {
  return protocol
}

/** @throws CommandError for a service without replicas */
function modeMember(given: Arguments, spec: ServiceSpec): Pick<ServiceSpec, 'Mode'> {
  const replicas = given.number('replicas', 'uint')
  if (replicas === undefined) return {}
  if (spec.Mode?.Replicated === undefined) {
    throw new CommandError('replicas can only be used with replicated or replicated-job mode')
  }
  return { Mode: { Replicated: { ...spec.Mode.Replicated, Replicas: replicas } } }
}
