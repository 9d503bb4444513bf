/** The server as a client sees it, over a real unix socket and a real store. */
import test from 'ava'
import { ipv6PrefixOf } from '../store/ipv6.ts'
import { makeDualStack } from './testing/dual-stack.ts'
import { DESCRIPTION, startFixture } from './testing/fixture.ts'
import type { ApiFixture } from './testing/fixture.ts'
import { send } from './testing/client.ts'
import { manager, createService } from './testing/manager-steps.ts'

test('a ping needs no version, works with HEAD, and names the role in the Swarm header', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const before = await send(fixture.socketPath, { method: 'HEAD', path: '/_ping' })
  t.is(before.status, 200)
  t.is(before.headers['swarm'], 'inactive')
  t.is(before.headers['api-version'], '1.50')
  t.is(before.headers['server'], `Skein/${DESCRIPTION.engineVersion} (linux)`)
  await send(fixture.socketPath, { method: 'POST', path: '/swarm/init', body: {} })
  const after = await send(fixture.socketPath, { path: '/v1.44/_ping' })
  t.is(after.text, 'OK')
  t.is(after.headers['swarm'], 'active/manager')
})

test('a version outside the range is refused in Docker’s words', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const old = await send(fixture.socketPath, { path: '/v1.23/info' })
  t.is(old.status, 400)
  t.deepEqual(old.json(), {
    message:
      'client version 1.23 is too old. Minimum supported API version is 1.24, ' +
      'please upgrade your client to a newer version',
  })
  const oldest = await send(fixture.socketPath, { path: '/v1.24/info' })
  t.is(oldest.status, 200)
})

test('what is not built says so with 501, and an unknown path is 404', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const absent = await send(fixture.socketPath, { method: 'POST', path: '/containers/create' })
  t.is(absent.status, 501)
  t.regex(absent.text, /does not have this part of Docker's API: POST \/containers\/create/)
  t.is((await send(fixture.socketPath, { path: '/nonsense' })).status, 404)
})

test('addresses and ports of the overlay that nobody would obey are refused', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const refused = async (body: object, status: number, message: RegExp): Promise<void> => {
    const answer = await send(fixture.socketPath, { method: 'POST', path: '/swarm/init', body })
    t.is(answer.status, status, answer.text)
    t.regex(answer.text, message)
  }
  const pool = (...DefaultAddrPool: string[]): object => ({ DefaultAddrPool })
  await refused(pool('10.1.0.0/33'), 400, /address pool 10.1.0.0.33: an IPv4 range/)
  await refused(pool('fd00::/48'), 400, /an IPv4 range, .8 or smaller, is needed/)
  await refused(pool('10.1.0.0/28'), 400, /subnets of .24 cannot be cut from it/)
  await refused({ ...pool('10.0.0.0/8'), SubnetSize: 31 }, 400, /subnets of .31 cannot be cut/)
  await refused(pool('127.0.0.0/8'), 400, /which is loopback/)
  await refused(pool('10.0.0.0/8', '10.1.0.0/16'), 400, /10.1.0.0.16: overlaps with 10.0.0.0.8/)
  await refused({ DataPathPort: 5789 }, 501, /swarm init: --data-path-port 5789 is not supported/)
  await refused({ DataPathAddr: '192.0.2.1' }, 501, /--data-path-addr 192.0.2.1/)
  const body = { ...pool('10.0.0.0/8'), DataPathPort: 4789 }
  const made = await send(fixture.socketPath, { method: 'POST', path: '/swarm/init', body })
  t.is(made.status, 200, made.text)
})

