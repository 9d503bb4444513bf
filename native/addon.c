/* The functions that JavaScript sees (src/network/netlink/native.ts has their types) and their clean-up. */
#include "native.h"
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARGUMENTS_MAX 5

/* So that only objects made by `open` are taken for sockets. */
static const napi_type_tag SOCKET_TAG = {0x6b3a1d0c5e7f4421u, 0x9f02c8b7d4a6e813u};

static bool read_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *arguments) {
  size_t given = ARGUMENTS_MAX;
  napi_value values[ARGUMENTS_MAX];
  if (napi_get_cb_info(env, info, &given, values, NULL, NULL) != napi_ok) return false;
  memcpy(arguments, values, count * sizeof *values);
  if (given >= count) return true;
  throw_errno(env, EINVAL, "too few arguments");
  return false;
}

/* The text, to be freed; NULL with `error` 0 for undefined and null. */
static char *read_text(napi_env env, napi_value value, int *error) {
  napi_valuetype type;
  size_t length;
  *error = EINVAL;
  if (napi_typeof(env, value, &type) != napi_ok) return NULL;
  if (type == napi_undefined || type == napi_null) *error = 0;
  if (type != napi_string || napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok)
    return NULL;
  char *text = malloc(length + 1);
  *error = text == NULL ? ENOMEM : 0;
  if (text != NULL && napi_get_value_string_utf8(env, value, text, length + 1, &length) != napi_ok)
    *error = EINVAL;
  if (text != NULL && strlen(text) != length) *error = EINVAL; /* a zero inside */
  if (*error == 0) return text;
  free(text);
  return NULL;
}

/* A copy of a Uint8Array's bytes, to be freed: JavaScript may change its own while the work runs. */
static uint8_t *read_bytes(napi_env env, napi_value value, size_t *bytes, int *error) {
  bool is_typed = false;
  napi_typedarray_type type;
  void *data;
  *error = EINVAL;
  if (napi_is_typedarray(env, value, &is_typed) != napi_ok || !is_typed) return NULL;
  if (napi_get_typedarray_info(env, value, &type, bytes, &data, NULL, NULL) != napi_ok) return NULL;
  if (type != napi_uint8_array) return NULL;
  *error = EMSGSIZE;
  if (*bytes > REQUEST_BYTES_MAX) return NULL;
  uint8_t *copy = malloc(*bytes + 1);
  *error = copy == NULL ? ENOMEM : 0;
  if (copy != NULL && *bytes > 0) memcpy(copy, data, *bytes);
  return copy;
}

/* The socket behind a handle; throws and gives NULL when it is none. */
static struct nl_socket *read_socket(napi_env env, napi_value value, const char *operation) {
  bool is_socket = false;
  void *socket = NULL;
  if (napi_check_object_type_tag(env, value, &SOCKET_TAG, &is_socket) == napi_ok && is_socket &&
      napi_unwrap(env, value, &socket) == napi_ok)
    return socket;
  /* What is no object at all has thrown a TypeError by now. */
  napi_value thrown;
  (void)napi_get_and_clear_last_exception(env, &thrown);
  throw_errno(env, EINVAL, operation);
  return NULL;
}

static napi_value undefined_value(napi_env env, struct job *job) {
  (void)job;
  napi_value value = NULL;
  return napi_get_undefined(env, &value) == napi_ok ? value : NULL;
}

/* ---- open(protocol, netns | null, receiveBytes, sendBytes): Promise<handle> ---- */

struct open_job {
  struct job base;
  struct addon *addon;
  char *netns;
  int protocol, receive_bytes, send_bytes;
  int fd, wake;
};

static int open_here(void *argument) {
  struct open_job *job = argument;
  int fd = netlink_open(job->protocol, job->receive_bytes, job->send_bytes);
  if (fd < 0) return fd;
  job->fd = fd;
  return 0;
}

