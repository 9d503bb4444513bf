/**
 * Netlink's numbers are in the host's order: whether that is little-endian, and reads of a family's
 * header with it.
 */
import { endianness } from 'node:os'

/** For the second or third argument of a `DataView`'s methods. */
export const IS_LITTLE_ENDIAN = endianness() === 'LE'

/** Reads of host-order fields. */
export const hostOrder = {
  u16: (view: DataView, offset: number): number => view.getUint16(offset, IS_LITTLE_ENDIAN),
  u32: (view: DataView, offset: number): number => view.getUint32(offset, IS_LITTLE_ENDIAN),
  /** Inexact above 2^53. */
  u64: (view: DataView, offset: number): number =>
    Number(view.getBigUint64(offset, IS_LITTLE_ENDIAN)),
  i32: (view: DataView, offset: number): number => view.getInt32(offset, IS_LITTLE_ENDIAN),
}
