/* What membership rests on: its file and directory, the address it tells, the rights it gives. */
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { Store } from '../store/store.ts'
import { FIXTURE_TIME, nodeDraft, taskDraft } from '../store/testing/fixtures.ts'
import type { Action } from '../store/transaction.ts'
import { chooseAdvertised, isWildcard, type Interfaces } from './advertise.ts'
import { authorize } from './authorization.ts'
import { LatestTask } from './latest-task.ts'
import { readMembership, writeMembership, type MembershipRecord } from './membership-file.ts'
import { clearAttempt, removeSwarmDirectory } from './swarm-directory.ts'

async function directory(teardown: (clean: () => Promise<void>) => void): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'skein-membership-'))
  teardown(() => rm(path, { recursive: true, force: true }))
  return join(path, 'swarm')
}

const RECORD: MembershipRecord = {
  version: 1,
  nodeId: 'a',
  clusterId: 'c',
  listenAddress: '0.0.0.0:2377',
  advertiseAddress: '[fd00::1]:2377',
  rootPublicKey: 'AAEC',
  members: [{ nodeId: 'b', peerId: 'p', addresses: ['/ip4/127.0.0.1/tcp/2377'] }],
}

test('a membership is read as it was written, and its file is private', async (t) => {
  const path = await directory(t.teardown)
  t.is(await readMembership(path), undefined)
  await writeMembership(path, { ...RECORD, members: [] })
  await writeMembership(path, RECORD)
  t.deepEqual(await readMembership(path), RECORD)
  t.deepEqual(await readdir(path), ['membership.json'])
  t.is((await stat(join(path, 'membership.json'))).mode & 0o777, 0o600)
  t.is((await stat(path)).mode & 0o777, 0o700)
})

test('a membership that is damaged in any way is said to be so', async (t) => {
  const path = await directory(t.teardown)
  await mkdir(path)
  const whole = JSON.stringify(RECORD)
  const damaged = [
    '',
    whole.slice(0, -9),
    'null',
    '7',
    JSON.stringify({ ...RECORD, version: 2 }),
    JSON.stringify({ ...RECORD, listenAddress: undefined }),
    JSON.stringify({ ...RECORD, rootPublicKey: '' }),
    JSON.stringify({ ...RECORD, members: undefined }),
    JSON.stringify({ ...RECORD, members: [{ nodeId: 'b' }] }),
    JSON.stringify({ ...RECORD, members: [{ nodeId: 'b', peerId: 'p', addresses: [1] }] }),
  ]
  for (const text of damaged) {
    await writeFile(join(path, 'membership.json'), text)
    await t.throwsAsync(readMembership(path), { code: 'STORAGE_CORRUPT' }, text)
  }
})

test('an attempt without a Raft log leaves the key alone; one with a log leaves nothing', async (t) => {
  const path = await directory(t.teardown)
  await clearAttempt(path)
  await writeMembership(path, RECORD)
  await writeFile(join(path, 'node.key'), 'key')
  await writeFile(join(path, 'data.key'), 'key')
  await clearAttempt(path)
  t.deepEqual(await readdir(path), ['node.key'])
  await mkdir(join(path, 'raft'))
  await clearAttempt(path)
  await t.throwsAsync(readdir(path), { code: 'ENOENT' })
})

test('who leaves has neither membership nor key', async (t) => {
  const path = await directory(t.teardown)
  await writeMembership(path, RECORD)
  await writeFile(join(path, 'node.key'), 'key')
  await removeSwarmDirectory(path)
  await t.throwsAsync(stat(path), { code: 'ENOENT' })
  await removeSwarmDirectory(path)
})

const LISTEN = { host: '10.0.0.5', port: 2377 }
const ANYWHERE = { host: '0.0.0.0', port: 4000 }

function interfaces(named: Readonly<Record<string, readonly string[]>>): Interfaces {
  const entries = Object.entries(named).map(([name, addresses]) => {
    return [name, addresses.map((address) => ({ address, internal: name === 'lo' }))] as const
  })
  return Object.fromEntries(entries)
}

test('the listen address is advertised, unless it stands for all', (t) => {
  const one = interfaces({ lo: ['127.0.0.1', '::1'], eth0: ['fe80::1', '192.168.1.2'] })
  t.deepEqual(chooseAdvertised('', LISTEN, one), LISTEN)
  t.deepEqual(chooseAdvertised('', ANYWHERE, one), { host: '192.168.1.2', port: 4000 })
  t.deepEqual(chooseAdvertised('', { host: '::', port: 1 }, one), { host: '192.168.1.2', port: 1 })
  t.true(isWildcard('0.0.0.0') && isWildcard('::') && !isWildcard('10.0.0.1'))
})

test('bridges, containers’ links and link-local addresses are not advertised', (t) => {
  const named = interfaces({
    eth0: ['192.168.1.2'],
    docker0: ['172.17.0.1'],
    'br-1a': ['172.18.0.1'],
    veth9: ['172.19.0.1'],
    sk0: ['10.128.0.1'],
    usb0: ['169.254.3.4'],
  })
  t.is(chooseAdvertised('', ANYWHERE, named).host, '192.168.1.2')
  t.is(chooseAdvertised('', ANYWHERE, interfaces({ lo: ['127.0.0.1'] })).host, '127.0.0.1')
})

test('of several addresses the user must choose one', (t) => {
  const two = interfaces({ eth0: ['192.168.1.2'], wlan0: ['192.168.2.2'] })
  t.throws(() => chooseAdvertised('', ANYWHERE, two), {
    code: 'INVALID_ARGUMENT',
    message: /192\.168\.1\.2 on eth0, 192\.168\.2\.2 on wlan0.*--advertise-addr/,
  })
})

