/** Functions to call when something happens; each is called once for each event. */

/** Those who listen to one kind of event. */
export class Listeners<T> {
  readonly #listeners = new Set<(value: T) => void>()

  /** Returns the undo. */
  add(listener: (value: T) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  tell(value: T): void {
    for (const listener of this.#listeners) listener(value)
  }
}
