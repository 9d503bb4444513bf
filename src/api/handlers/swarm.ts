/** `/swarm*`: forming, joining and leaving a swarm, its settings and its join tokens. */
import { SwarmError, isSwarmError } from '../../base/errors.ts'
import { assertPools } from '../../control/network-range.ts'
import { DATA_PATH_PORT, swarmJson, withDefaults } from '../docker/swarm.ts'
import { requireManager } from '../manager.ts'
import type { ApiComponents, InitRequest } from '../ports.ts'
import { empty, json, refusal } from '../reply.ts'
import type { Reply } from '../reply.ts'
import { flag, jsonBody, versionParameter } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'
import {
  decodeClusterSpec,
  decodeInit,
  decodeJoin,
  decodeJoinTokenRequest,
} from '../schemas/swarm.ts'
import type { InitBody } from '../schemas/swarm.ts'

/**
 * What the docker CLI sends when the user named no listen address. It cannot leave the member out,
 * so this text means "the daemon's own".
 */
const DOCKER_LISTEN_DEFAULT = '0.0.0.0:2377'

/** Docker sends 24 when the user named no subnet size. */
const SUBNET_SIZE_DEFAULT = 24

/** Routes of the swarm itself. */
export function swarmRoutes(components: ApiComponents): readonly Route[] {
  return [
    route('GET', '/swarm', () => inspect(components)),
    route('POST', '/swarm/init', (request) => init(components, request)),
    route('POST', '/swarm/join', (request) => join(components, request)),
    route('POST', '/swarm/leave', (request) => leave(components, request)),
    route('POST', '/swarm/update', (request) => update(components, request)),
    route('POST', '/skein/swarm/join-tokens', (request) => onceToken(components, request)),
    route('GET', '/swarm/unlockkey', () => {
      requireManager(components)
      return json({ UnlockKey: '' })
    }),
    route('POST', '/swarm/unlock', () => {
      throw new SwarmError('FAILED_PRECONDITION', 'swarm is not locked')
    }),
  ]
}

async function inspect(components: ApiComponents): Promise<Reply> {
  const { store } = requireManager(components)
  const cluster = store.cluster()
  if (cluster === undefined) throw new SwarmError('NO_LEADER', 'cluster: not caught up yet')
  return json(swarmJson(cluster, await components.swarm.joinTokens()))
}

async function init(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const body = decodeInit(await jsonBody(request))
  if (body.AutoLockManagers || body.Spec?.EncryptionConfig?.AutoLockManagers === true) {
    throw new SwarmError('UNIMPLEMENTED', 'swarm init: autolock is not built yet')
  }
  assertDataPath('init', body)
  const asked = initRequest(body)
  assertPools(asked.addressPools, asked.subnetSize)
  return json(await components.swarm.init(asked))
}

/** Between nodes containers' traffic goes where the swarm's goes, to one port. */
function assertDataPath(
  verb: 'init' | 'join',
  body: { readonly DataPathAddr: string; readonly DataPathPort?: number },
): void {
  const { DataPathAddr: address, DataPathPort: port = 0 } = body
  const refuse = (option: string): never => {
    throw new SwarmError('UNIMPLEMENTED', `swarm ${verb}: ${option} is not supported`)
  }
  if (address !== '') refuse(`--data-path-addr ${address}`)
  if (port !== 0 && port !== DATA_PATH_PORT) refuse(`--data-path-port ${port}`)
}

function initRequest(body: InitBody): InitRequest {
  return {
    listenAddress: listenAddress(body.ListenAddr),
    advertiseAddress: body.AdvertiseAddr,
    forceNewCluster: body.ForceNewCluster,
    availability: body.Availability === '' ? 'active' : body.Availability,
    spec: withDefaults(body.Spec ?? {}),
    addressPools: body.DefaultAddrPool,
    subnetSize: body.SubnetSize === 0 ? SUBNET_SIZE_DEFAULT : body.SubnetSize,
  }
}

async function join(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const body = decodeJoin(await jsonBody(request))
  assertDataPath('join', body)
  await components.swarm.join({
    listenAddress: listenAddress(body.ListenAddr),
    advertiseAddress: body.AdvertiseAddr,
    remoteAddresses: body.RemoteAddrs,
    token: body.JoinToken,
    availability: body.Availability === '' ? 'active' : body.Availability,
  })
  return empty()
}

function listenAddress(given: string): string {
  return given === DOCKER_LISTEN_DEFAULT ? '' : given
}

/** Docker answers 503, not 400, to a manager that leaves without force. */
async function leave(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  try {
    await components.swarm.leave({ force: flag(request, 'force') })
  } catch (error) {
    if (isSwarmError(error, 'FAILED_PRECONDITION')) return refusal(503, error.message)
    throw error
  }
  return empty()
}

async function update(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  const { store, proposer } = requireManager(components)
  const version = versionParameter(request, 'swarm')
  const spec = withDefaults(decodeClusterSpec(await jsonBody(request)))
  const cluster = store.cluster()
  if (cluster === undefined) throw new SwarmError('NO_LEADER', 'cluster: not caught up yet')
  if (spec.EncryptionConfig?.AutoLockManagers === true) {
    throw new SwarmError('UNIMPLEMENTED', 'swarm update: autolock is not built yet')
  }
  const { meta: _meta, ...draft } = cluster
  await proposer.propose(
    [{ type: 'update', table: 'cluster', object: { ...draft, spec }, version }],
    { requestId: request.requestId, signal: request.signal },
  )
  const rotate = {
    worker: flag(request, 'rotateWorkerToken'),
    manager: flag(request, 'rotateManagerToken'),
  }
  if (rotate.worker || rotate.manager) await components.swarm.rotateJoinTokens(rotate)
  return empty()
}

/** Not Docker's: a token that admits one node. */
async function onceToken(components: ApiComponents, request: ApiRequest): Promise<Reply> {
  requireManager(components)
  const { Role: role } = decodeJoinTokenRequest(await jsonBody(request))
  return json({ Token: await components.swarm.onceToken(role) }, 201)
}
