/**
 * How nodes ask each other for the output of a task: one byte stream a task, method `agent.logs`.
 * The question is the stream's header; the answer is frames (`mesh/frames.ts`), one line each. The
 * answer ends when the log does, or, following, when the task has ended; the asker ends it earlier
 * by dropping the stream. A writer never runs ahead of its reader: the mesh's streams have credit.
 */
import { decode, encode } from 'msgpackr'
import { z } from 'zod'
import type { LogLine } from '../agent/task-log.ts'
import { SwarmError } from '../base/errors.ts'
import { encodeFrame } from '../mesh/frames.ts'

/** Name of the method on the mesh. */
export const LOGS_METHOD = 'agent.logs'

/** Most bytes of one line with what is said of it: two pieces of 64 Ki characters and some room. */
export const LOG_RECORD_BYTES_MAX = 512 * 1024

/** Longest text of a time. */
const TIME_LENGTH_MAX = 64

const questionSchema = z.object({
  taskId: z.string().regex(/^[0-9a-z]{1,32}$/),
  stdout: z.boolean(),
  stderr: z.boolean(),
  follow: z.boolean(),
  /** The last so many lines; absent = all. */
  tail: z.int().nonnegative().optional(),
  /** RFC 3339; only lines from then on. */
  since: z.string().max(TIME_LENGTH_MAX).optional(),
})

const recordSchema = z.tuple([
  z.enum(['stdout', 'stderr']),
  z.string().max(TIME_LENGTH_MAX),
  z.string(),
])

/** What is asked of one task's log. */
export type LogQuestion = z.infer<typeof questionSchema>

/** @throws INVALID_ARGUMENT */
export function decodeQuestion(header: unknown): LogQuestion {
  const result = questionSchema.safeParse(header)
  if (result.success) return result.data
  throw new SwarmError('INVALID_ARGUMENT', 'logs: the question is malformed', {
    cause: result.error,
  })
}

/** One line as a frame; what is too long loses its end. */
export function encodeLine({ stream, time, line }: LogLine): Uint8Array {
  const body = encode([stream, time, line])
  if (body.length <= LOG_RECORD_BYTES_MAX) return encodeFrame(body)
  return encodeFrame(encode([stream, time, line.slice(0, LOG_RECORD_BYTES_MAX / 8)]))
}

/** The line of a frame's body. @throws INVALID_ARGUMENT */
export function decodeLine(body: Uint8Array): LogLine {
  try {
    const [stream, time, line] = recordSchema.parse(decode(body))
    return { stream, time, line }
  } catch (cause) {
    throw new SwarmError('INVALID_ARGUMENT', 'logs: a record is malformed', { cause })
  }
}
