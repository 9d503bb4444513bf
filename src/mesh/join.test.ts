/**
 * Joining over real libp2p: the good case, everything that must be refused, and what is on the
 * wire.
 */
import type { Stream } from '@libp2p/interface'
import test from 'ava'
import { SwarmError } from '../base/errors.ts'
import { systemRandom } from '../base/random.ts'
import { issueCertificate } from '../identity/certificate.ts'
import { newClusterRoot, rootDigest } from '../identity/cluster-root.ts'
import type { SigningKey } from '../identity/ed25519.ts'
import type { JoinSecrets } from '../identity/join-proof.ts'
import { formatJoinToken, newJoinSecret } from '../identity/join-token.ts'
import { nodeKey } from '../identity/node-key.ts'
import { ONCE_TOKENS_MAX, type OnceSecret } from '../identity/once-secrets.ts'
import { hostPortOf } from './addresses.ts'
import { startHost } from './host.ts'
import { join } from './join-client.ts'
import {
  decodeJoin,
  encodeJoin,
  JOIN_MESSAGE_BYTES_MAX,
  JOIN_PROTOCOL,
  type JoinChallenge,
} from './join-message.ts'
import { type JoinAuthority, JoinServer, type Joiner } from './join-server.ts'
import type { MeshHost } from './mesh.ts'
import type { MuxedStream } from './muxed-stream.ts'
import { components, connectAll, connected, failure, loopbackMesh } from './testing/swarm.ts'

interface Cluster {
  readonly root: SigningKey
  readonly joiners: Joiner[]
  secrets: JoinSecrets
}

function newCluster(): Cluster {
  const secrets = {
    worker: newJoinSecret(systemRandom),
    manager: newJoinSecret(systemRandom),
    once: [],
  }
  return { root: newClusterRoot(systemRandom), joiners: [], secrets }
}

function authorityOf(cluster: Cluster, certifiedPeerId: string): JoinAuthority {
  const certificate = { peerId: certifiedPeerId, role: 'manager', serial: 1 } as const
  return {
    rootPublicKey: () => cluster.root.publicKey,
    certificate: () => issueCertificate(cluster.root, certificate),
    secrets: () => cluster.secrets,
    admit: (joiner) => {
      cluster.joiners.push(joiner)
      return Promise.resolve({ clusterId: 'c', role: joiner.role })
    },
  }
}

async function manager(cluster: Cluster): Promise<MeshHost> {
  const mesh = await loopbackMesh()
  mesh.serveJoins(authorityOf(cluster, mesh.self.peerId))
  return mesh
}

function token(cluster: Cluster, role: 'worker' | 'manager' = 'worker'): string {
  return formatJoinToken(cluster.root.publicKey, cluster.secrets[role])
}

function attempt(
  mesh: Pick<MeshHost, 'self'>,
  joinToken: string,
  privateKeySeed = systemRandom.bytes(32),
): ReturnType<typeof join> {
  const { addresses } = mesh.self
  return join(components, { privateKeySeed, addresses, token: joinToken, details: { port: 1 } })
}

test('the token’s secret decides the role, and the joiner’s identity is proven', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  for (const role of ['worker', 'manager'] as const) {
    const seed = systemRandom.bytes(32)
    const joined = await attempt(mesh, token(cluster, role), seed)
    t.deepEqual(joined.admission, { clusterId: 'c', role })
    t.deepEqual(joined.rootPublicKey, cluster.root.publicKey)
    const { nodeId, peerId } = nodeKey(seed)
    t.deepEqual(cluster.joiners.at(-1), { nodeId, peerId, role, details: { port: 1 } })
  }
})

test('host:port is as good as a multiaddr, and a dead address is passed over', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  const { host, port } = hostPortOf(mesh.self.addresses[0] ?? '')
  const joined = await join(components, {
    privateKeySeed: systemRandom.bytes(32),
    addresses: ['127.0.0.1:1', `${host}:${port}`],
    token: token(cluster),
    details: null,
  })
  t.is(joined.address, `/ip4/127.0.0.1/tcp/${port}`)
})

test('a manager is found by name and over IPv6', async (t) => {
  const cluster = newCluster()
  await using mesh = await loopbackMesh({
    listenAddresses: ['/ip6/::1/tcp/0', '/ip4/0.0.0.0/tcp/0'],
  })
  mesh.serveJoins(authorityOf(cluster, mesh.self.peerId))
  const ports = mesh.self.addresses.map((address) => hostPortOf(address))
  const v6 = ports.find(({ host }) => host === '::1')
  const v4 = ports.find(({ host }) => host === '127.0.0.1')
  for (const address of [`[::1]:${v6?.port}`, `localhost:${v4?.port}`]) {
    const joined = await join(components, {
      privateKeySeed: systemRandom.bytes(32),
      addresses: [address],
      token: token(cluster),
      details: null,
    })
    t.deepEqual(joined.admission, { clusterId: 'c', role: 'worker' })
  }
})

