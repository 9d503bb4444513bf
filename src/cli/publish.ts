/**
 * `--publish`: `80`, `8080:80`, `8080:80/udp`, `8000-8002:80-82`, or
 * `published=8080,target=80,protocol=tcp,mode=host`. Source: docker `opts.PortOpt`, in its
 * behaviour.
 */
import type { PortConfig } from '../store/spec.ts'
import { CommandError } from './command.ts'

const PORT_MAX = 65_535

/** @throws CommandError */
export function parsePublish(text: string): readonly PortConfig[] {
  return text.includes('=') ? [longForm(text)] : shortForm(text)
}

function longForm(text: string): PortConfig {
  let target: number | undefined
  let published: number | undefined
  let protocol: PortConfig['Protocol'] = 'tcp'
  let mode: PortConfig['PublishMode'] = 'ingress'
  for (const part of text.split(',')) {
    const [key = '', value = ''] = part.split('=', 2)
    switch (key.trim().toLowerCase()) {
      case 'target':
        target = portNumber(value, text)
        break
      case 'published':
        published = portNumber(value, text)
        break
      case 'protocol':
        protocol = protocolName(value, text)
        break
      case 'mode':
        if (value !== 'ingress' && value !== 'host') throw wrong(text, `mode "${value}"`)
        mode = value
        break
      default:
        throw wrong(text, `field "${key}"`)
    }
  }
  if (target === undefined) throw wrong(text, 'missing "target"')
  return {
    Protocol: protocol,
    TargetPort: target,
    ...(published === undefined ? {} : { PublishedPort: published }),
    PublishMode: mode,
  }
}

function shortForm(text: string): PortConfig[] {
  const [ports = '', protocolText = 'tcp', extra] = text.split('/')
  if (extra !== undefined) throw wrong(text, 'protocol')
  const protocol = protocolName(protocolText, text)
  const parts = ports.split(':')
  if (parts.length > 2) throw wrong(text, 'a host address cannot be chosen for a service')
  const targets = portRange(parts.at(-1) ?? '', text)
  const published = parts.length === 2 ? portRange(parts[0] ?? '', text) : undefined
  if (published !== undefined && published.length !== targets.length) {
    throw wrong(text, 'ranges of different length')
  }
  return targets.map((target, index) => {
    const chosen = published?.[index]
    return {
      Protocol: protocol,
      TargetPort: target,
      ...(chosen === undefined ? {} : { PublishedPort: chosen }),
      PublishMode: 'ingress',
    }
  })
}

function portRange(text: string, whole: string): number[] {
  const [firstText = '', lastText = firstText] = text.split('-', 2)
  const first = portNumber(firstText, whole)
  const last = portNumber(lastText, whole)
  if (last < first) throw wrong(whole, `range ${text}`)
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}

function portNumber(text: string, whole: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN
  if (port >= 1 && port <= PORT_MAX) return port
  throw wrong(whole, `port "${text}"`)
}

function protocolName(text: string, whole: string): 'tcp' | 'udp' | 'sctp' {
  if (text === 'tcp' || text === 'udp' || text === 'sctp') return text
  throw wrong(whole, `protocol "${text}"`)
}

function wrong(text: string, reason: string): CommandError {
  return new CommandError(
    `invalid argument "${text}" for "-p, --publish" flag: invalid ${reason}`,
    {
      exitCode: 125,
      showUsage: true,
    },
  )
}
