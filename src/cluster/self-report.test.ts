/** When a node tells what it is, and when it writes nothing. */
import test from 'ava'
import { silentLogger } from '../base/log.ts'
import { ManualClock } from '../control/testing/manual-clock.ts'
import { Store } from '../store/store.ts'
import { nodeDraft, transactionOf } from '../store/testing/fixtures.ts'
import type { Action, Proposer } from '../store/transaction.ts'
import { SelfReport } from './self-report.ts'

/** A store that has this node's record, and what the node says of itself. */
function scene() {
  const clock = new ManualClock()
  const store = new Store()
  const apply = (actions: readonly Action[]): void => {
    const index = store.index + 1
    const result = store.applyTransaction(transactionOf(`r${index}`, actions), index)
    if (!result.ok) throw new Error(result.message)
  }
  const object = nodeDraft('self')
  apply([{ type: 'create', table: 'nodes', object }])
  const proposer: Proposer = {
    propose: (actions) => {
      apply(actions)
      return Promise.resolve({ index: store.index })
    },
  }
  const host = { addresses: ['192.0.2.1'], told: () => {} }
  const { addresses, advertiseHost } = object
  const report = new SelfReport(
    {
      store,
      proposer,
      clock,
      log: silentLogger,
      describe: () => ({ ...object.description, addresses: host.addresses }),
      onHostChange: (told) => {
        host.told = told
        return () => {
          host.told = () => {}
        }
      },
    },
    { nodeId: 'self', addresses, advertiseHost },
  )
  const known = (): readonly string[] | undefined =>
    store.get('nodes', 'self')?.description.addresses
  return { clock, store, host, report, known }
}

test('a change of the host is reported when it is told, and once', async (t) => {
  const { clock, store, host, report, known } = scene()
  await clock.advance(1)
  t.deepEqual(known(), ['192.0.2.1'], 'at the start')
  const { index } = store
  host.told()
  await clock.advance(1)
  t.is(store.index, index, 'nothing is different')
  host.addresses = ['192.0.2.1', '192.0.2.2']
  host.told()
  host.told()
  await clock.advance(1)
  t.deepEqual(known(), ['192.0.2.1', '192.0.2.2'])
  t.is(store.index, index + 1)
  await report.stop()
  host.addresses = []
  host.told()
  await clock.advance(120_000)
  t.is(store.index, index + 1, 'it has stopped')
  t.is(clock.pending, 0)
})

test('a change that nobody told is noticed within a minute', async (t) => {
  const { clock, store, host, report, known } = scene()
  await clock.advance(1)
  const { index } = store
  host.addresses = ['192.0.2.9']
  await clock.advance(60_000)
  t.deepEqual(known(), ['192.0.2.9'])
  await clock.advance(600_000)
  t.is(store.index, index + 1, 'an idle cluster stays idle')
  await report.stop()
})
