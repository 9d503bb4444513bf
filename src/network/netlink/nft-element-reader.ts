/**
 * Reads nf_tables' sets and maps whole.
 *
 * The kernel keeps large ones in hash tables that a worker resizes after the transaction that
 * filled them. A dump of several messages remembers how many elements it has shown and, for the
 * next one, skips as many from the beginning (`nft_rhash_walk`); a resize in between changes their
 * order, and the dump then shows some twice and others never. Nothing says so: the ruleset has not
 * changed.
 *
 * The count is right all the same, so whatever is missing has left something else twice: a dump
 * with any element twice is read again. Changes of others meanwhile are `NetlinkSocket.dump`'s.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { StepSlices } from '../time-slices.ts'
import { NetlinkError } from './netlink-error.ts'
import type { NetlinkMessage } from './message.ts'
import { decodeElements, dumpElements } from './nft-element.ts'
import type { KernelElement } from './nft-element.ts'
import type { NftSetRef } from './nftables.ts'
import type { NetlinkSocket } from './socket.ts'

/** How often a set is read until none is twice. */
export const ELEMENT_READS_MAX = 8
/** Wait before another read, milliseconds, times the reads so far: a resize takes about as long. */
const RESIZE_MS = 5
/** Elements at a stretch, about a millisecond of work. */
const ELEMENTS_AT_A_STRETCH = 256

/**
 * The elements of `set`, in the kernel's order, each once.
 * @throws NetlinkError ENOENT when there is no such set, EINTR when it never stood still
 */
export async function readElements(
  socket: Pick<NetlinkSocket, 'dump'>,
  set: NftSetRef,
): Promise<KernelElement[]> {
  const request = dumpElements(set)
  for (let read = 1; read <= ELEMENT_READS_MAX; read += 1) {
    const elements = await onceEach(await socket.dump(request))
    if (elements !== undefined) return elements
    await sleep(RESIZE_MS * read)
  }
  throw new NetlinkError('EINTR', request.operation, 'the set is resized whenever it is read')
}

/** The elements, or undefined when one comes twice. */
async function onceEach(messages: readonly NetlinkMessage[]): Promise<KernelElement[] | undefined> {
  const slices = new StepSlices(ELEMENTS_AT_A_STRETCH)
  const elements: KernelElement[] = []
  const seen = new Set<string>()
  for (const message of messages) {
    for (const element of decodeElements(message)) {
      seen.add(identity(element))
      elements.push(element)
      await slices.maybeYield()
    }
  }
  return seen.size === elements.length ? elements : undefined
}

/** What no two elements of a set have in common. A range's end may be the next one's beginning. */
function identity({ key, keyEnd, isIntervalEnd }: KernelElement): string {
  const end = keyEnd === undefined ? '' : latin1(keyEnd)
  return `${latin1(key)}${isIntervalEnd ? ')' : '['}${end}`
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}
