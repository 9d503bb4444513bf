/**
 * `skein service logs`: lines as the daemon gives them, each after the name of its task and node.
 * Of a line the daemon says its origin (`details`); names are asked for when an id is met first.
 */
import type { Arguments } from '../arguments.ts'
import { CommandError } from '../command.ts'
import type { Command, CommandContext } from '../command.ts'
import { ApiError } from '../connection.ts'
import { shortId } from '../human.ts'
import { readRecords } from '../log-stream.ts'
import { parseDuration } from '../quantity.ts'
import { SwarmApi } from '../swarm-api.ts'
import type { ServiceJson, TaskJson } from '../swarm-api.ts'

/** `service logs` */
export const logs: Command = {
  usage: '[OPTIONS] SERVICE|TASK',
  short: 'Fetch the logs of a service or task',
  minimum: 1,
  maximum: 1,
  flags: [
    { name: 'follow', short: 'f', kind: 'boolean', help: 'Follow log output' },
    { name: 'no-resolve', kind: 'boolean', help: 'Do not map IDs to Names in output' },
    { name: 'no-task-ids', kind: 'boolean', help: 'Do not include task IDs in output' },
    { name: 'no-trunc', kind: 'boolean', help: 'Do not truncate output' },
    { name: 'raw', kind: 'boolean', help: 'Do not neatly format logs' },
    {
      name: 'since',
      kind: 'string',
      help: 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")',
    },
    {
      name: 'tail',
      short: 'n',
      kind: 'string',
      help: 'Number of lines to show from the end of the logs (default "all")',
    },
    { name: 'timestamps', short: 't', kind: 'boolean', help: 'Show timestamps' },
  ],
  async run(context, given) {
    const api = new SwarmApi(context.client)
    const target = await findTarget(api, given.positionals[0] ?? '')
    const raw = given.flag('raw')
    if (target.terminal && !raw) {
      throw new CommandError('tty service logs only supported with --raw')
    }
    const chunks = context.client.download(target.path, logQuery(given, context.now()))
    if (target.terminal) return copy(context, chunks)
    const names = new TaskNames(api, given, target.slotWidth)
    for await (const { stream, text } of readRecords(chunks)) {
      const line = raw ? text : await named(text, names, given.flag('timestamps'))
      if (stream === 'stderr') context.console.writeError(line)
      else context.console.write(line)
    }
    return 0
  },
}

/** What to read: the path of its logs, and how wide its slot numbers are. */
interface Target {
  readonly path: string
  readonly terminal: boolean
  readonly slotWidth: number
}

/** A service of that name or id, else a task. @throws CommandError in docker's words */
async function findTarget(api: SwarmApi, reference: string): Promise<Target> {
  const service = await maybe(api.service(reference))
  if (service !== undefined) return serviceTarget(service)
  const task = await maybe(api.task(reference))
  if (task === undefined) throw new CommandError(`no such task or service: ${reference}`)
  return {
    path: `/tasks/${task.ID}/logs`,
    terminal: task.Spec.ContainerSpec.TTY === true,
    slotWidth: String(task.Slot ?? 0).length,
  }
}

function serviceTarget({ ID, Spec: spec }: ServiceJson): Target {
  return {
    path: `/services/${ID}/logs`,
    terminal: spec.TaskTemplate.ContainerSpec.TTY === true,
    slotWidth: String(spec.Mode?.Replicated?.Replicas ?? 0).length,
  }
}

async function maybe<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined
    throw error
  }
}

function logQuery(given: Arguments, nowMs: number): Record<string, string | undefined> {
  const tail = given.text('tail') ?? 'all'
  if (tail !== 'all' && !/^\d+$/.test(tail)) {
    throw new CommandError(`invalid value for "tail": ${tail}`)
  }
  const since = given.text('since')
  return {
    stdout: '1',
    stderr: '1',
    tail,
    follow: given.flag('follow') ? '1' : undefined,
    timestamps: given.flag('timestamps') ? '1' : undefined,
    details: given.flag('raw') ? undefined : '1',
    since: since === undefined ? undefined : sinceText(since, nowMs),
  }
}

/** Seconds since 1970 for a duration before now, such seconds, or a time. @throws CommandError */
function sinceText(text: string, nowMs: number): string {
  const durationNs = parseDuration(text)
  if (!Number.isNaN(durationNs)) return String((nowMs - durationNs / 1e6) / 1000)
  if (/^\d+(\.\d+)?$/.test(text)) return text
  const ms = Date.parse(text)
  if (Number.isNaN(ms)) throw new CommandError(`invalid value for "since": failed to parse ${text}`)
  return String(ms / 1000)
}

async function copy(context: CommandContext, chunks: AsyncIterable<Uint8Array>): Promise<number> {
  const decoder = new TextDecoder()
  for await (const chunk of chunks) context.console.write(decoder.decode(chunk, { stream: true }))
  return 0
}

/** `[time ]details line` becomes `[time ]task@node    | line`. */
async function named(text: string, names: TaskNames, hasTime: boolean): Promise<string> {
  const pattern = hasTime ? /^(\S+ )(\S+) (.*)$/s : /^()(\S+) (.*)$/s
  const [, time = '', details = '', line = text] = pattern.exec(text) ?? []
  return `${time}${await names.of(details)}    | ${line}`
}

/** Names of tasks as they stand before their lines, each asked for once. */
class TaskNames {
  readonly #api: SwarmApi
  readonly #given: Arguments
  readonly #slotWidth: number
  readonly #byDetails = new Map<string, string>()

  constructor(api: SwarmApi, given: Arguments, slotWidth: number) {
    this.#api = api
    this.#given = given
    this.#slotWidth = slotWidth
  }

  async of(details: string): Promise<string> {
    const known = this.#byDetails.get(details)
    if (known !== undefined) return known
    const name = await this.#make(new Map(details.split(',').map(nameAndValue)))
    this.#byDetails.set(details, name)
    return name
  }

  async #make(origin: ReadonlyMap<string, string>): Promise<string> {
    const taskId = origin.get('com.docker.swarm.task.id') ?? ''
    const nodeId = origin.get('com.docker.swarm.node.id') ?? ''
    const serviceId = origin.get('com.docker.swarm.service.id') ?? ''
    const resolve = !this.#given.flag('no-resolve')
    // What is gone meanwhile keeps its id.
    const [task, node, service] = await Promise.all([
      maybe<TaskJson>(this.#api.task(taskId)),
      resolve ? maybe(this.#api.node(nodeId)) : undefined,
      resolve ? maybe(this.#api.service(serviceId)) : undefined,
    ])
    const slot = String(task?.Slot ?? 0)
    const shown = this.#given.flag('no-trunc') ? taskId : shortId(taskId)
    const suffix = this.#given.flag('no-task-ids') ? '' : `.${shown}`
    const padding = ' '.repeat(Math.max(0, this.#slotWidth - slot.length))
    const host = node?.Description.Hostname ?? nodeId
    return `${service?.Spec.Name ?? serviceId}.${slot}${suffix}@${host}${padding}`
  }
}

function nameAndValue(text: string): readonly [name: string, value: string] {
  const separator = text.indexOf('=')
  return [text.slice(0, separator), text.slice(separator + 1)]
}
