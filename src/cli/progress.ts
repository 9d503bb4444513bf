/**
 * Waits until a service is as wanted, telling how far it is: redrawn in place on a terminal, one
 * line a change elsewhere. Like docker's client it then watches for the update's monitor time (5
 * s) that the tasks stay up. Ctrl-C ends the watching, never the service.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { CommandContext, Console } from './command.ts'
import { shortened } from './human.ts'
import { SwarmApi, filterQuery } from './swarm-api.ts'
import type { NodeJson, ServiceJson, TaskJson } from './swarm-api.ts'

/** How often the daemon is asked, in milliseconds. */
const POLL_MS = 100

/** How long tasks must stay up when the service does not say, in milliseconds. */
const MONITOR_DEFAULT_MS = 5000

/** Most tasks that get a line of their own. */
const TASK_LINES_MAX = 20

/** Width of a task's bar in characters. */
const BAR_WIDTH = 50

/** States on the way to running, in order; the last one fills the bar. */
const STEPS = 'new allocated pending assigned accepted preparing ready starting running'.split(' ')

/** What is shown at one moment. */
interface Picture {
  readonly done: number
  readonly wanted: number
  readonly tasks: readonly string[]
  readonly rollingBack: boolean
}

/** Resolves to 0 when the service is stable, or when the user stopped the watching. */
export async function waitForService(
  context: CommandContext,
  id: string,
  options: { readonly quiet?: boolean } = {},
): Promise<number> {
  const signal = context.interruption()
  const screen = new Screen(context.console, options.quiet === true)
  try {
    return await watch(context, { id, screen, signal })
  } catch (error) {
    if (!signal.aborted) throw error
    screen.finish()
    context.console.writeError(
      'Operation continuing in background.\n' +
        `Use \`skein service ps ${id}\` to check progress.\n`,
    )
    return 0
  }
}

async function watch(
  context: CommandContext,
  at: { readonly id: string; readonly screen: Screen; readonly signal: AbortSignal },
): Promise<number> {
  const api = new SwarmApi(context.client)
  const { screen, signal, id } = at
  let stableSince: number | undefined
  for (;;) {
    signal.throwIfAborted()
    const [service, tasks, nodes] = await Promise.all([
      api.service(id, { insertDefaults: 'true' }),
      api.tasks(filterQuery({ service: [id], '_up-to-date': ['true'] })),
      api.nodes(),
    ])
    const failure = updateFailure(service)
    if (failure !== undefined) {
      screen.finish()
      context.console.writeError(`${failure}\n`)
      return 1
    }
    const shown = picture(service, tasks, nodes)
    const converged = shown.done === shown.wanted && !isUpdating(service)
    stableSince = converged ? (stableSince ?? context.now()) : undefined
    screen.draw(shown)
    if (stableSince !== undefined) {
      const leftMs = monitorMs(service) - (context.now() - stableSince)
      if (leftMs <= 0) {
        screen.verify(`Service ${service.Spec.Name} converged`, { isCountdown: false })
        screen.finish()
        return 0
      }
      const seconds = Math.ceil(leftMs / 1000)
      const text = `Waiting ${seconds} seconds to verify that tasks are stable...`
      screen.verify(text, { isCountdown: true })
    }
    await sleep(POLL_MS, undefined, { signal })
  }
}

function isUpdating(service: ServiceJson): boolean {
  const state = service.UpdateStatus?.State
  return state === 'updating' || state === 'rollback_started'
}

/** Why an update has stopped half-way, if it has. */
function updateFailure(service: ServiceJson): string | undefined {
  const status = service.UpdateStatus
  if (status?.State === 'paused') return `service update paused: ${status.Message}`
  if (status?.State === 'rollback_paused') return `service rollback paused: ${status.Message}`
  return undefined
}

function monitorMs(service: ServiceJson): number {
  const ns = service.Spec.UpdateConfig?.Monitor
  return ns === undefined || ns === 0 ? MONITOR_DEFAULT_MS : ns / 1e6
}

