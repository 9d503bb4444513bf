/**
 * Who the container's process is: Docker's user strings (`uid`, `name`, `uid:gid`, `name:group`)
 * against the image's own `/etc/passwd` and `/etc/group`.
 */
import { SwarmError } from '../../base/errors.ts'

/** A resolved user. */
export interface ContainerUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  readonly home: string
}

/** Texts of the image's databases and what is looked up in them. */
export interface UserQuery {
  /** As in the image or spec; empty = root. */
  readonly user: string
  /** Extra groups, names or numbers. */
  readonly groups: readonly string[]
  readonly passwd: string
  readonly group: string
}

/** Largest uid or gid that Linux takes (2^32-1 means "none"). */
const ID_MAX = 2 ** 32 - 2

interface PasswdEntry {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
}

interface GroupEntry {
  readonly name: string
  readonly gid: number
  readonly members: readonly string[]
}

/** Resolves a user. @throws INVALID_ARGUMENT in Docker's words for a name that the image lacks */
export function resolveUser(query: UserQuery): ContainerUser {
  const separator = query.user.indexOf(':')
  const userPart = separator < 0 ? query.user : query.user.slice(0, separator)
  const groupPart = separator < 0 ? '' : query.user.slice(separator + 1)
  const groups = parseGroups(query.group)
  const entry = findUser(userPart === '' ? '0' : userPart, parsePasswd(query.passwd))
  const gid = groupPart === '' ? entry.gid : findGroup(groupPart, groups)
  const named = entry.name === '' || groupPart !== '' ? [] : memberships(entry.name, groups)
  const extra = query.groups.map((name) => findGroup(name, groups))
  const additionalGids = [...new Set([...named, ...extra])].filter((id) => id !== gid)
  return { uid: entry.uid, gid, additionalGids, home: entry.home }
}

function findUser(name: string, entries: readonly PasswdEntry[]): PasswdEntry {
  const byName = entries.find((entry) => entry.name === name)
  if (byName !== undefined) return byName
  const uid = parseId(name)
  if (uid === undefined) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `unable to find user ${name}: no matching entries in passwd file`,
    )
  }
  return entries.find((entry) => entry.uid === uid) ?? rootlessEntry(uid)
}

function rootlessEntry(uid: number): PasswdEntry {
  return { name: '', uid, gid: 0, home: uid === 0 ? '/root' : '/' }
}

function findGroup(name: string, entries: readonly GroupEntry[]): number {
  const gid = entries.find((entry) => entry.name === name)?.gid ?? parseId(name)
  if (gid !== undefined) return gid
  throw new SwarmError(
    'INVALID_ARGUMENT',
    `unable to find group ${name}: no matching entries in group file`,
  )
}

function memberships(name: string, entries: readonly GroupEntry[]): number[] {
  return entries.filter((entry) => entry.members.includes(name)).map((entry) => entry.gid)
}

function parseId(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined
  const id = Number(text)
  return id <= ID_MAX ? id : undefined
}

function parsePasswd(text: string): PasswdEntry[] {
  return rows(text).flatMap(([name = '', , uidText = '', gidText = '', , home = '']) => {
    const uid = parseId(uidText)
    const gid = parseId(gidText)
    if (uid === undefined || gid === undefined) return []
    return [{ name, uid, gid, home: home === '' ? '/' : home }]
  })
}

function parseGroups(text: string): GroupEntry[] {
  return rows(text).flatMap(([name = '', , gidText = '', members = '']) => {
    const gid = parseId(gidText)
    return gid === undefined ? [] : [{ name, gid, members: members.split(',') }]
  })
}

function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
}
