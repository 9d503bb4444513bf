/** `skein doctor` */
import { daemonOptions } from '../daemon.ts'
import { CommandError, FORMAT_FLAG } from '../command.ts'
import type { Command } from '../command.ts'

const MARKS = { pass: 'ok  ', warn: 'WARN', fail: 'FAIL' } as const

/** `doctor` */
export const doctor: Command = {
  usage: '[OPTIONS]',
  short: 'Examine this host: kernel, disk, clock, network. Exit code 1 when something fails',
  minimum: 0,
  maximum: 0,
  flags: [
    { ...FORMAT_FLAG, help: "Format output: 'json'" },
    { name: 'data-dir', kind: 'string', help: 'The data directory that the daemon will have' },
    { name: 'listen-addr', kind: 'string', help: 'Where the daemon will accept peers' },
  ],
  async run({ console, environment }, given) {
    const format = given.text('format')
    if (format !== undefined && format !== 'json') {
      throw new CommandError('Go templates are not supported: use --format json')
    }
    const isRoot = process.getuid?.() === 0
    const options = daemonOptions(given, environment, { isRoot, isTerminal: false })
    const { examine, worstLevel } = await import('../../node/doctor/doctor.ts')
    const findings = await examine(options)
    const level = worstLevel(findings)
    if (format === 'json') {
      console.write(`${JSON.stringify({ level, findings })}\n`)
      return level === 'fail' ? 1 : 0
    }
    for (const { check, level: found, message, advice } of findings) {
      console.write(`${MARKS[found]}  ${check}: ${message}\n`)
      if (advice !== undefined) console.write(`      ${advice}\n`)
    }
    return level === 'fail' ? 1 : 0
  },
}
