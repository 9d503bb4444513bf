/*
 * Netlink sockets and network namespaces for Node, through the ABI-stable C Node-API and nothing else
 * (no libuv header, no C++): one build loads in every Node from 20 on, on the main thread and in Workers.
 *
 * Rules that all files here keep:
 * - There is no global state. Everything hangs on `struct addon`, one per JavaScript environment.
 * - Namespaces are entered by short-lived threads only (namespace.c); a thread of libuv or of JavaScript
 *   never changes its own. A netlink socket stays in the namespace where it was opened.
 * - `struct nl_socket` is touched by the JavaScript thread alone, except: `fd`, `wake` and `scratch`, which
 *   one running exchange or one monitor thread reads. So counts need no atomics.
 * - Functions that run off the JavaScript thread return 0 (or a descriptor) or a negative errno.
 */
#ifndef SKEIN_NATIVE_H
#define SKEIN_NATIVE_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A request larger than this is refused with EMSGSIZE: what a send buffer of 8 MiB, doubled, can hold. */
#define REQUEST_BYTES_MAX (16u << 20)
/* Replies to one exchange larger than this end it with EOVERFLOW: a million conntrack entries fit. */
#define REPLY_BYTES_MAX (512u << 20)
/* Room for one datagram. The kernel's dumps use at most 32 KiB, single answers less; more is EMSGSIZE. */
#define DATAGRAM_BYTES_MAX (256u << 10)
/* Largest file that readFile returns: sysctls are one page. */
#define FILE_BYTES_MAX (64u << 10)

struct nl_socket;

/* What one JavaScript environment owns. Freed when the environment and the last socket have gone. */
struct addon {
  size_t references;
  struct nl_socket *sockets;
};

struct nl_socket {
  struct addon *addon;
  struct nl_socket *next, *previous;
  size_t references; /* the JavaScript handle, and a running exchange */
  int fd;            /* the netlink socket; -1 when closed */
  int wake;          /* eventfd; readable = stop waiting, the socket is being closed */
  bool closing;
  bool busy; /* an exchange runs */
  struct monitor *monitor;
  uint8_t *scratch; /* DATAGRAM_BYTES_MAX, allocated at the first exchange */
};

/* socket.c */
struct nl_socket *socket_create(struct addon *addon, int fd, int wake);
void socket_shut(struct nl_socket *socket);
void socket_release(struct nl_socket *socket);
void addon_release(struct addon *addon);
int netlink_open(int protocol, int receive_bytes, int send_bytes);

/* exchange.c */
struct exchange {
  struct nl_socket *socket;
  uint8_t *request;
  size_t request_bytes;
  uint32_t last_sequence; /* its ACK, ERROR or DONE ends the exchange */
  uint32_t head_sequence; /* an ERROR of this one ends it too; 0 = none (nfnetlink batches) */
  int timeout_ms;
  uint8_t *reply;
  size_t reply_bytes, reply_capacity;
  bool ended, overrun;
};
int exchange_run(struct exchange *exchange);

/* monitor.c */
int monitor_start(napi_env env, struct nl_socket *socket, napi_value callback);
void monitor_stop(struct nl_socket *socket);

/* namespace.c */
int run_in_netns(const char *netns, int (*run)(void *), void *argument);
int netns_create(const char *path);
int netns_remove(const char *path);
int file_read(const char *netns, const char *path, uint8_t **data, size_t *bytes);
int file_write(const char *netns, const char *path, const uint8_t *data, size_t bytes);

/* job.c: work off the JavaScript thread that settles a promise */
struct job {
  napi_async_work work;
  napi_deferred deferred;
  const char *name;
  int (*run)(struct job *);                       /* any thread; 0 or negative errno */
  napi_value (*value)(napi_env env, struct job *); /* JavaScript thread, after success; NULL = failed */
  void (*release)(napi_env env, struct job *);    /* JavaScript thread, always; frees the job */
  int result;
};
napi_value job_start(napi_env env, struct job *job);
napi_value throw_errno(napi_env env, int error, const char *operation);
napi_value make_error(napi_env env, int error, const char *operation);

#endif
