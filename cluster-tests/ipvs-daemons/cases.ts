/** All cases, in the order of their running: the last one ends a host. */
import type { Case } from '../ipvs/case.ts'
import { CHANGE_CASES } from './change-cases.ts'
import { FAULT_CASES } from './fault-cases.ts'
import { IPV6_CASES } from './ipv6-cases.ts'
import { SPREAD_CASES } from './spread-cases.ts'

export const DAEMON_CASES: readonly Case[] = [
  ...SPREAD_CASES,
  ...IPV6_CASES,
  ...CHANGE_CASES,
  ...FAULT_CASES,
]
