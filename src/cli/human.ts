/** Times, sizes and names as docker prints them. Source: docker go-units, in its behaviour. */

const SECOND_MS = 1000

/** `About a minute`, `3 hours`, `2 weeks`. */
export function durationText(durationMs: number): string {
  const seconds = Math.floor(durationMs / SECOND_MS)
  if (seconds < 1) return 'Less than a second'
  if (seconds === 1) return '1 second'
  if (seconds < 60) return `${seconds} seconds`
  const minutes = Math.floor(seconds / 60)
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  const hours = Math.round(seconds / 3600)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  const days = Math.floor(hours / 24)
  if (hours < 24 * 14) return `${days} days`
  if (hours < 24 * 60) return `${Math.floor(days / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.floor(days / 30)} months`
  return `${Math.floor(days / 365)} years`
}

/** `2 minutes ago` for a time in RFC 3339, or in milliseconds. */
export function agoText(time: string | number, nowMs: number): string {
  const then = typeof time === 'number' ? time : Date.parse(time)
  if (Number.isNaN(then)) return 'N/A'
  return `${durationText(Math.max(0, nowMs - then))} ago`
}

/** `1.98MB`: decimal units, three digits. */
export function sizeText(bytes: number): string {
  return scaled(bytes, { base: 1000, digits: 3, units: ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] })
}

/** `23.54GiB`: binary units, four digits. */
export function memoryText(bytes: number): string {
  return scaled(bytes, { base: 1024, digits: 4, units: ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] })
}

function scaled(
  amount: number,
  scale: { readonly base: number; readonly digits: number; readonly units: readonly string[] },
): string {
  let value = amount
  let step = 0
  while (value >= scale.base && step < scale.units.length - 1) {
    value /= scale.base
    step++
  }
  return `${Number(value.toPrecision(scale.digits))}${scale.units[step] ?? ''}`
}

/** The first letter in upper case. */
export function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

/** At most `length` characters, the last one an ellipsis when something was cut. */
export function shortened(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`
}

/** The 12 characters by which docker names an object. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12)
}

/** An image reference without the digest that pins it, if a tag is left. */
export function imageText(reference: string): string {
  const [name = '', digest] = reference.split('@', 2)
  return digest === undefined || name === '' ? reference : name
}

/** Order in which docker lists names: numbers inside them count as numbers. */
export function byName(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
