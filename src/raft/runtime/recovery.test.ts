import test from 'ava'
import { isSwarmError } from '../../base/errors.ts'
import { silentLogger } from '../../base/log.ts'
import type { Index, Term } from '../core/entry.ts'
import { entriesFrom } from '../storage/conformance.ts'
import { EMPTY_CONFIGURATION } from '../storage/empty-log.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { MemorySnapshotStore } from '../storage/memory-snapshot-store.ts'
import { corrupt } from '../storage/log-records.ts'
import { ListMachine } from './memory-cluster.ts'
import { MemberNames, memberNumber } from './member-numbers.ts'
import { toConfChange } from './membership-changes.ts'
import { Membership, decodeContext, encodeContext } from './membership.ts'
import { recover, type Recovered } from './recovery.ts'

const conf = { ...EMPTY_CONFIGURATION, voters: [memberNumber('a')] }
const membership = Membership.none.changed(conf, [{ id: 'a', address: 'here' }], 3)

class Stores {
  readonly logStore = new MemoryLogStore()
  readonly snapshotStore = new MemorySnapshotStore()
  readonly stateMachine = new ListMachine()

  async withLog(last: Index, term: Term, commit: Index): Promise<this> {
    await this.logStore.open()
    const hardState = { term, vote: 1, commit }
    await this.logStore.append({ entries: entriesFrom(1, last, term), hardState })
    await this.logStore.close()
    return this
  }

  async withSnapshot(index: Index, term: Term): Promise<this> {
    const sink = await this.snapshotStore.create({ index, term, conf }, membership.encode())
    await sink.write(new TextEncoder().encode(`state at ${index}\n`))
    await sink.commit()
    return this
  }

  recover(): Promise<Recovered> {
    return recover({ ...this.parts(), log: silentLogger })
  }

  parts(): Pick<Stores, 'logStore' | 'snapshotStore' | 'stateMachine'> {
    const { logStore, snapshotStore, stateMachine } = this
    return { logStore, snapshotStore, stateMachine }
  }
}

test('without anything stored there is nothing to recover', async (t) => {
  const found = await new Stores().recover()
  t.like(found, { applied: { index: 0, term: 0 }, entries: [], snapshot: undefined })
})

test('a log that reaches the snapshot is kept, with the entries before it', async (t) => {
  const stores = await (await new Stores().withLog(10, 2, 8)).withSnapshot(6, 2)
  const found = await stores.recover()
  t.deepEqual(found.applied, { index: 6, term: 2 })
  t.is(found.entries.length, 10)
  t.is(found.hardState.commit, 8)
  t.deepEqual(found.membership.configuration.servers, [
    { id: 'a', address: 'here', suffrage: 'voter' },
  ])
  t.deepEqual(stores.stateMachine.commands, ['state at 6'])
})

test('a snapshot beyond the log or of another term replaces the log', async (t) => {
  const beyond = await (await new Stores().withLog(5, 2, 5)).withSnapshot(9, 3)
  const found = await beyond.recover()
  t.deepEqual(found.entries, [])
  t.like(found.base, { index: 9, term: 3 })
  t.deepEqual(found.hardState, { term: 3, vote: 0, commit: 9 })
  const other = await (await new Stores().withLog(12, 2, 5)).withSnapshot(9, 3)
  t.deepEqual((await other.recover()).entries, [])
  await other.logStore.close()
  t.like(await other.logStore.open(), { lastIndex: 9, hardState: { commit: 9 } })
})

test('a vote of the same term is kept when a snapshot replaces the log', async (t) => {
  const stores = await (await new Stores().withLog(5, 3, 5)).withSnapshot(9, 3)
  t.deepEqual((await stores.recover()).hardState, { term: 3, vote: 1, commit: 9 })
})

test('an older snapshot stands in for a damaged one if the log reaches back to it', async (t) => {
  const damageNewest = (stores: Stores): void => {
    const { snapshotStore } = stores
    const read = snapshotStore.read.bind(snapshotStore)
    snapshotStore.read = async function* (id, offset) {
      if (id.startsWith('2-8-')) throw corrupt('snapshot is damaged')
      yield* read(id, offset)
    }
  }
  const stores = await (await new Stores().withLog(10, 2, 8)).withSnapshot(6, 2)
  await stores.withSnapshot(8, 2)
  damageNewest(stores)
  t.deepEqual((await stores.recover()).applied, { index: 6, term: 2 })
  await stores.logStore.compact({ index: 7, term: 2, conf })
  await stores.logStore.close()
  const failure = await t.throwsAsync(stores.recover())
  t.true(isSwarmError(failure, 'STORAGE_CORRUPT'))
})

test('a log without its beginning and without a snapshot is corrupt', async (t) => {
  const stores = await new Stores().withLog(10, 2, 8)
  await stores.logStore.open()
  await stores.logStore.compact({ index: 5, term: 2, conf })
  await stores.logStore.close()
  const failure = await t.throwsAsync(stores.recover())
  t.true(isSwarmError(failure, 'STORAGE_CORRUPT'))
})

test('membership survives its encoding, and a context names servers', (t) => {
  const learners = [memberNumber('b')]
  const changed = membership.changed({ ...conf, learners }, [{ id: 'b', address: 'there' }], 9)
  const decoded = Membership.decode(changed.conf, changed.encode())
  t.deepEqual(decoded.configuration, changed.configuration)
  t.is(decoded.suffrageOf('b'), 'learner')
  t.is(decoded.suffrageOf('c'), undefined)
  t.is(changed.changed(conf, [], 10).suffrageOf('b'), undefined, 'who is removed is forgotten')
  t.deepEqual(decodeContext(encodeContext([{ id: 'x', address: 'y' }])), [
    { id: 'x', address: 'y' },
  ])
  t.deepEqual(decodeContext(undefined), [])
})

test('a member number is stable, positive and a safe integer', (t) => {
  t.is(memberNumber('a'), memberNumber('a'))
  t.not(memberNumber('a'), memberNumber('b'))
  for (let count = 0; count < 1000; count += 1) {
    const number = memberNumber(`server ${count}`)
    t.true(number > 0 && Number.isSafeInteger(number))
  }
})

test('names of members stay, those of strangers are bounded', (t) => {
  const names = new MemberNames(3)
  names.setMembers(['m'])
  for (const id of ['s1', 's2', 's3', 's4', 'm']) t.is(names.meet(id), memberNumber(id))
  t.is(names.nameOf(memberNumber('m')), 'm')
  t.is(names.nameOf(memberNumber('s1')), undefined)
  t.is(names.nameOf(memberNumber('s4')), 's4')
})

test('several changes are one joint change, with the addresses in its context', (t) => {
  const change = toConfChange(membership, [
    { type: 'addVoter', id: 'b', address: 'there' },
    { type: 'demoteVoter', id: 'a' },
  ])
  t.deepEqual(
    change.changes.map(({ type }) => type),
    ['addVoter', 'addLearner'],
  )
  t.deepEqual(decodeContext(change.context), [{ id: 'b', address: 'there' }])
  const failure = t.throws(() =>
    toConfChange(membership, [
      { type: 'addVoter', id: 'b', address: 'x' },
      { type: 'addLearner', id: 'b', address: 'x' },
    ]),
  )
  t.true(isSwarmError(failure, 'INVALID_ARGUMENT'))
})
