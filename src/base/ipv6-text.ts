/**
 * Text of IPv6 addresses as RFC 5952 wants it: lower case, the longest run of two or more zero
 * groups shortened, the first of those that are equally long.
 */
import { at } from './assert.ts'

/** Text of an address of eight groups of 16 bits. */
export function ipv6Text(groups: readonly number[]): string {
  const run = longestZeroRun(groups)
  if (run.length < 2) return hex(groups)
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`
}

function hex(groups: readonly number[]): string {
  return groups.map((group) => group.toString(16)).join(':')
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  let start = 0
  for (let index = 0; index < groups.length; index += 1) {
    if (at(groups, index) !== 0) start = index + 1
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start }
  }
  return best
}
