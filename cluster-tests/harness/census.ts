/** Many clients of the speaker, and what they were told: who answered, whom it saw, what was lost. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Place } from '../../src/network/conformance-peers.ts'
import { DatagramAsker, speak } from './speaker.ts'

/** Clients that each host of `openFlows` has. */
const FLOWS_PER_HOST = 12

/** Who answered how often, by host name; and the addresses that they saw. */
export interface Census {
  readonly names: ReadonlyMap<string, number>
  readonly seen: readonly string[]
  readonly failed: number
}

/** Asks the speaker `times` times, each on a connection of its own. */
export async function census(
  from: Place,
  host: string,
  port: number,
  times: number,
): Promise<Census> {
  const names = new Map<string, number>()
  const seen = new Set<string>()
  let failed = 0
  for (let i = 0; i < times; i += 1) {
    const [name, address = ''] = (await speak(from, { host, port }))?.split(' ') ?? []
    if (name === undefined) failed += 1
    else {
      names.set(name, (names.get(name) ?? 0) + 1)
      seen.add(address)
    }
  }
  return { names, seen: [...seen], failed }
}

/** Clients through each host in turn. */
export function openFlows(
  hosts: readonly string[],
  from: Place,
  port: number,
): Promise<DatagramAsker[]> {
  const places = Array.from({ length: FLOWS_PER_HOST }, () => hosts).flat()
  return Promise.all(places.map((host) => DatagramAsker.open(from, { host, port })))
}

/** What clients that never stop asking went through. */
export interface FlowReport {
  readonly asked: number
  readonly lost: number
  readonly gapMs: number
}

/** All flows ask without pause until `report` is called. */
export function askAll(
  flows: readonly DatagramAsker[],
  waitMs: number,
): { report(): Promise<FlowReport> } {
  const over = new AbortController()
  let [asked, lost, gapMs] = [0, 0, 0]
  const loops = flows.map(async (flow) => {
    let answeredMs = performance.now()
    while (!over.signal.aborted) {
      const answer = await flow.ask(waitMs)
      asked += 1
      if (answer === undefined) lost += 1
      else {
        gapMs = Math.max(gapMs, Math.round(performance.now() - answeredMs))
        answeredMs = performance.now()
      }
      await sleep(20)
    }
  })
  return {
    async report() {
      over.abort()
      await Promise.all(loops)
      return { asked, lost, gapMs }
    },
  }
}
