/**
 * Ends connections to backends that are gone, by forgetting them: the next packet of the client is
 * looked at anew. Of UDP it goes to another backend; of TCP it is answered by a reset, from the
 * backend it meets now or from this node. A connection that was never answered begins anew: its
 * client repeats the first packet, which finds another backend. What ends nothing is left alone:
 * connections of other frontends, and those to the task's own address.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { PROTOCOL_NUMBER } from '../netlink/ipvs-layout.ts'
import {
  decodeConnection,
  deleteConnection,
  dumpConnections,
  isAnswered,
} from '../netlink/conntrack.ts'
import type { Connection, ConnectionFilter } from '../netlink/conntrack.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { AddressFamily } from '../ports.ts'
import type { Dropped } from './difference.ts'
import { frontendFamily } from './placement.ts'

/**
 * Addresses for each of which the kernel is asked alone; with more the whole table is read. The
 * kernel walks its whole hash table each time, 12 ms for 262,144 buckets, but off this thread.
 */
const SINGLE_READS_MAX = 2
/** Connections that are looked at before other work has its turn. */
const SLICE = 200

/** Deletes the tracked connections that lead to what was dropped; how many. @throws NetlinkError */
export async function forgetFlows(
  socket: NetlinkSocket,
  dropped: readonly Dropped[],
): Promise<number> {
  let count = 0
  const families = Map.groupBy(dropped, ({ frontend }) => frontendFamily(frontend))
  for (const [family, ones] of families) count += await forgetFamily(socket, family, ones)
  return count
}

async function forgetFamily(
  socket: NetlinkSocket,
  family: AddressFamily,
  dropped: readonly Dropped[],
): Promise<number> {
  const byAddress = Map.groupBy(dropped, ({ target }) => target.address)
  const isUnwanted = (connection: Connection): boolean =>
    (byAddress.get(connection.reply.source) ?? []).some((one) => leadsTo(connection, one))
  const everything: ConnectionFilter = { family }
  const filters: readonly ConnectionFilter[] =
    byAddress.size > SINGLE_READS_MAX || family === 'ipv6'
      ? [everything]
      : [...byAddress.keys()].map((replySource) => ({ ...everything, replySource }))
  let count = 0
  for (const filter of filters) {
    const unwanted = await unwantedConnections(socket, filter, isUnwanted)
    const failures = await socket.batch(unwanted.map(deleteConnection))
    // What ended meanwhile is what was wanted.
    const [real] = failures.filter(({ error }) => error.errno !== 'ENOENT')
    if (real !== undefined) throw real.error
    count += unwanted.length - failures.length
  }
  return count
}

async function unwantedConnections(
  socket: NetlinkSocket,
  filter: ConnectionFilter,
  isUnwanted: (connection: Connection) => boolean,
): Promise<Connection[]> {
  const unwanted: Connection[] = []
  for (const [index, message] of (await socket.dump(dumpConnections(filter))).entries()) {
    if (index % SLICE === SLICE - 1) await nextTurn()
    const connection = decodeConnection(message)
    if (isUnwanted(connection)) unwanted.push(connection)
  }
  return unwanted
}

/** Whether a connection came to the frontend and was sent on to the target. */
function leadsTo(connection: Connection, { frontend, target, why }: Dropped): boolean {
  const { original, reply, protocol } = connection
  if (reply.source !== target.address || !ends(connection, why)) return false
  if (frontend.kind === 'vip') return original.destination === frontend.address
  const isHere =
    frontend.kind === 'bound'
      ? original.destination === frontend.address
      : original.destination !== target.address
  return (
    isHere &&
    protocol === PROTOCOL_NUMBER[frontend.protocol] &&
    original.destinationPort === frontend.port &&
    reply.sourcePort === target.port
  )
}

/** Whether a connection is one of those that end; see {@link Dropped}. */
function ends(connection: Connection, why: Dropped['why']): boolean {
  switch (why) {
    case 'gone':
      return true
    case 'draining':
      return connection.protocol === PROTOCOL_NUMBER.udp
    case 'lost':
      return connection.protocol === PROTOCOL_NUMBER.udp || !isAnswered(connection)
    default:
      return why satisfies never
  }
}
