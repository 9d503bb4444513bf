/**
 * Whether and how this node is in a swarm: the one state, and the four transitions that users ask
 * for.
 *
 *             init, join                    admitted, caught up
 *   inactive ───────────► pending ─────────────────────────────► active
 *      ▲                     │ refused                              │
 *      ├─────────────────────┘                leave                 │
 *      └────────────────────────────────────────────────────────────┘
 *   error: the swarm directory or its log is damaged; only `leave --force` or an operator helps
 *
 * A failed init or join leaves no trace but the node's key. Leaving removes the key: who joins
 * again is a new node, so a Raft id is never used twice (`swarm-directory.ts`).
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { InitRequest, JoinRequest, SwarmControl, SwarmStatus } from '../api/ports.ts'
import { ERROR_CODES, SwarmError, errorText } from '../base/errors.ts'
import { parseHostPort } from '../mesh/addresses.ts'
import { chooseAdvertised } from './advertise.ts'
import type { NodeAddresses } from './advertise.ts'
import { proposeContended } from './contended-proposal.ts'
import { foundCluster } from './found-cluster.ts'
import { joinCluster, untilCaughtUp } from './join-cluster.ts'
import { LEAVE_NOTICE_TIMEOUT_MS } from './limits.ts'
import type { SwarmMember } from './member.ts'
import { readMembership } from './membership-file.ts'
import { remoteManagers, retire } from './retire.ts'
import { openMember, openStart } from './start.ts'
import type { Start, StartComponents } from './start.ts'
import { clearAttempt, removeSwarmDirectory } from './swarm-directory.ts'

/** What runs on a member besides membership; `node.ts` attaches it. */
export interface Attachment {
  /** `purge`: the node leaves, so tasks are stopped and all they left is removed. */
  stop(options: { readonly purge: boolean }): Promise<void>
}

/** What the swarm is built from. */
export interface SwarmComponents<A extends Attachment> extends StartComponents {
  readonly attach: (member: SwarmMember, addresses: NodeAddresses) => Promise<A>
  /** Removes all tasks of a membership that could not be taken up and is given up now. */
  readonly abandonTasks: (nodeId: string) => Promise<void>
}

/** What the swarm is built with. */
export interface SwarmOptions {
  readonly dataDirectory: string
  /** The daemon's `--listen-addr` and `--advertise-addr`. */
  readonly listenAddress: string
  readonly advertiseAddress: string
}

interface Active<A extends Attachment> {
  readonly member: SwarmMember
  readonly attachment: A
  readonly addresses: NodeAddresses
}

type State<A extends Attachment> =
  | { readonly type: 'inactive' }
  | { readonly type: 'pending' }
  | ({ readonly type: 'active' } & Active<A>)
  | { readonly type: 'error'; readonly nodeId: string; readonly failure: SwarmError }

interface AddressRequest {
  readonly listenAddress: string
  readonly advertiseAddress: string
}

/** The default of docker's CLI, which it sends when the user named nothing. */
const DOCKER_LISTEN_DEFAULT = '0.0.0.0:2377'

/** This node's membership. */
export class Swarm<A extends Attachment> implements SwarmControl {
  readonly #components: SwarmComponents<A>
  readonly #options: SwarmOptions
  #state: State<A> = { type: 'inactive' }

  private constructor(components: SwarmComponents<A>, options: SwarmOptions) {
    this.#components = components
    this.#options = options
  }

  /** Takes up the membership that the data directory holds, if any. */
  static async open<A extends Attachment>(
    components: SwarmComponents<A>,
    options: SwarmOptions,
  ): Promise<Swarm<A>> {
    const swarm = new Swarm(components, options)
    await swarm.#resume()
    return swarm
  }

  get member(): SwarmMember | undefined {
    return this.#state.type === 'active' ? this.#state.member : undefined
  }

  get attachment(): A | undefined {
    return this.#state.type === 'active' ? this.#state.attachment : undefined
  }

  get addresses(): NodeAddresses | undefined {
    return this.#state.type === 'active' ? this.#state.addresses : undefined
  }