test('an address or an interface is chosen by name, with or without a port', (t) => {
  const named = interfaces({ eth0: ['fe80::1', 'fd00::2', '192.168.1.2'], six: ['fd00::3'] })
  const chosen = (advertise: string) => {
    const { host, port } = chooseAdvertised(advertise, ANYWHERE, named)
    return `${host} ${port}`
  }
  t.is(chosen('10.1.2.3'), '10.1.2.3 4000')
  t.is(chosen('10.1.2.3:5000'), '10.1.2.3 5000')
  t.is(chosen('[fd00::9]:5000'), 'fd00::9 5000')
  t.is(chosen('eth0'), '192.168.1.2 4000')
  t.is(chosen('eth0:5000'), '192.168.1.2 5000')
  t.is(chosen('six'), 'fd00::3 4000')
  t.is(chosen('goose.example'), 'goose.example 4000')
  for (const wrong of ['0.0.0.0', '[::]:1', 'no good']) {
    t.throws(() => chosen(wrong), { code: 'INVALID_ARGUMENT' }, wrong)
  }
  const bare = interfaces({ tun0: ['fe80::7'] })
  t.throws(() => chooseAdvertised('tun0', ANYWHERE, bare), { message: /^interface tun0: has no/ })
})

function storeWithNodes(): Store {
  const store = new Store()
  const actions: readonly Action[] = [
    {
      type: 'create',
      table: 'nodes',
      object: nodeDraft('boss', { spec: { Role: 'manager', Availability: 'active' } }),
    },
    { type: 'create', table: 'nodes', object: nodeDraft('own') },
    { type: 'create', table: 'tasks', object: taskDraft('mine', { nodeId: 'own' }) },
    { type: 'create', table: 'tasks', object: taskDraft('other', { nodeId: 'boss', slot: 2 }) },
  ]
  store.applyTransaction({ requestId: 'r', at: FIXTURE_TIME, actions }, 1)
  return store
}

const STATUS = { state: 'failed', timestamp: FIXTURE_TIME, message: '' } as const

function observeNode(id: string): Action {
  const { description, addresses, advertiseHost } = nodeDraft(id)
  return { type: 'observeNode', id, description, addresses, advertiseHost }
}

test('a worker may report on itself and its tasks', (t) => {
  const store = storeWithNodes()
  const own: readonly Action[] = [
    observeNode('own'),
    { type: 'observeTask', id: 'mine', nodeId: 'own', status: STATUS },
    { type: 'observeTask', id: 'gone', nodeId: 'own', status: STATUS },
    {
      type: 'restartTask',
      predecessor: 'mine',
      nodeId: 'own',
      status: STATUS,
      successorStatus: STATUS,
    },
  ]
  t.notThrows(() => authorize(store, 'own', own))
})

test('a worker may propose nothing else, not even beside what it may', (t) => {
  const store = storeWithNodes()
  const foreign: readonly Action[] = [
    observeNode('boss'),
    { type: 'observeTask', id: 'other', nodeId: 'own', status: STATUS },
    { type: 'observeTask', id: 'mine', nodeId: 'boss', status: STATUS },
    {
      type: 'restartTask',
      predecessor: 'other',
      nodeId: 'own',
      status: STATUS,
      successorStatus: STATUS,
    },
    { type: 'desireTask', id: 'mine', desiredState: 'shutdown' },
    { type: 'create', table: 'nodes', object: nodeDraft('new') },
    { type: 'update', table: 'nodes', object: nodeDraft('own'), version: 1 },
    { type: 'remove', table: 'tasks', id: 'mine' },
  ]
  for (const action of foreign) {
    const actions = [observeNode('own'), action]
    t.throws(() => authorize(store, 'own', actions), { code: 'PERMISSION_DENIED' }, action.type)
    t.notThrows(() => authorize(store, 'boss', actions))
  }
})

test('who is no member may propose nothing', (t) => {
  const store = storeWithNodes()
  t.throws(() => authorize(store, 'stranger', []), {
    code: 'PERMISSION_DENIED',
    message: /^node stranger: not a member/,
  })
})

test('wishes are carried out one at a time, and only the latest of those that wait', async (t) => {
  const events: string[] = []
  const task = new LatestTask<string>(
    async (wish) => {
      events.push(`${wish} begins`)
      await Promise.resolve()
      events.push(`${wish} ends`)
    },
    (error) => t.fail(String(error)),
  )
  task.want('a')
  await Promise.resolve()
  task.want('b')
  task.want('c')
  await task.settled()
  t.deepEqual(events, ['a begins', 'a ends', 'c begins', 'c ends'])
  task.want('d')
  await task.settled()
  t.is(events.at(-1), 'd ends')
})

test('a wish made by the work itself waits for the work’s end', async (t) => {
  const events: string[] = []
  const task: LatestTask<string> = new LatestTask(
    async (wish) => {
      events.push(`${wish} begins`)
      if (wish === 'a') task.want('b')
      await Promise.resolve()
      events.push(`${wish} ends`)
    },
    (error) => t.fail(String(error)),
  )
  task.want('a')
  await task.settled()
  t.deepEqual(events, ['a begins', 'a ends', 'b begins', 'b ends'])
})

test('work that fails is reported, and the next wish is carried out all the same', async (t) => {
  const failures: unknown[] = []
  const done: number[] = []
  const task = new LatestTask<number>(
    (wish) => {
      if (wish === 1) return Promise.reject(new Error('no'))
      done.push(wish)
      return Promise.resolve()
    },
    (error) => failures.push(error),
  )
  await task.settled()
  task.want(1)
  await task.settled()
  task.want(2)
  await task.settled()
  t.is(failures.length, 1)
  t.deepEqual(done, [2])
})
