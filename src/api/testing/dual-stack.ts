/** A service on two networks, one of them with IPv6, as the allocator writes it. */
import { serviceDraft, serviceSpec, taskDraft } from '../../store/testing/fixtures.ts'
import type { LocalSwarm } from './fixture.ts'

/** Makes networks `six` and `four`, service `web` and its task `dual-task`. */
export async function makeDualStack(swarm: LocalSwarm): Promise<void> {
  const { proposer } = swarm
  const ids = ['six', 'four'] as const
  const subnets = { six: '10.96.1', four: '10.96.2' } as const
  const networks = ids.map((networkId) => ({ networkId, aliases: [] }))
  const endpoint = {
    ports: [],
    allocatedFor: 0,
    networks,
    virtualAddresses: ids.map((id) => ({ networkId: id, address: `${subnets[id]}.2` })),
  }
  const { nodeId } = swarm.status()
  const draft = taskDraft('dual-task')
  const status = { ...draft.status, container: { id: 'c'.repeat(64), pid: 42 } }
  const task = { ...draft, serviceId: 'web', nodeId, address: '10.32.3.7', networks, status }
  await proposer.propose([
    ...ids.map((id) => {
      const spec = { Name: id, Driver: 'overlay', EnableIPv6: id === 'six' }
      const range = { subnet: `${subnets[id]}.0/24`, gateway: `${subnets[id]}.1` }
      return { type: 'create', table: 'networks', object: { id, spec, ...range } } as const
    }),
    {
      type: 'create',
      table: 'services',
      object: { ...serviceDraft('web', serviceSpec('web')), endpoint },
    },
    { type: 'create', table: 'tasks', object: task },
  ])
}
