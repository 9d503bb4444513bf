/* Work off the JavaScript thread that settles a promise, and errors that carry an errno. */
#include "native.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An Error with `errno` (positive) and `operation`; TypeScript gives it its name and code. */
napi_value make_error(napi_env env, int error, const char *operation) {
  char text[160], reason[100];
  napi_value message, result, number, subject;
  if (strerror_r(error, reason, sizeof reason) != 0) snprintf(reason, sizeof reason, "errno %d", error);
  snprintf(text, sizeof text, "%s: %s", operation, reason);
  if (napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message) != napi_ok ||
      napi_create_error(env, NULL, message, &result) != napi_ok ||
      napi_create_int32(env, error, &number) != napi_ok ||
      napi_set_named_property(env, result, "errno", number) != napi_ok ||
      napi_create_string_utf8(env, operation, NAPI_AUTO_LENGTH, &subject) != napi_ok ||
      napi_set_named_property(env, result, "operation", subject) != napi_ok)
    return NULL;
  return result;
}

napi_value throw_errno(napi_env env, int error, const char *operation) {
  napi_value thrown = make_error(env, error, operation);
  if (thrown != NULL) (void)napi_throw(env, thrown);
  return NULL;
}

static void execute(napi_env env, void *data) {
  (void)env;
  struct job *job = data;
  job->result = job->run(job);
}

/* When the environment ends, JavaScript cannot run and settling fails: only the clean-up matters then. */
static void complete(napi_env env, napi_status status, void *data) {
  struct job *job = data;
  int result = status == napi_ok ? job->result : -ECANCELED;
  napi_value value = result == 0 ? job->value(env, job) : NULL;
  if (value != NULL) {
    (void)napi_resolve_deferred(env, job->deferred, value);
  } else {
    bool is_pending = false;
    (void)napi_is_exception_pending(env, &is_pending);
    napi_value error = NULL;
    if (is_pending) (void)napi_get_and_clear_last_exception(env, &error);
    else error = make_error(env, result == 0 ? ENOMEM : -result, job->name);
    if (error != NULL) (void)napi_reject_deferred(env, job->deferred, error);
  }
  (void)napi_delete_async_work(env, job->work);
  job->release(env, job);
}

/* Queues the job and gives its promise; on failure throws and releases it. */
napi_value job_start(napi_env env, struct job *job) {
  napi_value promise, name;
  if (napi_create_string_utf8(env, job->name, NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, execute, complete, job, &job->work) == napi_ok) {
    if (napi_create_promise(env, &job->deferred, &promise) == napi_ok &&
        napi_queue_async_work(env, job->work) == napi_ok)
      return promise;
    (void)napi_delete_async_work(env, job->work);
  }
  const char *operation = job->name;
  job->release(env, job);
  bool is_pending = false;
  (void)napi_is_exception_pending(env, &is_pending);
  return is_pending ? NULL : throw_errno(env, ENOMEM, operation);
}
