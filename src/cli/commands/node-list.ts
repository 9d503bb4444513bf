/** `skein node ls` and `skein node inspect` */
import { FILTER_FLAG, FORMAT_FLAG, QUIET_FLAG } from '../command.ts'
import type { Command } from '../command.ts'
import { filtersOf } from '../filters.ts'
import { byName, capitalized } from '../human.ts'
import { SwarmApi, filterQuery } from '../swarm-api.ts'
import type { NodeJson } from '../swarm-api.ts'
import { printRows } from '../table.ts'
import type { Row } from '../table.ts'
import { INSPECT_FLAGS, inspectAll } from './inspect.ts'

/** `node ls` */
export const list: Command = {
  usage: '[OPTIONS]',
  short: 'List nodes in the swarm',
  minimum: 0,
  maximum: 0,
  flags: [FILTER_FLAG, FORMAT_FLAG, QUIET_FLAG],
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const [nodes, info] = await Promise.all([
      api.nodes(filterQuery(filtersOf(given))),
      given.flag('quiet') ? undefined : api.info(),
    ])
    const sorted = nodes.toSorted((a, b) => byName(a.Description.Hostname, b.Description.Hostname))
    const self = info?.Swarm.NodeID
    printRows(
      context,
      sorted.map((node) => nodeRow(node, { self: node.ID === self })),
      {
        given,
        identifier: 'ID',
        columns: [
          ['ID', (row) => (row['Self'] === 'true' ? `${row['ID']} *` : (row['ID'] ?? ''))],
          ['HOSTNAME', 'Hostname'],
          ['STATUS', 'Status'],
          ['AVAILABILITY', 'Availability'],
          ['MANAGER STATUS', 'ManagerStatus'],
          ['ENGINE VERSION', 'EngineVersion'],
        ],
      },
    )
    return 0
  },
}

/** `node inspect` */
export const inspect: Command = {
  usage: '[OPTIONS] self|NODE [NODE...]',
  short: 'Display detailed information on one or more nodes',
  minimum: 1,
  flags: INSPECT_FLAGS,
  async run(context, given) {
    const api = new SwarmApi(context.client)
    return inspectAll(context, given, async (reference) =>
      api.node(await api.nodeReference(reference)),
    )
  },
}

function nodeRow(node: NodeJson, { self }: { readonly self: boolean }): Row {
  const manager = node.ManagerStatus
  return {
    Availability: capitalized(node.Spec.Availability),
    EngineVersion: node.Description.Engine.EngineVersion,
    Hostname: node.Description.Hostname,
    ID: node.ID,
    ManagerStatus: manager?.Leader === true ? 'Leader' : capitalized(manager?.Reachability ?? ''),
    Self: String(self),
    Status: capitalized(node.Status.State),
  }
}
