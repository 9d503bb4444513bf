/**
 * Fields as bytes that are signed or authenticated. Each field is preceded by its length, so that
 * no two different lists of fields give the same bytes.
 */

/** The concatenation of `fields`, each behind its length as u32 big-endian; texts as UTF-8. */
export function lengthPrefixed(fields: readonly (string | Uint8Array)[]): Uint8Array {
  const parts: Uint8Array[] = []
  for (const field of fields) {
    const bytes = typeof field === 'string' ? Buffer.from(field, 'utf8') : field
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    parts.push(length, bytes)
  }
  return Buffer.concat(parts)
}

/** Whether a decoded value is a plain object whose fields can be looked at. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
