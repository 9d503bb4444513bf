/** Parts of a service's spec that `service create` and `service update` read from equal flags. */
import type { ContainerSpec, Placement, ResourceSpec, RestartPolicy } from '../store/spec.ts'
import type { Arguments } from './arguments.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'

/** Environment of the client: `--env NAME` without a value takes it from there. */
export type Environment = Readonly<Record<string, string | undefined>>

/** What single flags say of the container; nothing of what they leave out. */
export function containerSettings(given: Arguments): Partial<ContainerSpec> {
  const grace = given.number('stop-grace-period', 'duration')
  const flag = <K extends string>(member: K, name: string): { [P in K]?: boolean } =>
    (given.has(name) ? { [member]: given.flag(name) } : {}) as { [P in K]?: boolean }
  return {
    ...textMember('Hostname', given.text('hostname')),
    ...textMember('User', given.text('user')),
    ...textMember('Dir', given.text('workdir')),
    ...textMember('StopSignal', given.text('stop-signal')),
    ...(given.has('entrypoint') ? { Command: words(given.text('entrypoint') ?? '') } : {}),
    ...(grace === undefined ? {} : { StopGracePeriod: grace }),
    ...flag('Init', 'init'),
    ...flag('ReadOnly', 'read-only'),
    ...flag('TTY', 'tty'),
  }
}

/** @throws CommandError */
export function endpointMode(given: Arguments): 'vip' | 'dnsrr' | undefined {
  const mode = given.text('endpoint-mode')
  if (mode === undefined || mode === 'vip' || mode === 'dnsrr') return mode
  throw new CommandError(
    `invalid argument "${mode}" for "--endpoint-mode" flag: none of vip, dnsrr`,
    { exitCode: EXIT_WRONG_FLAG, showUsage: true },
  )
}

/** `--limit-…` or `--reserve-…`. */
export function resources(given: Arguments, kind: 'limit' | 'reserve'): ResourceSpec {
  const cpus = given.number(`${kind}-cpu`, 'decimal')
  const memory = given.number(`${kind}-memory`, 'bytes')
  const pids = kind === 'limit' ? given.number('limit-pids', 'uint') : undefined
  return {
    ...(cpus === undefined ? {} : { NanoCPUs: cpus }),
    ...(memory === undefined ? {} : { MemoryBytes: memory }),
    ...(pids === undefined ? {} : { Pids: pids }),
  }
}

/** `--restart-…`. @throws CommandError */
export function restartPolicy(given: Arguments): RestartPolicy {
  const condition = given.text('restart-condition')
  const delay = given.number('restart-delay', 'duration')
  const attempts = given.number('restart-max-attempts', 'uint')
  const window = given.number('restart-window', 'duration')
  return {
    ...(condition === undefined ? {} : { Condition: restartCondition(condition) }),
    ...(delay === undefined ? {} : { Delay: delay }),
    ...(attempts === undefined ? {} : { MaxAttempts: attempts }),
    ...(window === undefined ? {} : { Window: window }),
  }
}

function restartCondition(text: string): 'none' | 'on-failure' | 'any' {
  if (text === 'none' || text === 'on-failure' || text === 'any') return text
  throw new CommandError(
    `invalid argument "${text}" for "--restart-condition" flag: none of none, on-failure, any`,
    { exitCode: EXIT_WRONG_FLAG, showUsage: true },
  )
}

/** `spread=node.labels.site`. @throws CommandError */
export function preferenceOf(text: string): NonNullable<Placement['Preferences']>[number] {
  const descriptor = /^spread=(.+)$/.exec(text)?.[1]
  if (descriptor !== undefined) return { Spread: { SpreadDescriptor: descriptor } }
  throw new CommandError(`unsupported placement preference "${text}" (only spread is supported)`)
}

/** `NAME=value` as it is; `NAME` with the client's own value, or not at all. */
export function environmentEntry(text: string, environment: Environment): string[] {
  if (text.includes('=')) return [text]
  const value = environment[text]
  return value === undefined ? [] : [`${text}=${value}`]
}

/** `key=value` texts as labels. */
export function pairs(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [key = '', ...value] = text.split('=')
      return [key, value.join('=')]
    }),
  )
}

/** Splits a command as a shell would: quotes and backslashes keep spaces. */
function words(text: string): string[] {
  const found = text.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|((?:[^\s"'\\]|\\.)+)/gs)
  return Array.from(
    found,
    ([, double, single, bare]) => single ?? (double ?? bare ?? '').replaceAll(/\\(.)/gs, '$1'),
  )
}

function textMember<K extends string>(name: K, value: string | undefined): { [P in K]?: string } {
  return (value === undefined ? {} : { [name]: value }) as { [P in K]?: string }
}

/** A member that is left out when it is empty. */
export function listMember<K extends string>(
  name: K,
  values: readonly string[],
): { [P in K]?: readonly string[] } {
  return (values.length === 0 ? {} : { [name]: values }) as { [P in K]?: readonly string[] }
}
