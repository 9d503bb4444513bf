/** Membership with real daemons: init, join, promote, demote, leave, and every wrong token. */
import test from 'ava'
import { api, skein, skeinOk, until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { TestSwarm } from './harness/swarm.ts'

async function roles(swarm: TestSwarm): Promise<string> {
  const nodes = await swarm.nodes(swarm.node(0))
  return nodes
    .map((node) => (node.ManagerStatus === undefined ? 'worker' : 'manager'))
    .toSorted()
    .join(' ')
}

test.serial('three nodes form a swarm; roles follow promote and demote', async (t) => {
  await using swarm = new TestSwarm(3, 11)
  await swarm.start()
  await swarm.form(1)
  const first = swarm.node(0)
  t.is(await roles(swarm), 'manager worker worker')

  const ids = (await skeinOk(first, 'node', 'ls', '--quiet')).split('\n')
  t.is(ids.length, 3)
  const workers = (await swarm.nodes(first)).filter((node) => node.ManagerStatus === undefined)
  await skeinOk(first, 'node', 'promote', ...workers.map((node) => node.ID))
  await until('three managers', async () => (await roles(swarm)) === 'manager manager manager')
  for (const daemon of swarm.daemons) {
    await until(`${daemon.options.name} accepts commands`, async () => {
      return (await skein(daemon, 'node', 'ls')).code === 0
    })
  }
  await skeinOk(swarm.node(2), 'node', 'demote', workers[0]?.ID ?? '')
  await until('two managers', async () => (await roles(swarm)) === 'manager manager worker')
})

test.serial('a worker refuses commands for managers, as docker does', async (t) => {
  await using swarm = new TestSwarm(2, 12)
  await swarm.start()
  await swarm.form(1)
  const refused = await skein(swarm.node(1), 'service', 'ls')
  t.not(refused.code, 0)
  t.regex(refused.stderr, /This node is not a swarm manager/)
})

test.serial('wrong, foreign, rotated and malformed tokens change nothing', async (t) => {
  await using swarm = new TestSwarm(3, 13)
  await swarm.start()
  const [first, second, foreign] = [swarm.node(0), swarm.node(1), swarm.node(2)]
  await skeinOk(first, 'swarm', 'init')
  await skeinOk(foreign, 'swarm', 'init')
  const token = await skeinOk(first, 'swarm', 'join-token', '--quiet', 'worker')
  const foreignToken = await skeinOk(foreign, 'swarm', 'join-token', '--quiet', 'worker')
  const refuse = async (wrong: string, address: string, expected: RegExp): Promise<void> => {
    const result = await skein(second, 'swarm', 'join', '--token', wrong, address)
    t.not(result.code, 0)
    t.regex(result.stderr, expected)
    const info = (await api(second.socket, 'GET', '/info')) as { Swarm: { LocalNodeState: string } }
    t.is(info.Swarm.LocalNodeState, 'inactive')
    t.is((await swarm.nodes(first)).length, 1)
  }
  const address = first.options.listenAddress
  const [prefix, version, digest, secret = ''] = token.split('-')
  const swapped = secret.startsWith('0') ? `1${secret.slice(1)}` : `0${secret.slice(1)}`
  await refuse('nonsense', address, /token/)
  await refuse(`${prefix}-${version}-${digest}-${swapped}`, address, /token/)
  await refuse(foreignToken, address, /is for the cluster/)
  await refuse(token, '127.13.0.9:2377', /127\.13\.0\.9/)
  await skeinOk(first, 'swarm', 'join-token', '--rotate', '--quiet', 'worker')
  await refuse(token, address, /token/)
  const fresh = await skeinOk(first, 'swarm', 'join-token', '--quiet', 'worker')
  t.not(fresh, token)
  await skeinOk(second, 'swarm', 'join', '--token', fresh, address)
  await swarm.untilReady(first, 2)
})

test.serial('a one-time token admits one node and no second', async (t) => {
  await using swarm = new TestSwarm(4, 16)
  await swarm.start()
  const [first, second] = [swarm.node(0), swarm.node(1)]
  const [third, fourth] = [swarm.node(2), swarm.node(3)]
  const address = first.options.listenAddress
  const once = (daemon: Daemon, role: string): Promise<string> => {
    return skeinOk(daemon, 'swarm', 'join-token', '--once', '--quiet', role)
  }
  const refuse = async (token: string, expected: RegExp): Promise<void> => {
    const refused = await skein(third, 'swarm', 'join', '--token', token, address)
    t.not(refused.code, 0)
    t.regex(refused.stderr, expected)
    const info = (await api(third.socket, 'GET', '/info')) as { Swarm: { LocalNodeState: string } }
    t.is(info.Swarm.LocalNodeState, 'inactive')
  }
  await skeinOk(first, 'swarm', 'init')
  const token = await once(first, 'manager')
  t.regex(token, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/)
  await skeinOk(second, 'swarm', 'join', '--token', token, address)
  await swarm.untilReady(first, 2)
  await refuse(token, /join token: was used already; ask a manager for a new one/)
  t.is((await swarm.nodes(first)).length, 2)
  t.is(await roles(swarm), 'manager manager')

  const voided = await once(second, 'worker')
  const kept = await once(first, 'manager')
  await skeinOk(first, 'swarm', 'join-token', '--rotate', '--quiet', 'worker')
  await refuse(voided, /join token: the secret is wrong or was rotated/)

  // Both at once, with one token: one of them is in, the other is told why not.
  const results = await Promise.all(
    [third, fourth].map((daemon) => skein(daemon, 'swarm', 'join', '--token', kept, address)),
  )
  t.is(results.filter(({ code }) => code === 0).length, 1)
  t.regex(results.map(({ stderr }) => stderr).join(''), /was used already/)
  await swarm.untilReady(first, 3)
  t.is((await swarm.nodes(first)).length, 3)
})

test.serial('a worker leaves, shows as down, is removed, and joins anew', async (t) => {
  await using swarm = new TestSwarm(2, 14)
  await swarm.start()
  await swarm.form(1)
  const [first, second] = [swarm.node(0), swarm.node(1)]
  const before =
    (await swarm.nodes(first)).find((node) => node.ManagerStatus === undefined)?.ID ?? ''
  await skeinOk(second, 'swarm', 'leave')
  await until('the leaver to be down', async () => {
    return (await swarm.nodes(first)).some((node) => node.Status.State === 'down')
  })
  await skeinOk(first, 'node', 'rm', before)
  await swarm.join(second, 'worker')
  await swarm.untilReady(first, 2)
  t.false((await swarm.nodes(first)).some((node) => node.ID === before))
})

test.serial('a manager does not leave by accident', async (t) => {
  await using swarm = new TestSwarm(1, 15)
  await swarm.start()
  await swarm.form(1)
  const refused = await skein(swarm.node(0), 'swarm', 'leave')
  t.not(refused.code, 0)
  t.regex(refused.stderr, /force/)
  await skeinOk(swarm.node(0), 'swarm', 'leave', '--force')
  const again = await skein(swarm.node(0), 'node', 'ls')
  t.regex(again.stderr, /not a swarm manager/)
})
