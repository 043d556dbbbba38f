/* Any signed body becomes an event that can travel, and an odd one never becomes a job. */
#include "base/buf.h"
#include "codec/encoding.h"
#include "codec/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text)
{
    REQUIRE(text != NULL && strlen(text) <= 512 && encoding_is_text(span_of(text)));
}

static void check_integer(int64_t number)
{
    REQUIRE(number >= 0 && number < INT64_C(300000000000000)); /* the year 9999, in ms */
}

static void check_flag(bool flag)
{
    (void)flag;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct signature_check check = {.scheme = SIGNATURE_STANDARD, .timestamp_s = 1786400000};
    struct event_source source = {.endpoint = "default",
                                  .endpoint_company = size % 2 == 0 ? "biz_T3st0LanternCo" : "",
                                  .webhook_id = SPAN("msg_T3stDelivery0010"),
                                  .check = &check,
                                  .received_ms = 1786400000000,
                                  .body = {(const char *)data, size}};
    struct arena arena;
    struct event event;
    struct buf payload = {0};
    enum job_kind jobs[EVENT_JOBS_MAX];
    arena_init(&arena);
    event_normalise(&source, &arena, &event);
#define PAYLOAD(payload, version)
#define FIELD(payload, type, member) FIELD_OF_##payload(type, member)
#define FIELD_OF_event(type, member) check_##type(event.member);
#define FIELD_OF_probe(type, member)
#define FIELD_OF_sync(type, member)
#define FIELD_OF_order_call(type, member)
#define FIELD_OF_plan_call(type, member)
#define FIELD_OF_books(type, member)
#define FIELD_OF_member(type, member)
#define FIELD_OF_product(type, member)
#define FIELD_OF_mail(type, member)
#define PAYLOAD_END(payload)
#define JOB(name, kind, payload, queue, run_max, max_attempts, max_run_ms, life)
#include "jobs.def"
#undef PAYLOAD
#undef FIELD
#undef PAYLOAD_END
#undef JOB
    REQUIRE(strlen(event.kind) <= JOB_KIND_MAX);
    REQUIRE(!text_is_empty(event.company) || !text_is_empty(event.quarantine));
    if (!text_is_empty(event.quarantine) || !text_is_empty(event.ignore))
        REQUIRE(event_jobs(&event, jobs) == 0);
    struct event again;
    struct err err = payload_encode(PAYLOAD_event, &event, &payload);
    REQUIRE(!err_failed(&err) && payload.len < JOB_PAYLOAD_MAX);
    err = payload_decode(PAYLOAD_event, 1, buf_span(&payload), &arena, &again);
    REQUIRE(!err_failed(&err));
    REQUIRE(strcmp(again.id, event.id) == 0 && strcmp(again.user, event.user) == 0);
    buf_close(&payload);
    arena_close(&arena);
    return 0;
}