test('what does not work in the network of the node is a warning of info', async (t) => {
  const faults: string[] = []
  const fixture = await startFixture({ networkFaults: () => faults })
  t.teardown(() => fixture.close())
  const info = async (): Promise<string> =>
    (await send(fixture.socketPath, { method: 'GET', path: '/info' })).text
  t.notRegex(await info(), /WARNING: network/)
  faults.push('port 80/tcp on 0.0.0.0: is already in use on this node')
  t.regex(await info(), /"WARNING: network: port 80.tcp on 0.0.0.0: is already in use/)
})

test('an image that the swarm knows is pinned, an unknown one is a warning', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  fixture.images.add('web:1', `sha256:${'1'.repeat(64)}`)
  await createService(fixture, { Name: 'known' })
  const [known] = fixture.swarm.store.find('services', 'name', 'known')
  t.is(known?.spec.TaskTemplate.ContainerSpec.Image, `web:1@sha256:${'1'.repeat(64)}`)
  t.deepEqual(known?.spec.TaskTemplate.Placement?.Platforms, [
    { Architecture: 'amd64', OS: 'linux' },
  ])
  const id = `sha256:${'b'.repeat(64)}`
  await createService(fixture, { Name: 'id', TaskTemplate: { ContainerSpec: { Image: id } } })
  const [byId] = fixture.swarm.store.find('services', 'name', 'id')
  t.is(byId?.spec.TaskTemplate.ContainerSpec.Image, id)
  const unknown = await createService(fixture, {
    Name: 'unknown',
    TaskTemplate: { ContainerSpec: { Image: 'web:2' } },
  })
  t.is(unknown.status, 201)
  t.regex(unknown.text, /"Warnings":\["image web:2 is on no node/)
})

test('members that nobody here knows come back as they were given', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const container = { Image: 'a', Healthcheck: { Test: ['NONE'] }, OomScoreAdj: 7 }
  const created = await createService(fixture, {
    Name: 's',
    Future: { Deep: [1] },
    TaskTemplate: { ContainerSpec: container },
  })
  t.is(created.status, 201, created.text)
  const answer = await send(fixture.socketPath, { path: '/services/s' })
  const { Spec: spec } = answer.json() as {
    Spec: { Future: unknown; TaskTemplate: { ContainerSpec: unknown } }
  }
  t.deepEqual(spec.Future, { Deep: [1] })
  t.deepEqual(spec.TaskTemplate.ContainerSpec, container)
})

test('a repeated create with the same request id makes one service', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const request = {
    method: 'POST',
    path: '/services/create',
    headers: { 'Skein-Request-Id': 'r'.repeat(25) },
    body: { Name: 'once', TaskTemplate: { ContainerSpec: { Image: 'a' } } },
  }
  const first = await send(fixture.socketPath, request)
  const second = await send(fixture.socketPath, request)
  t.is(first.status, 201)
  t.is(second.status, 201, second.text)
  t.deepEqual((second.json() as { ID: string }).ID, (first.json() as { ID: string }).ID)
  t.is(fixture.swarm.store.list('services').length, 1)
})

function healthcheck(Healthcheck: object): object {
  return { Name: 's', TaskTemplate: { ContainerSpec: { Image: 'a', Healthcheck } } }
}

test('a spec of the wrong shape is refused with the member’s name', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const bad: readonly (readonly [object, RegExp])[] = [
    [{ Name: 5 }, /^Name: /],
    [{ Name: 's', Mode: { Replicated: { Replicas: -1 } } }, /^Mode.Replicated.Replicas: /],
    [{ Name: 's', EndpointSpec: { Ports: [{ TargetPort: 70_000 }] } }, /^EndpointSpec.Ports.0/],
    [{ Name: 's', TaskTemplate: { ContainerSpec: { Image: 'a', Env: 'A=1' } } }, /Env: /],
    [
      {
        Name: 's',
        TaskTemplate: { ContainerSpec: { Image: 'a' }, RestartPolicy: { Condition: 'x' } },
      },
      /Condition: /,
    ],
    [healthcheck({ Interval: '5s' }), /Healthcheck.Interval: /],
    [healthcheck({ Test: 'true' }), /Healthcheck.Test: /],
    [healthcheck({ Timeout: 999_999 }), /Timeout in HealthConfig cannot be less than 1ms/],
    [healthcheck({ StartPeriod: -1 }), /StartPeriod in HealthConfig cannot be less than 1ms/],
    [healthcheck({ StartInterval: 2e15 }), /StartInterval in HealthConfig cannot be more than/],
    [healthcheck({ Retries: -1 }), /Retries in HealthConfig cannot be negative/],
    [healthcheck({ Test: ['curl', 'x'] }), /must be \[NONE\], \[CMD, …\] or \[CMD-SHELL, line\]/],
    [healthcheck({ Test: ['CMD'] }), /CMD names no command/],
    [{ Name: 's'.repeat(64) }, /name must be 63 characters or fewer/],
  ]
  for (const [spec, message] of bad) {
    const answer = await createService(fixture, spec)
    t.is(answer.status, 400, answer.text)
    t.regex((answer.json() as { message: string }).message, message)
  }
  t.is(fixture.swarm.store.list('services').length, 0)
})

