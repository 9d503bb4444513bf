/**
 * The manager's side of joining. Strangers get this far and no further: few at a time, five seconds
 * to prove that they know a secret, small messages, and a growing wait for an address that fails.
 * Nothing changes before the proof; then the authority proposes the node record.
 */
import { randomBytes } from 'node:crypto'
import type { Connection } from '@libp2p/interface'
import type { Clock } from '../base/clock.ts'
import { errorText, isSwarmError, SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import {
  JOIN_NONCE_BYTES,
  joinProof,
  provenSecret,
  type JoinExchange as ProofContext,
  type JoinSecrets,
  type ProvenSecret,
} from '../identity/join-proof.ts'
import type { JoinRole } from '../identity/join-token.ts'
import { nodeIdOf } from '../identity/peer-id.ts'
import { hostPortOf } from './addresses.ts'
import { deadline } from '../base/deadline.ts'
import { FailureBackoff } from './failure-backoff.ts'
import { JoinExchange } from './join-exchange.ts'
import { JOIN_MESSAGE_BYTES_MAX, JOIN_VERSION, type JoinMessage } from './join-message.ts'
import type { MuxedStream } from './muxed-stream.ts'
import { toWireError } from './wire-errors.ts'

/** Time in which a stranger must have proven that it knows a secret. */
export const JOIN_PROOF_TIMEOUT_MS = 5_000
/** Time for the admission, which waits for Raft, and for its way to the joiner. */
export const JOIN_ADMIT_TIMEOUT_MS = 30_000
/** Exchanges at the same time; more are refused. */
export const JOIN_EXCHANGES_MAX = 16

/** A node that proved a secret. */
export interface Joiner {
  readonly nodeId: string
  readonly peerId: string
  /** What its secret stands for. */
  readonly role: JoinRole
  /** The one-time secret that it proved; absent when it proved the role's own. */
  readonly once?: string
  /** What it says of itself; not checked. */
  readonly details: unknown
}

/** What came of the proofs. */
type Proven = ProvenSecret & { readonly details: unknown }

/** What joining means to the cluster. Each call may be answered differently than the one before. */
export interface JoinAuthority {
  rootPublicKey(): Uint8Array
  /** This manager's certificate; undefined on a node that is no manager. */
  certificate(): Uint8Array | undefined
  secrets(): JoinSecrets
  /** Makes the joiner a member; what it returns goes to the joiner as msgpack. */
  admit(joiner: Joiner): Promise<unknown>
}

/** What a join server is built from. */
export interface JoinServerComponents {
  readonly clock: Clock
  readonly log: Logger
  readonly authority: JoinAuthority
}

/** Answers the join protocol. */
export class JoinServer {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #authority: JoinAuthority
  readonly #peerId: string
  readonly #backoff: FailureBackoff
  #exchanges = 0

  constructor(components: JoinServerComponents, self: { readonly peerId: string }) {
    this.#clock = components.clock
    this.#log = components.log
    this.#authority = components.authority
    this.#peerId = self.peerId
    this.#backoff = new FailureBackoff(components.clock)
  }

  /** Takes a stream of the join protocol. */
  onStream(stream: MuxedStream, connection: Connection): void {
    const exchange = new JoinExchange(stream, JOIN_MESSAGE_BYTES_MAX)
    // Owned: it ends within its deadlines, and every operating error in it goes to the joiner.
    void this.#serve(exchange, connection)
  }

  async #serve(exchange: JoinExchange, connection: Connection): Promise<void> {
    const joinerPeerId = connection.remotePeer.toString()
    const source = sourceOf(connection)
    let secretProven = false
    this.#exchanges += 1
    try {
      this.#checkLimits(source)
      const proven = await this.#prove(exchange, joinerPeerId)
      secretProven = true
      this.#backoff.forget(source)
      await this.#admit(exchange, connection, proven)
    } catch (error) {
      if (!secretProven && countsAsFailure(error)) this.#backoff.failed(source)
      this.#log.info({ source, joinerPeerId, err: errorText(error) }, 'join refused')
      await this.#refuse(exchange, error)
    } finally {
      this.#exchanges -= 1
    }
  }

  #checkLimits(source: string): void {
    if (this.#exchanges > JOIN_EXCHANGES_MAX) {
      throw new SwarmError('RESOURCE_EXHAUSTED', 'join: too many nodes join now; try again shortly')
    }
    const waitMs = this.#backoff.waitMs(source)
    if (waitMs > 0) {
      const seconds = Math.ceil(waitMs / 1000)
      throw new SwarmError(
        'RESOURCE_EXHAUSTED',
        `join: too many failed attempts from ${source}; try again in ${seconds} s`,
      )
    }
  }

  /** Both proofs. @throws UNAUTHENTICATED, FAILED_PRECONDITION, TIMED_OUT, UNAVAILABLE */
  async #prove(exchange: JoinExchange, joinerPeerId: string): Promise<Proven> {
    using limit = deadline(this.#clock, JOIN_PROOF_TIMEOUT_MS, 'join')
    const hello = expectType(await exchange.receive(limit.signal), 'hello')
    if (hello.version !== JOIN_VERSION) {
      throw new SwarmError(
        'FAILED_PRECONDITION',
        `join: version ${hello.version} is not spoken here`,
      )
    }
    if (hello.nonce.length !== JOIN_NONCE_BYTES) {
      throw new SwarmError('UNAUTHENTICATED', 'join: malformed nonce')
    }
    const context = {
      managerPeerId: this.#peerId,
      joinerPeerId,
      managerNonce: new Uint8Array(randomBytes(JOIN_NONCE_BYTES)),
      joinerNonce: hello.nonce,
    }
    await exchange.send(this.#challenge(context))
    const { proof, details } = expectType(await exchange.receive(limit.signal), 'proof')
    const proven = provenSecret(proof, this.#authority.secrets(), context)
    if (proven === undefined) {
      throw new SwarmError('UNAUTHENTICATED', 'join token: the secret is wrong or was rotated')
    }
    return { ...proven, details }
  }

  #challenge(context: ProofContext): JoinMessage {
    const certificate = this.#authority.certificate()
    if (certificate === undefined) {
      throw new SwarmError('FAILED_PRECONDITION', 'join: this node is no manager; ask a manager')
    }
    const secrets = this.#authority.secrets()
    const proofOf = (secret: string): Uint8Array => joinProof(secret, 'manager', context)
    return {
      type: 'challenge',
      rootPublicKey: this.#authority.rootPublicKey(),
      certificate,
      nonce: context.managerNonce,
      workerProof: proofOf(secrets.worker),
      managerProof: proofOf(secrets.manager),
      onceProofs: secrets.once.map(({ secret }) => proofOf(secret)),
    }
  }

  async #admit(exchange: JoinExchange, connection: Connection, proven: Proven): Promise<void> {
    using limit = deadline(this.#clock, JOIN_ADMIT_TIMEOUT_MS, 'join')
    const publicKey = connection.remotePeer.publicKey?.raw
    if (publicKey === undefined) {
      throw new SwarmError('UNAUTHENTICATED', 'join: the peer id carries no Ed25519 key')
    }
    const nodeId = nodeIdOf(publicKey)
    const peerId = connection.remotePeer.toString()
    const admission = await this.#authority.admit({ nodeId, peerId, ...proven })
    this.#log.info({ nodeId, role: proven.role }, 'node admitted')
    await exchange.send({ type: 'admitted', admission })
    await this.#close(exchange, limit.signal)
  }

  /** Tells the joiner why, if it still listens. */
  async #refuse(exchange: JoinExchange, error: unknown): Promise<void> {
    const wire = toWireError(notManagerIsPrecondition(error))
    using limit = deadline(this.#clock, JOIN_PROOF_TIMEOUT_MS, 'join')
    try {
      await exchange.send({ type: 'refused', ...wire })
    } catch (sending) {
      if (!isSwarmError(sending, 'UNAVAILABLE')) throw sending
      return
    }
    await this.#close(exchange, limit.signal)
  }

  /** Waits until what was sent has left; the joiner may hang up before. */
  async #close(exchange: JoinExchange, signal: AbortSignal): Promise<void> {
    try {
      await exchange.close(signal)
    } catch (error) {
      exchange.abort(error instanceof Error ? error : new Error(errorText(error)))
    }
  }
}

/** The message if it is of `type`. @throws UNAUTHENTICATED the other side is out of turn */
export function expectType<T extends JoinMessage['type']>(
  message: JoinMessage,
  type: T,
): Extract<JoinMessage, { readonly type: T }> {
  if (message.type !== type) {
    throw new SwarmError('UNAUTHENTICATED', `join: ${message.type} came instead of ${type}`)
  }
  return message as Extract<JoinMessage, { readonly type: T }>
}

/** An authority that cannot open its secrets is that of a node which is no manager. */
function notManagerIsPrecondition(error: unknown): unknown {
  if (!isSwarmError(error, 'NOT_MANAGER')) return error
  return new SwarmError('FAILED_PRECONDITION', 'join: this node is no manager; ask a manager')
}

/** What a stranger can cause: a wrong proof, silence, a broken exchange. */
function countsAsFailure(error: unknown): boolean {
  return (
    isSwarmError(error, 'UNAUTHENTICATED') ||
    isSwarmError(error, 'TIMED_OUT') ||
    isSwarmError(error, 'UNAVAILABLE')
  )
}

function sourceOf(connection: Connection): string {
  return hostPortOf(connection.remoteAddr.toString()).host
}
