/**
 * Docker's service templates: `{{.Task.Slot}}` and its few sisters in hostname, environment and
 * mounts. Only what Docker documents; anything else is refused with its text, as Docker refuses it.
 * Source: Docker docs, "Create services using templates".
 */
import { SwarmError } from '../base/errors.ts'
import type { Labels } from '../store/spec.ts'

/** What a template can name. */
export interface TemplateValues {
  readonly service: { readonly id: string; readonly name: string; readonly labels: Labels }
  readonly node: {
    readonly id: string
    readonly hostname: string
    readonly os: string
    readonly architecture: string
  }
  readonly task: { readonly id: string; readonly name: string; readonly slot: string }
}

/** Fills in one text. @throws INVALID_ARGUMENT */
export function expandTemplate(text: string, values: TemplateValues): string {
  if (!text.includes('{{')) return text
  return text.replaceAll(/\{\{(.*?)\}\}/gs, (_, expression: string) => {
    const value = lookUp(expression.trim(), values)
    if (value !== undefined) return value
    throw new SwarmError('INVALID_ARGUMENT', `expanding template {{${expression}}}: unknown field`)
  })
}

function lookUp(expression: string, values: TemplateValues): string | undefined {
  const label = /^index \.Service\.Labels "([^"]*)"$/.exec(expression)
  if (label !== null) return values.service.labels[label[1] ?? ''] ?? ''
  const { service, node, task } = values
  const fields: Readonly<Record<string, string>> = {
    '.Service.ID': service.id,
    '.Service.Name': service.name,
    '.Node.ID': node.id,
    '.Node.Hostname': node.hostname,
    '.Node.Platform.OS': node.os,
    '.Node.Platform.Architecture': node.architecture,
    '.Task.ID': task.id,
    '.Task.Name': task.name,
    '.Task.Slot': task.slot,
  }
  return Object.hasOwn(fields, expression) ? fields[expression] : undefined
}
