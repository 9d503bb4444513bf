/* The cluster's keys and tokens, and what a manager does for those that prove them. */
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { SwarmError } from '../base/errors.ts'
import { systemRandom } from '../base/random.ts'
import { verifyCertificate } from '../identity/certificate.ts'
import { rootDigest } from '../identity/cluster-root.ts'
import type { JoinRole } from '../identity/join-token.ts'
import { parseJoinToken } from '../identity/join-token.ts'
import { nodeKey } from '../identity/node-key.ts'
import { ONCE_TOKENS_MAX } from '../identity/once-secrets.ts'
import type { JoinAuthority, Joiner } from '../mesh/join-server.ts'
import { Store } from '../store/store.ts'
import { clusterDraft, FIXTURE_TIME, nodeDraft } from '../store/testing/fixtures.ts'
import type { Action, Proposer } from '../store/transaction.ts'
import { ClusterKeys } from './cluster-keys.ts'
import { proposeContended } from './contended-proposal.ts'
import { joinAuthority, type Admission } from './join-authority.ts'
import { CONTENDED_ATTEMPTS_MAX } from './limits.ts'

type Teardown = (clean: () => Promise<void>) => void

async function directory(teardown: Teardown): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'skein-joining-'))
  teardown(() => rm(path, { recursive: true }))
  return path
}

/** A store with a cluster, whose keys are in `path`, and the manager `boss`. */
class TestCluster implements Proposer {
  readonly store = new Store()
  readonly path: string
  readonly keys: ClusterKeys
  readonly authority: JoinAuthority
  /** Runs before each transaction: somebody who is faster. */
  rival: () => void = () => {}

  private constructor(path: string, keys: ClusterKeys) {
    this.path = path
    this.keys = keys
    this.authority = joinAuthority({ store: this.store, keys, proposer: this }, 'boss')
  }

  static async create(teardown: Teardown): Promise<TestCluster> {
    const path = await directory(teardown)
    const keys = await ClusterKeys.open(path, systemRandom)
    const { rootPublicKey, sealedSecrets, certificate } = await keys.create('peer-boss')
    const cluster = new TestCluster(path, keys)
    const boss = { spec: { Role: 'manager', Availability: 'active' }, certificate } as const
    cluster.apply([
      { type: 'create', table: 'cluster', object: clusterDraft({ rootPublicKey, sealedSecrets }) },
      { type: 'create', table: 'nodes', object: nodeDraft('boss', boss) },
    ])
    return cluster
  }

  apply(actions: readonly Action[]): { readonly index: number } {
    const index = this.store.index + 1
    const transaction = { requestId: `r${index}`, at: FIXTURE_TIME, actions }
    const result = this.store.applyTransaction(transaction, index)
    if (result.ok) return { index }
    throw new SwarmError(result.code, result.message)
  }

  async propose(actions: readonly Action[]): Promise<{ readonly index: number }> {
    await Promise.resolve()
    this.rival()
    return this.apply(actions)
  }

  onceSecret(role: JoinRole): string {
    const { secret } = this.keys.newOnceToken(this.store)
    this.apply([this.keys.onceMade(this.store, { role, secret })])
    return secret
  }

  usedBy(secret: string): string | undefined {
    return this.keys.secrets(this.store).once.find((one) => one.secret === secret)?.usedBy
  }

  admit(comer: Joiner): Promise<Admission> {
    return this.authority.admit(comer) as Promise<Admission>
  }
}

function joiner(role: JoinRole, once?: string, addresses = ['/ip4/127.0.0.1/tcp/1']): Joiner {
  const { nodeId, peerId } = nodeKey(systemRandom.bytes(32))
  const { description, advertiseHost } = nodeDraft(nodeId)
  const details = { addresses, advertiseHost, availability: 'active', description }
  return { nodeId, peerId, role, details, ...(once === undefined ? {} : { once }) }
}

const USED = {
  code: 'UNAUTHENTICATED',
  message: 'join token: was used already; ask a manager for a new one',
}

