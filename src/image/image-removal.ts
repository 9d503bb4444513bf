/**
 * What `image rm` may do, decided before anything changes; Docker's rules:
 * a name with other names beside it only loses itself; an id with several names, and anything that
 * running tasks use, needs force; what is in use is never deleted, force or not.
 */
import { SwarmError } from '../base/errors.ts'
import type { ImageTree } from './image-tree.ts'
import type { LocalImage } from './local-images.ts'
import { familiar } from './reference.ts'
import type { TagTable } from './tag-table.ts'

/** A question to {@link planRemoval}. */
export interface RemovalQuestion {
  readonly reference: string
  readonly found: LocalImage
  readonly tree: ImageTree
  readonly tags: TagTable
  readonly force?: boolean
  /** Ids, digests or names that running tasks use. */
  readonly inUse?: ReadonlySet<string>
}

/** What to remove. */
export interface RemovalPlan {
  /** Canonical names. */
  readonly names: readonly string[]
  /** Whether the image goes with its last name. */
  readonly deletes: boolean
}

/** @throws FAILED_PRECONDITION when Docker would call it a conflict */
export function planRemoval(question: RemovalQuestion): RemovalPlan {
  const { found, tree, tags, force = false } = question
  const all = tags.namesOf(tree.digest)
  const names = found.name === undefined ? all : [found.name]
  const isInUse = question.inUse !== undefined && isUsed(tree, all, question.inUse)
  if (names.length < all.length) return { names, deletes: false }
  if (isInUse && !(force && found.name !== undefined)) {
    const how = force ? 'cannot be forced' : 'must be forced'
    throw conflict(question.reference, `(${how}) - image is being used by running tasks`)
  }
  if (names.length > 1 && !force) {
    const what = 'image is referenced in multiple repositories'
    throw conflict(question.reference, `(must be forced) - ${what}`)
  }
  return { names, deletes: !isInUse }
}

function isUsed(tree: ImageTree, names: readonly string[], inUse: ReadonlySet<string>): boolean {
  const texts: string[] = [tree.digest, ...tree.indexes, ...names, ...names.map(familiar)]
  for (const { digest, manifest } of tree.images) texts.push(digest, manifest.config.digest)
  return texts.some((text) => inUse.has(text))
}

function conflict(reference: string, what: string): SwarmError {
  return new SwarmError('FAILED_PRECONDITION', `image "${reference}": unable to remove ${what}`)
}
