/** What an interaction script prints: text and log lines, indented, filtered by level. */
import { LEVELS, type Level, type LogLine } from './interaction-log.ts'

/** Collects the output of one command. */
export class Output {
  #text = ''
  level: Level = 'debug'

  /** Whether nothing but errors of the commands themselves is printed. */
  get isSilent(): boolean {
    return this.level === 'none'
  }

  write(text: string): void {
    if (!this.isSilent) this.#text += text
  }

  /** Writes `text` with a newline. */
  line(text: string): void {
    this.write(`${text}\n`)
  }

  log([level, text]: LogLine): void {
    if (LEVELS.indexOf(level) >= LEVELS.indexOf(this.level))
      this.line(`${level.toUpperCase()} ${text}`)
  }

  /** Indents by two blanks what `work` prints; every line ends. */
  indented(work: () => void): void {
    const before = this.#text
    this.#text = ''
    work()
    const lines = this.#text.split('\n')
    if (lines.at(-1) === '') lines.pop()
    this.#text = before + lines.map((text) => `  ${text}\n`).join('')
  }

  /** Takes out everything printed so far. */
  take(): string {
    const text = this.#text
    this.#text = ''
    return text
  }
}