test('who was admitted becomes a member with the same key', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  mesh.handle('hello', (_body, from) => Promise.resolve(from))
  const privateKeySeed = systemRandom.bytes(32)
  await attempt(mesh, token(cluster), privateKeySeed)
  await using joiner = await loopbackMesh({ privateKeySeed })
  connectAll([mesh, joiner])
  await connected([mesh, joiner])
  t.is(await joiner.request(mesh.self.nodeId, 'hello', null), cluster.joiners[0]?.nodeId)
})

test('a wrong or rotated secret is refused and nobody is admitted', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  const old = token(cluster)
  const wrong = formatJoinToken(cluster.root.publicKey, newJoinSecret(systemRandom))
  const error = await failure(attempt(mesh, wrong))
  t.is(error.code, 'UNAUTHENTICATED')
  t.regex(error.message, /^join token: the secret is wrong or was rotated/)
  cluster.secrets = { ...cluster.secrets, worker: newJoinSecret(systemRandom) }
  t.is((await failure(attempt(mesh, old))).code, 'UNAUTHENTICATED')
  t.deepEqual(cluster.joiners, [])
  await attempt(mesh, token(cluster))
  t.is(cluster.joiners.length, 1)
})

test('a one-time token is proven as such, among as many as there may be', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  const once = Array.from({ length: ONCE_TOKENS_MAX }, (_, n): OnceSecret => {
    return { role: n === 200 ? 'manager' : 'worker', secret: newJoinSecret(systemRandom) }
  })
  cluster.secrets = { ...cluster.secrets, once }
  const secret = once[200]?.secret ?? ''
  const seed = systemRandom.bytes(32)
  const joined = await attempt(mesh, formatJoinToken(cluster.root.publicKey, secret), seed)
  t.deepEqual(joined.admission, { clusterId: 'c', role: 'manager' })
  const { nodeId, peerId } = nodeKey(seed)
  const expected = { nodeId, peerId, role: 'manager', once: secret, details: { port: 1 } } as const
  t.deepEqual(cluster.joiners, [expected])
  cluster.secrets = { ...cluster.secrets, once: [] }
  const late = await failure(
    attempt(mesh, formatJoinToken(cluster.root.publicKey, once[0]?.secret ?? '')),
  )
  t.is(late.code, 'UNAUTHENTICATED')
  t.regex(late.message, /^join token: the secret is wrong or was rotated/)
})

test('a challenge is bounded, and may come from a manager that knows no one-time tokens', (t) => {
  const proof = systemRandom.bytes(32)
  const { onceProofs: _, ...plain }: JoinChallenge = {
    type: 'challenge',
    rootPublicKey: proof,
    certificate: systemRandom.bytes(1024),
    nonce: proof,
    workerProof: proof,
    managerProof: proof,
    onceProofs: [],
  }
  const challenge = (proofs: unknown) => {
    return encodeJoin({ ...plain, onceProofs: proofs } as JoinChallenge)
  }
  const largest = challenge(Array.from({ length: ONCE_TOKENS_MAX }, () => proof))
  t.true(largest.length < JOIN_MESSAGE_BYTES_MAX)
  t.deepEqual(decodeJoin(encodeJoin(plain as JoinChallenge)), { ...plain, onceProofs: [] })
  for (const wrong of [7, ['x'], Array.from({ length: ONCE_TOKENS_MAX + 1 }, () => proof)]) {
    t.throws(() => decodeJoin(challenge(wrong)), { code: 'UNAUTHENTICATED' })
  }
})

test('a token of another cluster is refused by the joiner, who names both digests', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  const foreign = newClusterRoot(systemRandom).publicKey
  const error = await failure(attempt(mesh, formatJoinToken(foreign, cluster.secrets.worker)))
  t.is(error.code, 'UNAUTHENTICATED')
  t.true(error.message.includes(rootDigest(foreign)))
  t.true(error.message.includes(rootDigest(cluster.root.publicKey)))
  t.deepEqual(cluster.joiners, [])
})

test('a certificate that belongs to another node is refused', async (t) => {
  const cluster = newCluster()
  await using real = await manager(cluster)
  await using thief = await loopbackMesh()
  thief.serveJoins(authorityOf(cluster, real.self.peerId))
  const error = await failure(attempt(thief, token(cluster)))
  t.is(error.code, 'UNAUTHENTICATED')
  t.regex(error.message, /belongs to another node/)
})

test('a certificate of another root is refused', async (t) => {
  const cluster = newCluster()
  const impostor = newCluster()
  await using mesh = await loopbackMesh()
  mesh.serveJoins({
    ...authorityOf(impostor, mesh.self.peerId),
    rootPublicKey: () => cluster.root.publicKey,
  })
  const error = await failure(attempt(mesh, token(cluster)))
  t.is(error.code, 'UNAUTHENTICATED')
  t.regex(error.message, /not signed by the root key/)
})

