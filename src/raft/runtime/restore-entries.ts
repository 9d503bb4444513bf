/**
 * A state that replaces the present one travels through the log like everything else, in pieces:
 *
 *   begin ─► piece ─► piece ─► … ─► end       every member restores its state machine at `end`
 *                              └──► cancel    nothing happens
 *
 * So a restore is an ordinary committed entry: it happens on all members at the same place or on
 * none, survives the loss of its leader or any restart like a write does, and no member can hold a
 * state that the others do not come to. (hashicorp/raft's `Restore` puts a snapshot in force on the
 * leader alone first; a leader that is lost then leaves a member that has diverged.) The price: the
 * bytes lie in the log until the next snapshot.
 *
 * All entries of one restore are of one term and follow each other: any other entry between them
 * abandons it, and every member sees that at the same entry. So while one is unfinished the state
 * is still that before its `begin`, and a snapshot taken meanwhile stands there: it would not hold
 * the pieces. (No snapshot at all would be worse: a voter that needs one may be just the voter
 * that the next piece needs; found by the simulator.)
 */
import type { Entry, EntryId, Term } from '../core/entry.ts'

const KINDS = ['begin', 'piece', 'end', 'cancel'] as const

/** What an entry of a restore is. */
export type RestoreKind = (typeof KINDS)[number]

/** The data of an entry of type `restore`. */
export function encodeRestore(kind: RestoreKind, content: Uint8Array = NOTHING): Uint8Array {
  const data = new Uint8Array(1 + content.length)
  data[0] = KINDS.indexOf(kind)
  data.set(content, 1)
  return data
}

const NOTHING = new Uint8Array()

/** A whole state. */
export interface RestoredState {
  readonly pieces: readonly Uint8Array[]
  readonly sizeBytes: number
}

interface OpenRestore {
  readonly term: Term
  readonly before: EntryId
  readonly pieces: Uint8Array[]
}

/** Puts the pieces of one restore together. */
export class RestoreAssembler {
  #open: OpenRestore | undefined

  /** Where the log stood before the restore that has neither ended nor been abandoned, if any. */
  get before(): EntryId | undefined {
    return this.#open?.before
  }

  /** Another kind of entry is applied: what has begun is abandoned. */
  onOther(): void {
    this.#open = undefined
  }

  /**
   * Takes one entry of type `restore`, which follows the one at `before`; returns the state when it
   * is the end of a whole one.
   */
  take({ term, data }: Pick<Entry, 'term' | 'data'>, before: EntryId): RestoredState | undefined {
    if (this.#open !== undefined && term !== this.#open.term) this.#open = undefined
    switch (KINDS[data[0] ?? KINDS.length]) {
      case 'begin':
        this.#open = { term, before: this.#open?.before ?? before, pieces: [] }
        return undefined
      case 'piece':
        this.#open?.pieces.push(data.subarray(1))
        return undefined
      case 'end': {
        const pieces = this.#open?.pieces
        this.#open = undefined
        if (pieces === undefined) return undefined
        return { pieces, sizeBytes: pieces.reduce((sum, piece) => sum + piece.length, 0) }
      }
      case 'cancel':
      case undefined:
      default:
        // A kind of a later version must not be guessed: nothing happens.
        this.#open = undefined
        return undefined
    }
  }

  /** A snapshot took the place of everything. */
  reset(): void {
    this.#open = undefined
  }
}

/** @yields the pieces, as a state machine reads them */
export async function* contentOf({ pieces }: RestoredState): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) yield piece
}