  status(): SwarmStatus {
    const { member, addresses } = this
    const state = this.#state
    const failure = state.type === 'error' ? state.failure : member?.failure
    const formerId = state.type === 'error' ? state.nodeId : ''
    return {
      state: failure === undefined ? state.type : 'error',
      nodeId: member?.nodeId ?? formerId,
      nodeAddress: addresses?.advertised.host ?? '',
      controlAvailable: failure === undefined && member?.role === 'manager',
      error: failure === undefined ? '' : errorText(failure),
      failure,
      remoteManagers: member === undefined ? [] : remoteManagers(member.store),
    }
  }

  init(request: InitRequest): Promise<string> {
    if (request.forceNewCluster) {
      const hint = 'see docs/recovery.md for what to do after a lost quorum'
      throw new SwarmError('UNIMPLEMENTED', `swarm init: --force-new-cluster is not built; ${hint}`)
    }
    return this.#enter(request, (start) => foundCluster(start, request))
  }

  async join(request: JoinRequest): Promise<void> {
    await this.#enter(request, (start) => joinCluster(start, request))
    const { member } = this
    if (member !== undefined) await untilCaughtUp(member)
  }

  async leave(options: { readonly force: boolean }): Promise<void> {
    const state = this.#state
    if (state.type === 'inactive') throw notInSwarm()
    if (state.type === 'pending') {
      throw new SwarmError('UNAVAILABLE', 'swarm: this node is just joining; try again shortly')
    }
    if (state.type === 'error' && !options.force) {
      const reason = errorText(state.failure)
      throw new SwarmError('FAILED_PRECONDITION', `swarm: ${reason}; use --force to leave`)
    }
    if (state.type === 'error') await this.#components.abandonTasks(state.nodeId)
    if (state.type === 'active') {
      if (state.member.role === 'manager' && !options.force) throw managerLeaves(state.member)
      this.#state = { type: 'pending' }
      await retire(state.member, AbortSignal.timeout(LEAVE_NOTICE_TIMEOUT_MS)).catch(
        (error: unknown) => {
          this.#components.log.warn({ err: errorText(error) }, 'left without telling the swarm')
        },
      )
      await state.attachment.stop({ purge: true })
      await state.member.close({ transfer: true })
    }
    await removeSwarmDirectory(this.#directory)
    this.#state = { type: 'inactive' }
    this.#components.log.info({}, 'left the swarm')
  }

  async joinTokens(): Promise<{ readonly worker: string; readonly manager: string }> {
    const { store, keys } = this.#manager()
    return Promise.resolve(keys.tokens(store))
  }

  async rotateJoinTokens(which: {
    readonly worker: boolean
    readonly manager: boolean
  }): Promise<void> {
    const { store, keys, proposer } = this.#manager()
    await proposeContended(proposer, () => [keys.rotation(store, which)])
  }

  async onceToken(role: 'worker' | 'manager'): Promise<string> {
    const { store, keys, proposer } = this.#manager()
    const { secret, token } = keys.newOnceToken(store)
    await proposeContended(proposer, () => [keys.onceMade(store, { role, secret })])
    return token
  }

  leaderId(): string | undefined {
    return this.member?.raft.leader
  }

  reachability(nodeId: string): 'reachable' | 'unreachable' | 'unknown' {
    const { member } = this
    if (member === undefined) return 'unknown'
    if (nodeId === member.nodeId) return 'reachable'
    const peer = member.mesh.peers().find((one) => one.nodeId === nodeId)
    if (peer === undefined) return 'unknown'
    return peer.reachable ? 'reachable' : 'unreachable'
  }

  /** The daemon ends: everything stops but the containers. */
  async close(): Promise<void> {
    const state = this.#state
    if (state.type !== 'active') return
    this.#state = { type: 'pending' }
    await state.attachment.stop({ purge: false })
    await state.member.close({ transfer: true })
  }

  get #directory(): string {
    return join(this.#options.dataDirectory, 'swarm')
  }

  #manager(): SwarmMember {
    const { member } = this
    if (member === undefined) throw notInSwarm()
    if (member.failure !== undefined) throw member.failure
    if (member.role !== 'manager') {
      throw new SwarmError('NOT_MANAGER', 'This node is not a swarm manager.')
    }
    return member
  }