test('an invalid constraint is refused', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const template = {
    ContainerSpec: { Image: 'a' },
    Placement: { Constraints: ['node.role is good'] },
  }
  t.is((await createService(fixture, { Name: 's', TaskTemplate: template })).status, 400)
})

test('scaling leaves running tasks up to date, a new template does not', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  await createService(fixture, { Name: 's' })
  await settled(fixture)
  await updateService(fixture, { Mode: { Replicated: { Replicas: 2 } } })
  await settled(fixture)
  t.is(await countUpToDate(fixture), 2)
  await updateService(fixture, { TaskTemplate: { ContainerSpec: { Image: 'other:1' } } })
  t.is(await countUpToDate(fixture), 0)
})

/** The fixture makes tasks in a microtask after the commit; a request later they are there. */
async function settled(fixture: ApiFixture): Promise<void> {
  await send(fixture.socketPath, { path: '/_ping' })
}

async function updateService(fixture: ApiFixture, changes: object): Promise<void> {
  const [service] = fixture.swarm.store.find('services', 'name', 's')
  const answer = await send(fixture.socketPath, {
    method: 'POST',
    path: `/services/s/update?version=${service?.meta.version}`,
    body: { ...service?.spec, ...changes },
  })
  if (answer.status !== 200) throw new Error(answer.text)
}

async function countUpToDate(fixture: ApiFixture): Promise<number> {
  const filters = encodeURIComponent('{"service":{"s":true},"_up-to-date":{"true":true}}')
  const answer = await send(fixture.socketPath, { path: `/tasks?filters=${filters}` })
  return (answer.json() as unknown[]).length
}

test('both encodings of filters mean the same, and malformed ones are refused', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  await fixture.swarm.addNode({ role: 'worker', host: '127.0.0.2', hostname: 'gosling' })
  const count = async (filters: string): Promise<number> => {
    const path = `/nodes?filters=${encodeURIComponent(filters)}`
    return ((await send(fixture.socketPath, { path })).json() as unknown[]).length
  }
  t.is(await count('{"role":{"worker":true}}'), 1)
  t.is(await count('{"role":["worker"]}'), 1)
  t.is(await count('{"role":["worker","manager"]}'), 2)
  t.is(await count('{"name":["gos"],"role":["manager"]}'), 0)
  for (const filters of ['{', '[]', '{"role":1}', '{"nope":["x"]}', '{"role":["king"]}']) {
    const path = `/nodes?filters=${encodeURIComponent(filters)}`
    t.is((await send(fixture.socketPath, { path })).status, 400, filters)
  }
})

test('a node is found by id, by name and by a unique beginning of its id', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const id = await fixture.swarm.addNode({ role: 'worker', host: '127.0.0.2', hostname: 'twin' })
  const status = async (reference: string): Promise<number> =>
    (await send(fixture.socketPath, { path: `/nodes/${reference}` })).status
  t.is(await status(id), 200)
  t.is(await status(id.slice(0, 10)), 200)
  t.is(await status('twin'), 200)
  await fixture.swarm.addNode({ role: 'worker', host: '127.0.0.3', hostname: 'twin' })
  const ambiguous = await send(fixture.socketPath, { path: '/nodes/twin' })
  t.is(ambiguous.status, 400)
  t.deepEqual(ambiguous.json(), { message: 'node twin is ambiguous (2 matches found)' })
})

test('rotating a token changes that token alone', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const before = await fixture.swarm.joinTokens()
  const version = fixture.swarm.store.cluster()?.meta.version
  const answer = await send(fixture.socketPath, {
    method: 'POST',
    path: `/swarm/update?version=${version}&rotateWorkerToken=true&rotateManagerToken=false`,
    body: fixture.swarm.store.cluster()?.spec,
  })
  t.is(answer.status, 200)
  const after = await fixture.swarm.joinTokens()
  t.not(after.worker, before.worker)
  t.is(after.manager, before.manager)
})

