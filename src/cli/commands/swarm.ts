/** `skein swarm …` */
import type { Arguments } from '../arguments.ts'
import { CommandError } from '../command.ts'
import type { Command, CommandContext, Flag } from '../command.ts'
import { SwarmApi } from '../swarm-api.ts'

const ADDRESS_FLAGS: readonly Flag[] = [
  {
    name: 'advertise-addr',
    kind: 'string',
    help: 'Advertised address (format: "<ip|interface>[:port]")',
  },
  {
    name: 'listen-addr',
    kind: 'string',
    value: 'node-addr',
    help: 'Listen address (format: "<ip|interface>[:port]"; default: the daemon\'s)',
  },
  {
    name: 'availability',
    kind: 'string',
    help: 'Availability of the node ("active", "pause", "drain") (default "active")',
  },
]

/** `swarm init` */
export const init: Command = {
  usage: '[OPTIONS]',
  short: 'Initialize a swarm',
  minimum: 0,
  maximum: 0,
  flags: [
    ...ADDRESS_FLAGS,
    {
      name: 'default-addr-pool',
      kind: 'list',
      value: 'ipNetSlice',
      help: 'Address pool of the containers in CIDR format',
    },
    {
      name: 'default-addr-pool-mask-length',
      kind: 'uint',
      help: "Length of the prefix of each node's subnet (default 24)",
    },
    {
      name: 'force-new-cluster',
      kind: 'boolean',
      help: 'Force create a new cluster from current state',
    },
    {
      name: 'task-history-limit',
      kind: 'uint',
      help: 'Task history retention limit (default 5)',
    },
  ],
  async run({ client, console }, given) {
    const history = given.number('task-history-limit', 'uint')
    const nodeId = await client.call('POST', '/swarm/init', {
      body: {
        ...addresses(given),
        ForceNewCluster: given.flag('force-new-cluster'),
        DefaultAddrPool: given.list('default-addr-pool'),
        SubnetSize: given.number('default-addr-pool-mask-length', 'uint') ?? 0,
        Spec:
          history === undefined ? {} : { Orchestration: { TaskHistoryRetentionLimit: history } },
      },
    })
    const api = new SwarmApi(client)
    const [swarm, node] = await Promise.all([api.swarm(), api.node(String(nodeId))])
    const address = node.ManagerStatus?.Addr ?? node.Status.Addr
    console.write(
      `Swarm initialized: current node (${node.ID}) is now a manager.\n\n` +
        joinText('worker', swarm.JoinTokens.Worker, address) +
        "To add a manager to this swarm, run 'skein swarm join-token manager' " +
        'and follow the instructions.\n\n',
    )
    return 0
  },
}

/** `swarm join` */
export const join: Command = {
  usage: '[OPTIONS] HOST:PORT',
  short: 'Join a swarm as a node and/or manager',
  minimum: 1,
  maximum: 1,
  flags: [
    ...ADDRESS_FLAGS,
    { name: 'token', kind: 'string', help: 'Token for entry into the swarm' },
  ],
  async run({ client, console }, given) {
    const token = given.text('token') ?? ''
    if (token === '') throw new CommandError('a join token is needed: --token SWMTKN-1-…')
    await client.call('POST', '/swarm/join', {
      body: { ...addresses(given), RemoteAddrs: given.positionals, JoinToken: token },
    })
    const { Swarm: swarm } = await new SwarmApi(client).info()
    const role = swarm.ControlAvailable ? 'manager' : 'worker'
    console.write(`This node joined a swarm as a ${role}.\n`)
    return 0
  },
}

/** `swarm leave` */
export const leave: Command = {
  usage: '[OPTIONS]',
  short: 'Leave the swarm',
  minimum: 0,
  maximum: 0,
  flags: [
    {
      name: 'force',
      short: 'f',
      kind: 'boolean',
      help: 'Force this node to leave the swarm, ignoring warnings',
    },
  ],
  async run({ client, console }, given) {
    const query = given.flag('force') ? { force: '1' } : {}
    await client.call('POST', '/swarm/leave', { query })
    console.write('Node left the swarm.\n')
    return 0
  },
}

/** `swarm join-token` */
export const joinToken: Command = {
  usage: '[OPTIONS] (worker|manager)',
  short: 'Manage join tokens',
  minimum: 1,
  maximum: 1,
  flags: [
    { name: 'quiet', short: 'q', kind: 'boolean', help: 'Only display token' },
    { name: 'rotate', kind: 'boolean', help: 'Rotate join token' },
    { name: 'once', kind: 'boolean', help: 'Make a token that admits only one node' },
  ],
  async run(context, given) {
    const [role] = given.positionals
    if (role !== 'worker' && role !== 'manager')
      throw new CommandError(`unknown role ${role ?? ''}`)
    const api = new SwarmApi(context.client)
    if (given.flag('once') && given.flag('rotate')) {
      throw new CommandError('--once and --rotate cannot be used together')
    }
    if (given.flag('rotate')) await rotate(context, api, { role, quiet: given.flag('quiet') })
    const token = given.flag('once') ? await onceToken(context, role) : await roleToken(api, role)
    if (given.flag('quiet')) {
      context.console.write(`${token}\n`)
      return 0
    }
    const node = await api.node(await api.nodeReference('self'))
    context.console.write(joinText(role, token, node.ManagerStatus?.Addr ?? node.Status.Addr))
    if (given.flag('once')) context.console.write('The token admits one node.\n\n')
    return 0
  },
}

async function roleToken(api: SwarmApi, role: 'worker' | 'manager'): Promise<string> {
  const { JoinTokens: tokens } = await api.swarm()
  return role === 'worker' ? tokens.Worker : tokens.Manager
}

async function onceToken({ client }: CommandContext, role: string): Promise<string> {
  const answer = await client.call('POST', '/skein/swarm/join-tokens', { body: { Role: role } })
  return (answer as { readonly Token: string }).Token
}

async function rotate(
  { client, console }: CommandContext,
  api: SwarmApi,
  { role, quiet }: { readonly role: 'worker' | 'manager'; readonly quiet: boolean },
): Promise<void> {
  const swarm = await api.swarm()
  await client.call('POST', '/swarm/update', {
    query: {
      version: String(swarm.Version.Index),
      rotateWorkerToken: String(role === 'worker'),
      rotateManagerToken: String(role === 'manager'),
    },
    body: swarm.Spec,
  })
  if (!quiet) console.write(`Successfully rotated ${role} join token.\n\n`)
}

function addresses(given: Arguments): object {
  return {
    ListenAddr: given.text('listen-addr') ?? '',
    AdvertiseAddr: given.text('advertise-addr') ?? '',
    Availability: given.text('availability') ?? 'active',
  }
}

function joinText(role: string, token: string, address: string): string {
  return (
    `To add a ${role} to this swarm, run the following command:\n\n` +
    `    skein swarm join --token ${token} ${address}\n\n`
  )
}
