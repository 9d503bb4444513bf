/**
 * The addresses that a cluster's containers get when `swarm init` names none: one of 16 ranges of
 * 2,048 nodes' subnets each in 10.128.0.0/9, drawn once a cluster, so that two clusters that meet
 * on one network rarely want the same. A range that the founding host already has a route into (its
 * own network, another cluster on this machine) is not drawn: packets would go astray both ways.
 * Source: `linux/Documentation/networking/proc_net_tcp.rst` for the notation, `net/ipv4/fib_trie.c`
 * (`fib_route_seq_show`).
 */
import { readFile } from 'node:fs/promises'
import type { Random } from '../base/random.ts'

const POOLS = 16
const PREFIX_LENGTH = 13
const FIRST = 10 * 2 ** 24 + 128 * 2 ** 16
const POOL_ADDRESSES = 2 ** (32 - PREFIX_LENGTH)

/** Addresses [first, last]. */
interface AddressRange {
  readonly first: number
  readonly last: number
}

/** Draws a range that this host does not use; any, when it uses them all. */
export async function defaultPool(random: Random): Promise<string> {
  return choosePool(random, await readFile('/proc/net/route', 'utf8'))
}

/** Draws among what the routes (text of `/proc/net/route`) leave free. */
export function choosePool(random: Random, routes: string): string {
  const used = routedRanges(routes)
  const all = Array.from({ length: POOLS }, (_, index) => FIRST + index * POOL_ADDRESSES)
  const free = all.filter((first) => {
    const last = first + POOL_ADDRESSES - 1
    return !used.some((range) => range.first <= last && first <= range.last)
  })
  const choices = free.length > 0 ? free : all
  const first = choices[random.integer(choices.length)] ?? FIRST
  return `10.${Math.floor(first / 2 ** 16) % 2 ** 8}.0.0/${PREFIX_LENGTH}`
}

/** Destinations of all routes but the default one: it leads everywhere and means nothing. */
function routedRanges(routes: string): AddressRange[] {
  const rows = routes.split('\n').slice(1)
  return rows.flatMap((row) => {
    const columns = row.split('\t')
    const [destination, mask] = [columns[1], columns[7]]
    if (destination === undefined || mask === undefined || Number.parseInt(mask, 16) === 0)
      return []
    const first = addressNumber(destination)
    return [{ first, last: first + (2 ** 32 - 1 - addressNumber(mask)) }]
  })
}

/**
 * The kernel prints an address as the host reads its four bytes; all supported hosts are
 * little-endian.
 */
function addressNumber(text: string): number {
  return Buffer.from(text.trim(), 'hex').readUInt32LE()
}
