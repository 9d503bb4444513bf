/*
 * One exchange: send a request of one or many messages, collect the answers until the last one is
 * acknowledged. The kernel executes the whole request inside sendmsg, so the answers are queued when it
 * returns; only dumps go on while they are read.
 *
 * ENOBUFS means that answers were lost, not that work was undone: everything was executed. It is reported
 * as such, and the caller must read the kernel's state before it writes again.
 */
#include "native.h"
#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

static int64_t monotonic_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Receives one datagram of the kernel into the scratch buffer. Its size, or a negative errno. */
static ssize_t receive(struct nl_socket *socket) {
  for (;;) {
    struct sockaddr_nl from;
    memset(&from, 0, sizeof from);
    struct iovec room = {.iov_base = socket->scratch, .iov_len = DATAGRAM_BYTES_MAX};
    struct msghdr header = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &room, .msg_iovlen = 1};
    ssize_t got = recvmsg(socket->fd, &header, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (header.msg_namelen != sizeof from || from.nl_pid != 0) continue; /* only the kernel answers */
    if (header.msg_flags & MSG_TRUNC) return -EMSGSIZE;
    return got;
  }
}

/* Throws away what an exchange that timed out left behind, latched overruns included. */
static int drain(struct nl_socket *socket) {
  for (;;) {
    ssize_t got = receive(socket);
    if (got == -EAGAIN) return 0;
    if (got < 0 && got != -ENOBUFS && got != -EMSGSIZE) return (int)got;
  }
}

static int send_request(const struct exchange *exchange) {
  struct sockaddr_nl kernel;
  memset(&kernel, 0, sizeof kernel);
  kernel.nl_family = AF_NETLINK;
  for (;;) {
    ssize_t sent = sendto(exchange->socket->fd, exchange->request, exchange->request_bytes, 0,
                          (struct sockaddr *)&kernel, sizeof kernel);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return -errno;
    return (size_t)sent == exchange->request_bytes ? 0 : -EMSGSIZE;
  }
}

/* Whether this message ends the exchange. */
static bool is_last(const struct exchange *exchange, const struct nlmsghdr *header) {
  bool is_error = header->nlmsg_type == NLMSG_ERROR;
  if (header->nlmsg_seq == exchange->last_sequence)
    return is_error || header->nlmsg_type == NLMSG_DONE;
  return is_error && exchange->head_sequence != 0 && header->nlmsg_seq == exchange->head_sequence;
}

/* Checks the framing of a datagram in the scratch buffer and looks for the end. */
static int inspect(struct exchange *exchange, size_t bytes) {
  size_t offset = 0;
  while (offset + sizeof(struct nlmsghdr) <= bytes) {
    struct nlmsghdr header;
    memcpy(&header, exchange->socket->scratch + offset, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > bytes - offset) return -EBADMSG;
    if (is_last(exchange, &header)) exchange->ended = true;
    offset += NLMSG_ALIGN((size_t)header.nlmsg_len);
  }
  return 0;
}

static int append(struct exchange *exchange, size_t bytes) {
  size_t needed = exchange->reply_bytes + bytes;
  if (needed > REPLY_BYTES_MAX) return -EOVERFLOW;
  if (needed > exchange->reply_capacity) {
    size_t capacity = exchange->reply_capacity == 0 ? 4096 : exchange->reply_capacity * 2;
    if (capacity < needed) capacity = needed;
    uint8_t *grown = realloc(exchange->reply, capacity);
    if (grown == NULL) return -ENOMEM;
    exchange->reply = grown;
    exchange->reply_capacity = capacity;
  }
  memcpy(exchange->reply + exchange->reply_bytes, exchange->socket->scratch, bytes);
  exchange->reply_bytes = needed;
  return 0;
}

/* Reads everything that is queued now. */
static int collect_queued(struct exchange *exchange) {
  for (;;) {
    ssize_t got = receive(exchange->socket);
    if (got == -EAGAIN) return 0;
    if (got == -ENOBUFS) {
      exchange->overrun = true;
      continue;
    }
    if (got < 0) return (int)got;
    int result = inspect(exchange, (size_t)got);
    if (result == 0) result = append(exchange, (size_t)got);
    if (result < 0) return result;
  }
}

/* Waits for the next datagram: 0, or ECANCELED, ETIMEDOUT. */
static int wait_readable(const struct exchange *exchange, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - monotonic_ms();
    struct pollfd fds[2] = {{.fd = exchange->socket->fd, .events = POLLIN},
                            {.fd = exchange->socket->wake, .events = POLLIN}};
    int ready = poll(fds, 2, left > 0 ? (int)left : 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return -errno;
    if (fds[1].revents != 0) return -ECANCELED;
    return ready == 0 ? -ETIMEDOUT : 0;
  }
}

int exchange_run(struct exchange *exchange) {
  struct nl_socket *socket = exchange->socket;
  if (socket->scratch == NULL && (socket->scratch = malloc(DATAGRAM_BYTES_MAX)) == NULL) return -ENOMEM;
  int64_t deadline = monotonic_ms() + exchange->timeout_ms;
  int result = drain(socket);
  if (result == 0) result = send_request(exchange);
  while (result == 0) {
    result = collect_queued(exchange);
    /* The kernel has executed all and queued what there was room for: waiting brings nothing more. */
    if (result == 0 && exchange->overrun) return -ENOBUFS;
    if (result == 0 && exchange->ended) return 0;
    if (result == 0) result = wait_readable(exchange, deadline);
  }
  return result;
}
