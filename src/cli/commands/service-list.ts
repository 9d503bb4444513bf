/** `skein service ls` and `skein service inspect` */
import { FILTER_FLAG, FORMAT_FLAG, NO_TRUNC_FLAG, QUIET_FLAG } from '../command.ts'
import type { Command } from '../command.ts'
import { filtersOf } from '../filters.ts'
import { byName, imageText, shortId } from '../human.ts'
import { portsText } from '../ports-text.ts'
import { SwarmApi, filterQuery } from '../swarm-api.ts'
import type { ServiceJson } from '../swarm-api.ts'
import { printRows } from '../table.ts'
import type { Row } from '../table.ts'
import { INSPECT_FLAGS, inspectAll } from './inspect.ts'

/** `service ls` */
export const list: Command = {
  usage: '[OPTIONS]',
  short: 'List services',
  minimum: 0,
  maximum: 0,
  flags: [FILTER_FLAG, FORMAT_FLAG, NO_TRUNC_FLAG, QUIET_FLAG],
  async run(context, given) {
    const query = { ...filterQuery(filtersOf(given)), status: 'true' }
    const services = await new SwarmApi(context.client).services(query)
    const sorted = services.toSorted((a, b) => byName(a.Spec.Name, b.Spec.Name))
    const full = given.flag('no-trunc')
    printRows(
      context,
      sorted.map((service) => serviceRow(service, { full })),
      {
        given,
        identifier: 'ID',
        columns: [
          ['ID', 'ID'],
          ['NAME', 'Name'],
          ['MODE', 'Mode'],
          ['REPLICAS', 'Replicas'],
          ['IMAGE', 'Image'],
          ['PORTS', 'Ports'],
        ],
      },
    )
    return 0
  },
}

/** `service inspect` */
export const inspect: Command = {
  usage: '[OPTIONS] SERVICE [SERVICE...]',
  short: 'Display detailed information on one or more services',
  minimum: 1,
  flags: INSPECT_FLAGS,
  run(context, given) {
    const api = new SwarmApi(context.client)
    return inspectAll(context, given, {
      load: (reference) => api.service(reference, { insertDefaults: 'true' }),
      missing: (reference) => `Error: no such service: ${reference}`,
    })
  },
}

function serviceRow(service: ServiceJson, { full }: { readonly full: boolean }): Row {
  const image = service.Spec.TaskTemplate.ContainerSpec.Image
  return {
    ID: full ? service.ID : shortId(service.ID),
    Image: full ? image : imageText(image),
    Mode: modeText(service),
    Name: service.Spec.Name,
    Ports: portsText(service.Endpoint.Ports, 'ingress'),
    Replicas: replicasText(service),
  }
}

function modeText(service: ServiceJson): string {
  const mode = service.Spec.Mode ?? {}
  if (mode.Global !== undefined) return 'global'
  if (mode.ReplicatedJob !== undefined) return 'replicated job'
  return mode.GlobalJob === undefined ? 'replicated' : 'global job'
}

function replicasText(service: ServiceJson): string {
  const status = service.ServiceStatus
  const text = `${status?.RunningTasks ?? 0}/${status?.DesiredTasks ?? 0}`
  const most = service.Spec.TaskTemplate.Placement?.MaxReplicas ?? 0
  return most > 0 ? `${text} (max ${most} per node)` : text
}
