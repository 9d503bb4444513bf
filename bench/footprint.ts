/**
 * What one idle manager node costs: resident memory (RSS) and proportional memory (PSS, which
 * counts a shared page once) of all of a peer's processes with no and with some tasks, CPU time
 * while idle, and the time from the start of the daemon until its API answers. The containers' own
 * processes do not count; what holds them (conmon, containerd-shim) does.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Results, readComparison } from './comparison.ts'
import { poll } from './engine-client.ts'
import { BENCH_IMAGE } from './image.ts'
import type { Peer, PeerName } from './peer.ts'
import { cpuSecondsOf, memoryOf, processesOf } from './process-table.ts'
import { progress, record, recordSetting, withPeers } from './session.ts'

/** Quiet time before memory is read, milliseconds. */
const SETTLE_MS = 10_000
const TIMING = { everyMs: 100, deadlineMs: 120_000 }

interface Options {
  readonly peers: readonly PeerName[]
  readonly tasks: readonly number[]
  readonly rounds: number
  readonly starts: number
}

function readOptions(): Options {
  const { peers, numbers, count } = readComparison({ tasks: '10', rounds: '3', starts: '3' })
  return { peers, tasks: numbers('tasks'), rounds: count('rounds'), starts: count('starts') }
}

async function run(options: Options): Promise<void> {
  const results = new Results()
  await withPeers(async (start) => {
    for (let round = 1; round <= options.rounds; round += 1) {
      for (const name of round % 2 === 1 ? options.peers : options.peers.toReversed()) {
        // Alone on the machine: a second peer would share pages and take CPU time.
        const peer = await start(name)
        if (round === 1) await recordSetting([peer])
        progress(`round ${round}: ${name}`)
        await measure(peer, options, results)
        await peer.stop()
      }
    }
  })
  process.stdout.write(`\n${results.table(options.peers)}\n`)
}

async function measure(peer: Peer, options: Options, results: Results): Promise<void> {
  add(results, peer, { 'first start, s': peer.startupMs() / 1_000 })
  await measureMemory(peer, 0, results)
  for (const count of options.tasks) {
    const id = await peer.client.createService({
      name: `idle${count}`,
      image: BENCH_IMAGE,
      replicas: count,
    })
    await poll(`${count} tasks`, TIMING, async () => {
      const tasks = await peer.client.tasks(id)
      return tasks.filter((task) => task.Status.State === 'running').length >= count || undefined
    })
    await measureMemory(peer, count, results)
    await peer.client.removeService(id)
    await poll(`end of ${count} tasks`, TIMING, async () => {
      const left = processesOf(peer.directory).filter(holdsContainer).length
      return left === 0 || undefined
    })
  }
  for (let i = 0; i < options.starts; i += 1) {
    await peer.restart()
    add(results, peer, { 'start again, s': peer.startupMs() / 1_000 })
  }
}

async function measureMemory(peer: Peer, tasks: number, results: Results): Promise<void> {
  const before = cpuSeconds(peer)
  await sleep(SETTLE_MS)
  const cpu = ((cpuSeconds(peer) - before) * 1_000) / (SETTLE_MS / 1_000)
  const programs: Record<string, { count: number; rssMiB: number; pssMiB: number }> = {}
  let rssMiB = 0
  let pssMiB = 0
  for (const { pid, program } of processesOf(peer.directory)) {
    const memory = memoryOf(pid)
    if (memory === undefined) continue
    const sum = (programs[program] ??= { count: 0, rssMiB: 0, pssMiB: 0 })
    sum.count += 1
    sum.rssMiB += memory.rssKiB / 1_024
    sum.pssMiB += memory.pssKiB / 1_024
    rssMiB += memory.rssKiB / 1_024
    pssMiB += memory.pssKiB / 1_024
  }
  record({ peer: peer.name, what: 'programs', tasks, programs })
  add(results, peer, {
    [`RSS with ${tasks} tasks, MiB`]: rssMiB,
    [`PSS with ${tasks} tasks, MiB`]: pssMiB,
    [`CPU with ${tasks} tasks, ms per s`]: cpu,
  })
}

function cpuSeconds(peer: Peer): number {
  return processesOf(peer.directory).reduce((sum, { pid }) => sum + (cpuSecondsOf(pid) ?? 0), 0)
}

/** Whether a process stands for a container that is not wholly gone. */
function holdsContainer(one: { readonly program: string }): boolean {
  return one.program === 'conmon' || one.program.startsWith('containerd-shim')
}

function add(results: Results, peer: Peer, values: Readonly<Record<string, number>>): void {
  for (const [what, value] of Object.entries(values)) {
    record({ peer: peer.name, what, value })
    results.add(what, peer.name, value)
  }
}

await run(readOptions())
