/** An address of this process's own in 127/8, so that runs side by side need no ports of others. */
export function ownHost(pid: number = process.pid): string {
  return `127.${100 + ((pid >> 16) & 63)}.${(pid >> 8) & 255}.${pid & 255}`
}
