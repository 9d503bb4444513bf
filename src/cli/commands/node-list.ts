/** `skein node ls` and `skein node inspect` */
import { FILTER_FLAG, FORMAT_FLAG, QUIET_FLAG } from '../command.ts'
import type { Command } from '../command.ts'
import { filtersOf } from '../filters.ts'
import { byName, capitalized } from '../human.ts'
import { nodeText } from '../node-text.ts'
import { SwarmApi, filterQuery } from '../swarm-api.ts'
import type { InfoJson, NodeJson } from '../swarm-api.ts'
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
    printRows(
      context,
      sorted.map((node) => nodeRow(node, info)),
      {
        given,
        identifier: 'ID',
        columns: [
          ['ID', (row) => `${row['ID']}${row['Self'] === true ? ' *' : ''}`],
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
  flags: [
    ...INSPECT_FLAGS,
    {
      name: 'pretty',
      kind: 'boolean',
      help: 'Print the information in a human friendly format',
    },
  ],
  async run(context, given) {
    const api = new SwarmApi(context.client)
    return inspectAll<NodeJson>(context, given, {
      load: async (reference) => api.node(await api.nodeReference(reference)),
      text: nodeText,
    })
  },
}

function nodeRow(node: NodeJson, info: InfoJson | undefined): Row {
  const manager = node.ManagerStatus
  return {
    Availability: capitalized(node.Spec.Availability),
    EngineVersion: node.Description.Engine.EngineVersion,
    Hostname: node.Description.Hostname,
    ID: node.ID,
    ManagerStatus: manager?.Leader === true ? 'Leader' : capitalized(manager?.Reachability ?? ''),
    Self: node.ID === info?.Swarm.NodeID,
    Status: capitalized(node.Status.State),
    TLSStatus: trustText(node, info),
  }
}

/** Whether the node trusts the root key that the swarm has now, in docker's words. */
function trustText(node: NodeJson, info: InfoJson | undefined): string {
  const trusted = node.Description.TLSInfo?.TrustRoot
  if (trusted === undefined || info?.Swarm.Cluster === undefined) return 'Unknown'
  return trusted === info.Swarm.Cluster.TLSInfo.TrustRoot ? 'Ready' : 'Needs Rotation'
}
