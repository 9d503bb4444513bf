/**
 * `skein service update` and `service rollback`: read the spec, change what the flags name, write
 * it back under the version that was read. Source: docker `service update`, in its behaviour.
 */
import type { Arguments } from '../arguments.ts'
import { changedSpec } from '../changed-spec.ts'
import { CommandError } from '../command.ts'
import type { Command, CommandContext } from '../command.ts'
import { parseNetworkAttachment } from '../network-attachment.ts'
import { waitForService } from '../progress.ts'
import { SERVICE_UPDATE_FLAGS } from '../service-flags.ts'
import { SwarmApi } from '../swarm-api.ts'
import type { ServiceJson } from '../swarm-api.ts'

/** Flags that say how the command behaves, not what the service becomes. */
const OWN_FLAGS: ReadonlySet<string> = new Set(['rollback', 'detach', 'quiet'])

/** `service update` */
export const update: Command = {
  usage: '[OPTIONS] SERVICE',
  short: 'Update a service',
  minimum: 1,
  maximum: 1,
  flags: SERVICE_UPDATE_FLAGS,
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const isRollback = given.flag('rollback')
    if (isRollback) refuseOthers(given)
    const service = await api.service(given.positionals[0] ?? '')
    if (isRollback) await api.rollBackService(service)
    else await change(context, { api, given, service })
    return finish(context, given, service)
  },
}

/** `service rollback` */
export const rollback: Command = {
  usage: '[OPTIONS] SERVICE',
  short: "Revert changes to a service's configuration",
  minimum: 1,
  maximum: 1,
  flags: SERVICE_UPDATE_FLAGS.filter(({ name }) => name === 'detach' || name === 'quiet'),
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const service = await api.service(given.positionals[0] ?? '')
    await api.rollBackService(service)
    return finish(context, given, service)
  },
}

/** @throws CommandError: a rollback takes the spec before, as it was */
function refuseOthers(given: Arguments): void {
  const other = SERVICE_UPDATE_FLAGS.find(({ name }) => !OWN_FLAGS.has(name) && given.has(name))
  if (other === undefined) return
  throw new CommandError(`other flags may not be combined with --rollback: --${other.name}`)
}

async function change(
  { environment }: CommandContext,
  about: { readonly api: SwarmApi; readonly given: Arguments; readonly service: ServiceJson },
): Promise<void> {
  const { api, given, service } = about
  const networkNames = await namesOfNetworks(api, given)
  await api.updateService(service, changedSpec(given, service.Spec, { environment, networkNames }))
}

/** Name and id of each network that the flags name. @throws ApiError: there is none */
async function namesOfNetworks(
  api: SwarmApi,
  given: Arguments,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const added = given.list('network-add').map((text) => parseNetworkAttachment(text).Target)
  const names = new Map<string, readonly string[]>()
  for (const name of [...added, ...given.list('network-rm')]) {
    const network = await api.network(name)
    names.set(name, [network.Name, network.Id])
  }
  return names
}

async function finish(
  context: CommandContext,
  given: Arguments,
  service: ServiceJson,
): Promise<number> {
  context.console.write(`${given.positionals[0]}\n`)
  if (given.flag('detach')) return 0
  return waitForService(context, service.ID, { quiet: given.flag('quiet') })
}