static int open_run(struct job *base) {
  struct open_job *job = (struct open_job *)base;
  job->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (job->wake < 0) return -errno;
  return run_in_netns(job->netns, open_here, job);
}

static void finalize_socket(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct nl_socket *socket = data;
  socket_shut(socket);
  socket_release(socket);
}

static napi_value open_value(napi_env env, struct job *base) {
  struct open_job *job = (struct open_job *)base;
  struct nl_socket *socket = socket_create(job->addon, job->fd, job->wake);
  if (socket == NULL) return NULL;
  job->fd = job->wake = -1;
  napi_value handle;
  if (napi_create_object(env, &handle) != napi_ok ||
      napi_wrap(env, handle, socket, finalize_socket, NULL, NULL) != napi_ok) {
    finalize_socket(env, socket, NULL);
    return NULL;
  }
  return napi_type_tag_object(env, handle, &SOCKET_TAG) == napi_ok ? handle : NULL;
}

static void open_release(napi_env env, struct job *base) {
  (void)env;
  struct open_job *job = (struct open_job *)base;
  if (job->fd >= 0) close(job->fd);
  if (job->wake >= 0) close(job->wake);
  addon_release(job->addon);
  free(job->netns);
  free(job);
}

static napi_value js_open(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  int error, protocol, receive_bytes, send_bytes;
  struct addon *addon;
  if (!read_arguments(env, info, 4, arguments)) return NULL;
  if (napi_get_instance_data(env, (void **)&addon) != napi_ok ||
      napi_get_value_int32(env, arguments[0], &protocol) != napi_ok ||
      napi_get_value_int32(env, arguments[2], &receive_bytes) != napi_ok ||
      napi_get_value_int32(env, arguments[3], &send_bytes) != napi_ok)
    return throw_errno(env, EINVAL, "open");
  char *netns = read_text(env, arguments[1], &error);
  if (error != 0) return throw_errno(env, error, "open");
  struct open_job *job = calloc(1, sizeof *job);
  if (job == NULL) {
    free(netns);
    return throw_errno(env, ENOMEM, "open");
  }
  *job = (struct open_job){
      .base = {.name = "open", .run = open_run, .value = open_value, .release = open_release},
      .addon = addon, .netns = netns, .protocol = protocol, .receive_bytes = receive_bytes,
      .send_bytes = send_bytes, .fd = -1, .wake = -1};
  addon->references++;
  return job_start(env, &job->base);
}

/* ---- exchange(handle, request, lastSequence, headSequence, timeoutMs): Promise<Buffer> ---- */

struct exchange_job {
  struct job base;
  struct exchange exchange;
};

static int exchange_job_run(struct job *base) {
  return exchange_run(&((struct exchange_job *)base)->exchange);
}

static napi_value exchange_value(napi_env env, struct job *base) {
  struct exchange *exchange = &((struct exchange_job *)base)->exchange;
  napi_value value;
  if (napi_create_buffer_copy(env, exchange->reply_bytes, exchange->reply, NULL, &value) != napi_ok)
    return NULL;
  return value;
}

static void exchange_release(napi_env env, struct job *base) {
  (void)env;
  struct exchange *exchange = &((struct exchange_job *)base)->exchange;
  exchange->socket->busy = false;
  socket_release(exchange->socket);
  free(exchange->request);
  free(exchange->reply);
  free(base);
}

