/**
 * IPv4 arithmetic of the allocator: which subnet a node's containers live in, which address a task
 * gets. Addresses are numbers here; `.0` is the subnet, `.1` the gateway, the last one broadcast.
 */

/** Addresses of a subnet that no task gets: its own, the gateway's, broadcast. */
const RESERVED_ADDRESSES = 3

/** A block of addresses. */
export interface Cidr {
  readonly base: number
  readonly prefix: number
  /** Number of addresses. */
  readonly size: number
}

/** The number behind `a.b.c.d`, or undefined. */
export function parseAddress(text: string): number | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let value = 0
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return undefined
    value = value * 256 + Number(part)
  }
  return value
}

/** The block behind `a.b.c.d/n`, or undefined. Host bits are dropped. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/')
  const address = parseAddress(text.slice(0, slash))
  const length = text.slice(slash + 1)
  if (slash < 0 || address === undefined || !/^\d{1,2}$/.test(length)) return undefined
  const prefix = Number(length)
  if (prefix > 32) return undefined
  const size = 2 ** (32 - prefix)
  return { base: Math.floor(address / size) * size, prefix, size }
}

/** `a.b.c.d` of a number. */
export function addressText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.')
}

/** `a.b.c.d/n` of a block. */
export function cidrText(cidr: Cidr): string {
  return `${addressText(cidr.base)}/${cidr.prefix}`
}

/** The lowest subnet of `prefix` in `pools` that overlaps none of `taken`, or undefined. */
export function lowestFreeSubnet(
  pools: readonly string[],
  prefix: number,
  taken: readonly Cidr[],
): Cidr | undefined {
  const size = 2 ** (32 - prefix)
  for (const text of pools) {
    const pool = parseCidr(text)
    if (pool === undefined || pool.prefix > prefix) continue
    const end = pool.base + pool.size
    let base = pool.base
    while (base < end) {
      const rival = taken.find(
        (other) => base < other.base + other.size && other.base < base + size,
      )
      if (rival === undefined) return { base, prefix, size }
      base = Math.max(base + size, Math.ceil((rival.base + rival.size) / size) * size)
    }
  }
  return undefined
}

/** How many tasks can have an address in `subnet`. */
export function hostCount(subnet: string): number {
  return Math.max(0, (parseCidr(subnet)?.size ?? 0) - RESERVED_ADDRESSES)
}

/** Which addresses of a node's subnet are held, and how firmly. */
export interface AddressUse {
  /** By tasks that run, or that their node may restart: never given twice. */
  readonly held: ReadonlySet<string>
  /** By tasks that ended but are still on record: given again only when nothing else is left. */
  readonly recent: ReadonlySet<string>
  /** The address given last; the search begins after it, so that freed ones rest. */
  readonly last: string | undefined
}

/** The next address for a task in `subnet`, or undefined when all are held. */
export function nextAddress(subnet: string, use: AddressUse): string | undefined {
  const cidr = parseCidr(subnet)
  if (cidr === undefined) return undefined
  const first = cidr.base + 2
  const count = hostCount(subnet)
  const last = use.last === undefined ? undefined : parseAddress(use.last)
  const start = last !== undefined && last >= first && last - first < count ? last - first + 1 : 0
  let fallback: string | undefined
  for (let step = 0; step < count; step += 1) {
    const address = addressText(first + ((start + step) % count))
    if (use.held.has(address)) continue
    if (!use.recent.has(address)) return address
    fallback ??= address
  }
  return fallback
}
