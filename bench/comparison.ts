/** A comparison of peers: the options of its command line, its results, and their table. */
import { parseArgs } from 'node:util'
import type { PeerName } from './peer.ts'
import { markdownTable, rangeText, summarise } from './statistics.ts'

/** What was given on the command line. */
export interface ComparisonOptions<K extends string> {
  readonly peers: readonly PeerName[]
  /** All numbers of an option. */
  readonly numbers: (name: K) => readonly number[]
  /** The first number of an option. */
  readonly count: (name: K) => number
}

/**
 * Reads `--peers skein,docker` and options of positive integers, `--tasks 1,10`, from the command
 * line; `defaults` are what they are if not given. @throws on other options and other values
 */
export function readComparison<K extends string>(
  defaults: Readonly<Record<K, string>>,
): ComparisonOptions<K> {
  const texts: Readonly<Record<string, string>> = { peers: 'skein,docker', ...defaults }
  const options = Object.fromEntries(
    Object.entries(texts).map(([name, text]) => [name, { type: 'string', default: text } as const]),
  )
  const { values } = parseArgs({ options })
  const textOf = (name: string): string => String(values[name])
  const numbers = (name: K): readonly number[] => textOf(name).split(',').map(positiveInteger)
  return {
    peers: textOf('peers').split(',').map(peerName),
    numbers,
    count: (name) => numbers(name)[0] ?? 1,
  }
}

function peerName(name: string): PeerName {
  if (name !== 'skein' && name !== 'docker') throw new Error(`peer "${name}": is unknown`)
  return name
}

function positiveInteger(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`"${text}": is no positive integer`)
  return value
}

/** What was measured, by name, then by peer. */
export class Results {
  readonly #values = new Map<string, Map<PeerName, number[]>>()

  add(what: string, peer: PeerName, value: number): void {
    const byPeer = this.#values.get(what) ?? new Map<PeerName, number[]>()
    this.#values.set(what, byPeer)
    byPeer.set(peer, [...(byPeer.get(peer) ?? []), value])
  }

  /** Medians and ranges, shown as so many parts of a unit; of both peers their ratio, too. */
  table(peers: readonly PeerName[], { divisor = 1, unit = '' } = {}): string {
    const both = peers.includes('skein') && peers.includes('docker')
    const heading = [
      '',
      ...peers.map((peer) => `${peer}: median (min–max)`),
      ...(both ? ['ratio'] : []),
    ]
    const rows = [...this.#values].map(([what, byPeer]) => {
      const summaryOf = (peer: PeerName): ReturnType<typeof summarise> =>
        summarise(byPeer.get(peer) ?? [])
      const cells = peers.map((peer) => rangeText(summaryOf(peer), divisor, unit))
      if (!both) return [what, ...cells]
      const [ours, theirs] = [summaryOf('skein').median, summaryOf('docker').median]
      return [what, ...cells, theirs === 0 ? '–' : `${(ours / theirs).toFixed(2)}×`]
    })
    return markdownTable([heading, ...rows])
  }
}
