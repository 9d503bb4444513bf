/** `skein version` */
import { arch, platform } from 'node:os'
import { CommandError, FORMAT_FLAG } from '../command.ts'
import type { Command } from '../command.ts'
import { API_VERSION } from '../connection.ts'
import { packageVersion } from '../package-version.ts'

/** `version` */
export const version: Command = {
  usage: '[OPTIONS]',
  short: 'Show the Skein version information',
  minimum: 0,
  maximum: 0,
  flags: [{ ...FORMAT_FLAG, help: "Format output: 'json'" }],
  async run({ client, console }, given) {
    const format = given.text('format')
    if (format !== undefined && format !== 'json') {
      throw new CommandError('Go templates are not supported: use --format json')
    }
    const own = {
      Version: packageVersion(),
      ApiVersion: API_VERSION,
      NodeVersion: process.version,
      Os: platform(),
      Arch: arch(),
    }
    if (format !== 'json') console.write(`Client:\n${versionLines(own)}`)
    const server = await client.get('/version')
    if (format === 'json') console.write(`${JSON.stringify({ Client: own, Server: server })}\n`)
    else console.write(`\nServer:\n${versionLines(server)}`)
    return 0
  },
}

/** The members that a version is known by, those that are there. */
const LINES = [
  ['Version', 'Version'],
  ['API version', 'ApiVersion'],
  ['Minimum API version', 'MinAPIVersion'],
  ['Node version', 'NodeVersion'],
  ['OS', 'Os'],
  ['Architecture', 'Arch'],
  ['Kernel version', 'KernelVersion'],
] as const

function versionLines(facts: unknown): string {
  const members = new Map(Object.entries(facts ?? {}).map(([name, value]) => [name, String(value)]))
  return LINES.filter(([, member]) => members.has(member))
    .map(([name, member]) => ` ${`${name}:`.padEnd(22)}${members.get(member)}\n`)
    .join('')
}
