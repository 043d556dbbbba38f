#ifndef WHOPLINE_CLI_PAYLOAD_H
#define WHOPLINE_CLI_PAYLOAD_H
/* A job's payload, readable. */
#include "cli/output.h"
#include "codec/job.h"
#include "codec/json.h"

/* "payload": its fields, or, where it cannot be understood, "payload_error" and its bytes. */
void payload_put_json(struct json_writer *json, const char *kind, int version, struct span bytes);
/* A row for each field that is not empty, times beside their numbers; or why there are none. */
void payload_add_rows(struct table *table, const char *kind, int version, struct span bytes);
/* "bytes", in base64. */
void payload_put_base64(struct json_writer *json, const char *key, struct span bytes);

#endif
