/** Signal names as Docker's API writes them (`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`) to numbers. */
import { constants } from 'node:os'
import { SwarmError } from '../base/errors.ts'

/** What stops a task whose spec and image name no signal. */
export const STOP_SIGNAL_DEFAULT = 'SIGTERM'

/** Highest signal number of Linux. */
const SIGNAL_MAX = 64
/**
 * First real-time signal that user programs see under glibc and musl alike (34; 32 and 33 are
 * libc's).
 */
const SIGNAL_RTMIN = 34

const NUMBERS: ReadonlyMap<string, number> = new Map(Object.entries(constants.signals))

/** The number of a signal. @throws INVALID_ARGUMENT for a name that Linux does not have */
export function signalNumber(name: string): number {
  const upper = name.trim().toUpperCase()
  if (/^\d+$/.test(upper)) {
    const number = Number(upper)
    if (number >= 1 && number <= SIGNAL_MAX) return number
  }
  const full = upper.startsWith('SIG') ? upper : `SIG${upper}`
  const known = NUMBERS.get(full)
  if (known !== undefined) return known
  const realTime = /^SIGRTM(IN|AX)(?:([+-])(\d+))?$/.exec(full)
  if (realTime !== null) {
    const base = realTime[1] === 'IN' ? SIGNAL_RTMIN : SIGNAL_MAX
    const offset = Number(realTime[3] ?? '0') * (realTime[2] === '-' ? -1 : 1)
    const number = base + offset
    if (number >= SIGNAL_RTMIN && number <= SIGNAL_MAX) return number
  }
  throw new SwarmError('INVALID_ARGUMENT', `signal "${name}": no such signal`)
}