test('a manager that does not know the secret gets no proof', async (t) => {
  const cluster = newCluster()
  await using mesh = await loopbackMesh()
  const ignorant = newCluster()
  mesh.serveJoins({
    ...authorityOf(cluster, mesh.self.peerId),
    secrets: () => ignorant.secrets,
  })
  t.is((await failure(attempt(mesh, token(cluster)))).code, 'UNAUTHENTICATED')
  t.deepEqual(cluster.joiners, [])
})

test('a worker says that it is no manager', async (t) => {
  const cluster = newCluster()
  await using worker = await loopbackMesh()
  worker.serveJoins({
    ...authorityOf(cluster, worker.self.peerId),
    certificate: () => undefined,
  })
  const error = await failure(attempt(worker, token(cluster)))
  t.is(error.code, 'FAILED_PRECONDITION')
  worker.serveJoins({
    ...authorityOf(cluster, worker.self.peerId),
    secrets: () => {
      throw new SwarmError('NOT_MANAGER', 'no data key')
    },
  })
  t.is((await failure(attempt(worker, token(cluster)))).code, 'FAILED_PRECONDITION')
})

test('an address where nobody answers is named with the cause', async (t) => {
  const cluster = newCluster()
  const nobody = { self: { nodeId: '', peerId: '', addresses: ['/ip4/127.0.0.1/tcp/1'] } }
  const error = await failure(attempt(nobody, token(cluster)))
  t.is(error.code, 'UNAVAILABLE')
  t.regex(error.message, /127\.0\.0\.1\/tcp\/1/)
  t.regex(String(error.cause), /ECONNREFUSED/)
})

test('a malformed token is refused before anything is dialled', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  t.is((await failure(attempt(mesh, 'SWMTKN-1-abc-def'))).code, 'INVALID_ARGUMENT')
})

test('an admission that fails is reported with its own code', async (t) => {
  const cluster = newCluster()
  await using mesh = await loopbackMesh()
  mesh.serveJoins({
    ...authorityOf(cluster, mesh.self.peerId),
    admit: () => Promise.reject(new SwarmError('NO_LEADER', 'swarm: no leader')),
  })
  t.is((await failure(attempt(mesh, token(cluster)))).code, 'NO_LEADER')
})

test('after many failures an address has to wait', async (t) => {
  const cluster = newCluster()
  await using mesh = await manager(cluster)
  const wrong = formatJoinToken(cluster.root.publicKey, newJoinSecret(systemRandom))
  const codes: unknown[] = []
  for (let round = 0; round < 12; round += 1) codes.push((await failure(attempt(mesh, wrong))).code)
  t.is(codes[0], 'UNAUTHENTICATED')
  t.is(codes.at(-1), 'RESOURCE_EXHAUSTED')
})

test('neither secret nor role is on the wire before the admission', async (t) => {
  const cluster = newCluster()
  const seed = systemRandom.bytes(32)
  const { peerId } = nodeKey(seed)
  const server = new JoinServer(
    { ...components, authority: authorityOf(cluster, peerId) },
    { peerId },
  )
  const host = await startHost(
    components,
    { privateKeySeed: seed, listenAddresses: ['/ip4/127.0.0.1/tcp/0'] },
    { isMember: () => false, admitsStrangers: () => true },
  )
  t.teardown(() => host.stop())
  const wire: Uint8Array[] = []
  await host.handle(JOIN_PROTOCOL, (stream, connection) => {
    server.onStream(recorded(stream, wire), connection)
  })
  const self = { nodeId: '', peerId, addresses: host.addresses() }
  await attempt({ self }, token(cluster))
  t.is(cluster.joiners.length, 1)
  t.true(wire.length >= 4)
  const bytes = Buffer.concat(wire)
  for (const secret of [cluster.secrets.worker, cluster.secrets.manager]) {
    t.false(bytes.includes(secret))
    t.false(bytes.includes(base36Bytes(secret)))
  }
  const beforeAdmission = Buffer.concat(wire.slice(0, -1))
  t.false(beforeAdmission.includes('"worker"'))
  t.true(bytes.includes('admitted'))
})

/** `stream`, with every byte that passes appended to `wire`. */
function recorded(stream: Stream, wire: Uint8Array[]): MuxedStream {
  stream.addEventListener('message', (event) => wire.push(Uint8Array.from(event.data.subarray())))
  return new Proxy(stream, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key)
      if (typeof value !== 'function') return value
      const method = value.bind(target) as (...args: unknown[]) => unknown
      if (key !== 'send') return method
      return (data: Uint8Array) => {
        wire.push(Uint8Array.from(data))
        return method(data)
      }
    },
  })
}

function base36Bytes(digits: string): Buffer {
  let value = 0n
  for (const digit of digits) value = value * 36n + BigInt(Number.parseInt(digit, 36))
  return Buffer.from(value.toString(16).padStart(32, '0'), 'hex')
}
