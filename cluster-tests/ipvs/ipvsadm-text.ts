/** A table as `ipvsadm -Sn` prints it: the second opinion on what the kernel has. */
import type { ServiceKey, ServiceOptions } from '../../src/network/netlink/ipvs.ts'
import { endpointText } from '../../src/network/netlink/ipvs.ts'
import type { IpvsTable, TableDestination, TableService } from '../../src/network/ipvs/table.ts'
import { within } from './case.ts'

const PROTOCOL_OPTION = { tcp: '-t', udp: '-u', sctp: '--sctp-service' } as const
const FORWARDING_OPTION = { masquerade: '-m', direct: '-g', tunnel: '-i', local: '-l' } as const

/** The lines of a table, sorted. */
export function tableLines(table: IpvsTable): string[] {
  return [...table.values()].flatMap(serviceLines).toSorted()
}

/** What ipvsadm says that a namespace has, sorted. */
export function ipvsadmLines(netns: string): string[] {
  return within(netns, 'ipvsadm -Sn')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .toSorted()
}

function serviceLines(service: TableService): string[] {
  const key = keyText(service.key)
  const destinations = [...service.destinations.values()]
  return [
    [`-A ${key} -s ${service.options.scheduler}`, ...optionTexts(service)].join(' '),
    ...destinations.map((destination) => destinationLine(key, destination)),
  ]
}

function keyText(key: ServiceKey): string {
  // It prints marks as signed numbers.
  if (key.type === 'mark') return `-f ${key.mark | 0}${key.family === 'ipv6' ? ' -6' : ''}`
  return `${PROTOCOL_OPTION[key.protocol]} ${endpointText(key.address, key.port)}`
}

function optionTexts({ key, options }: TableService): string[] {
  const texts: string[] = []
  const { persistence } = options
  if (persistence !== undefined) {
    texts.push(`-p ${persistence.timeoutSeconds}`)
    const isIpv6 = key.type === 'mark' ? key.family === 'ipv6' : key.address.includes(':')
    if (persistence.prefixBits < (isIpv6 ? 128 : 32)) {
      texts.push(`-M ${isIpv6 ? persistence.prefixBits : maskText(persistence.prefixBits)}`)
    }
  }
  if (options.onePacket) texts.push('-o')
  const flags = schedulerFlags(options)
  return flags.length === 0 ? texts : [...texts, `-b ${flags.join(',')}`]
}

/** ipvsadm knows the flags' names of sh and mh, and numbers those of the others. */
function schedulerFlags({ scheduler, schedulerFallback, schedulerPort }: ServiceOptions): string[] {
  const isNamed = scheduler === 'sh' || scheduler === 'mh'
  const name = (named: string, number: string): string =>
    isNamed ? `${scheduler}-${named}` : `flag-${number}`
  return [
    ...(schedulerFallback ? [name('fallback', '1')] : []),
    ...(schedulerPort ? [name('port', '2')] : []),
  ]
}

function maskText(bits: number): string {
  const mask = (0xffff_ffff << (32 - bits)) >>> 0
  return [mask >>> 24, mask >>> 16, mask >>> 8, mask].map((part) => part & 0xff).join('.')
}

function destinationLine(key: string, { key: destination, options }: TableDestination): string {
  const { address, port } = destination
  const { forwarding, weight, tunnel } = options
  const words = [FORWARDING_OPTION[forwarding], `-w ${weight}`]
  if (tunnel !== undefined) {
    words.push(`--tun-type ${tunnel.type}`)
    if (tunnel.type === 'gue') words.push(`--tun-port ${tunnel.port}`)
    if (tunnel.type !== 'ipip') words.push('--tun-nocsum')
  }
  return `-a ${key} -r ${endpointText(address, port)} ${words.join(' ')}`
}

/** Thresholds of a table's destinations, which `-Sn` leaves out, sorted. */
export function thresholdLines(table: IpvsTable): string[] {
  const destinations = [...table.values()].flatMap((service) => [...service.destinations.values()])
  return destinations
    .map(({ key, options }) => {
      const { upperThreshold, lowerThreshold } = options
      return `${endpointText(key.address, key.port)} ${upperThreshold} ${lowerThreshold}`
    })
    .toSorted()
}

/** What ipvsadm says of thresholds in a namespace, sorted. */
export function ipvsadmThresholds(netns: string): string[] {
  return within(netns, 'ipvsadm -Ln --thresholds')
    .split('\n')
    .filter((line) => /^ +-> [0-9[]/.test(line))
    .map((line) => line.trim().split(/ +/).slice(1, 4).join(' '))
    .toSorted()
}
