/** The value of `--network`: a name, or docker's long form with aliases. */
import type { TaskSpec } from '../store/spec.ts'
import { CommandError } from './command.ts'

/** `NAME` or `name=NAME[,alias=ALIAS]…`. @throws CommandError */
export function parseNetworkAttachment(text: string): NonNullable<TaskSpec['Networks']>[number] {
  if (!text.includes('=')) {
    if (text === '') throw new CommandError('--network: a name is missing')
    return { Target: text }
  }
  let target = ''
  const aliases: string[] = []
  for (const field of text.split(',')) {
    const [key = '', value = ''] = field.split('=', 2)
    if (key === 'name') target = value
    else if (key === 'alias') aliases.push(value)
    else throw new CommandError(`invalid field "${key}" in --network: name, alias are known`)
  }
  if (target === '') throw new CommandError(`--network ${text}: name= is missing`)
  return { Target: target, ...(aliases.length === 0 ? {} : { Aliases: aliases }) }
}
