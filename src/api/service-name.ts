/** Names for services that were created without one, as Docker gives them. */
import { createHash } from 'node:crypto'
import { at } from '../base/assert.ts'
import type { StoreView } from '../store/view.ts'

const MANNERS =
  'agile brave calm daring eager early gentle hardy keen lively lone nimble patient quick ' +
  'quiet ready sleek steady swift sturdy tame wary wild wise'
const BIRDS =
  'brant crane curlew dunlin eider gadwall godwit goose greylag grouse heron ibis knot lapwing ' +
  'merlin plover rook sandpiper skua snipe stork swan teal tern wigeon'

/** Tries with a number appended, before the request id itself is the name. */
const ATTEMPTS_MAX = 100

/** A free name such as `steady_teal`, the same again for the same request. */
export function inventName(store: StoreView, requestId: string): string {
  const [manner = 0, bird = 0] = createHash('sha256').update(requestId).digest()
  const manners = MANNERS.split(' ')
  const birds = BIRDS.split(' ')
  const name = `${at(manners, manner % manners.length)}_${at(birds, bird % birds.length)}`
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const candidate = attempt === 0 ? name : `${name}${attempt}`
    if (store.find('services', 'name', candidate).length === 0) return candidate
  }
  return `service_${requestId}`
}
