/** The daemon's log for people: one short line an event, in place of pino's JSON. */
import { Writable } from 'node:stream'

const LEVELS: Readonly<Record<number, string>> = {
  20: 'debug',
  30: 'info ',
  40: 'WARN ',
  50: 'ERROR',
}

/** Takes pino's lines and writes `time level message key=value …` to standard error. */
export function textLogStream(): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      process.stderr.write(textLine(chunk.toString()), () => done())
    },
  })
}

function textLine(json: string): string {
  const { level, time, msg, ...fields } = JSON.parse(json) as Record<string, unknown>
  const details = Object.entries(fields).map(([key, value]) => ` ${key}=${valueText(value)}`)
  const name = LEVELS[Number(level)] ?? String(level)
  return `${String(time)} ${name} ${String(msg)}${details.join('')}\n`
}

/** Of an error its message and code; pino has made it a plain object with its stack. */
function valueText(value: unknown): string {
  if (isError(value)) return JSON.stringify(`${value.message} (${value.code ?? value.type})`)
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return typeof value === 'string' && /[\s"=]/.test(text) ? JSON.stringify(text) : text
}

interface ErrorFields {
  readonly type: string
  readonly message: string
  readonly code?: string
}

function isError(value: unknown): value is ErrorFields {
  return typeof value === 'object' && value !== null && 'stack' in value && 'message' in value
}
