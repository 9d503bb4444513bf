/** Cases in the one swarm of the guest, and what they have in common. */
import type { Case } from '../ipvs/case.ts'
import { until } from '../harness/daemon.ts'
import { ask } from './requests.ts'
import type { Answers } from './requests.ts'
import { REPLICAS, theWorld } from './the-world.ts'
import { HOSTS, progress } from './world.ts'
import type { World } from './world.ts'

const FAILURES_SHOWN = 5

/** A case that says what a host's kernel and daemon knew when it fails. */
export function inWorld(
  title: string,
  run: (world: World, note: (text: string) => void) => Promise<void>,
): Case {
  return {
    title,
    run: async ({ note }) => {
      const own = await theWorld()
      try {
        await run(own, (text) => {
          note(text)
          progress(text)
        })
      } catch (error) {
        progress(own.diagnosis(0))
        throw error
      }
    },
  }
}

/** Host names of the replicas that answered. */
export function names({ answers }: Answers): string[] {
  return [...new Set([...answers.keys()].map((answer) => answer.split(' ')[1] ?? ''))]
}

/** Addresses that the replicas saw. */
export function sources({ answers }: Answers): string[] {
  const seen = [...answers.keys()].map((answer) => answer.split(' ')[0] ?? '')
  return [...new Set(seen.map((address) => address.replace(/^\[(?:::ffff:)?(.*)\]$/, '$1')))]
}

/** How many requests of `total` a replica gets at least: round robin over replicas of one weight. */
export function fewest(total: number): number {
  return total / REPLICAS - 1
}

/** Connections that IPVS counts at each of a host's services by mark. */
export function markedConnections(
  own: World,
  host: number,
  family: 'ipv4' | 'ipv6' = 'ipv4',
): number[] {
  const table = own.hosts.run(host, 'ipvsadm', '-Ln', '--stats', '--exact')
  const line = family === 'ipv6' ? /^FWM\s+-?\d+ IPv6\s+(\d+)/gm : /^FWM\s+-?\d+\s+(\d+)/gm
  return [...table.matchAll(line)].map((match) => Number(match[1]))
}

/** An answer in numbers. */
export function counts({ answers, asked, failed, failures, slowestMs }: Answers): string {
  const spread = [...answers.values()].join('/')
  const why = failures.slice(0, FAILURES_SHOWN).map((failure) => ` (${failure})`)
  return `${asked} requests, ${failed} failed${why.join('')}, slowest ${slowestMs} ms, spread ${spread}`
}

/** Resolves when every host's published port reaches so many replicas, and nothing fails. */
export async function untilSpread(own: World, replicas = REPLICAS): Promise<void> {
  await until('every host to reach all replicas', async () => {
    const hosts = Array.from({ length: HOSTS }, (_, host) => host)
    const seen = await Promise.all(
      hosts.map((host) => ask(own.client, own.published(host), 2 * replicas)),
    )
    return seen.every((each) => each.failed === 0 && names(each).length === replicas)
  })
}
