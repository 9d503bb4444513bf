/**
 * `skein service ps` and `skein node ps`: tasks, newest first in each slot, older ones indented.
 */
import type { Arguments } from '../arguments.ts'
import { CommandError, FILTER_FLAG, FORMAT_FLAG, NO_TRUNC_FLAG, QUIET_FLAG } from '../command.ts'
import type { Command, CommandContext } from '../command.ts'
import { filtersOf } from '../filters.ts'
import { agoText, byName, capitalized, imageText, shortId, shortened } from '../human.ts'
import { portsText } from '../ports-text.ts'
import { SwarmApi, filterQuery } from '../swarm-api.ts'
import type { NodeJson, ServiceJson, TaskJson } from '../swarm-api.ts'
import { printRows } from '../table.ts'
import type { Row } from '../table.ts'

/** Longest error that a table shows without `--no-trunc`. */
const ERROR_LENGTH_MAX = 30

const FLAGS = [
  FILTER_FLAG,
  FORMAT_FLAG,
  NO_TRUNC_FLAG,
  { ...QUIET_FLAG, help: 'Only display task IDs' },
  { name: 'no-resolve', kind: 'boolean', help: 'Do not map IDs to Names' },
] as const

/** `service ps` */
export const serviceTasks: Command = {
  usage: '[OPTIONS] SERVICE [SERVICE...]',
  short: 'List the tasks of one or more services',
  minimum: 1,
  flags: FLAGS,
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const services = await api.services()
    const chosen: ServiceJson[] = []
    const missing: string[] = []
    for (const reference of given.positionals) {
      const service = findService(services, reference)
      if (service === undefined) missing.push(`no such service: ${reference}`)
      else chosen.push(service)
    }
    if (chosen.length > 0) {
      const filters = { ...filtersOf(given), service: chosen.map((service) => service.ID) }
      await printTasks(context, given, { filters, services, fullIds: true })
    }
    if (missing.length > 0) throw new CommandError(missing.join('\n'))
    return 0
  },
}

/** `node ps` */
export const nodeTasks: Command = {
  usage: '[OPTIONS] [NODE...]',
  short: 'List tasks running on one or more nodes, defaults to current node',
  minimum: 0,
  flags: FLAGS,
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const references = given.positionals.length === 0 ? ['self'] : given.positionals
    const ids: string[] = []
    for (const reference of references) {
      ids.push((await api.node(await api.nodeReference(reference))).ID)
    }
    const filters = { ...filtersOf(given), node: ids }
    const services = await api.services()
    await printTasks(context, given, { filters, services, fullIds: false })
    return 0
  },
}

function findService(services: readonly ServiceJson[], reference: string): ServiceJson | undefined {
  const exact = services.find((one) => one.ID === reference || one.Spec.Name === reference)
  if (exact !== undefined) return exact
  const byPrefix = services.filter((one) => one.ID.startsWith(reference))
  return byPrefix.length === 1 ? byPrefix[0] : undefined
}

interface TaskQuery {
  readonly filters: Readonly<Record<string, readonly string[]>>
  readonly services: readonly ServiceJson[]
  /** Docker's `service ps --quiet` prints whole ids, its `node ps --quiet` does not. */
  readonly fullIds: boolean
}

async function printTasks(
  context: CommandContext,
  given: Arguments,
  { filters, services, fullIds }: TaskQuery,
): Promise<void> {
  const api = new SwarmApi(context.client)
  const [tasks, nodes] = await Promise.all([api.tasks(filterQuery(filters)), api.nodes()])
  const namer = given.flag('no-resolve') ? plainNames : resolvedNames(services, nodes)
  const named = tasks
    .map((task) => ({ task, names: namer(task) }))
    .toSorted(
      (a, b) =>
        byName(a.names.task, b.names.task) || b.task.CreatedAt.localeCompare(a.task.CreatedAt),
    )
  const whole = given.flag('no-trunc') || (given.flag('quiet') && fullIds)
  const isTable = !given.flag('quiet') && given.text('format') !== 'json'
  const rows = named.map(({ task, names }, index) =>
    taskRow(task, names, {
      older: named[index - 1]?.names.task === names.task && isTable,
      whole,
      nowMs: context.now(),
    }),
  )
  printRows(context, rows, { given, identifier: 'ID', columns: COLUMNS })
}

const COLUMNS = [
  ['ID', 'ID'],
  ['NAME', 'Name'],
  ['IMAGE', 'Image'],
  ['NODE', 'Node'],
  ['DESIRED STATE', 'DesiredState'],
  ['CURRENT STATE', 'CurrentState'],
  ['ERROR', 'Error'],
  ['PORTS', 'Ports'],
] as const

/** What a task and its node are called. */
interface Names {
  readonly task: string
  readonly node: string
}

function plainNames(task: TaskJson): Names {
  return { task: `${task.ServiceID}.${slotText(task)}`, node: task.NodeID ?? '' }
}

function resolvedNames(
  services: readonly ServiceJson[],
  nodes: readonly NodeJson[],
): (task: TaskJson) => Names {
  const serviceNames = new Map(services.map((service) => [service.ID, service.Spec.Name]))
  const hostnames = new Map(nodes.map((node) => [node.ID, node.Description.Hostname]))
  return (task) => ({
    task: `${serviceNames.get(task.ServiceID) ?? task.ServiceID}.${slotText(task)}`,
    node: hostnames.get(task.NodeID ?? '') ?? task.NodeID ?? '',
  })
}

/** Tasks of global services have no slot: their node stands for it. */
function slotText(task: TaskJson): string {
  return task.Slot === undefined ? (task.NodeID ?? '') : String(task.Slot)
}

function taskRow(
  task: TaskJson,
  names: Names,
  show: { readonly older: boolean; readonly whole: boolean; readonly nowMs: number },
): Row {
  const { Status: status } = task
  const image = task.Spec.ContainerSpec.Image
  const error = status.Err ?? ''
  const shownError = show.whole ? error : shortened(error, ERROR_LENGTH_MAX)
  const ago = agoText(status.Timestamp, show.nowMs).toLowerCase()
  return {
    CurrentState: `${capitalized(status.State)} ${ago}`,
    DesiredState: capitalized(task.DesiredState),
    Error: error === '' ? '' : `"${shownError}"`,
    ID: show.whole ? task.ID : shortId(task.ID),
    Image: show.whole ? image : imageText(image),
    Name: show.older ? ` \\_ ${names.task}` : names.task,
    Node: names.node,
    Ports: portsText(status.PortStatus.Ports, 'host', ','),
  }
}
