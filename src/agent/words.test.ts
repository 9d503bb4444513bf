import { appendFile, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import { commandLine, mergeEnvironment } from './command-line.ts'
import { isAlive, markProcess } from './process-mark.ts'
import { parseNameservers } from './nameservers.ts'
import { gatewayOf, subnetOf } from './networking.ts'
import { signalNumber } from './signals.ts'
import { StartSlots } from './start-slots.ts'
import { TaskFiles } from './task-files.ts'
import { LOG_BYTES_MAX, readTaskLog, trimRawLogs } from './task-log.ts'
import type { LogLine, LogQuery } from './task-log.ts'
import { expandTemplate } from './template.ts'
import { taskNetworking } from './task-plan.ts'
import { imageOf } from './testing/rootfs.ts'
import type { Network, Node, NetworkAttachment, Task } from '../store/objects.ts'
import { nodeDraft, taskDraft } from '../store/testing/fixtures.ts'

test('Command replaces the entry point and its arguments; Args only those', (t) => {
  const { config } = imageOf('/', { entrypoint: ['entry'], command: ['default'] })
  t.deepEqual(commandLine(config, { Image: '' }), ['entry', 'default'])
  t.deepEqual(commandLine(config, { Image: '', Args: ['a'] }), ['entry', 'a'])
  t.deepEqual(commandLine(config, { Image: '', Command: ['c'] }), ['c'])
  t.deepEqual(commandLine(config, { Image: '', Command: ['c'], Args: ['a'] }), ['c', 'a'])
  const nothing = imageOf('/', { command: [] }).config
  t.throws(() => commandLine(nothing, { Image: '' }), { code: 'INVALID_ARGUMENT' })
})

test('a task is on its node’s bridge, with a device more for networks that give addresses', (t) => {
  const meta = { version: 1, createdVersion: 1, createdAt: '', updatedAt: '' }
  const network = (spec: Partial<Network['spec']>, subnet?: string): Network => {
    const place = subnet === undefined ? {} : { subnet }
    return { id: 'any', meta, spec: { Name: 'any', ...spec }, ...place }
  }
  const mtu = { 'com.docker.network.driver.mtu': '1300' }
  const networks = new Map<string, Network>([
    ['front', network({ Options: mtu }, '10.96.0.0/24')],
    ['six', network({ EnableIPv6: true }, '10.98.0.0/24')],
    ['odd', network({ Options: { 'com.docker.network.driver.mtu': 'much' } }, '10.97.0.0/24')],
    ['wire', network({ Driver: 'macvlan', Options: { parent: 'eth0' } }, '192.168.7.0/25')],
    [
      'vlan',
      network({ Driver: 'ipvlan', Options: { parent: 'eth1', ipvlan_mode: 'l3' } }, '10.9.0.0/16'),
    ],
  ])
  const node: Node = { ...nodeDraft('0123456789', { subnet: '10.32.1.0/24' }), meta }
  const place = (on: readonly NetworkAttachment[]): ReturnType<typeof taskNetworking> => {
    const task: Task = { ...taskDraft('task', { address: '10.32.1.2', networks: on }), meta }
    const networkOf = (id: string): Network | undefined => networks.get(id)
    return taskNetworking(task, node, { nameservers: ['10.32.1.1'], networkOf })
  }
  const on = (networkId: string, address?: string): NetworkAttachment => {
    return { networkId, aliases: [], ...(address === undefined ? {} : { address }) }
  }
  const simple = {
    cidr: '10.32.1.2/24',
    gateway: '10.32.1.1',
    bridge: 'sk23456789',
    nameservers: ['10.32.1.1'],
  }
  t.deepEqual(place([]), simple)
  t.deepEqual(place([on('odd'), on('unknown')]), simple)
  t.deepEqual(place([on('front'), on('wire', '192.168.7.20'), on('vlan', '10.9.1.1')]), {
    ...simple,
    mtu: 1300,
    extras: [
      { kind: 'macvlan', parent: 'eth0', cidr: '192.168.7.20/25' },
      { kind: 'ipvlan', parent: 'eth1', cidr: '10.9.1.1/16', mode: 'l3' },
    ],
  })
  t.deepEqual(place([on('six'), on('odd')]), { ...simple, hasIpv6: true })
  t.is(place([on('none')]), undefined)
})

test('environments merge by name, later ones win, and a bare name removes', (t) => {
  t.deepEqual(mergeEnvironment(['A=1', 'B=2'], ['A=3=4', 'B', 'C=']), ['A=3=4', 'C='])
})

test('templates name services, nodes, tasks and labels, and refuse anything else', (t) => {
  const values = {
    service: { id: 's', name: 'web', labels: { tier: 'front' } },
    node: { id: 'n', hostname: 'host', os: 'linux', architecture: 'x86_64' },
    task: { id: 't', name: 'web.2.t', slot: '2' },
  }
  const text = '{{.Service.Name}}-{{ .Task.Slot }}-{{.Node.Hostname}}'
  t.is(expandTemplate(text, values), 'web-2-host')
  t.is(expandTemplate('{{index .Service.Labels "tier"}}', values), 'front')
  t.throws(() => expandTemplate('{{.Cluster.Key}}', values), { code: 'INVALID_ARGUMENT' })
  t.throws(() => expandTemplate('{{constructor}}', values), { code: 'INVALID_ARGUMENT' })
})

test('signals are understood as Docker writes them', (t) => {
  const names = ['SIGTERM', 'term', '15', 'SIGRTMIN+3', 'SIGRTMAX-1']
  t.deepEqual(names.map(signalNumber), [15, 15, 15, 37, 63])
  t.throws(() => signalNumber('SIGNONE'), { code: 'INVALID_ARGUMENT' })
  t.throws(() => signalNumber('SIGRTMIN+99'), { code: 'INVALID_ARGUMENT' })
  t.throws(() => signalNumber('65'), { code: 'INVALID_ARGUMENT' })
})

test('containers are told the host’s name servers, but not those on loopback', (t) => {
  const text =
    'nameserver 127.0.0.53\n# nameserver 9.9.9.9\n nameserver 192.0.2.1\nnameserver ::1\n'
  t.deepEqual(parseNameservers(text), ['192.0.2.1'])
})

test('subnets and gateways are computed from CIDR texts', (t) => {
  t.is(subnetOf('10.1.2.3/24'), '10.1.2.0/24')
  t.is(subnetOf('192.168.255.77/20'), '192.168.240.0/20')
  t.is(gatewayOf('10.1.2.0/24'), '10.1.2.1')
})

test('a process is ours only when its start time and boot agree', (t) => {
  const mark = markProcess(process.pid)
  t.truthy(mark)
  if (mark === undefined) return
  t.true(isAlive(mark))
  t.false(isAlive({ ...mark, startTime: '1' }))
  t.false(isAlive({ ...mark, bootId: 'another boot' }))
  t.is(markProcess(2 ** 22 + 1), undefined)
})

test('start slots admit in order, and a withdrawn caller leaves the queue', async (t) => {
  const slots = new StartSlots(1)
  const order: string[] = []
  const open = Promise.withResolvers<void>()
  const never = new AbortController().signal
  const first = slots.run(never, async () => {
    await open.promise
    order.push('first')
  })
  const withdrawn = new AbortController()
  const second = slots.run(withdrawn.signal, () => Promise.resolve(order.push('second')))
  const third = slots.run(never, () => Promise.resolve(order.push('third')))
  withdrawn.abort(new Error('changed my mind'))
  await t.throwsAsync(second, { message: 'changed my mind' })
  open.resolve()
  await Promise.all([first, third])
  t.deepEqual(order, ['first', 'third'])
})

async function withLog(
  body: (
    files: TaskFiles,
    read: (query?: LogQuery, finished?: () => boolean) => AsyncGenerator<LogLine>,
  ) => Promise<void>,
): Promise<void> {
  const files = new TaskFiles(await mkdtemp(join(tmpdir(), 'skein-agent-')))
  try {
    await body(files, (query = {}, finished = () => true) =>
      readTaskLog(files, query, {
        clock: systemClock,
        isFinished: () => Promise.resolve(finished()),
      }),
    )
  } finally {
    await rm(files.directory, { recursive: true })
  }
}

async function collect(lines: AsyncIterable<LogLine>): Promise<string[]> {
  const texts: string[] = []
  for await (const { stream, line } of lines) texts.push(`${stream}:${line}`)
  return texts
}

const LOG = `2026-01-01T10:00:00.000000001+00:00 stdout F one
2026-01-01T10:00:01.500000000+00:00 stderr P tw
2026-01-01T10:00:01.600000000+00:00 stderr F o
2026-01-01T12:00:02.000000000+02:00 stdout F three, with spaces
`

test('log lines keep stream and time, and parts of a line are joined', async (t) => {
  await withLog(async (files, read) => {
    await writeFile(files.log, LOG)
    t.deepEqual(await collect(read()), ['stdout:one', 'stderr:two', 'stdout:three, with spaces'])
    t.deepEqual(await collect(read({ tail: 1 })), ['stdout:three, with spaces'])
    t.deepEqual(await collect(read({ tail: 0 })), [])
  })
})

test('"since" compares times of any precision and zone', async (t) => {
  await withLog(async (files, read) => {
    await writeFile(files.log, LOG)
    t.deepEqual(await collect(read({ since: '2026-01-01T10:00:02Z' })), [
      'stdout:three, with spaces',
    ])
    t.deepEqual((await collect(read({ since: '2026-01-01T11:00:01.6+01:00' }))).length, 2)
  })
})

test('a follower sees appended lines, survives truncation, ends with the task', async (t) => {
  await withLog(async (files, read) => {
    await writeFile(files.log, LOG)
    let finished = false
    const lines = read({ follow: true, tail: 1 }, () => finished)
    const next = async (): Promise<string | undefined> => {
      const result = await lines.next()
      return result.done === true ? undefined : result.value.line
    }
    t.is(await next(), 'three, with spaces')
    const first = next()
    await appendFile(files.log, '2026-01-01T10:00:05Z stdout F fo')
    await appendFile(files.log, 'ur\n')
    t.is(await first, 'four')
    const second = next()
    await truncate(files.log, 0)
    await new Promise((resolve) => {
      setTimeout(resolve, 250)
    })
    await appendFile(files.log, '2026-01-01T10:00:06Z stdout F five\n')
    t.is(await second, 'five')
    finished = true
    t.is(await next(), undefined)
  })
})

test('a raw log that has become too long starts anew', async (t) => {
  await withLog(async (files, read) => {
    await writeFile(files.rawLog('stdout'), 'x')
    await truncate(files.rawLog('stdout'), LOG_BYTES_MAX + 1)
    await trimRawLogs(files)
    await appendFile(files.rawLog('stdout'), 'fresh\n')
    t.deepEqual(await collect(read()), ['stdout:fresh'])
    await trimRawLogs(files)
    t.deepEqual(await collect(read()), ['stdout:fresh'])
  })
})

test('raw logs of the sh monitor are read by stream', async (t) => {
  await withLog(async (files, read) => {
    await writeFile(files.rawLog('stdout'), 'a\nb\n')
    await writeFile(files.rawLog('stderr'), 'c\n')
    t.deepEqual(await collect(read()), ['stdout:a', 'stdout:b', 'stderr:c'])
    t.deepEqual(await collect(read({ tail: 1 })), ['stdout:b', 'stderr:c'])
  })
})
