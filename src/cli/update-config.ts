/** `--update-*` and `--rollback-*`. Source: docker `updateOptions`, in its behaviour. */
import type { UpdateConfig } from '../store/spec.ts'
import type { Arguments } from './arguments.ts'
import { CommandError, EXIT_WRONG_FLAG } from './command.ts'

const ACTIONS = ['pause', 'continue', 'rollback'] as const
const ORDERS = ['start-first', 'stop-first'] as const

/** What the flags say, undefined if there are none. @throws CommandError */
export function updateConfigOf(
  given: Arguments,
  kind: 'update' | 'rollback',
): UpdateConfig | undefined {
  const parallelism = given.number(`${kind}-parallelism`, 'uint')
  const delay = given.number(`${kind}-delay`, 'duration')
  const monitor = given.number(`${kind}-monitor`, 'duration')
  const action = choice(given, `${kind}-failure-action`, ACTIONS)
  const order = choice(given, `${kind}-order`, ORDERS)
  const ratio = ratioOf(given, `${kind}-max-failure-ratio`)
  const config: UpdateConfig = {
    ...(parallelism === undefined ? {} : { Parallelism: parallelism }),
    ...(delay === undefined ? {} : { Delay: delay }),
    ...(monitor === undefined ? {} : { Monitor: monitor }),
    ...(action === undefined ? {} : { FailureAction: action }),
    ...(order === undefined ? {} : { Order: order }),
    ...(ratio === undefined ? {} : { MaxFailureRatio: ratio }),
  }
  if (Object.keys(config).length === 0) return undefined
  // Docker reads an absent parallelism as 0, all at once; its client sends the default.
  return { Parallelism: 1, ...config }
}

function choice<T extends string>(
  given: Arguments,
  name: string,
  choices: readonly T[],
): T | undefined {
  const text = given.text(name)
  if (text === undefined) return undefined
  const found = choices.find((one) => one === text)
  if (found === undefined) throw wrong(name, text, `none of ${choices.join(', ')}`)
  return found
}

function ratioOf(given: Arguments, name: string): number | undefined {
  const text = given.text(name)
  if (text === undefined) return undefined
  const ratio = /^\d*\.?\d+$/.test(text) ? Number(text) : NaN
  if (ratio >= 0 && ratio <= 1) return ratio
  throw wrong(name, text, 'not between 0 and 1')
}

function wrong(name: string, text: string, reason: string): CommandError {
  return new CommandError(`invalid argument "${text}" for "--${name}" flag: ${reason}`, {
    exitCode: EXIT_WRONG_FLAG,
    showUsage: true,
  })
}
