/**
 * Who marks packets for the IPVS services, as the driver sees it. `NftMarks` does it with nftables;
 * a kernel without them leaves it to whoever gives another.
 */
import type { PacketMark } from './placement.ts'

/** Marks to give and to take away. */
export interface MarkChange {
  readonly given: readonly PacketMark[]
  readonly taken: readonly PacketMark[]
}

/** Marks packets. */
export interface PacketMarks {
  /** Makes the marks these and no others. @throws SwarmError: outcome unknown, apply again */
  apply(wanted: readonly PacketMark[]): Promise<void>
  /** Changes the marks applied last. @throws as `apply` */
  change(change: MarkChange): Promise<void>
  /** Looks at what is there, and repairs it. Whether there was anything to repair. */
  check(): Promise<boolean>
  /** Takes everything away. */
  remove(): Promise<void>
  close(): void
}
