/** Step-by-step output for scripts: colour and timing on a terminal, plain lines elsewhere. */
import type { WriteStream } from 'node:tty'
import { errorText } from '../src/base/errors.ts'

/** Prints steps, the commands in them, and what the commands said. */
export class Progress {
  readonly #out: NodeJS.WritableStream & { readonly isTTY?: boolean }
  readonly #colour: boolean
  readonly #started = performance.now()

  constructor(out: WriteStream | NodeJS.WritableStream) {
    this.#out = out
    this.#colour = 'isTTY' in out && out.isTTY && process.env['NO_COLOR'] === undefined
  }

  /** Runs one step under a headline, and prints how long it took. */
  async step<T>(title: string, work: () => Promise<T>): Promise<T> {
    const seconds = this.#seconds(this.#started)
    this.#line(this.#paint('1;36', `\n== ${title}`) + this.#paint('2', `   (at ${seconds} s)`))
    const started = performance.now()
    const value = await work()
    this.#line(this.#paint('32', `ok, ${this.#seconds(started)} s`))
    return value
  }

  /** A command, as the reader would type it. */
  command(text: string): void {
    this.#line(`${this.#paint('2', '$')} ${this.#paint('1', text)}`)
  }

  /** What a command printed. */
  output(text: string): void {
    for (const line of text.split('\n')) this.#line(`  ${line}`)
  }

  /** A remark. */
  note(text: string): void {
    this.#line(this.#paint('2', `  (${text})`))
  }

  /** The end, when a step failed. */
  failed(error: unknown): void {
    this.#line(this.#paint('1;31', `failed: ${errorText(error)}`))
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`)
  }

  #paint(code: string, text: string): string {
    return this.#colour ? `\u001B[${code}m${text}\u001B[0m` : text
  }

  #seconds(since: number): string {
    return ((performance.now() - since) / 1000).toFixed(1)
  }
}
