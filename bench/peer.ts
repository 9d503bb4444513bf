/** What the benchmarks need of an orchestrator that they measure. */
import type { EngineClient } from './engine-client.ts'

/** Names of the peers; `skein` is ours. */
export type PeerName = 'skein' | 'docker'

/** An orchestrator, started by the benchmark in a directory of its own, one manager node. */
export interface Peer {
  readonly name: PeerName
  /** Everything the peer writes is below; its processes have the path in their command lines. */
  readonly directory: string
  readonly client: EngineClient
  /** Milliseconds from the last start of the daemon's process until its API answered. */
  readonly startupMs: () => number
  /** Stops the daemon, waits for its end and starts it on the same data. */
  restart(): Promise<void>
  /** Stops everything and deletes the directory. */
  stop(): Promise<void>
}