test('a one-time token is made for a role, by managers alone', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const ask = (body: unknown) => {
    return send(fixture.socketPath, { method: 'POST', path: '/skein/swarm/join-tokens', body })
  }
  const made = await ask({ Role: 'manager' })
  t.is(made.status, 201)
  t.regex((made.json() as { Token: string }).Token, /^SWMTKN-1-/)
  for (const wrong of [{}, { Role: 'boss' }, { role: 'worker' }])
    t.is((await ask(wrong)).status, 400)
  t.deepEqual(fixture.swarm.onceTokens, ['manager'])
  fixture.swarm.setControlAvailable(false)
  t.is((await ask({ Role: 'worker' })).status, 503)
})

test('an archive that cannot be read is an error of the request', async (t) => {
  const fixture = await startFixture()
  t.teardown(() => fixture.close())
  const answer = await send(fixture.socketPath, {
    method: 'POST',
    path: '/images/load',
    body: 'not a tar!',
  })
  t.is(answer.status, 400)
  t.deepEqual(answer.json(), { message: 'image archive: not a tar' })
})

test('a body over the limit is refused', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const answer = await createService(fixture, { Name: 'big', Labels: { a: 'x'.repeat(5_000_000) } })
  t.is(answer.status, 400)
  t.regex(answer.text, /larger than 4194304 bytes/)
})

test('filters may name many objects', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  const ids = Array.from({ length: 1000 }, (_, index) => `n${index}`.padEnd(25, '0'))
  const path = `/nodes?filters=${encodeURIComponent(JSON.stringify({ id: ids }))}`
  const answer = await send(fixture.socketPath, { path })
  t.is(answer.status, 200)
  t.deepEqual(answer.json(), [])
})

test('a network with IPv6 is shown with both ranges, and so are addresses on it', async (t) => {
  const fixture = await manager()
  t.teardown(() => fixture.close())
  await makeDualStack(fixture.swarm)
  const prefix = ipv6PrefixOf(fixture.swarm.store.cluster()?.id ?? '')
  const get = async (path: string): Promise<unknown> =>
    (await send(fixture.socketPath, { path: `/v1.44${path}` })).json()
  const six = (await get('/networks/six')) as { EnableIPv6: boolean; IPAM: { Config: object[] } }
  t.true(six.EnableIPv6)
  t.deepEqual(six.IPAM.Config, [
    { Subnet: '10.96.1.0/24', Gateway: '10.96.1.1' },
    { Subnet: `${prefix}a60:100/120`, Gateway: `${prefix}a60:101` },
  ])
  const four = (await get('/networks/four')) as typeof six
  t.false(four.EnableIPv6)
  t.deepEqual(four.IPAM.Config, [{ Subnet: '10.96.2.0/24', Gateway: '10.96.2.1' }])
  const { Endpoint } = (await get('/services/web')) as {
    Endpoint: { VirtualIPs: { NetworkID: string; Addr: string }[] }
  }
  t.deepEqual(Endpoint.VirtualIPs, [
    { NetworkID: 'six', Addr: '10.96.1.2/24' },
    { NetworkID: 'four', Addr: '10.96.2.2/24' },
    { NetworkID: 'six', Addr: `${prefix}a60:102/120` },
  ])
  const { NetworksAttachments } = (await get('/tasks/dual-task')) as {
    NetworksAttachments: { Network: { ID: string }; Addresses: string[] }[]
  }
  t.deepEqual(
    NetworksAttachments.map(({ Network, Addresses }) => [Network.ID, Addresses]),
    [
      ['six', ['10.32.3.7/32', `${prefix}a20:307/128`]],
      ['four', ['10.32.3.7/32']],
    ],
  )
  const containers = (await get('/containers/json')) as {
    NetworkSettings: { Networks: Record<string, object> }
  }[]
  const ipv4 = { IPAddress: '10.32.3.7', IPPrefixLen: 32 }
  t.deepEqual(
    containers.map(({ NetworkSettings }) => NetworkSettings.Networks),
    [
      {
        six: {
          NetworkID: 'six',
          ...ipv4,
          GlobalIPv6Address: `${prefix}a20:307`,
          GlobalIPv6PrefixLen: 128,
        },
        four: { NetworkID: 'four', ...ipv4, GlobalIPv6Address: '', GlobalIPv6PrefixLen: 0 },
      },
    ],
  )
})
