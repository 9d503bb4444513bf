/** A member of a group whose other members the test plays: it writes their answers. */
import { acceptance, voteResponse } from './core-messages.ts'
import { firstPeers, TestMember } from './test-member.ts'

/** Member 1 of a group of `size`, leading with its first entry committed. */
export function leaderOf(size: number): TestMember {
  const member = new TestMember(1, { voters: firstPeers(size) })
  campaignTo(member, size)
  commitEverything(member, size)
  return member
}

/** Lets a member win an election of a group of `size`. */
export function campaignTo(member: TestMember, size: number): void {
  member.core.campaign()
  member.drain()
  for (const id of firstPeers(size).slice(1))
    if (member.role === 'candidate') member.answer(voteResponse(id, member.term, false))
}

/** Lets every other member acknowledge all that the leader has. */
export function commitEverything(member: TestMember, size: number): void {
  for (const id of firstPeers(size).slice(1))
    member.answer(acceptance(id, member.term, member.log.lastIndex()))
}
