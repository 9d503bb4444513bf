/** What the load generator needs of a connection to a server of either side. */

/** What became of a request. */
export interface Answer {
  readonly ok: boolean
  /** The request took no effect: this server does not lead. */
  readonly notLeader?: boolean
  /** Position of the server that leads, if this one knows. */
  readonly leader?: number | undefined
  readonly content?: Buffer
}

/** One connection; requests may overlap. */
export interface Client {
  put(key: Uint8Array, value: Uint8Array, done: (answer: Answer) => void): void
  /** A linearizable read. */
  get(key: Uint8Array, done: (answer: Answer) => void): void
  close(): void
}
