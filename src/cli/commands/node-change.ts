/** `skein node promote | demote | update | rm` */
import type { NodeSpec } from '../../store/spec.ts'
import { CommandError } from '../command.ts'
import type { Command, CommandContext } from '../command.ts'
import { SwarmApi } from '../swarm-api.ts'
import { forEach } from './each.ts'

/** `node promote` */
export const promote: Command = {
  usage: 'NODE [NODE...]',
  short: 'Promote one or more nodes to manager in the swarm',
  minimum: 1,
  flags: [],
  run: (context, given) =>
    changeRole(context, given.positionals, {
      role: 'manager',
      already: (name) => `Node ${name} is already a manager.`,
      done: (name) => `Node ${name} promoted to a manager in the swarm.`,
    }),
}

/** `node demote` */
export const demote: Command = {
  usage: 'NODE [NODE...]',
  short: 'Demote one or more nodes from manager in the swarm',
  minimum: 1,
  flags: [],
  run: (context, given) =>
    changeRole(context, given.positionals, {
      role: 'worker',
      already: (name) => `Node ${name} is already a worker.`,
      done: (name) => `Manager ${name} demoted in the swarm.`,
    }),
}

/** `node update` */
export const update: Command = {
  usage: '[OPTIONS] NODE',
  short: 'Update a node',
  minimum: 1,
  maximum: 1,
  flags: [
    {
      name: 'availability',
      kind: 'string',
      help: 'Availability of the node ("active", "pause", "drain")',
    },
    { name: 'label-add', kind: 'list', help: 'Add or update a node label ("key=value")' },
    { name: 'label-rm', kind: 'list', help: 'Remove a node label if exists' },
    { name: 'role', kind: 'string', help: 'Role of the node ("worker", "manager")' },
  ],
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const [reference = ''] = given.positionals
    const node = await api.node(await api.nodeReference(reference))
    const labels: Record<string, string> = { ...node.Spec.Labels }
    for (const text of given.list('label-add')) {
      const [key = '', ...value] = text.split('=')
      labels[key] = value.join('=')
    }
    for (const key of given.list('label-rm')) {
      if (labels[key] === undefined) {
        throw new CommandError(`key ${key} doesn't exist in node's labels`)
      }
      delete labels[key]
    }
    await api.updateNode(node, {
      ...node.Spec,
      Labels: labels,
      Availability: choice(given.text('availability'), AVAILABILITIES) ?? node.Spec.Availability,
      Role: choice(given.text('role'), ROLES) ?? node.Spec.Role,
    })
    context.console.write(`${reference}\n`)
    return 0
  },
}

/** `node rm` */
export const remove: Command = {
  usage: '[OPTIONS] NODE [NODE...]',
  short: 'Remove one or more nodes from the swarm',
  minimum: 1,
  flags: [
    {
      name: 'force',
      short: 'f',
      kind: 'boolean',
      help: 'Force remove a node from the swarm',
    },
  ],
  run(context, given) {
    const query = given.flag('force') ? { force: '1' } : {}
    return forEach(context, given.positionals, async (reference) => {
      await context.client.call('DELETE', `/nodes/${encodeURIComponent(reference)}`, { query })
      return reference
    })
  },
}

const AVAILABILITIES = ['active', 'pause', 'drain'] as const
const ROLES = ['worker', 'manager'] as const

interface RoleChange {
  readonly role: NodeSpec['Role']
  readonly already: (name: string) => string
  readonly done: (name: string) => string
}

function changeRole(
  context: CommandContext,
  references: readonly string[],
  change: RoleChange,
): Promise<number> {
  const api = new SwarmApi(context.client)
  return forEach(context, references, async (reference) => {
    const node = await api.node(await api.nodeReference(reference))
    if (node.Spec.Role === change.role) return change.already(reference)
    await api.updateNode(node, { ...node.Spec, Role: change.role })
    return change.done(reference)
  })
}

/** @throws CommandError when `text` is none of `choices` */
function choice<T extends string>(text: string | undefined, choices: readonly T[]): T | undefined {
  if (text === undefined) return undefined
  const found = choices.find((one) => one === text.toLowerCase())
  if (found !== undefined) return found
  throw new CommandError(`invalid value "${text}", only ${choices.join(', ')} are supported`)
}
