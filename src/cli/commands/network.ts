/** `skein network create`, `ls`, `inspect`, `prune` and `rm` */
import type { NetworkSpec } from '../../store/spec.ts'
import type { Arguments } from '../arguments.ts'
import { CommandError, FILTER_FLAG, FORMAT_FLAG, QUIET_FLAG } from '../command.ts'
import type { Command, Flag } from '../command.ts'
import { filtersOf } from '../filters.ts'
import { byName } from '../human.ts'
import { SwarmApi, filterQuery } from '../swarm-api.ts'
import { printRows } from '../table.ts'
import { forEach } from './each.ts'
import { INSPECT_FLAGS, inspectAll } from './inspect.ts'

/** `network create` */
export const create: Command = {
  usage: '[OPTIONS] NETWORK',
  short: 'Create a network',
  minimum: 1,
  maximum: 1,
  flags: [
    {
      name: 'driver',
      short: 'd',
      kind: 'string',
      help: 'Driver ("overlay", "bridge", "macvlan", "ipvlan") (default "overlay")',
    },
    { name: 'subnet', kind: 'string', help: 'Subnet in CIDR format' },
    { name: 'gateway', kind: 'string', help: 'IPv4 gateway of the subnet' },
    { name: 'ip-range', kind: 'string', help: 'Give addresses from this part of the subnet' },
    { name: 'internal', kind: 'boolean', help: 'Restrict external access to the network' },
    { name: 'attachable', kind: 'boolean', help: 'Enable manual container attachment' },
    { name: 'ipv6', kind: 'boolean', help: 'Enable IPv6 networking' },
    { name: 'label', kind: 'list', help: 'Set metadata on a network' },
    { name: 'opt', short: 'o', kind: 'list', help: 'Set driver specific options' },
    {
      name: 'aux-address',
      kind: 'list',
      value: 'name=address',
      help: 'Addresses of the subnet that nobody may have',
    },
  ],
  async run(context, given) {
    const spec = networkSpecOf(given)
    const { Id: id } = await new SwarmApi(context.client).createNetwork(spec)
    context.console.write(`${id}\n`)
    return 0
  },
}

/** `network ls` */
export const list: Command = {
  usage: '[OPTIONS]',
  short: 'List networks',
  minimum: 0,
  maximum: 0,
  flags: [FILTER_FLAG, FORMAT_FLAG, QUIET_FLAG],
  async run(context, given) {
    const networks = await new SwarmApi(context.client).networks(filterQuery(filtersOf(given)))
    const rows = networks
      .toSorted((a, b) => byName(a.Name, b.Name))
      .map(({ Id: ID, Name, Driver, Scope, Internal, IPAM }) => {
        const Subnet = IPAM.Config?.map((range) => range.Subnet).join(', ') ?? ''
        return { ID, Name, Driver, Scope, Internal, Subnet }
      })
    printRows(context, rows, {
      given,
      identifier: 'ID',
      columns: [
        ['NETWORK ID', 'ID'],
        ['NAME', 'Name'],
        ['DRIVER', 'Driver'],
        ['SCOPE', 'Scope'],
        ['SUBNET', 'Subnet'],
      ],
    })
    return 0
  },
}

/** `network inspect` */
export const inspect: Command = {
  usage: '[OPTIONS] NETWORK [NETWORK...]',
  short: 'Display detailed information on one or more networks',
  minimum: 1,
  flags: [
    ...INSPECT_FLAGS,
    {
      name: 'verbose',
      short: 'v',
      kind: 'boolean',
      help: 'Show the services on the network, their addresses and tasks',
    },
  ],
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const query = given.flag('verbose') ? { verbose: 'true' } : {}
    return inspectAll(context, given, { load: (reference) => api.network(reference, query) })
  },
}

const { short: _short, ...longFilter } = FILTER_FLAG
/** `-f` is docker's short word for `--force` here. */
const PRUNE_FILTER: Flag = longFilter

/** `network prune` */
export const prune: Command = {
  usage: '[OPTIONS]',
  short: 'Remove all networks that no service uses',
  minimum: 0,
  maximum: 0,
  flags: [
    PRUNE_FILTER,
    { name: 'force', short: 'f', kind: 'boolean', help: 'Accepted as docker does; never asked' },
  ],
  async run(context, given) {
    const query = filterQuery(filtersOf(given))
    const removed = await new SwarmApi(context.client).pruneNetworks(query)
    for (const name of removed) context.console.write(`${name}\n`)
    return 0
  },
}

/** `network rm` */
export const remove: Command = {
  usage: 'NETWORK [NETWORK...]',
  short: 'Remove one or more networks',
  minimum: 1,
  flags: [],
  run: (context, given) =>
    forEach(context, given.positionals, async (reference) => {
      await context.client.call('DELETE', `/networks/${encodeURIComponent(reference)}`)
      return reference
    }),
}

/** @throws CommandError */
function networkSpecOf(given: Arguments): NetworkSpec {
  const [name = ''] = given.positionals
  const subnet = given.text('subnet')
  const gateway = given.text('gateway')
  const part = given.text('ip-range')
  const reserved = pairs(given.list('aux-address'), 'aux-address')
  const parts = [gateway, part, Object.keys(reserved)[0]]
  if (subnet === undefined && parts.some((one) => one !== undefined)) {
    throw new CommandError('--gateway, --ip-range, --aux-address need a --subnet that they are in')
  }
  const range = {
    ...(subnet === undefined ? {} : { Subnet: subnet }),
    ...(part === undefined ? {} : { IPRange: part }),
    ...(gateway === undefined ? {} : { Gateway: gateway }),
    ...(Object.keys(reserved).length === 0 ? {} : { AuxiliaryAddresses: reserved }),
  }
  return {
    Name: name,
    Driver: given.text('driver') ?? 'overlay',
    Internal: given.flag('internal'),
    Attachable: given.flag('attachable'),
    EnableIPv6: given.flag('ipv6'),
    Labels: labels(given.list('label')),
    Options: pairs(given.list('opt'), 'opt'),
    IPAM: { Driver: 'default', Config: subnet === undefined ? [] : [range] },
  }
}

function labels(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [key = '', ...value] = text.split('=')
      return [key, value.join('=')]
    }),
  )
}

/** @throws CommandError when one is no pair */
function pairs(texts: readonly string[], flag: string): Record<string, string> {
  const wrong = texts.find((text) => text.indexOf('=') < 1)
  if (wrong !== undefined)
    throw new CommandError(`--${flag} ${wrong}: is not of the form key=value`)
  return labels(texts)
}
