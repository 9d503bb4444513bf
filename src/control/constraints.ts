/**
 * Placement constraints: `node.labels.disk==ssd`, `node.role != worker`. Comparison ignores case; a
 * missing label counts as empty; an unknown key never matches.
 * Source: swarmkit `manager/constraint/constraint.go`, in its behaviour.
 */
import { SwarmError } from '../base/errors.ts'
import type { Node } from '../store/objects.ts'
import { parseCidr, parseAddress } from './subnets.ts'

/** Longest constraint text, in characters. */
export const CONSTRAINT_LENGTH_MAX = 1024

const KEY = /^[a-z_][a-z0-9\-_.]+$/i
const VALUE = /^[a-z0-9:\-_\s.*()?+[\]\\^$|/]+$/i

/** A constraint as it is compared. */
export interface Constraint {
  readonly key: string
  readonly operator: '==' | '!='
  readonly value: string
}

/** The constraints in `texts`. @throws INVALID_ARGUMENT with Docker's text */
export function parseConstraints(texts: readonly string[]): readonly Constraint[] {
  return texts.map(parseConstraint)
}

function parseConstraint(text: string): Constraint {
  if (text.length > CONSTRAINT_LENGTH_MAX) throw invalid('constraint is too long')
  const operator = (['!=', '=='] as const).find((candidate) => text.includes(candidate))
  if (operator === undefined) throw invalid('constraint expected one operator from ==, !=')
  const position = text.indexOf(operator)
  const key = text.slice(0, position).trim()
  const value = text.slice(position + operator.length).trim()
  if (!KEY.test(key)) throw invalid(`key '${key}' is invalid`)
  if (!VALUE.test(value)) throw invalid(`value '${value}' is invalid`)
  return { key, operator, value }
}

function invalid(message: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', message)
}

/** Whether `node` meets all of `constraints`. */
export function meetsConstraints(constraints: readonly Constraint[], node: Node): boolean {
  return constraints.every((constraint) => meets(constraint, node))
}

/** Whether `node` meets the constraints in `texts`; invalid ones are met by no node. */
export function meetsConstraintTexts(texts: readonly string[] | undefined, node: Node): boolean {
  if (texts === undefined || texts.length === 0) return true
  const constraints = maybeParse(texts)
  return constraints !== undefined && meetsConstraints(constraints, node)
}

/** The parsed constraints, or undefined when one is invalid. */
export function maybeParse(texts: readonly string[]): readonly Constraint[] | undefined {
  try {
    return parseConstraints(texts)
  } catch (error) {
    if (error instanceof SwarmError) return undefined
    throw error
  }
}

function meets(constraint: Constraint, node: Node): boolean {
  if (constraint.key.toLowerCase() === 'node.ip') return meetsAddress(constraint, node)
  const actual = nodeProperty(constraint.key, node)
  if (actual === undefined) return false
  const equal = actual.toLowerCase() === constraint.value.toLowerCase()
  return equal === (constraint.operator === '==')
}

function meetsAddress(constraint: Constraint, node: Node): boolean {
  const address = parseAddress(node.advertiseHost)
  const wanted = parseCidr(
    constraint.value.includes('/') ? constraint.value : `${constraint.value}/32`,
  )
  if (wanted === undefined) return false
  const inside =
    address !== undefined && address >= wanted.base && address < wanted.base + wanted.size
  return inside === (constraint.operator === '==')
}

/**
 * What `key` (of a constraint or a spread preference) says of `node`; undefined for an unknown key.
 */
export function nodeProperty(key: string, node: Node): string | undefined {
  const { description, spec } = node
  switch (key.toLowerCase()) {
    case 'node.id':
      return node.id
    case 'node.hostname':
      return description.hostname
    case 'node.role':
      return spec.Role
    case 'node.platform.os':
      return description.platform.os
    case 'node.platform.arch':
      return description.platform.architecture
    default:
      return (
        labelOf(key, 'node.labels.', spec.Labels) ??
        labelOf(key, 'engine.labels.', description.engineLabels)
      )
  }
}

function labelOf(
  key: string,
  prefix: string,
  labels: Readonly<Record<string, string>> | undefined,
): string | undefined {
  if (key.length <= prefix.length || !key.toLowerCase().startsWith(prefix)) return undefined
  return labels?.[key.slice(prefix.length)] ?? ''
}
