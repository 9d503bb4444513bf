/** Guest program: the table's cases. */
import { runCases } from './run.ts'
import { TABLE_CASES } from './table-cases.ts'

await runCases(TABLE_CASES)
