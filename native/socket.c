/* Life of a netlink socket: opened (in a namespace by namespace.c), shut once, freed with its last user. */
#include "native.h"
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

/* FORCE goes beyond the system's limit and needs CAP_NET_ADMIN; without it the system's limit holds. */
static void set_buffer(int fd, int force, int plain, int bytes) {
  if (bytes > 0 && setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) < 0)
    (void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
}

/* Opens and binds a socket in the calling thread's namespace. */
int netlink_open(int protocol, int receive_bytes, int send_bytes) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return -errno;
  /* Error texts, short acknowledgements, and dumps filtered by the kernel: old kernels may lack each. */
  int one = 1;
  (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one);
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, receive_bytes);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, send_bytes);
  struct sockaddr_nl self;
  memset(&self, 0, sizeof self);
  self.nl_family = AF_NETLINK;
  if (bind(fd, (struct sockaddr *)&self, sizeof self) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

void addon_release(struct addon *addon) {
  if (--addon->references == 0) free(addon);
}

/* Takes over both descriptors; on failure (no memory) the caller keeps them. */
struct nl_socket *socket_create(struct addon *addon, int fd, int wake) {
  struct nl_socket *socket = calloc(1, sizeof *socket);
  if (socket == NULL) return NULL;
  socket->addon = addon;
  addon->references++;
  socket->references = 1;
  socket->fd = fd;
  socket->wake = wake;
  socket->next = addon->sockets;
  if (addon->sockets != NULL) addon->sockets->previous = socket;
  addon->sockets = socket;
  return socket;
}

static void close_descriptors(struct nl_socket *socket) {
  if (socket->fd >= 0) close(socket->fd);
  if (socket->wake >= 0) close(socket->wake);
  socket->fd = socket->wake = -1;
}

/* Stops the monitor, wakes a running exchange (it ends with ECANCELED), closes when none runs. */
void socket_shut(struct nl_socket *socket) {
  if (socket->closing) return;
  socket->closing = true;
  (void)eventfd_write(socket->wake, 1);
  if (socket->monitor != NULL) monitor_stop(socket);
  if (!socket->busy) close_descriptors(socket);
}

void socket_release(struct nl_socket *socket) {
  if (socket->closing && !socket->busy) close_descriptors(socket);
  if (--socket->references > 0) return;
  socket_shut(socket);
  if (socket->next != NULL) socket->next->previous = socket->previous;
  if (socket->previous != NULL) socket->previous->next = socket->next;
  else socket->addon->sockets = socket->next;
  free(socket->scratch);
  addon_release(socket->addon);
  free(socket);
}
