/**
 * `skein daemon`: reads flags and SKEIN_* variables (flags win) into one value, then loads the
 * node. Nothing of the node is loaded before, so that the client stays small.
 */
import { flushCompileCache } from 'node:module'
import { join } from 'node:path'
import type { Arguments } from './arguments.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'
import type { Command } from './command.ts'
import {
  BALANCERS,
  DATA_DIRECTORY_DEFAULT,
  LISTEN_ADDRESS_DEFAULT,
  LOG_LEVELS,
  SOCKET_PATH_DEFAULT,
} from './daemon-options.ts'
import type { DaemonOptions } from './daemon-options.ts'

/** What the Domain Name System holds (RFC 1035, 2.3.4). */
const HOST_NAME_CHARACTERS_MAX = 253

/** `daemon` */
export const daemon: Command = {
  usage: '[OPTIONS]',
  short:
    'Run a node in the foreground. Every option is also a variable: --data-dir is SKEIN_DATA_DIR.',
  minimum: 0,
  maximum: 0,
  flags: [
    {
      name: 'data-dir',
      kind: 'string',
      help: `Where everything durable is kept (default ${DATA_DIRECTORY_DEFAULT})`,
    },
    {
      name: 'listen-addr',
      kind: 'string',
      value: 'node-addr',
      help: `Where peers are accepted (default ${LISTEN_ADDRESS_DEFAULT})`,
    },
    {
      name: 'advertise-addr',
      kind: 'string',
      help: 'What peers are told (default: derived from --listen-addr)',
    },
    {
      name: 'hostname',
      kind: 'string',
      help: "The node's name in the swarm (default: the machine's host name)",
    },
    {
      name: 'socket',
      kind: 'string',
      help:
        `Unix socket of the API (default ${SOCKET_PATH_DEFAULT} for root with the default data ` +
        'directory, else <data-dir>/skein.sock)',
    },
    { name: 'log-level', kind: 'string', help: `${LOG_LEVELS.join(', ')} (default info)` },
    {
      name: 'log-format',
      kind: 'string',
      help: 'text or json (default: text on a terminal, else json)',
    },
    {
      name: 'balancer',
      kind: 'string',
      help:
        'auto, ipvs, nftables or userspace; where that cannot be, the next of them ' +
        '(default auto: the first that can be)',
    },
    {
      name: 'purge',
      kind: 'boolean',
      help: 'End the daemon of --data-dir and remove its tasks, interfaces and data; then exit',
    },
  ],
  async run({ environment }, given) {
    const options = daemonOptions(given, environment, {
      isRoot: process.getuid?.() === 0,
      isTerminal: process.stderr.isTTY,
    })
    const node = await import('../node.ts')
    // Now, and not at the end: a node may be killed at any time, and its next start is to be quick.
    flushCompileCache()
    await (given.flag('purge') ? node.purge(options) : node.runDaemon(options))
    return 0
  },
}

/** What the machine decides about defaults. */
export interface DaemonSurroundings {
  readonly isRoot: boolean
  readonly isTerminal: boolean
}

/** @throws CommandError */
export function daemonOptions(
  given: Arguments,
  environment: Readonly<Record<string, string | undefined>>,
  surroundings: DaemonSurroundings,
): DaemonOptions {
  const option = (name: string): string | undefined => {
    const variable = environment[`SKEIN_${name.toUpperCase().replaceAll('-', '_')}`]
    return given.text(name) ?? (variable === '' ? undefined : variable)
  }
  const dataDirectory = option('data-dir') ?? DATA_DIRECTORY_DEFAULT
  const usual = surroundings.isRoot && dataDirectory === DATA_DIRECTORY_DEFAULT
  return {
    dataDirectory,
    listenAddress: withPort(option('listen-addr') ?? LISTEN_ADDRESS_DEFAULT),
    advertiseAddress: option('advertise-addr') ?? '',
    hostname: hostName(option('hostname') ?? ''),
    socketPath: socketPath(
      option('socket') ?? (usual ? SOCKET_PATH_DEFAULT : join(dataDirectory, 'skein.sock')),
    ),
    balancer: oneOf('balancer', option('balancer') ?? 'auto', BALANCERS),
    logLevel: oneOf('log-level', option('log-level') ?? 'info', LOG_LEVELS),
    logFormat: oneOf(
      'log-format',
      option('log-format') ?? (surroundings.isTerminal ? 'text' : 'json'),
      ['text', 'json'] as const,
    ),
  }
}

/** `host` and `host:port`, IPv6 in brackets. */
function withPort(address: string): string {
  return /:\d+$/.test(address) && !/^[^[]*:.*:/.test(address) ? address : `${address}:2377`
}

/** Empty, or labels of letters, digits and hyphens with dots between them (RFC 1123, 2.1). */
function hostName(text: string): string {
  const label = /^[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?$/i
  const isName =
    text.length <= HOST_NAME_CHARACTERS_MAX && text.split('.').every((one) => label.test(one))
  if (text === '' || isName) return text
  throw new CommandError(
    `invalid argument "${text}" for "--hostname" flag: letters, digits and hyphens, at most 63 ` +
      `between dots, ${HOST_NAME_CHARACTERS_MAX} in all`,
    { exitCode: EXIT_WRONG_FLAG, showUsage: true },
  )
}

function socketPath(text: string): string {
  return text.replace(/^unix:\/\//, '')
}

function oneOf<T extends string>(name: string, text: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === text)
  if (found !== undefined) return found
  throw new CommandError(
    `invalid argument "${text}" for "--${name}" flag: none of ${choices.join(', ')}`,
    { exitCode: EXIT_WRONG_FLAG, showUsage: true },
  )
}
