/**
 * What the rest of Skein needs of the mesh: authenticated requests and byte streams between
 * members, and whether a member can be reached. Nodes are named by node id; which connection
 * carries a message is the mesh's business. Raft's transport is separate (`raft-transport.ts`).
 */

/** A member as the mesh must know it; comes from the replicated nodes. */
export interface Member {
  readonly nodeId: string
  readonly peerId: string
  /** Multiaddrs without the `/p2p/` part, best first. */
  readonly addresses: readonly string[]
}

/** Whether a member can be reached now, and since when (monotonic milliseconds). */
export interface PeerState {
  readonly nodeId: string
  readonly reachable: boolean
  readonly sinceMs: number
  /** Smoothed round-trip time of the link's pings, milliseconds. */
  readonly rttMs?: number
  /** The member through which it is reached; absent when the link is direct or there is none. */
  readonly via?: string
}

/** Options of one request. */
export interface RequestOptions {
  readonly signal?: AbortSignal
  /** Default `REQUEST_TIMEOUT_MS`. */
  readonly timeoutMs?: number
}

/** Deadline of a request when none is named. */
export const REQUEST_TIMEOUT_MS = 10_000

/** Most bytes of one request or answer on the control stream. */
export const CONTROL_MESSAGE_BYTES_MAX = 2 * 1024 * 1024

/** A duplex byte stream to a member, with back-pressure in both directions. */
export interface Duplex {
  readonly nodeId: string
  /** Bytes from the other side; ends at its end of stream, throws when the stream is reset. */
  readonly source: AsyncIterable<Uint8Array>
  /** Resolves when the bytes are accepted and more may be given. @throws UNAVAILABLE when reset */
  write(chunk: Uint8Array): Promise<void>
  /** Half-close: no more bytes from here. */
  end(): Promise<void>
  /** Drops the stream at once in both directions. */
  abort(reason: Error): void
}

/** The running mesh. Implemented by `mesh/mesh.ts`. */
export interface Mesh {
  readonly self: Member
  /** Replaces the set of members: opens links to new ones, closes links of those removed. */
  setMembers(members: readonly Member[]): void
  /** State of every known member but this node. */
  peers(): readonly PeerState[]
  /**
   * Calls `listener` when a member becomes reachable or unreachable, or is reached another way;
   * returns the undo.
   */
  onPeer(listener: (peer: PeerState) => void): () => void
  /**
   * Asks one member. Errors of the far handler arrive as the SwarmError that it threw.
   * @throws UNAVAILABLE (no link), TIMED_OUT, ABORTED, or the far handler's code
   */
  request(nodeId: string, method: string, body: unknown, options?: RequestOptions): Promise<unknown>
  /** Answers `method`. One handler per method. The caller is a member; `nodeId` is proven. */
  handle(method: string, handler: (body: unknown, nodeId: string) => Promise<unknown>): void
  /** Opens a byte stream to a member's `handleStream` of the same name; `header` is sent first. */
  openStream(
    nodeId: string,
    method: string,
    header: unknown,
    options?: RequestOptions,
  ): Promise<Duplex>
  handleStream(method: string, handler: (header: unknown, stream: Duplex) => Promise<void>): void
}
