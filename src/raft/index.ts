/** raft-ts: consensus as a library of its own. The folder's public face. */
export { Raft } from './runtime/raft.ts'
export type { AddVoterOptions, ReadOptions } from './runtime/raft.ts'
export type { Leadership, RaftStats } from './runtime/member-view.ts'
export { OBSERVATIONS_MAX, type ObservationStream } from './runtime/observations.ts'
export type {
  Observation,
  ObservationFilter,
  ObservationType,
  ObserveOptions,
  StagingPhase,
  TransferPhase,
} from './runtime/observations.ts'
export { COUNTERS, GAUGES, TIMINGS } from './runtime/metrics.ts'
export type { CounterName, GaugeName, MetricsSink, TimingName } from './runtime/metrics.ts'
export type { ReloadableConfig } from './runtime/reloadable-config.ts'
export type { RestoreOptions } from './runtime/restore.ts'
export type { Stores } from './runtime/stored-state.ts'
export type { MemberProgress } from './runtime/succession.ts'
export type { MembershipChange, MembershipOptions } from './runtime/membership-changes.ts'
export { resolveRaftOptions } from './runtime/options.ts'
export type { RaftComponents, RaftOptions, ResolvedRaftOptions } from './runtime/options.ts'
export type { CallOptions } from './runtime/pending-calls.ts'
export type { Applied } from './runtime/proposals.ts'
export type {
  CommittedEntry,
  Configuration,
  Server,
  ServerId,
  SnapshotOffer,
  SnapshotTransfer,
  StateMachine,
  Transport,
  TransportHandler,
} from './runtime/ports.ts'
export {
  CODEC_VERSION,
  decodeMessages,
  decodeTransferHeader,
  encodeMessages,
  encodeTransferHeader,
} from './runtime/codec.ts'
export { MemoryNetwork } from './runtime/memory-transport.ts'
export { SimulatedClock } from './runtime/simulated-clock.ts'
export { FileLogStore } from './storage/file-log-store.ts'
export type { FileLogStoreOptions } from './storage/file-log-store.ts'
export { LevelLogStore } from './storage/level-log-store.ts'
export { FileSnapshotStore } from './storage/file-snapshot-store.ts'
export { MemoryLogStore } from './storage/memory-log-store.ts'
export { MemorySnapshotStore } from './storage/memory-snapshot-store.ts'
export type {
  LogStore,
  PartialSink,
  SnapshotIdentity,
  SnapshotPin,
  SnapshotStore,
  StoredSnapshot,
} from './storage/ports.ts'
export { TcpTransport } from './transport/tcp-transport.ts'
export type { TcpTransportComponents, TcpTransportOptions } from './transport/tcp-transport.ts'
export type { Message } from './core/message.ts'
export type { Index, SnapshotMetadata, Term } from './core/entry.ts'
export type { Role } from './core/ready.ts'
