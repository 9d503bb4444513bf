/**
 * Which ports have a program behind them in the network namespace of a process, from the kernel's
 * own tables. Looking costs no connection, so the program notices nothing. Where the kernel can be
 * asked for open ports alone, it is; else its files are read, which list every connection.
 *
 * A TCP port counts when a socket listens there, a UDP port when one is bound and not connected. A
 * socket on a loopback address counts only where clients come by loopback.
 * Source: proc_net(5), Linux `net/ipv4/tcp_ipv4.c` (`get_openreq4`), `net/ipv4/udp.c`.
 */
import { readTextFile } from '../json-file.ts'
import type { ListenWish, ServedPort } from './readiness.ts'

/** Column of the local address, `<hexadecimal address>:<hexadecimal port>`. */
const LOCAL_COLUMN = 1
/** Column of the state. */
const STATE_COLUMN = 3

/** States that accept: TCP_LISTEN, and TCP_CLOSE for UDP, which has no listening. */
const OPEN_STATES: Readonly<Record<ServedPort['protocol'], string>> = { tcp: '0A', udp: '07' }

/** Where and what to look for. */
export interface ListenQuery {
  readonly pid: number
  readonly wish: ListenWish
  /** Whether clients come by loopback. */
  readonly byLoopback: boolean
}

/** A port with a socket that takes clients. */
export interface OpenPort {
  readonly port: number
  /** Whether clients must come by loopback. */
  readonly isLoopback: boolean
}

/**
 * Open ports in the network namespace of a process; none when the process is gone. Undefined: the
 * kernel cannot be asked so.
 */
export type OpenPortReader = (
  pid: number,
  protocol: ServedPort['protocol'],
) => Promise<readonly OpenPort[] | undefined>

/** Ports of the wish that nothing listens on yet. All of them when the process is gone. */
export async function missingPorts(
  query: ListenQuery,
  reader?: OpenPortReader,
): Promise<ServedPort[]> {
  const open = new Map<ServedPort['protocol'], ReadonlySet<number>>()
  for (const protocol of new Set(query.wish.ports.map((one) => one.protocol))) {
    const told = await reader?.(query.pid, protocol)
    const usable = told?.filter(({ isLoopback: only }) => query.byLoopback || !only)
    const ports = usable && new Set(usable.map(({ port }) => port))
    open.set(protocol, ports ?? (await portsOfFiles(query, protocol)))
  }
  return query.wish.ports.filter(({ protocol, port }) => open.get(protocol)?.has(port) !== true)
}

/** Open ports by the kernel's files; not all of them when the wanted ones are there. */
async function portsOfFiles(
  { pid, wish, byLoopback }: ListenQuery,
  protocol: ServedPort['protocol'],
): Promise<ReadonlySet<number>> {
  const wanted = wish.ports.filter((one) => one.protocol === protocol)
  const open = new Set<number>()
  for (const table of [protocol, `${protocol}6`]) {
    const text = (await readTextFile(`/proc/${pid}/net/${table}`)) ?? ''
    for (const port of openPorts(text, { protocol, byLoopback })) open.add(port)
    if (wanted.every(({ port }) => open.has(port))) break
  }
  return open
}

/** Whether nothing more of the wish is to be waited for. */
export function isServed(wish: ListenWish, missing: readonly ServedPort[]): boolean {
  return missing.length === 0 || (wish.enough === 'any' && missing.length < wish.ports.length)
}

/** Open ports of one of the kernel's tables. */
export function openPorts(
  table: string,
  about: { readonly protocol: ServedPort['protocol']; readonly byLoopback: boolean },
): Set<number> {
  const ports = new Set<number>()
  for (const line of table.split('\n').slice(1)) {
    const columns = line.trim().split(/\s+/)
    if (columns[STATE_COLUMN] !== OPEN_STATES[about.protocol]) continue
    const [address = '', port = ''] = (columns[LOCAL_COLUMN] ?? '').split(':')
    if (!about.byLoopback && isLoopback(address)) continue
    ports.add(Number.parseInt(port, 16))
  }
  return ports
}

/** 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104, in 32-bit words of the machine's byte order. */
function isLoopback(address: string): boolean {
  if (address.length === 8) return firstByte(address) === '7F'
  if (/^0{24}(?:01000000|00000001)$/.test(address)) return true
  return /^0{16}(?:FFFF0000|0000FFFF)/.test(address) && firstByte(address.slice(24)) === '7F'
}

function firstByte(word: string): string {
  return IS_LITTLE_ENDIAN ? word.slice(6) : word.slice(0, 2)
}

const IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1
