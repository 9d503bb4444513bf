/** What the crash test's client and its servers say to each other: one JSON text a line. */

/** Values are unique numbers; the key of a value is `value % KEYS`. */
export const KEYS = 61

/** A server process: its name is never used again after its removal. */
export interface Peer {
  readonly name: string
  /** `host:port` of its transport. */
  readonly address: string
}

/** A change of membership. */
export type Change = 'addLearner' | 'addVoter' | 'removeServer'

/** A request, without the number that its answer repeats. */
export type Request =
  /** Puts `value` at the end of the ledger; the command is padded to `sizeBytes`. */
  | { readonly type: 'write'; readonly value: number; readonly sizeBytes: number }
  /** Linearizable: the newest value of `key`. */
  | { readonly type: 'read'; readonly key: number }
  /** Linearizable: all values from position `from` on. */
  | { readonly type: 'tail'; readonly from: number }
  /** What this member holds now, however old. */
  | { readonly type: 'status' }
  | { readonly type: 'transfer' }
  /** Linearizable: who is a member. */
  | { readonly type: 'configuration' }
  /** Makes `peer` a learner or a voter, or removes it. */
  | { readonly type: 'change'; readonly change: Change; readonly peer: Peer }
  /** Cuts or mends this member's links to the others. */
  | { readonly type: 'cut'; readonly isCut: boolean }

/** What a member holds. */
export interface MemberStatus {
  readonly type: 'status'
  readonly role: string
  readonly term: number
  /** Number of values in the ledger, and a checksum over them. */
  readonly length: number
  readonly digest: number
  readonly snapshotIndex: number
}

/** An answer, without its request's number. */
export type Answer =
  | { readonly type: 'written'; readonly position: number; readonly term: number }
  /** `last` is 0 when the key has no value; `length` is the ledger's at that moment. */
  | { readonly type: 'value'; readonly length: number; readonly last: number }
  | { readonly type: 'tail'; readonly values: readonly number[]; readonly digest: number }
  | { readonly type: 'done' }
  /** Names by suffrage. */
  | {
      readonly type: 'configuration'
      readonly voters: readonly string[]
      readonly learners: readonly string[]
    }
  | MemberStatus
  /** `leader` is the name of the member that leads, empty when unknown. */
  | { readonly type: 'failed'; readonly code: string; readonly leader: string }

/** A request or answer with its number. */
export type Numbered<T> = T & { readonly id: number }

/** What a server process is told, as its first argument. */
export interface ServerSettings {
  readonly self: Peer
  /** Who the test knows to be there now, this member among them. */
  readonly peers: readonly Peer[]
  readonly host: string
  readonly clientPort: number
  readonly directory: string
  readonly log: 'level' | 'file'
  readonly transport: 'tcp' | 'mesh'
  /** Writes the first configuration, all of `peers`, before the start. */
  readonly bootstrap: boolean
}

/** Calls `onLine` with each whole line of a stream, decoded. The peer is this test's own. */
export function lineParser<T>(onLine: (value: T) => void): (chunk: Buffer) => void {
  const decoder = new TextDecoder()
  let rest = ''
  return (chunk) => {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(JSON.parse(line) as T)
  }
}

export function toLine(value: Numbered<Request> | Numbered<Answer>): string {
  return `${JSON.stringify(value)}\n`
}