static napi_value js_exchange(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  int error, timeout_ms;
  uint32_t last_sequence, head_sequence;
  size_t bytes;
  if (!read_arguments(env, info, 5, arguments)) return NULL;
  struct nl_socket *socket = read_socket(env, arguments[0], "exchange");
  if (socket == NULL) return NULL;
  if (napi_get_value_uint32(env, arguments[2], &last_sequence) != napi_ok ||
      napi_get_value_uint32(env, arguments[3], &head_sequence) != napi_ok ||
      napi_get_value_int32(env, arguments[4], &timeout_ms) != napi_ok)
    return throw_errno(env, EINVAL, "exchange");
  if (socket->closing) return throw_errno(env, EBADF, "exchange");
  if (socket->busy || socket->monitor != NULL) return throw_errno(env, EBUSY, "exchange");
  uint8_t *request = read_bytes(env, arguments[1], &bytes, &error);
  if (error != 0) return throw_errno(env, error, "exchange");
  struct exchange_job *job = calloc(1, sizeof *job);
  if (job == NULL) {
    free(request);
    return throw_errno(env, ENOMEM, "exchange");
  }
  job->base = (struct job){.name = "exchange", .run = exchange_job_run, .value = exchange_value,
                           .release = exchange_release};
  job->exchange = (struct exchange){.socket = socket, .request = request, .request_bytes = bytes,
                                    .last_sequence = last_sequence, .head_sequence = head_sequence,
                                    .timeout_ms = timeout_ms};
  socket->busy = true;
  socket->references++;
  return job_start(env, &job->base);
}

/* ---- subscribe(handle, group, callback | null): joins a group; a callback starts the delivery ---- */