test('a new cluster has two tokens that name its root, and a certified first manager', async (t) => {
  const { keys, store } = await TestCluster.create(t.teardown)
  const { rootPublicKey } = store.cluster() ?? clusterDraft()
  const tokens = keys.tokens(store)
  t.not(tokens.worker, tokens.manager)
  for (const token of [tokens.worker, tokens.manager]) {
    t.is(parseJoinToken(token).rootDigest, rootDigest(rootPublicKey))
  }
  const certificate = store.get('nodes', 'boss')?.certificate ?? new Uint8Array()
  t.is(verifyCertificate(rootPublicKey, certificate).peerId, 'peer-boss')
  t.is(verifyCertificate(rootPublicKey, keys.certify(store, 'peer-x')).peerId, 'peer-x')
})

test('the data key is kept across restarts, given to others, and gone after discarding', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const { store, keys, path } = cluster
  t.is((await stat(join(path, 'data.key'))).mode & 0o777, 0o600)
  const again = await ClusterKeys.open(path, systemRandom)
  t.deepEqual(again.tokens(store), keys.tokens(store))
  const other = await ClusterKeys.open(await directory(t.teardown), systemRandom)
  t.throws(() => other.secrets(store), { code: 'NOT_MANAGER' })
  await other.adopt(keys.dataKey ?? new Uint8Array())
  t.deepEqual(other.tokens(store), keys.tokens(store))
  await other.discard()
  t.throws(() => other.tokens(store), { code: 'NOT_MANAGER' })
  await keys.discard()
  t.deepEqual(await readdir(path), [])
})

test('another data key does not open the secrets, and no cluster has none', async (t) => {
  const { store } = await TestCluster.create(t.teardown)
  const other = await ClusterKeys.open(await directory(t.teardown), systemRandom)
  await other.adopt(systemRandom.bytes(32))
  t.throws(() => other.secrets(store), { code: 'STORAGE_CORRUPT' })
  t.throws(() => other.secrets(new Store()), { code: 'UNAVAILABLE' })
})

test('rotation changes one role’s token, keeps the root, and voids its one-time tokens', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const { keys, store } = cluster
  const before = keys.tokens(store)
  const [worker, manager] = [cluster.onceSecret('worker'), cluster.onceSecret('manager')]
  const used = cluster.onceSecret('worker')
  await cluster.admit(joiner('worker', used))
  cluster.apply([keys.rotation(store, { worker: true, manager: false })])
  const after = keys.tokens(store)
  t.not(after.worker, before.worker)
  t.is(after.manager, before.manager)
  const left = keys.secrets(store).once.map(({ secret }) => secret)
  t.deepEqual(left, [manager, used])
  await t.throwsAsync(cluster.admit(joiner('worker', worker)), { message: /was rotated/ })
  t.is(store.list('nodes').length, 2)
})

test('a worker gets no data key, a manager does', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const worker = await cluster.admit(joiner('worker'))
  t.is(worker.dataKey, undefined)
  t.is(worker.members.length, 2)
  const manager = await cluster.admit(joiner('manager'))
  t.deepEqual(manager.dataKey, cluster.keys.dataKey)
  t.is(manager.members.length, 3)
})

test('a one-time token admits one node, and the other changes nothing', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const secret = cluster.onceSecret('worker')
  const first = joiner('worker', secret)
  t.is((await cluster.admit(first)).role, 'worker')
  t.is(cluster.usedBy(secret), first.peerId)
  const { index } = cluster.store
  await t.throwsAsync(cluster.admit(joiner('worker', secret)), USED)
  t.is(cluster.store.index, index)
  t.is(cluster.store.list('nodes').length, 2)
})

