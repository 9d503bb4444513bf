/** A process on the simulated network. */
import type { ServerId, TransportHandler } from '../runtime/ports.ts'
import type { Host } from './event.ts'

/** A process on the network. */
export interface Station {
  readonly id: ServerId
  readonly host: Host
  readonly handler: TransportHandler
}
