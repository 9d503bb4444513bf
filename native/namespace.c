/*
 * What must happen inside another network namespace: a thread is started, enters it, does one thing, ends.
 * No thread that anything else uses ever changes its namespace, so nothing has to be changed back.
 */
#define _GNU_SOURCE
#include "native.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

/* Room for the calls below and the C library's own needs. */
#define THREAD_STACK_BYTES (128u << 10)

struct task {
  const char *netns;
  int (*run)(void *);
  void *argument;
  int result;
};

static int enter(const char *netns) {
  /* O_NONBLOCK: a path that names a pipe by mistake must not hang. */
  int fd = open(netns, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  int result = setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
  close(fd);
  return result;
}

static void *task_main(void *data) {
  struct task *task = data;
  task->result = task->netns == NULL ? 0 : enter(task->netns);
  if (task->result == 0) task->result = task->run(task->argument);
  return NULL;
}

/* Runs in a thread that takes no signals; its result. */
static int run_in_thread(struct task *task) {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return -error;
  (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  error = pthread_create(&thread, &attributes, task_main, task);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (error != 0) return -error;
  pthread_join(thread, NULL);
  return task->result;
}

/* Runs in the named namespace, or where it is called when `netns` is NULL. */
int run_in_netns(const char *netns, int (*run)(void *), void *argument) {
  if (netns == NULL) return run(argument);
  struct task task = {.netns = netns, .run = run, .argument = argument};
  return run_in_thread(&task);
}

static int make_and_mount(void *data) {
  if (unshare(CLONE_NEWNET) < 0) return -errno;
  return mount("/proc/thread-self/ns/net", data, "none", MS_BIND, NULL) < 0 ? -errno : 0;
}

/* Makes a namespace and keeps it by a mount on a new file, as `ip netns add` does. */
int netns_create(const char *path) {
  int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
  if (fd < 0) return -errno;
  close(fd);
  struct task task = {.run = make_and_mount, .argument = (void *)path};
  int result = run_in_thread(&task);
  if (result < 0) unlink(path);
  return result;
}

/* Takes the name away; the namespace ends with its last process and socket. */
int netns_remove(const char *path) {
  if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL) return -errno; /* EINVAL: nothing mounted */
  return unlink(path) < 0 ? -errno : 0;
}

struct file {
  const char *path;
  uint8_t *data;
  size_t bytes;
};

static int read_here(void *argument) {
  struct file *file = argument;
  int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  int result = 0;
  while (result == 0) {
    ssize_t got = read(fd, file->data + file->bytes, FILE_BYTES_MAX - file->bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) break;
    if (got < 0) result = -errno;
    else if ((file->bytes += (size_t)got) == FILE_BYTES_MAX) result = -EFBIG;
  }
  close(fd);
  return result;
}

int file_read(const char *netns, const char *path, uint8_t **data, size_t *bytes) {
  struct file file = {.path = path, .data = malloc(FILE_BYTES_MAX), .bytes = 0};
  if (file.data == NULL) return -ENOMEM;
  int result = run_in_netns(netns, read_here, &file);
  *data = file.data;
  *bytes = file.bytes;
  return result;
}

/* One write call: the kernel takes a sysctl whole or not at all. */
static int write_here(void *argument) {
  struct file *file = argument;
  int fd = open(file->path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  ssize_t wrote;
  do wrote = write(fd, file->data, file->bytes);
  while (wrote < 0 && errno == EINTR);
  int result = wrote < 0 ? -errno : (size_t)wrote == file->bytes ? 0 : -EIO;
  if (close(fd) < 0 && result == 0) result = -errno;
  return result;
}

int file_write(const char *netns, const char *path, const uint8_t *data, size_t bytes) {
  struct file file = {.path = path, .data = (uint8_t *)data, .bytes = bytes};
  return run_in_netns(netns, write_here, &file);
}
