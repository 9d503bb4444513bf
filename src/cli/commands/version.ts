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
    const own = ownVersion()
    if (format !== 'json') console.write(`Client:\n${lines(clientFacts(own), 1)}`)
    const server = (await client.get('/version')) as VersionJson
    if (format === 'json') console.write(`${JSON.stringify({ Client: own, Server: server })}\n`)
    else
      console.write(`\nServer: ${server.Platform.Name}\n${server.Components.map(section).join('')}`)
    return 0
  },
}

/** What is read of `GET /version`. */
interface VersionJson {
  readonly Platform: { readonly Name: string }
  readonly Components: readonly {
    readonly Name: string
    readonly Version: string
    readonly Details: Readonly<Record<string, string>>
  }[]
}

type Facts = readonly (readonly [name: string, value: string])[]

function ownVersion(): Readonly<
  Record<'Version' | 'ApiVersion' | 'NodeVersion' | 'Os' | 'Arch', string>
> {
  return {
    Version: packageVersion(),
    ApiVersion: API_VERSION,
    NodeVersion: process.version,
    Os: platform(),
    Arch: GO_ARCHITECTURES[arch()] ?? arch(),
  }
}

/** Docker's clients print Go's names of architectures. */
const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }

function clientFacts(own: ReturnType<typeof ownVersion>): Facts {
  return [
    ['Version', own.Version],
    ['API version', own.ApiVersion],
    ['Node version', own.NodeVersion],
    ['OS/Arch', `${own.Os}/${own.Arch}`],
  ]
}

function section({
  Name: name,
  Version: text,
  Details: details,
}: VersionJson['Components'][0]): string {
  const facts: Facts = [
    ['Version', text],
    ...(name === 'Engine' ? engineFacts(details) : Object.entries(details)),
  ]
  return ` ${name}:\n${lines(facts, 2)}`
}

function engineFacts(details: Readonly<Record<string, string>>): Facts {
  return [
    ['API version', `${details['ApiVersion']} (minimum version ${details['MinAPIVersion']})`],
    ['Node version', (details['GoVersion'] ?? '').replace(/^node /, '')],
    ['OS/Arch', `${details['Os']}/${details['Arch']}`],
    ['Kernel version', details['KernelVersion'] ?? ''],
  ]
}

function lines(facts: Facts, indentation: number): string {
  return facts
    .map(
      ([name, value]) =>
        `${' '.repeat(indentation)}${`${name}:`.padEnd(VALUE_COLUMN - indentation)}${value}\n`,
    )
    .join('')
}

/** Where values stand, as with docker. */
const VALUE_COLUMN = 20
