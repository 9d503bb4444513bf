/** `skein service create` */
import type { Command } from '../command.ts'
import { waitForService } from '../progress.ts'
import { SERVICE_FLAGS } from '../service-flags.ts'
import { serviceSpecOf } from '../service-spec.ts'
import { SwarmApi } from '../swarm-api.ts'

/** `service create` */
export const create: Command = {
  usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
  short: 'Create a new service',
  minimum: 1,
  flagsFirst: true,
  flags: SERVICE_FLAGS,
  async run(context, given) {
    const spec = serviceSpecOf(given, context.environment)
    const created = await new SwarmApi(context.client).createService(spec)
    for (const warning of created.Warnings ?? []) context.console.writeError(`${warning}\n`)
    context.console.write(`${created.ID}\n`)
    if (given.flag('detach')) return 0
    return waitForService(context, created.ID, { quiet: given.flag('quiet') })
  },
}
