/**
 * What one idle manager node costs: resident memory (RSS) and proportional memory (PSS, which
 * counts a shared page once) of all of a peer's processes with no and with some tasks, CPU time
 * while idle, and the time from the start of the daemon until its API answers. The containers' own
 * processes do not count; what holds them (conmon, containerd-shim) does.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { poll } from './engine-client.ts'
import { BENCH_IMAGE } from './image.ts'
import type { Peer, PeerName } from './peer.ts'
import { cpuSecondsOf, memoryOf, processesOf } from './process-table.ts'
import {
  peerNames,
  positiveIntegers,
  progress,
  record,
  recordSetting,
  withPeers,
} from './session.ts'
import { markdownTable, rangeText, summarise } from './statistics.ts'

/** Quiet time before memory is read, milliseconds. */
const SETTLE_MS = 10_000
const TIMING = { everyMs: 100, deadlineMs: 120_000 }

interface Options {
  readonly peers: readonly PeerName[]
  readonly tasks: readonly number[]
  readonly rounds: number
  readonly starts: number
}

/** What was measured, by name, then by peer; the unit is in the name. */
type Results = Map<string, Map<PeerName, number[]>>

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      peers: { type: 'string', default: 'skein,docker' },
      tasks: { type: 'string', default: '10' },
      rounds: { type: 'string', default: '3' },
      starts: { type: 'string', default: '3' },
    },
  })
  const [rounds = 1] = positiveIntegers(values.rounds)
  const [starts = 1] = positiveIntegers(values.starts)
  const tasks = positiveIntegers(values.tasks)
  return { peers: peerNames(values.peers), tasks, rounds, starts }
}

async function run(options: Options): Promise<void> {
  const results: Results = new Map()
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
  process.stdout.write(`\n${table(results, options.peers)}\n`)
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
    const byPeer = results.get(what) ?? new Map<PeerName, number[]>()
    results.set(what, byPeer)
    byPeer.set(peer.name, [...(byPeer.get(peer.name) ?? []), value])
  }
}

function table(results: Results, peers: readonly PeerName[]): string {
  const both = peers.includes('skein') && peers.includes('docker')
  const heading = [
    '',
    ...peers.map((peer) => `${peer}: median (min–max)`),
    ...(both ? ['ratio'] : []),
  ]
  const rows = [...results].map(([what, byPeer]) => {
    const cells = peers.map((peer) => rangeText(summarise(byPeer.get(peer) ?? []), 1, ''))
    if (!both) return [what, ...cells]
    const ours = summarise(byPeer.get('skein') ?? []).median
    const theirs = summarise(byPeer.get('docker') ?? []).median
    return [what, ...cells, theirs === 0 ? '–' : `${(ours / theirs).toFixed(2)}×`]
  })
  return markdownTable([heading, ...rows])
}

await run(readOptions())