static napi_value js_subscribe(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  uint32_t group;
  napi_valuetype type;
  if (!read_arguments(env, info, 3, arguments)) return NULL;
  struct nl_socket *socket = read_socket(env, arguments[0], "subscribe");
  if (socket == NULL) return NULL;
  if (napi_get_value_uint32(env, arguments[1], &group) != napi_ok ||
      napi_typeof(env, arguments[2], &type) != napi_ok)
    return throw_errno(env, EINVAL, "subscribe");
  if (socket->closing) return throw_errno(env, EBADF, "subscribe");
  if (socket->busy || (type == napi_function && socket->monitor != NULL))
    return throw_errno(env, EBUSY, "subscribe");
  if (setsockopt(socket->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
    return throw_errno(env, errno, "subscribe");
  if (type == napi_function) {
    int error = monitor_start(env, socket, arguments[2]);
    if (error != 0) return throw_errno(env, error, "subscribe");
  }
  return undefined_value(env, NULL);
}

/* ---- close(handle): ends a running exchange with ECANCELED and the deliveries; again does nothing ---- */

static napi_value js_close(napi_env env, napi_callback_info info) {
  napi_value arguments[1];
  if (!read_arguments(env, info, 1, arguments)) return NULL;
  struct nl_socket *socket = read_socket(env, arguments[0], "close");
  if (socket == NULL) return NULL;
  socket_shut(socket);
  return undefined_value(env, NULL);
}

/* ---- readFile(netns | null, path), writeFile(netns | null, path, bytes),
        createNetns(path), removeNetns(path): promises ---- */

struct file_job {
  struct job base;
  char *netns, *path;
  uint8_t *data;
  size_t bytes;
};

static int read_file_run(struct job *base) {
  struct file_job *job = (struct file_job *)base;
  return file_read(job->netns, job->path, &job->data, &job->bytes);
}

static int write_file_run(struct job *base) {
  struct file_job *job = (struct file_job *)base;
  return file_write(job->netns, job->path, job->data, job->bytes);
}

static int create_netns_run(struct job *base) { return netns_create(((struct file_job *)base)->path); }

static int remove_netns_run(struct job *base) { return netns_remove(((struct file_job *)base)->path); }

static napi_value file_value(napi_env env, struct job *base) {
  struct file_job *job = (struct file_job *)base;
  napi_value value;
  if (napi_create_buffer_copy(env, job->bytes, job->data, NULL, &value) != napi_ok) return NULL;
  return value;
}

static void file_release(napi_env env, struct job *base) {
  (void)env;
  struct file_job *job = (struct file_job *)base;
  free(job->netns);
  free(job->path);
  free(job->data);
  free(job);
}

/* Starts a file job; takes over `template`'s texts and bytes. `error` refuses it. */
static napi_value start_file_job(napi_env env, const struct file_job *template, int error) {
  struct file_job *job = malloc(sizeof *job);
  if (job == NULL || error != 0 || template->path == NULL) {
    free(template->netns);
    free(template->path);
    free(template->data);
    free(job);
    return throw_errno(env, job == NULL ? ENOMEM : error == 0 ? EINVAL : error, template->base.name);
  }
  *job = *template;
  job->base.release = file_release;
  return job_start(env, &job->base);
}

static napi_value js_read_file(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int netns_error, path_error;
  if (!read_arguments(env, info, 2, arguments)) return NULL;
  struct file_job job = {.base = {.name = "readFile", .run = read_file_run, .value = file_value}};
  job.netns = read_text(env, arguments[0], &netns_error);
  job.path = read_text(env, arguments[1], &path_error);
  return start_file_job(env, &job, netns_error != 0 ? netns_error : path_error);
}

static napi_value js_write_file(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  int netns_error, path_error, data_error;
  if (!read_arguments(env, info, 3, arguments)) return NULL;
  struct file_job job = {.base = {.name = "writeFile", .run = write_file_run, .value = undefined_value}};
  job.netns = read_text(env, arguments[0], &netns_error);
  job.path = read_text(env, arguments[1], &path_error);
  job.data = read_bytes(env, arguments[2], &job.bytes, &data_error);
  int error = netns_error != 0 ? netns_error : path_error;
  return start_file_job(env, &job, error != 0 ? error : data_error);
}

static napi_value start_netns_job(napi_env env, napi_callback_info info, const char *name,
                                  int (*run)(struct job *)) {
  napi_value arguments[1];
  int error;
  if (!read_arguments(env, info, 1, arguments)) return NULL;
  struct file_job job = {.base = {.name = name, .run = run, .value = undefined_value}};
  job.path = read_text(env, arguments[0], &error);
  return start_file_job(env, &job, error);
}

static napi_value js_create_netns(napi_env env, napi_callback_info info) {
  return start_netns_job(env, info, "createNetns", create_netns_run);
}

static napi_value js_remove_netns(napi_env env, napi_callback_info info) {
  return start_netns_job(env, info, "removeNetns", remove_netns_run);
}

/* ---- the module ---- */

/* The environment ends: no socket may wait or read any longer. Memory goes with the last reference. */
static void shut_all(void *data) {
  struct addon *addon = data;
  for (struct nl_socket *socket = addon->sockets; socket != NULL; socket = socket->next)
    socket_shut(socket);
  addon_release(addon);
}

NAPI_MODULE_INIT() {
  struct addon *addon = calloc(1, sizeof *addon);
  if (addon == NULL) return throw_errno(env, ENOMEM, "load");
  addon->references = 1;
  const napi_property_descriptor functions[] = {
      {"open", NULL, js_open, NULL, NULL, NULL, napi_enumerable, NULL},
      {"exchange", NULL, js_exchange, NULL, NULL, NULL, napi_enumerable, NULL},
      {"subscribe", NULL, js_subscribe, NULL, NULL, NULL, napi_enumerable, NULL},
      {"close", NULL, js_close, NULL, NULL, NULL, napi_enumerable, NULL},
      {"readFile", NULL, js_read_file, NULL, NULL, NULL, napi_enumerable, NULL},
      {"writeFile", NULL, js_write_file, NULL, NULL, NULL, napi_enumerable, NULL},
      {"createNetns", NULL, js_create_netns, NULL, NULL, NULL, napi_enumerable, NULL},
      {"removeNetns", NULL, js_remove_netns, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  if (napi_set_instance_data(env, addon, NULL, NULL) != napi_ok ||
      napi_add_env_cleanup_hook(env, shut_all, addon) != napi_ok) {
    free(addon);
    return throw_errno(env, ENOMEM, "load");
  }
  if (napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions) != napi_ok)
    return throw_errno(env, ENOMEM, "load");
  return exports;
}
