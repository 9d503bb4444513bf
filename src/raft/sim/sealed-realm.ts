/**
 * While a simulation runs, nothing may know the real time, draw real chance or start a real timer:
 * such calls throw. Events of a simulation run without a break between `sealRealm` and its undo, so
 * nobody else's code meets the seal.
 */

type Holder = Record<string, unknown>

const FORBIDDEN: readonly (readonly [Holder, string])[] = [
  [Date as unknown as Holder, 'now'],
  [Math as unknown as Holder, 'random'],
  [performance as unknown as Holder, 'now'],
  [globalThis, 'setTimeout'],
  [globalThis, 'setInterval'],
  [globalThis, 'setImmediate'],
]

/** Seals; returns the undo. */
export function sealRealm(): () => void {
  const own = FORBIDDEN.map(([holder, name]) => Object.getOwnPropertyDescriptor(holder, name))
  for (const [holder, name] of FORBIDDEN) {
    Object.defineProperty(holder, name, {
      configurable: true,
      value: () => {
        throw new Error(`simulation: ${name} is real, and nothing here is`)
      },
    })
  }
  return () => {
    FORBIDDEN.forEach(([holder, name], position) => {
      const descriptor = own[position]
      if (descriptor === undefined) delete holder[name]
      else Object.defineProperty(holder, name, descriptor)
    })
  }
}
