/** Configuration changes as entry data. */
import type { ConfChange } from './entry.ts'

export function encodeConfChange(_change: ConfChange): Uint8Array {
  throw new Error('being built')
}
export function decodeConfChange(_data: Uint8Array): ConfChange {
  throw new Error('being built')
}
