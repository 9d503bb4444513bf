/**
 * `skein service update`: reads the spec, changes what the flags name, writes it back under the
 * version that was read. Source: docker `service update`, in its behaviour.
 */
import type { ContainerSpec, ServiceSpec, UpdateConfig } from '../../store/spec.ts'
import type { Arguments } from '../arguments.ts'
import { CommandError } from '../command.ts'
import type { Command, Flag } from '../command.ts'
import { changedHealthcheck } from '../healthcheck.ts'
import { waitForService } from '../progress.ts'
import { SERVICE_FLAGS } from '../service-flags.ts'
import { SwarmApi } from '../swarm-api.ts'
import { updateConfigOf } from '../update-config.ts'

/** Flags of `service create` that mean the same here. */
const SHARED = /^(update|rollback|health)-|^no-healthcheck$|^replicas$|^detach$|^quiet$/

const FLAGS: readonly Flag[] = [
  { name: 'image', kind: 'string', help: 'Service image tag' },
  { name: 'args', kind: 'string', value: 'command', help: 'Service command args' },
  { name: 'env-add', kind: 'list', help: 'Add or update an environment variable' },
  { name: 'env-rm', kind: 'list', help: 'Remove an environment variable' },
  { name: 'force', kind: 'boolean', help: 'Force update even if no changes require it' },
  ...SERVICE_FLAGS.filter(({ name }) => SHARED.test(name)),
]

/** `service update` */
export const update: Command = {
  usage: '[OPTIONS] SERVICE',
  short: 'Update a service',
  minimum: 1,
  flags: FLAGS,
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const service = await api.service(given.positionals[0] ?? '')
    await api.updateService(service, changedSpec(given, service.Spec))
    context.console.write(`${given.positionals[0]}\n`)
    if (given.flag('detach')) return 0
    return waitForService(context, service.ID, { quiet: given.flag('quiet') })
  },
}

/** @throws CommandError */
function changedSpec(given: Arguments, spec: ServiceSpec): ServiceSpec {
  const { TaskTemplate: template } = spec
  const pace = changedPace(given, 'update', spec.UpdateConfig)
  const wayBack = changedPace(given, 'rollback', spec.RollbackConfig)
  const force = (template.ForceUpdate ?? 0) + (given.flag('force') ? 1 : 0)
  return {
    ...spec,
    TaskTemplate: {
      ...template,
      ContainerSpec: changedContainer(given, template.ContainerSpec),
      ForceUpdate: force,
    },
    ...modeMember(given, spec),
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

function changedContainer(given: Arguments, container: ContainerSpec): ContainerSpec {
  const image = given.text('image')
  const args = given.text('args')
  const { Healthcheck: before, ...rest } = container
  const check = changedHealthcheck(given, before)
  return {
    ...rest,
    ...(image === undefined ? {} : { Image: image }),
    ...(args === undefined ? {} : { Args: args.split(/\s+/).filter((word) => word !== '') }),
    ...envMember(given, container.Env ?? []),
    ...(check === undefined ? {} : { Healthcheck: check }),
  }
}

function envMember(given: Arguments, before: readonly string[]): Pick<ContainerSpec, 'Env'> {
  const added = given.list('env-add')
  const gone = new Set([...given.list('env-rm'), ...added.map(nameOf)])
  if (gone.size === 0) return {}
  return { Env: [...before.filter((entry) => !gone.has(nameOf(entry))), ...added] }
}

function nameOf(entry: string): string {
  return entry.split('=')[0] ?? ''
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
