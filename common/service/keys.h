#ifndef WHOPLINE_KEYS_H
#define WHOPLINE_KEYS_H
/* The names of everything in Redis. One hash tag, {0}, keeps a script's keys together in a cluster;
 * budgets, which no other script needs, have one for each credential.
 *
 *   <prefix>:{0}:events          stream, from ingest; group g, created at 0
 *   <prefix>:{0}:q:<queue>       stream of a queue; group g, created at 0
 *   <stream>:z  <stream>:d       put off: ids by due ms, and their fields
 *   <prefix>:{0}:events:dead     stream of what could not be kept in PostgreSQL, with its bytes
 *   <prefix>:{0}:seen:<id>       an event id (with expiry) or a job still in Redis
 *   <prefix>:{0}:ctl:<queue>     open, paused or draining: a copy of queue_controls in PostgreSQL
 *   <prefix>:{0}:workers         zset: names of worker processes by when they were last heard of,
 * ms <prefix>:{0}:worker:<name>   hash: what that process says of itself; expires
 *   <prefix>:{0}:epoch           random text; gone means that Redis lost its data
 *   <prefix>:{0}:access:<company>:<user>    what applications may read (service/access.h); expires
 *   <prefix>:{b:<credential>}:<operation>   hash: a budget of calls (service/budget.h); expires */
#include "base/config.h"
#include "codec/job.h"

enum { KEY_MAX = 128, KEY_BUDGET_MAX = KEY_MAX - CONFIG_STREAM_PREFIX_MAX - sizeof ":{b:}:" };

#define KEYS_GROUP "g"

/* Each writes a NUL-terminated key; prefix at most CONFIG_STREAM_PREFIX_MAX bytes. */
void key_stream(const char *prefix, enum queue_name queue, char out[KEY_MAX]);
void key_delayed(const char *prefix, enum queue_name queue, char out[KEY_MAX]); /* :z */
void key_fields(const char *prefix, enum queue_name queue, char out[KEY_MAX]);  /* :d */
void key_seen_prefix(const char *prefix, char out[KEY_MAX]);                    /* ...:seen: */
void key_events_dead(const char *prefix, char out[KEY_MAX]);
void key_control(const char *prefix, enum queue_name queue, char out[KEY_MAX]); /* ctl:<queue> */
void key_workers(const char *prefix, char out[KEY_MAX]);
void key_worker_prefix(const char *prefix, char out[KEY_MAX]); /* ...:worker: */
void key_access_prefix(const char *prefix, char out[KEY_MAX]); /* ...:access: */
void key_epoch(const char *prefix, char out[KEY_MAX]);
/* Credential and operation together at most KEY_BUDGET_MAX bytes. */
void key_budget(const char *prefix, const char *credential, const char *operation,
                char out[KEY_MAX]);

#endif