  /** Init and join alike: from inactive to active, or back without a trace but the key. */
  async #enter(
    request: AddressRequest,
    found: (start: Start) => Promise<SwarmMember>,
  ): Promise<string> {
    if (this.#state.type !== 'inactive') throw inSwarmAlready()
    const addresses = this.#addressesFor(request)
    this.#state = { type: 'pending' }
    try {
      await clearAttempt(this.#directory)
      await mkdir(this.#directory, { recursive: true, mode: 0o700 })
      return await this.#activate(addresses, found)
    } catch (error) {
      await clearAttempt(this.#directory)
      this.#state = { type: 'inactive' }
      throw error
    }
  }

  /** Opens what a member needs, has `found` make the member, and attaches the rest. */
  async #activate(
    addresses: NodeAddresses,
    found: (start: Start) => Promise<SwarmMember>,
  ): Promise<string> {
    const start = await openStart(this.#components, this.#directory, addresses)
    let member: SwarmMember | undefined
    try {
      member = await found(start)
      const attachment = await this.#components.attach(member, addresses)
      member.connect()
      this.#state = { type: 'active', member, attachment, addresses }
      this.#components.log.info({ node: member.nodeId }, 'this node is in the swarm')
      return member.nodeId
    } catch (error) {
      if (member === undefined) await start.mesh.close()
      else await member.close({ transfer: false })
      throw error
    }
  }

  async #resume(): Promise<void> {
    let nodeId = ''
    try {
      const record = await readMembership(this.#directory)
      if (record === undefined) return
      nodeId = record.nodeId
      const addresses = {
        listen: parseHostPort(record.listenAddress),
        advertised: parseHostPort(record.advertiseAddress),
      }
      this.#state = { type: 'pending' }
      await this.#activate(addresses, (start) => openMember(start, record, { bootstrap: false }))
    } catch (error) {
      const failure = notTakenUp(error)
      this.#state = { type: 'error', nodeId, failure }
      const fields = { code: failure.code, err: errorText(failure) }
      this.#components.log.error(fields, 'the swarm could not be taken up again')
    }
  }

  /** docker's CLI always names a listen address; its default means the daemon's own. */
  #addressesFor(request: AddressRequest): NodeAddresses {
    const named = request.listenAddress
    const own = named === '' || named === DOCKER_LISTEN_DEFAULT
    const listen = parseHostPort(own ? this.#options.listenAddress : named)
    const advertise = request.advertiseAddress || this.#options.advertiseAddress
    return { listen, advertised: chooseAdvertised(advertise, listen) }
  }
}

function notTakenUp(cause: unknown): SwarmError {
  const code = cause instanceof SwarmError ? cause.code : 'INTERNAL'
  const message = `the swarm could not be taken up again: ${ERROR_CODES[code]}`
  return new SwarmError(code, message, { cause })
}

function notInSwarm(): SwarmError {
  return new SwarmError('NOT_SWARM_MEMBER', 'This node is not part of a swarm')
}

function inSwarmAlready(): SwarmError {
  return new SwarmError(
    'ALREADY_SWARM_MEMBER',
    'This node is already part of a swarm. Use "swarm leave" to leave this swarm and join another one.',
  )
}

function managerLeaves(member: SwarmMember): SwarmError {
  const managers = member.store.list('nodes').filter((node) => node.spec.Role === 'manager').length
  const last = managers <= 1
  return new SwarmError(
    'FAILED_PRECONDITION',
    'You are attempting to leave the swarm on a node that is participating as a manager. ' +
      (last
        ? 'Removing the last manager erases all current state of the swarm. '
        : `Removing this node leaves ${managers - 1} managers out of ${managers}. `) +
      'Use `--force` to leave all the same.',
  )
}