function picture(
  service: ServiceJson,
  tasks: readonly TaskJson[],
  nodes: readonly NodeJson[],
): Picture {
  const up = new Set(nodes.filter((node) => node.Status.State !== 'down').map((node) => node.ID))
  const wantedTasks = tasks.filter(
    (task) => task.DesiredState === 'running' && (task.NodeID === undefined || up.has(task.NodeID)),
  )
  const replicas = service.Spec.Mode?.Replicated?.Replicas
  const wanted = replicas ?? globalCount(wantedTasks, nodes)
  const bySlot = new Map(wantedTasks.map((task) => [task.Slot ?? task.NodeID, task]))
  const running = [...bySlot.values()].filter((task) => task.Status.State === 'running')
  const slots = Array.from({ length: wanted }, (_, index) => index + 1)
  return {
    done: running.length,
    wanted,
    tasks:
      replicas === undefined || wanted > TASK_LINES_MAX
        ? []
        : slots.map((slot) => `${slot}/${wanted}: ${taskText(bySlot.get(slot))}`),
    rollingBack: service.UpdateStatus?.State === 'rollback_started',
  }
}

/**
 * A global service wants a task on each node that may run it; before there are any, on each node.
 */
function globalCount(tasks: readonly TaskJson[], nodes: readonly NodeJson[]): number {
  if (tasks.length > 0) return tasks.length
  return nodes.filter(
    (node) => node.Status.State === 'ready' && node.Spec.Availability === 'active',
  ).length
}

function taskText(task: TaskJson | undefined): string {
  if (task === undefined) return ''
  if (task.Status.Err !== undefined && task.Status.State !== 'running') return task.Status.Err
  const step = STEPS.indexOf(task.Status.State) + 1
  if (step === 0) return task.Status.State
  const filled = Math.max(1, Math.round((BAR_WIDTH * step) / STEPS.length))
  const bar = `${'='.repeat(filled - 1)}>`.padEnd(BAR_WIDTH)
  return `${task.Status.State.padEnd(9)} [${bar}]`
}

/** Draws pictures: in place on a terminal, elsewhere each changed line once. */
class Screen {
  readonly #console: Console
  readonly #quiet: boolean
  /** Lines on the terminal that belong to this screen. */
  #height = 0
  /** Last text of each line, by its place. */
  #last: string[] = []
  #verifying = ''

  constructor(console: Console, quiet: boolean) {
    this.#console = console
    this.#quiet = quiet
  }

  draw(shown: Picture): void {
    const what = shown.rollingBack ? 'rolling back update: ' : ''
    const head = `overall progress: ${what}${shown.done} out of ${shown.wanted} tasks`
    this.#show([head, ...shown.tasks])
  }

  /**
   * The last line. Without a terminal a countdown is said once: its end, or a step back, comes
   * next.
   */
  verify(text: string, options: { readonly isCountdown: boolean }): void {
    const line = `verify: ${text}`
    if (this.#quiet || line === this.#verifying) return
    const isRepetition = options.isCountdown && this.#verifying !== ''
    this.#verifying = line
    if (this.#console.isTerminal) this.#redraw(this.#last)
    else if (!isRepetition) this.#console.write(`${line}\n`)
  }

  /** Leaves what is on the terminal where it is. */
  finish(): void {
    this.#height = 0
  }

  #show(lines: readonly string[]): void {
    const changed = lines.filter((line, index) => line !== this.#last[index])
    if (this.#quiet || changed.length === 0) return
    const restarts = lines[0] !== this.#last[0]
    if (restarts) this.#verifying = ''
    this.#last = [...lines]
    if (this.#console.isTerminal) this.#redraw(lines)
    else for (const line of changed) if (isTelling(line)) this.#console.write(`${line}\n`)
  }

  #redraw(lines: readonly string[]): void {
    // A line that wraps would be two, and the next picture would be drawn over the wrong ones.
    const all = (this.#verifying === '' ? lines : [...lines, this.#verifying]).map((line) =>
      shortened(line, this.#console.columns - 1),
    )
    const up = this.#height === 0 ? '' : `\u001B[${this.#height}A`
    this.#console.write(up + all.map((line) => `\u001B[2K\r${line}\n`).join('') + '\u001B[0J')
    this.#height = all.length
  }
}

/** Without a terminal, bars are noise: only counts and problems are printed. */
function isTelling(line: string): boolean {
  return line.startsWith('overall') || !(line.endsWith(']') || line.endsWith(': '))
}
