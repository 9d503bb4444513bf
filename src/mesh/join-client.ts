/**
 * The joiner's side: reaches a manager with the node's own key, checks that the cluster's root key
 * attests it, and proves that it knows the token's secret. Until the admission is here nothing has
 * changed on this node; the libp2p host that it uses listens nowhere and is stopped in any case.
 */
import type { Connection } from '@libp2p/interface'
import type { Clock } from '../base/clock.ts'
import { errorText, isSwarmError, SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { verifyCertificate } from '../identity/certificate.ts'
import { rootDigest } from '../identity/cluster-root.ts'
import {
  isJoinProof,
  JOIN_NONCE_BYTES,
  joinProof,
  type JoinExchange as ProofContext,
} from '../identity/join-proof.ts'
import { parseJoinToken, type JoinToken } from '../identity/join-token.ts'
import { nodeKey } from '../identity/node-key.ts'
import { multiaddrOf, parseHostPort } from './addresses.ts'
import { deadline } from '../base/deadline.ts'
import { startHost, type Host } from './host.ts'
import { JoinExchange } from './join-exchange.ts'
import {
  ADMISSION_BYTES_MAX,
  JOIN_PROTOCOL,
  JOIN_VERSION,
  type JoinChallenge,
  type JoinMessage,
} from './join-message.ts'
import { expectType, JOIN_ADMIT_TIMEOUT_MS, JOIN_PROOF_TIMEOUT_MS } from './join-server.ts'
import { fromWireError } from './wire-errors.ts'

/** What a join is made with. */
export interface JoinOptions {
  /** The node's Ed25519 seed, 32 bytes; the member will have the same key. */
  readonly privateKeySeed: Uint8Array
  /** Managers to ask, in turn: `host:port` or multiaddrs. */
  readonly addresses: readonly string[]
  /** `SWMTKN-1-…`. */
  readonly token: string
  /** What this node says of itself to the authority; goes as msgpack. */
  readonly details: unknown
  readonly signal?: AbortSignal
}

/** What joining needs. */
export interface JoinComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** How a join ended. */
export interface Joined {
  /** What the authority's `admit` returned. */
  readonly admission: unknown
  /** The root key that the token pinned. */
  readonly rootPublicKey: Uint8Array
  /** The address that answered. */
  readonly address: string
}

/**
 * Joins through the first address that admits.
 * @throws INVALID_ARGUMENT the token or an address is malformed · UNAUTHENTICATED wrong cluster, no
 *   manager's certificate, or wrong secret · UNAVAILABLE no address answers · FAILED_PRECONDITION
 *   only
 *   workers answer · or what the authority threw
 */
export async function join(components: JoinComponents, options: JoinOptions): Promise<Joined> {
  const token = parseJoinToken(options.token)
  if (options.addresses.length === 0) {
    throw new SwarmError('INVALID_ARGUMENT', 'join: needs the address of a manager')
  }
  const addresses = options.addresses.map(toMultiaddr)
  const gate = { isMember: () => false, admitsStrangers: () => false }
  const { privateKeySeed } = options
  const host = await startHost(components, { privateKeySeed, listenAddresses: [] }, gate)
  try {
    return await firstAdmission(new Joining(components, host, token, options), addresses)
  } finally {
    await host.stop()
  }
}

/** Asks each address in turn; another address can only help where this one was unable. */
async function firstAdmission(joining: Joining, addresses: readonly string[]): Promise<Joined> {
  const errors: SwarmError[] = []
  for (const address of addresses) {
    try {
      return await joining.through(address)
    } catch (error) {
      if (!isSwarmError(error) || !MAY_HELP_ELSEWHERE.has(error.code)) throw error
      errors.push(error)
    }
  }
  throw mostTelling(errors)
}

const MAY_HELP_ELSEWHERE: ReadonlySet<string> = new Set([
  'UNAVAILABLE',
  'TIMED_OUT',
  'FAILED_PRECONDITION',
  'RESOURCE_EXHAUSTED',
  'NO_LEADER',
  'SHUTTING_DOWN',
])

function mostTelling(errors: readonly SwarmError[]): SwarmError {
  const telling = errors.find((error) => error.code !== 'UNAVAILABLE') ?? errors[0]
  if (telling === undefined || errors.length === 1) {
    return telling ?? new SwarmError('INTERNAL', 'join: no address was asked')
  }
  return new SwarmError(telling.code, errors.map((error) => errorText(error)).join('; '))
}

class Joining {
  readonly #components: JoinComponents
  readonly #host: Host
  readonly #token: JoinToken
  readonly #options: JoinOptions
  readonly #peerId: string

  constructor(components: JoinComponents, host: Host, token: JoinToken, options: JoinOptions) {
    this.#components = components
    this.#host = host
    this.#token = token
    this.#options = options
    this.#peerId = nodeKey(options.privateKeySeed).peerId
  }

  async through(address: string): Promise<Joined> {
    const { clock } = this.#components
    using limit = deadline(clock, JOIN_PROOF_TIMEOUT_MS, `join ${address}`, this.#options.signal)
    const connection = await this.#reach(address, limit.signal)
    try {
      const stream = await connection.newStream(JOIN_PROTOCOL, { signal: limit.signal })
      const exchange = new JoinExchange(stream, ADMISSION_BYTES_MAX)
      const rootPublicKey = await this.#prove(exchange, connection, limit.signal)
      const admission = await this.#admission(exchange, address)
      return { admission, rootPublicKey, address }
    } catch (error) {
      throw isSwarmError(error) && error.code !== 'UNAVAILABLE'
        ? error
        : unreachable(address, error)
    } finally {
      connection.abort(new SwarmError('ABORTED', 'join: done'))
    }
  }

  async #reach(address: string, signal: AbortSignal): Promise<Connection> {
    try {
      return await this.#host.dial(address, undefined, signal)
    } catch (error) {
      if (isSwarmError(signal.reason, 'ABORTED')) throw signal.reason
      throw unreachable(address, signal.aborted ? signal.reason : error)
    }
  }

  /** Checks the manager, then proves to it. Returns the root key that both believe. */
  async #prove(
    exchange: JoinExchange,
    connection: Connection,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const joinerNonce = this.#components.random.bytes(JOIN_NONCE_BYTES)
    await exchange.send({ type: 'hello', version: JOIN_VERSION, nonce: joinerNonce })
    const challenge = expectType(refusedThrows(await exchange.receive(signal)), 'challenge')
    const context: ProofContext = {
      managerPeerId: connection.remotePeer.toString(),
      joinerPeerId: this.#peerId,
      managerNonce: challenge.nonce,
      joinerNonce,
    }
    this.#checkManager(challenge, context)
    const proof = joinProof(this.#token.secret, 'joiner', context)
    await exchange.send({ type: 'proof', proof, details: this.#options.details })
    return Uint8Array.from(challenge.rootPublicKey)
  }

  #checkManager(challenge: JoinChallenge, context: ProofContext): void {
    const actual = rootDigest(challenge.rootPublicKey)
    if (actual !== this.#token.rootDigest) {
      throw new SwarmError(
        'UNAUTHENTICATED',
        `join token: is for the cluster ${this.#token.rootDigest}, the manager is of ${actual}`,
      )
    }
    const { peerId } = verifyCertificate(challenge.rootPublicKey, challenge.certificate)
    if (peerId !== context.managerPeerId) {
      throw new SwarmError('UNAUTHENTICATED', 'manager certificate: belongs to another node')
    }
    const { secret } = this.#token
    const { workerProof, managerProof, onceProofs } = challenge
    const proofs = [workerProof, managerProof, ...onceProofs]
    if (!proofs.some((proof) => isJoinProof(proof, secret, 'manager', context))) {
      throw new SwarmError('UNAUTHENTICATED', 'join token: the secret is wrong or was rotated')
    }
  }

  async #admission(exchange: JoinExchange, address: string): Promise<unknown> {
    const { clock } = this.#components
    const { signal } = this.#options
    using limit = deadline(clock, JOIN_ADMIT_TIMEOUT_MS, `join ${address}: admission`, signal)
    const message = refusedThrows(await exchange.receive(limit.signal))
    return expectType(message, 'admitted').admission
  }
}

function refusedThrows(message: JoinMessage): JoinMessage {
  if (message.type === 'refused') throw fromWireError(message.code, message.message)
  return message
}

function unreachable(address: string, cause: unknown): SwarmError {
  return new SwarmError('UNAVAILABLE', `manager ${address}: cannot be reached`, { cause })
}

function toMultiaddr(address: string): string {
  return address.startsWith('/') ? address : multiaddrOf(parseHostPort(address))
}
