/*
 * Events of multicast groups: one thread a socket reads what the kernel sends and hands it to JavaScript in
 * order, several datagrams at a time. When JavaScript is slow the thread waits, the kernel's buffer fills,
 * and the kernel says so: the callback gets (empty, ENOBUFS), and what it knew must be read again.
 *
 * The thread-safe function has two owners, the JavaScript thread and the reader; each gives it back once.
 */
#include "native.h"
#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Chunks waiting for JavaScript; more wait in the kernel's buffer. */
#define QUEUED_CHUNKS_MAX 64
/* A chunk is handed over when it has this many bytes or nothing more is queued. */
#define CHUNK_BYTES (64u << 10)

struct monitor {
  pthread_t thread;
  napi_threadsafe_function function;
  int fd, wake;
};

struct chunk {
  int error; /* positive errno or 0 */
  size_t bytes;
  uint8_t data[];
};

/* One call of the JavaScript callback: (bytes, errno). `env` is NULL when the environment ends. */
static void deliver(napi_env env, napi_value callback, void *context, void *data) {
  (void)context;
  struct chunk *chunk = data;
  napi_value receiver, arguments[2];
  if (env != NULL && callback != NULL && napi_get_undefined(env, &receiver) == napi_ok &&
      napi_create_buffer_copy(env, chunk->bytes, chunk->data, NULL, &arguments[0]) == napi_ok &&
      napi_create_int32(env, chunk->error, &arguments[1]) == napi_ok)
    (void)napi_call_function(env, receiver, callback, 2, arguments, NULL);
  free(chunk);
}

/* Reads until CHUNK_BYTES are there or nothing is queued. 0, or a negative errno. */
static int fill(const struct monitor *monitor, struct chunk *chunk) {
  while (chunk->bytes < CHUNK_BYTES) {
    struct sockaddr_nl from;
    memset(&from, 0, sizeof from);
    struct iovec room = {.iov_base = chunk->data + chunk->bytes, .iov_len = DATAGRAM_BYTES_MAX};
    struct msghdr header = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &room, .msg_iovlen = 1};
    ssize_t got = recvmsg(monitor->fd, &header, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return 0;
    if (got < 0) return -errno;
    if (header.msg_namelen != sizeof from || from.nl_pid != 0) continue;
    if (header.msg_flags & MSG_TRUNC) return -EMSGSIZE;
    chunk->bytes += (size_t)got;
  }
  return 0;
}

static napi_status hand_over(const struct monitor *monitor, const uint8_t *data, size_t bytes, int error) {
  struct chunk *chunk = malloc(sizeof *chunk + bytes);
  if (chunk == NULL) return napi_generic_failure;
  chunk->error = error;
  chunk->bytes = bytes;
  if (bytes > 0) memcpy(chunk->data, data, bytes);
  napi_status status = napi_call_threadsafe_function(monitor->function, chunk, napi_tsfn_blocking);
  if (status != napi_ok) free(chunk);
  return status;
}

/* ENOBUFS is news, and reading goes on; any other error ends the subscription and is the last news. */
static napi_status read_and_hand_over(const struct monitor *monitor, struct chunk *chunk, bool *ended) {
  chunk->bytes = 0;
  int result = fill(monitor, chunk);
  napi_status status = napi_ok;
  if (chunk->bytes > 0) status = hand_over(monitor, chunk->data, chunk->bytes, 0);
  if (status == napi_ok && result < 0) status = hand_over(monitor, NULL, 0, -result);
  *ended = result < 0 && result != -ENOBUFS && result != -EMSGSIZE;
  return status;
}

static void *monitor_main(void *data) {
  struct monitor *monitor = data;
  struct chunk *chunk = malloc(sizeof *chunk + CHUNK_BYTES + DATAGRAM_BYTES_MAX);
  napi_status status = napi_ok;
  bool ended = false;
  if (chunk == NULL) status = hand_over(monitor, NULL, 0, ENOMEM);
  while (chunk != NULL && status == napi_ok && !ended) {
    struct pollfd fds[2] = {{.fd = monitor->fd, .events = POLLIN},
                            {.fd = monitor->wake, .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
    if (fds[1].revents != 0) break;
    if (fds[0].revents != 0) status = read_and_hand_over(monitor, chunk, &ended);
  }
  free(chunk);
  /* A call that was answered with "closing" has given the function back already. */
  if (status != napi_closing)
    (void)napi_release_threadsafe_function(monitor->function, napi_tsfn_release);
  return NULL;
}

static int start_thread(struct monitor *monitor) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&monitor->thread, NULL, monitor_main, monitor);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return error;
}

/* Begins to deliver. The subscription does not keep the process alive. 0 or a positive errno. */
int monitor_start(napi_env env, struct nl_socket *socket, napi_value callback) {
  struct monitor *monitor = calloc(1, sizeof *monitor);
  if (monitor == NULL) return ENOMEM;
  monitor->fd = socket->fd;
  monitor->wake = socket->wake;
  napi_value name;
  if (napi_create_string_utf8(env, "netlink events", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, callback, NULL, name, QUEUED_CHUNKS_MAX, 2, NULL, NULL, NULL,
                                      deliver, &monitor->function) != napi_ok) {
    free(monitor);
    return ENOMEM;
  }
  (void)napi_unref_threadsafe_function(env, monitor->function);
  int error = start_thread(monitor);
  if (error != 0) {
    (void)napi_release_threadsafe_function(monitor->function, napi_tsfn_release);
    (void)napi_release_threadsafe_function(monitor->function, napi_tsfn_abort);
    free(monitor);
    return error;
  }
  socket->monitor = monitor;
  return 0;
}

/* The socket's `wake` is readable already. Abort frees a reader that waits for room, so the join ends. */
void monitor_stop(struct nl_socket *socket) {
  struct monitor *monitor = socket->monitor;
  socket->monitor = NULL;
  (void)napi_release_threadsafe_function(monitor->function, napi_tsfn_abort);
  pthread_join(monitor->thread, NULL);
  free(monitor);
}
