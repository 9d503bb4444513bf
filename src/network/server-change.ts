/** What leads from known virtual servers to wanted ones, for drivers that are told all. Pure. */
import { assert } from '../base/assert.ts'
import type { ServerChange, VirtualServer } from './ports.ts'

/** A change of nothing. */
export const NO_CHANGE: ServerChange = { set: [], removed: [] }

/** The change from `known`, by id, to `wanted`. A server that is the same object did not change. */
export function changeTo(
  known: ReadonlyMap<string, VirtualServer>,
  wanted: readonly VirtualServer[],
): ServerChange {
  const ids = new Set(wanted.map(({ id }) => id))
  assert(ids.size === wanted.length, 'a virtual server is listed twice')
  return {
    set: wanted.filter((server) => known.get(server.id) !== server),
    removed: [...known.keys()].filter((id) => !ids.has(id)),
  }
}

/** Takes a change over; what was known before under each id that it names. */
export function takeOver(
  known: Map<string, VirtualServer>,
  { set, removed }: ServerChange,
): Map<string, VirtualServer | undefined> {
  const before = new Map<string, VirtualServer | undefined>()
  for (const id of removed) {
    before.set(id, known.get(id))
    known.delete(id)
  }
  for (const server of set) {
    if (!before.has(server.id)) before.set(server.id, known.get(server.id))
    known.set(server.id, server)
  }
  return before
}
