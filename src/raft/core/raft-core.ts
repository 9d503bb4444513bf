/** Skeleton of the public face; the implementation follows. */
import type { CoreOptions } from './core-options.ts'
import type { ConfChange, ConfState, PeerId } from './entry.ts'
import type { Message, ProposedEntry } from './message.ts'
import type { LogView, Ready } from './ready.ts'
import type { CoreStatus, ProgressStatus } from './status.ts'

/**
 * What became of an input. `dropped`: a proposal with no leader, in transfer, or over a limit.
 * `peerNotFound`: an answer from someone who is no member. `localMessage`: refused from the network.
 */
export type StepResult = 'ok' | 'dropped' | 'peerNotFound' | 'localMessage'

const missing = (): never => {
  throw new Error('raft core is being built')
}

/** The pure consensus core. */
export class RaftCore {
  static restore(_options: CoreOptions, _view: LogView): RaftCore {
    return missing()
  }
  tick(): void {
    missing()
  }
  step(_message: Message): StepResult {
    return missing()
  }
  campaign(): void {
    missing()
  }
  propose(_entries: readonly ProposedEntry[]): StepResult {
    return missing()
  }
  proposeConfChange(_change: ConfChange): StepResult {
    return missing()
  }
  /** To be called for every committed configuration entry, also for one that is refused (then with no changes applied by the caller's choice). */
  applyConfChange(_change: ConfChange): ConfState {
    return missing()
  }
  readIndex(_context: number): void {
    missing()
  }
  transferLeader(_to: PeerId): void {
    missing()
  }
  forgetLeader(): void {
    missing()
  }
  reportUnreachable(_id: PeerId): void {
    missing()
  }
  reportSnapshot(_id: PeerId, _ok: boolean): void {
    missing()
  }
  hasReady(): boolean {
    return missing()
  }
  ready(): Ready {
    return missing()
  }
  advance(_ready: Ready): void {
    missing()
  }
  status(): CoreStatus {
    return missing()
  }
  progress(): ReadonlyMap<PeerId, ProgressStatus> {
    return missing()
  }
}
