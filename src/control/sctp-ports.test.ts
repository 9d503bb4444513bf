import test from 'ava'
import { Store } from '../store/store.ts'
import { nodeDraft, serviceSpec, writeTo } from '../store/testing/fixtures.ts'
import { sctpWarnings } from './sctp-ports.ts'

function storeOf(...balancers: readonly string[]): Store {
  const store = new Store()
  const { description } = nodeDraft('any')
  const actions = balancers.map((name, index) => {
    const balancer = { name, reason: 'test' }
    const fields = { description: { ...description, hostname: `host${index}`, balancer } }
    return { type: 'create', table: 'nodes', object: nodeDraft(`node${index}`, fields) } as const
  })
  writeTo(store, ...actions)
  return store
}

const SCTP = serviceSpec('web', 1, {
  EndpointSpec: { Ports: [{ Protocol: 'sctp', TargetPort: 9100, PublishedPort: 9000 }] },
})

test('an SCTP port is refused where no kernel balances, and told of nodes that will not', (t) => {
  const error = t.throws(() => sctpWarnings(storeOf('userspace', 'userspace'), SCTP), {
    code: 'FAILED_PRECONDITION',
  })
  t.regex(error.message, /^port 9000\/sctp: no node/)
  t.deepEqual(sctpWarnings(storeOf('nftables', 'userspace', 'ipvs'), SCTP), [
    'port 9000/sctp: does not answer on host1, which balance in userspace',
  ])
  t.regex(
    sctpWarnings(storeOf('nftables', ...Array.from({ length: 9 }, () => 'userspace')), SCTP)[0] ??
      '',
    /host1, host2, host3, host4, host5 and 4 more/,
  )
  t.deepEqual(sctpWarnings(storeOf('nftables', 'ipvs'), SCTP), [])
})

test('other protocols are no matter of the balancer', (t) => {
  const tcp = serviceSpec('web', 1, { EndpointSpec: { Ports: [{ TargetPort: 80 }] } })
  t.deepEqual(sctpWarnings(storeOf('userspace'), tcp), [])
})
