/**
 * Reads data-driven scripts: commands, `----`, expected output.
 *
 *   # a comment
 *   command key key=value key=(a, b)
 *   input
 *   ----
 *   output, to the first blank line
 *
 * A directive that ends in a backslash goes on in the next line. Output that begins with a second
 * `----` may hold blank lines and ends with two of them. Source: the grammar of
 * cockroachdb/datadriven (reference/raft.md §3.1).
 */
import { assert, at } from '../../base/assert.ts'

/** A command failed in a way that scripts expect: the message is part of its output. */
export class CommandError extends Error {}

/** One command with what it must print. */
export interface ScriptCase {
  /** Line of the directive, from 1. */
  readonly line: number
  readonly command: string
  /** In order of appearance; `key` alone has no values, `key=` has one empty one. */
  readonly args: readonly ScriptArgument[]
  readonly input: string
  /** Ends in a newline. */
  readonly expected: string
}

export interface ScriptArgument {
  readonly key: string
  readonly values: readonly string[]
}

const SEPARATOR = '----'

/** The cases of a script, in order. */
export function parseScript(text: string): ScriptCase[] {
  const lines = new Lines(text)
  const cases: ScriptCase[] = []
  for (;;) {
    const directive = nextDirective(lines)
    if (directive === undefined) return cases
    const { line, source } = directive
    const input = readInput(lines, line)
    const expected = readExpected(lines)
    cases.push({ line, ...parseDirective(source), input, expected })
  }
}

/** A command with its arguments. */
export function parseDirective(source: string): Pick<ScriptCase, 'command' | 'args'> {
  const [command, ...rest] = splitWords(source)
  assert(command !== undefined, `no command in ${source}`)
  return { command, args: rest.map(parseArgument) }
}

/** The values of an argument, or `undefined` if it is not given. */
export function argument(test: ScriptCase, key: string): readonly string[] | undefined {
  return test.args.find((arg) => arg.key === key)?.values
}

/** The only value of an argument. */
export function valueOf(test: ScriptCase, key: string): string | undefined {
  const values = argument(test, key)
  return values === undefined ? undefined : at(values, 0)
}

class Lines {
  readonly #lines: readonly string[]
  #position = 0

  constructor(text: string) {
    const lines = text.split('\n')
    if (lines.at(-1) === '') lines.pop()
    this.#lines = lines
  }

  /** Number of the line read last. */
  get number(): number {
    return this.#position
  }

  peek(): string | undefined {
    return this.#lines[this.#position]
  }

  next(): string | undefined {
    const line = this.peek()
    if (line !== undefined) this.#position += 1
    return line
  }
}

function nextDirective(lines: Lines): { line: number; source: string } | undefined {
  for (;;) {
    let text = lines.next()?.trim()
    if (text === undefined) return undefined
    if (text === '' || text.startsWith('#')) continue
    const line = lines.number
    while (text.endsWith('\\')) {
      text = `${text.slice(0, -1).trim()} ${(lines.next() ?? '').trim()}`
    }
    return { line, source: text }
  }
}

function readInput(lines: Lines, directive: number): string {
  const input: string[] = []
  for (;;) {
    const line = lines.next()
    assert(line !== undefined, `line ${directive}: no ${SEPARATOR} after the directive`)
    if (line === SEPARATOR) return input.join('\n').trim()
    input.push(line)
  }
}

function readExpected(lines: Lines): string {
  if (lines.peek() === SEPARATOR) {
    lines.next()
    return readDoubleExpected(lines)
  }
  const output: string[] = []
  for (;;) {
    const line = lines.next()
    if (line === undefined || line.trim() === '') break
    output.push(line)
  }
  return output.map((line) => `${line}\n`).join('')
}

function readDoubleExpected(lines: Lines): string {
  let output = ''
  for (;;) {
    const line = lines.next()
    assert(line !== undefined, `line ${lines.number}: output does not end`)
    if (line === SEPARATOR && lines.peek() === SEPARATOR) {
      lines.next()
      const after = lines.next()
      assert(after === undefined || after.trim() === '', 'output is followed by a blank line')
      return output
    }
    output += `${line}\n`
  }
}

/** Splits at blanks outside parentheses. */
function splitWords(source: string): string[] {
  const words: string[] = []
  let word = ''
  let depth = 0
  for (const char of source) {
    if (char === '(') depth += 1
    if (char === ')') depth -= 1
    if (depth === 0 && /\s/.test(char)) {
      if (word !== '') words.push(word)
      word = ''
    } else {
      word += char
    }
  }
  if (word !== '') words.push(word)
  return words
}

function parseArgument(word: string): ScriptArgument {
  const equals = word.indexOf('=')
  if (equals < 0) return { key: word, values: [] }
  const key = word.slice(0, equals)
  const value = word.slice(equals + 1)
  if (!value.startsWith('(') || !value.endsWith(')')) return { key, values: [value] }
  return { key, values: splitList(value.slice(1, -1)) }
}

/** Splits at commas outside inner parentheses. */
function splitList(source: string): string[] {
  if (source.trim() === '') return []
  const values: string[] = []
  let value = ''
  let depth = 0
  for (const char of source) {
    if (char === '(') depth += 1
    if (char === ')') depth -= 1
    if (char === ',' && depth === 0) {
      values.push(value.trim())
      value = ''
    } else {
      value += char
    }
  }
  return [...values, value.trim()]
}
