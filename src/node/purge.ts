/**
 * `skein daemon --purge`: ends the daemon of a data directory and removes what it left on this
 * machine: containers, mounts, interfaces, firewall table, and the directory. For the end of a
 * trial, and for a node whose durable data is damaged beyond use.
 */
import { mkdir, readFile, readdir, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { chooseExecutor } from '../agent/choose-executor.ts'
import type { Executor } from '../agent/ports.ts'
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { readMembership } from '../cluster/membership-file.ts'
import { lockDataDirectory, lockHolder } from './data-lock.ts'
import { KernelNetwork } from './kernel-network.ts'

/** How long the daemon may take to end after SIGKILL. */
const KILL_TIMEOUT_MS = 5_000

const POLL_MS = 20

interface Components {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/**
 * Removes everything of the daemon of `dataDirectory`. @throws FAILED_PRECONDITION,
 * RUNTIME_FAILED
 */
export async function purgeNode(
  components: Components,
  options: { readonly dataDirectory: string; readonly listenAddress: string },
): Promise<void> {
  const { dataDirectory } = options
  await endDaemon(components.clock, dataDirectory)
  const lock = await lockDataDirectory(dataDirectory)
  try {
    let nodeId = await nodeIdOf(join(dataDirectory, 'swarm'))
    const swarm = { nodeId: () => nodeId, addressPools: () => [] }
    // On a full disk no executor works: first what no container stands on.
    for (const name of ['swarm', 'images/blobs']) await remove(join(dataDirectory, name))
    await using kernel = await KernelNetwork.probe({ ...components, swarm }, options)
    // An earlier purge that was cut short, or a damaged membership.
    if (nodeId === '') nodeId = (await kernel.claimant()) ?? ''
    const parts = { ...components, networks: kernel.taskNetworks }
    const executor = await chooseExecutor(parts, { dataDirectory, swarm })
    await removeTasks(executor, dataDirectory)
    await kernel.leave()
    await assertNothingMounted(dataDirectory)
  } finally {
    await lock.release()
  }
  await remove(dataDirectory)
}

/** Removes all tasks, whatever is known of them, and what they shared. @throws RUNTIME_FAILED */
export async function removeTasks(executor: Executor, dataDirectory: string): Promise<void> {
  for (const directory of await taskDirectories(dataDirectory)) {
    await executor.remove(directory)
    await remove(directory)
  }
  await executor.dispose()
}

function remove(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true })
}

/** Empty when the membership cannot be read any more: that may be why somebody purges. */
async function nodeIdOf(swarmDirectory: string): Promise<string> {
  try {
    return (await readMembership(swarmDirectory))?.nodeId ?? ''
  } catch (error) {
    if (isSwarmError(error, 'STORAGE_CORRUPT')) return ''
    throw error
  }
}

async function endDaemon(clock: Clock, dataDirectory: string): Promise<void> {
  const holder = await lockHolder(dataDirectory)
  if (holder === undefined) return
  process.kill(holder.pid, 'SIGKILL')
  const deadline = clock.monotonicMs() + KILL_TIMEOUT_MS
  while (clock.monotonicMs() < deadline) {
    if ((await lockHolder(dataDirectory)) === undefined) return
    await delay(clock, POLL_MS)
  }
  const what = `data directory ${dataDirectory}: process ${holder.pid} does not end`
  throw new SwarmError('FAILED_PRECONDITION', what)
}

/** Every entry counts, also one that the agent could not read. */
async function taskDirectories(dataDirectory: string): Promise<string[]> {
  const tasks = join(dataDirectory, 'tasks')
  await mkdir(tasks, { recursive: true })
  return (await readdir(tasks)).map((name) => join(tasks, name))
}

/** Removing a directory with a mount in it would reach into the mounted files. */
async function assertNothingMounted(dataDirectory: string): Promise<void> {
  const root = await realpath(dataDirectory)
  const mounts = await readFile('/proc/self/mounts', 'utf8')
  const inside = mounts
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .find((path) => path.startsWith(`${root}/`))
  if (inside === undefined) return
  const hint = `end what uses it, \`umount ${inside}\`, and purge again`
  throw new SwarmError('FAILED_PRECONDITION', `${inside}: is still mounted; ${hint}`)
}
