/*
 * The smallest HTTP server: one thread, one epoll, a listener in each network namespace that is
 * named, so that one backend and three cost the same process switches.
 *
 *   backend PORT NETNS...
 *
 * Answers every request with the same bytes; with `Connection: close` in the request it closes. On
 * SIGUSR1 it prints how many connections each listener has accepted. A request is taken to end
 * with an empty line and to come in pieces of whole requests, which is what load generators send.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENERS_MAX = 16, EVENTS = 256, BACKLOG = 16384, REQUEST_MAX = 4096 };

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n"
static const char ANSWER[] = HEAD "\r\nHello, world\n";
static const char LAST_ANSWER[] = HEAD "Connection: close\r\n\r\nHello, world\n";

static int listeners[LISTENERS_MAX];
static unsigned long accepted[LISTENERS_MAX];
static int listener_count;
static volatile sig_atomic_t is_asked;

static void on_signal(int number) {
  (void)number;
  is_asked = 1;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int listen_in(const char *netns, int port) {
  int namespace = open(netns, O_RDONLY | O_CLOEXEC);
  if (namespace < 0 || setns(namespace, CLONE_NEWNET) != 0) fail(netns);
  close(namespace);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("bind");
  if (listen(fd, BACKLOG) != 0) fail("listen");
  return fd;
}

static void watch(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

static int listener_index(int fd) {
  for (int index = 0; index < listener_count; index += 1)
    if (listeners[index] == fd) return index;
  return -1;
}

static void accept_all(int epoll, int index) {
  for (;;) {
    int fd = accept4(listeners[index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    accepted[index] += 1;
    watch(epoll, fd);
  }
}

static void answer(int fd) {
  char request[REQUEST_MAX + 1];
  ssize_t count = read(fd, request, REQUEST_MAX);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) {
    close(fd);
    return;
  }
  request[count] = '\0';
  if (strstr(request, "Connection: close") != NULL) {
    if (write(fd, LAST_ANSWER, sizeof LAST_ANSWER - 1) < 0) perror("write");
    close(fd);
    return;
  }
  for (char *end = strstr(request, "\r\n\r\n"); end != NULL; end = strstr(end + 4, "\r\n\r\n"))
    if (write(fd, ANSWER, sizeof ANSWER - 1) < 0) return;
}

static void tell(void) {
  is_asked = 0;
  for (int index = 0; index < listener_count; index += 1) printf("%lu ", accepted[index]);
  printf("\n");
  fflush(stdout);
}

int main(int count, char **words) {
  if (count < 3 || count - 2 > LISTENERS_MAX) return 2;
  signal(SIGPIPE, SIG_IGN);
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  // Taken while waiting alone: else a signal between the look at it and the wait would be lost.
  sigset_t asking;
  sigset_t waiting;
  sigemptyset(&asking);
  sigaddset(&asking, SIGUSR1);
  sigprocmask(SIG_BLOCK, &asking, &waiting);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int index = 2; index < count; index += 1) {
    listeners[listener_count] = listen_in(words[index], atoi(words[1]));
    watch(epoll, listeners[listener_count]);
    listener_count += 1;
  }
  tell();
  for (;;) {
    struct epoll_event events[EVENTS];
    int ready = epoll_pwait(epoll, events, EVENTS, -1, &waiting);
    if (is_asked) tell();
    for (int n = 0; n < ready; n += 1) {
      int index = listener_index(events[n].data.fd);
      if (index >= 0) accept_all(epoll, index);
      else answer(events[n].data.fd);
    }
  }
}