test('a node whose answer was lost is admitted again, with the addresses it has now', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const secret = cluster.onceSecret('manager')
  const first = joiner('manager', secret)
  const once = await cluster.admit(first)
  const details = { ...(first.details as object), addresses: ['/ip4/127.0.0.2/tcp/2'] }
  const again = await cluster.admit({ ...first, details })
  t.deepEqual(again.dataKey, once.dataKey)
  t.deepEqual(cluster.store.get('nodes', first.nodeId)?.addresses, ['/ip4/127.0.0.2/tcp/2'])
  t.is(cluster.store.list('nodes').length, 2)
})

test('a node that was removed does not come back with its one-time token', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const first = joiner('worker', cluster.onceSecret('worker'))
  await cluster.admit(first)
  cluster.apply([{ type: 'remove', table: 'nodes', id: first.nodeId }])
  await t.throwsAsync(cluster.admit(first), USED)
  t.is(cluster.store.list('nodes').length, 1)
})

test('of two nodes that race with one token exactly one is admitted', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const secret = cluster.onceSecret('worker')
  const rivals = Array.from({ length: 5 }, () => joiner('worker', secret))
  const outcomes = await Promise.allSettled(rivals.map((one) => cluster.admit(one)))
  const refused = outcomes.filter((one) => one.status === 'rejected')
  t.is(refused.length, 4)
  for (const { reason } of refused) t.is((reason as Error).message, USED.message)
  t.is(cluster.store.list('nodes').length, 2)
})

test('nodes with different one-time tokens that come at once are all admitted', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const joiners = Array.from({ length: 9 }, () => joiner('worker', cluster.onceSecret('worker')))
  await Promise.all(joiners.map((one) => cluster.admit(one)))
  t.is(cluster.store.list('nodes').length, 10)
  for (const { once = '', peerId } of joiners) t.is(cluster.usedBy(once), peerId)
})

test('a rotation that comes between proof and admission voids the token', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const secret = cluster.onceSecret('worker')
  cluster.rival = () => {
    cluster.rival = () => {}
    cluster.apply([cluster.keys.rotation(cluster.store, { worker: true, manager: false })])
  }
  await t.throwsAsync(cluster.admit(joiner('worker', secret)), { code: 'UNAUTHENTICATED' })
  t.is(cluster.store.list('nodes').length, 1)
})

test('a member of the other role is told so, and keeps the token unused', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const first = joiner('worker')
  await cluster.admit(first)
  const secret = cluster.onceSecret('manager')
  const again = cluster.admit({ ...first, role: 'manager', once: secret })
  await t.throwsAsync(again, { code: 'ALREADY_EXISTS', message: /promote or demote it instead/ })
  t.is(cluster.usedBy(secret), undefined)
})

test('the same node coming twice at a time is one member', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const one = joiner('worker')
  await Promise.all([cluster.admit(one), cluster.admit(one)])
  t.is(cluster.store.list('nodes').length, 2)
})

test('a node that is removed while it comes again is admitted anew', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  const one = joiner('worker')
  await cluster.admit(one)
  cluster.rival = () => {
    cluster.rival = () => {}
    cluster.apply([{ type: 'remove', table: 'nodes', id: one.nodeId }])
  }
  await cluster.admit(one)
  t.is(cluster.store.list('nodes').length, 2)
})

test('no more one-time tokens are made than may be unused', async (t) => {
  const cluster = await TestCluster.create(t.teardown)
  for (let n = 0; n < ONCE_TOKENS_MAX; n += 1) cluster.onceSecret('worker')
  t.throws(() => cluster.onceSecret('manager'), { code: 'RESOURCE_EXHAUSTED' })
})

test('a proposal that others are always ahead of is given up', async (t) => {
  let attempts = 0
  const propose = (): Promise<never> => {
    attempts += 1
    return Promise.reject(new SwarmError('OUT_OF_SEQUENCE', 'cluster: update out of sequence'))
  }
  const error = await t.throwsAsync(proposeContended({ propose }, () => []))
  t.like(error, { code: 'RESOURCE_EXHAUSTED' })
  t.is(attempts, CONTENDED_ATTEMPTS_MAX)
})
