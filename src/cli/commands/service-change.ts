/** `skein service scale` and `skein service rm` */
import { CommandError } from '../command.ts'
import type { Command, CommandContext } from '../command.ts'
import { ApiError } from '../connection.ts'
import { waitForService } from '../progress.ts'
import { parseUint } from '../quantity.ts'
import { SwarmApi } from '../swarm-api.ts'
import { forEach } from './each.ts'

/** `service rm` */
export const remove: Command = {
  usage: 'SERVICE [SERVICE...]',
  short: 'Remove one or more services',
  minimum: 1,
  flags: [],
  run: (context, given) =>
    forEach(context, given.positionals, async (reference) => {
      await context.client.call('DELETE', `/services/${encodeURIComponent(reference)}`)
      return reference
    }),
}

/** `service scale` */
export const scale: Command = {
  usage: 'SERVICE=REPLICAS [SERVICE=REPLICAS...]',
  short: 'Scale one or multiple replicated services',
  minimum: 1,
  flags: [
    {
      name: 'detach',
      short: 'd',
      kind: 'boolean',
      help: 'Exit immediately instead of waiting for the service to converge',
    },
  ],
  async run(context, given) {
    const wanted = given.positionals.map(scaleSpecifier)
    const ids: string[] = []
    let exitCode = 0
    for (const { name, replicas } of wanted) {
      try {
        ids.push(await scaleOne(context, name, replicas))
        context.console.write(`${name} scaled to ${replicas}\n`)
      } catch (error) {
        if (!(error instanceof ApiError) && !(error instanceof CommandError)) throw error
        const who = error instanceof ApiError ? 'Error response from daemon: ' : ''
        context.console.writeError(`${name}: ${who}${error.message}\n`)
        exitCode = 1
      }
    }
    if (given.flag('detach')) return exitCode
    for (const id of ids) exitCode = Math.max(exitCode, await waitForService(context, id))
    return exitCode
  },
}

async function scaleOne(context: CommandContext, name: string, replicas: number): Promise<string> {
  const api = new SwarmApi(context.client)
  const service = await api.service(name)
  const mode = service.Spec.Mode ?? {}
  if (mode.Global !== undefined || mode.GlobalJob !== undefined) {
    throw new CommandError('scale can only be used with replicated or replicated-job mode')
  }
  const job = mode.ReplicatedJob
  const scaled =
    job === undefined
      ? { Replicated: { ...mode.Replicated, Replicas: replicas } }
      : { ReplicatedJob: { ...job, TotalCompletions: replicas } }
  await api.updateService(service, { ...service.Spec, Mode: scaled })
  return service.ID
}

/** @throws CommandError in docker's words */
function scaleSpecifier(text: string): { readonly name: string; readonly replicas: number } {
  const separator = text.indexOf('=')
  if (separator < 1) {
    throw new CommandError(`invalid scale specifier '${text}'.\nSee 'skein service scale --help'.`)
  }
  const name = text.slice(0, separator)
  const replicas = parseUint(text.slice(separator + 1))
  if (Number.isNaN(replicas)) {
    throw new CommandError(`${name}: invalid replicas value ${text.slice(separator + 1)}`)
  }
  return { name, replicas }
}
