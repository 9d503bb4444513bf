/** The pieces of the client that are pure: flags, quantities, ports, mounts, tables, times. */
import test from 'ava'
import { parseArguments } from './parse-arguments.ts'
import type { Arguments } from './arguments.ts'
import { CommandError } from './command.ts'
import type { Command } from './command.ts'
import { daemon, daemonOptions } from './daemon.ts'
import { agoText, durationText, imageText, memoryText, shortened, sizeText } from './human.ts'
import { parseMount } from './mount.ts'
import { parsePublish } from './publish.ts'
import { parseBytes, parseCpus, parseDuration, parseUint } from './quantity.ts'
import { tableText } from './table.ts'

const COMMAND: Command = {
  usage: '[OPTIONS] THING [ARG...]',
  short: 'For tests',
  minimum: 0,
  flags: [
    { name: 'detach', short: 'd', kind: 'boolean', help: '' },
    { name: 'quiet', short: 'q', kind: 'boolean', help: '' },
    { name: 'env', short: 'e', kind: 'list', help: '' },
    { name: 'name', kind: 'string', help: '' },
  ],
  run: () => Promise.resolve(0),
}

test('flags are read in all the spellings that docker reads', (t) => {
  const given = parseArguments(COMMAND, [
    '-dq',
    '-e',
    'A=1',
    '-eB=2',
    '--env=C=3',
    'x',
    '--name',
    'n',
  ])
  t.true(given.flag('detach'))
  t.true(given.flag('quiet'))
  t.deepEqual(given.list('env'), ['A=1', 'B=2', 'C=3'])
  t.is(given.text('name'), 'n')
  t.deepEqual(given.positionals, ['x'])
  t.false(parseArguments(COMMAND, ['--detach=false']).flag('detach'))
  t.false(parseArguments(COMMAND, ['-d=0']).flag('detach'))
  t.deepEqual(parseArguments(COMMAND, ['--', '-d']).positionals, ['-d'])
})

test('where the first argument ends the flags, the rest is left alone', (t) => {
  const command = { ...COMMAND, flagsFirst: true }
  const given = parseArguments(command, ['-d', 'image', 'sh', '-c', 'x', '--name', '-h', '-d=1'])
  t.deepEqual(given.positionals, ['image', 'sh', '-c', 'x', '--name', '-h', '-d=1'])
  t.false(given.has('name'))
  t.false(given.has('help'))
})

test('durations are Go’s, in nanoseconds', (t) => {
  t.is(parseDuration('5s'), 5e9)
  t.is(parseDuration('1m30s'), 90e9)
  t.is(parseDuration('1.5h'), 5400e9)
  t.is(parseDuration('250ms'), 250e6)
  t.is(parseDuration('0'), 0)
  for (const text of ['', '5', 's', '-5s', '5 s', '5d']) t.is(parseDuration(text), NaN, text)
})

test('sizes are binary, CPUs are billionths', (t) => {
  t.is(parseBytes('64m'), 64 * 1024 ** 2)
  t.is(parseBytes('1.5G'), 1.5 * 1024 ** 3)
  t.is(parseBytes('512KiB'), 512 * 1024)
  t.is(parseBytes('100'), 100)
  for (const text of ['', 'm', '-1', '1x']) t.is(parseBytes(text), NaN, text)
  t.is(parseCpus('.5'), 500_000_000)
  t.is(parseCpus('2'), 2e9)
  t.is(parseCpus('1e3'), NaN)
  t.is(parseUint('-1'), NaN)
})

test('ports are published in the short and the long form', (t) => {
  const base = { Protocol: 'tcp', PublishMode: 'ingress' } as const
  t.deepEqual(parsePublish('80'), [{ ...base, TargetPort: 80 }])
  t.deepEqual(parsePublish('8080:80/udp'), [
    { ...base, Protocol: 'udp', TargetPort: 80, PublishedPort: 8080 },
  ])
  t.deepEqual(parsePublish('8000-8001:80-81'), [
    { ...base, TargetPort: 80, PublishedPort: 8000 },
    { ...base, TargetPort: 81, PublishedPort: 8001 },
  ])
  t.deepEqual(parsePublish('target=80,published=8080,mode=host'), [
    { Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'host' },
  ])
  const bad = ['', '0:80', '80:70000', '1-2:3', '127.0.0.1:8080:80', '80/xyz', 'published=1', 'a=b']
  for (const text of bad) t.throws(() => parsePublish(text), { instanceOf: CommandError }, text)
})

test('mounts are read, and what cannot be mounted is refused', (t) => {
  t.deepEqual(parseMount('type=bind,src=/a,dst=/b,readonly'), {
    Type: 'bind',
    Source: '/a',
    Target: '/b',
    ReadOnly: true,
  })
  t.deepEqual(parseMount('type=tmpfs,target=/t,tmpfs-size=1m'), {
    Type: 'tmpfs',
    Target: '/t',
    TmpfsOptions: { SizeBytes: 1024 ** 2 },
  })
  const bad = [
    '',
    'type=bind,dst=/b',
    'type=bind,src=rel,dst=/b',
    'type=x,dst=/b',
    'type=bind,src=/a',
  ]
  for (const text of bad) t.throws(() => parseMount(text), { instanceOf: CommandError }, text)
})

test('a table has docker’s widths', (t) => {
  const rows = [
    { ID: 'a', Name: 'a long name' },
    { ID: 'b', Name: '' },
  ]
  const table = tableText(rows, [
    ['ID', 'ID'],
    ['NAME', 'Name'],
    ['PORTS', 'Ports'],
  ])
  t.is(table, 'ID        NAME          PORTS\na         a long name   \nb                       \n')
})

test('times and sizes are docker’s', (t) => {
  const second = 1000
  t.is(durationText(500), 'Less than a second')
  t.is(durationText(second), '1 second')
  t.is(durationText(90 * second), 'About a minute')
  t.is(durationText(150 * second), '2 minutes')
  t.is(durationText(3600 * second), 'About an hour')
  t.is(durationText(47 * 3600 * second), '47 hours')
  t.is(durationText(72 * 3600 * second), '3 days')
  t.is(durationText(21 * 24 * 3600 * second), '3 weeks')
  t.is(durationText(100 * 24 * 3600 * second), '3 months')
  t.is(durationText(1000 * 24 * 3600 * second), '2 years')
  t.is(agoText('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:00:05Z')), '5 seconds ago')
  t.is(sizeText(1_984_132), '1.98MB')
  t.is(sizeText(0), '0B')
  t.is(memoryText(25_276_514_304), '23.54GiB')
  t.is(shortened('abcdef', 4), 'abc…')
  t.is(imageText('127.0.0.1:5000/web:1@sha256:abc'), '127.0.0.1:5000/web:1')
})

const NOBODY = { isRoot: false, isTerminal: false }

function socket(args: readonly string[], isRoot: boolean): string {
  return daemonOptions(daemonFlags(...args), {}, { isRoot, isTerminal: true }).socketPath
}

function listen(text: string): string {
  return daemonOptions(daemonFlags('--listen-addr', text), {}, NOBODY).listenAddress
}

function daemonFlags(...args: readonly string[]): Arguments {
  return parseArguments(daemon, args)
}

test('the daemon’s flags win over its variables, and both over the defaults', (t) => {
  const environment = { SKEIN_DATA_DIR: '/srv/a', SKEIN_LOG_LEVEL: 'debug', SKEIN_LISTEN_ADDR: '' }
  const options = daemonOptions(daemonFlags('--data-dir', '/srv/b'), environment, NOBODY)
  t.deepEqual(options, {
    dataDirectory: '/srv/b',
    listenAddress: '0.0.0.0:2377',
    advertiseAddress: '',
    hostname: '',
    socketPath: '/srv/b/skein.sock',
    balancer: 'auto',
    logLevel: 'debug',
    logFormat: 'json',
  })
})

test('a host name is one of the Domain Name System’s', (t) => {
  const named = (text: string): string =>
    daemonOptions(daemonFlags('--hostname', text), {}, NOBODY).hostname
  t.is(named('till-3.shop'), 'till-3.shop')
  for (const wrong of ['-a', 'a-', 'a..b', 'a_b', 'a b', 'x'.repeat(64), 'x.'.repeat(126) + 'xy']) {
    t.throws(() => named(wrong), { message: /--hostname/ }, wrong)
  }
})

test('only root with the default data directory has the well-known socket', (t) => {
  t.is(socket([], true), '/run/skein/skein.sock')
  t.is(socket([], false), '/var/lib/skein/skein.sock')
  t.is(socket(['--data-dir', '/d'], true), '/d/skein.sock')
  t.is(socket(['--socket', 'unix:///s.sock'], true), '/s.sock')
})

test('a listen address without a port gets Docker’s', (t) => {
  t.is(listen('127.0.0.1'), '127.0.0.1:2377')
  t.is(listen('127.0.0.1:7'), '127.0.0.1:7')
  t.is(listen('[::1]:7'), '[::1]:7')
  t.is(listen('[::1]'), '[::1]:2377')
})
