/* Covers codec/event: every body of the vectors and of the samples we were given, against a table
 * written by reading them; odd bodies; companies; times; the way to jobs. Every field of struct
 * event is compared in every case. */
#include "vectors.h"

#include "base/buf.h"
#include "codec/event.h"
#include "codec/event_fields.h"

#include <stdlib.h>

#define LANTERN "biz_T3st0LanternCo"
#define MAC_HEX "abababababababababababababababababababababababababababababababab"
enum { RECEIVED_MS = 1786400123, SIGNED_S = 1786400000, BODY_COUNT = 56 };

/* Unix ms of a UTC time in August 2026 (2026-08-10T00:00:00Z is 1786320000); September 9th is the
 * 40th of August. */
#define AUG(day, h, m, s)                                                                          \
    ((1786320000 + ((day) - 10) * INT64_C(86400) + (h) * INT64_C(3600) + (m) * INT64_C(60) +       \
      (s)) *                                                                                       \
     1000)

#define V1(number, time)                                                                           \
    .id = "default/msg_T3stDelivery" number, .webhook_id = "msg_T3stDelivery" number,              \
    .generation = "v1", .occurred_ms = (time), .occurred_known = true
#define OLD(which, time)                                                                           \
    .id = "default/mac:" MAC_HEX, .generation = (which), .occurred_ms = (time),                    \
    .occurred_known = true
/* created_at is all the time there is: when the thing began, not when this happened to it. */
#define OLD_BORN(which, time)                                                                      \
    .id = "default/mac:" MAC_HEX, .generation = (which), .occurred_ms = (time)
#define KIND(text)     .kind = (text), .type_raw = (text)
#define MARISOL        .user = "user_T3stMarisol01"
#define MEMBER         MARISOL, .member = "mber_T3stMarisol01"
#define MONTHLY        .plan = "plan_T3stMonthly01", .product = "prod_T3stLantern01"
#define MEMBERSHIP     .membership = "mem_T3stMarisol001"
#define CHECKOUT       .checkout = "ch_T3stSession0001"
#define USD(text)      .amount = (text), .currency = "usd"
#define MAIL           .email = "marisol@example.com"
#define REFUNDED(text) .refunded = (text)
#define PAYMENT        .payment = "pay_T3stReceipt001"
#define NESTED_MEMBER  MEMBER, MONTHLY, CHECKOUT, .currency = "usd"
#define FULL_PAYMENT   PAYMENT, MEMBER, MONTHLY, MEMBERSHIP, CHECKOUT
#define OLD_PAYMENT    PAYMENT, MARISOL, MONTHLY, MEMBERSHIP, USD("49.99")
#define OLD_MEMBER     MARISOL, MONTHLY, MEMBERSHIP
#define PAID_AT        .paid_ms = AUG(10, 9, 0, 3)
#define USERNAME       .username = "marisol-tester"
#define PERSON         USERNAME, .name = "Marisol Tester"
#define STAYS          .cancels = "false"
#define CANCELS        .cancels = "true"
#define MONTH          .period_start_ms = AUG(10, 9, 0, 0), .period_end_ms = AUG(40, 9, 0, 0)
#define TRIAL_WEEK     .period_start_ms = AUG(10, 9, 0, 0), .period_end_ms = AUG(17, 9, 0, 0)

/* By hand, in the order of whop-events.json. What is not named is empty. */
static const struct event expected[BODY_COUNT] = {
    {V1("0001", AUG(10, 9, 0, 6)), PERSON, STAYS, MONTH, MAIL, KIND("membership.activated"),
     NESTED_MEMBER, MEMBERSHIP, .status = "active"},
    {V1("0002", AUG(10, 9, 0, 6)), PERSON, STAYS, TRIAL_WEEK, MAIL, KIND("membership.activated"),
     NESTED_MEMBER, .membership = "mem_T3stTrial00001", .status = "trialing"},
    {V1("0003", AUG(10, 9, 0, 6)), STAYS, KIND("membership.activated"),
     .membership = "mem_T3stLifetime01", .plan = "plan_T3stOneTime01",
     .product = "prod_T3stLantern01", .currency = "usd", .status = "completed"},
    {V1("0004", AUG(40, 9, 0, 0)), PERSON, STAYS, MONTH, MAIL, KIND("membership.deactivated"),
     NESTED_MEMBER, MEMBERSHIP, .status = "canceled"},
    {V1("0005", AUG(40, 9, 0, 0)), PERSON, STAYS, MONTH, MAIL, KIND("membership.deactivated"),
     NESTED_MEMBER, MEMBERSHIP, .status = "expired"},
    {V1("0006", AUG(20, 9, 0, 0)), PERSON, CANCELS, MONTH, MAIL,
     KIND("membership.cancel_at_period_end_changed"), NESTED_MEMBER, MEMBERSHIP,
     .status = "canceling"},
    {V1("0007", AUG(14, 9, 0, 0)), PERSON, STAYS, TRIAL_WEEK, MAIL,
     KIND("membership.trial_ending_soon"), NESTED_MEMBER, MEMBERSHIP, .status = "trialing"},
    {V1("0008", AUG(10, 9, 0, 1)), PERSON, MAIL, REFUNDED("0"), KIND("payment.created"),
     FULL_PAYMENT, USD("49.99"), .status = "open", .substatus = "incomplete",
     .billing_reason = "subscription_create"},
    {V1("0009", AUG(10, 9, 0, 2)), PERSON, MAIL, REFUNDED("0"), KIND("payment.pending"),
     FULL_PAYMENT, USD("49.99"), .status = "pending", .substatus = "pending",
     .billing_reason = "subscription_create"},
    {V1("0010", AUG(10, 9, 0, 4)), PERSON, MAIL, REFUNDED("0"), KIND("payment.succeeded"),
     FULL_PAYMENT, USD("49.99"), PAID_AT, .status = "paid", .substatus = "succeeded",
     .billing_reason = "subscription_create"},
    {V1("0011", AUG(40, 9, 0, 0)), PERSON, MAIL, REFUNDED("0"), KIND("payment.succeeded"), MEMBER,
     MONTHLY, MEMBERSHIP, CHECKOUT, .payment = "pay_T3stReceipt002", .amount = "7500",
     .currency = "jpy", PAID_AT, .status = "paid", .substatus = "succeeded",
     .billing_reason = "subscription_cycle"},
    {V1("0012", AUG(40, 9, 0, 0)), PERSON, MAIL, REFUNDED("0"), KIND("payment.failed"),
     FULL_PAYMENT, USD("49.99"), .status = "open", .substatus = "past_due",
     .billing_reason = "subscription_cycle"},
    {V1("0013", AUG(10, 10, 0, 1)), KIND("refund.created"), .refund = "rf_T3stRefund001", PAYMENT,
     MEMBER, MONTHLY, MEMBERSHIP, USD("20"), .status = "pending"},
    {V1("0014", AUG(10, 11, 0, 0)), KIND("refund.updated"), .refund = "rf_T3stRefund001", PAYMENT,
     MEMBER, MONTHLY, MEMBERSHIP, USD("49.99"), .status = "succeeded"},
    {V1("0015", AUG(19, 9, 0, 0)), KIND("dispute.created"), .dispute = "dspt_T3stDispute01",
     PAYMENT, MEMBER, MONTHLY, MEMBERSHIP, USD("49.99"), .status = "needs_response"},
    {V1("0016", AUG(50, 9, 0, 0)), KIND("dispute.updated"), .dispute = "dspt_T3stDispute01",
     PAYMENT, MEMBER, MONTHLY, MEMBERSHIP, USD("49.99"), .status = "lost"},
    {V1("0017", AUG(18, 9, 0, 0)), KIND("dispute_alert.created"), .dispute = "dspa_T3stAlert0001",
     PAYMENT, MEMBER, MEMBERSHIP, USD("49.99"), .status = "dispute"},
    {V1("0018", AUG(10, 9, 0, 1)), PERSON, KIND("invoice.created"), MARISOL, .status = "open"},
    {V1("0019", AUG(11, 9, 0, 0)), PERSON, KIND("invoice.paid"), MARISOL, .status = "paid"},
    {V1("0020", AUG(25, 9, 0, 0)), KIND("invoice.past_due"), .status = "past_due"},
    {V1("0021", AUG(10, 9, 0, 1)), PERSON, MAIL, KIND("entry.created"), MARISOL, MONTHLY,
     .status = "pending"},
    {V1("0022", AUG(10, 9, 5, 0)), PERSON, MAIL, KIND("entry.approved"), MARISOL, MONTHLY,
     .status = "approved"},
    {V1("0023", AUG(10, 9, 0, 2)), KIND("setup_intent.succeeded"), CHECKOUT,
     .member = "mber_T3stMarisol01", .status = "succeeded"},
    {V1("0024", AUG(10, 10, 56, 41)), PERSON, KIND("resolution_center_case.created"), MEMBER,
     PAYMENT, .status = "merchant_response_needed"},
    {V1("0025", AUG(10, 9, 0, 1)), KIND("withdrawal.created"), USD("300"), .status = "requested"},
    {V1("0026", AUG(10, 9, 8, 20)), PERSON, KIND("course_lesson_interaction.completed"), MARISOL},
    {V1("0027", AUG(10, 9, 2, 1)), KIND("chat.message.created"), MARISOL,
     .channel = "feed_T3stSupport001", .message = "post_T3stMessage01"},
    {V1("0028", AUG(10, 9, 2, 10)), KIND("chat.message.created"), MARISOL,
     .channel = "chat_feed_T3st0001", .message = "post_T3stMessage02"},
    {V1("0029", AUG(10, 9, 2, 20)), KIND("chat.reaction.created"), MARISOL,
     .channel = "feed_T3stDirect0001", .message = "post_T3stMessage03"},
    {V1("0101", AUG(10, 9, 0, 6)), STAYS, .period_end_ms = AUG(40, 9, 0, 0),
     KIND("membership.activated"), OLD_MEMBER, .status = "active"},
    {V1("0102", AUG(10, 9, 0, 4)), PERSON, MAIL, REFUNDED("0.00"), KIND("payment.succeeded"),
     FULL_PAYMENT, USD("49.99"), PAID_AT, .status = "paid", .substatus = "succeeded",
     .billing_reason = "subscription_create"},
    {OLD_BORN("v5", AUG(10, 9, 0, 0)), .valid = "true", STAYS, MONTH,
     .kind = "membership.activated", .type_raw = "membership.went_valid", OLD_MEMBER,
     .status = "active"},
    {OLD_BORN("v5", AUG(10, 9, 0, 0)), .valid = "false", STAYS, MONTH,
     .kind = "membership.deactivated", .type_raw = "membership.went_invalid", OLD_MEMBER,
     .status = "canceled"},
    {OLD_BORN("v5", AUG(10, 9, 0, 0)), .valid = "true", STAYS, MONTH,
     KIND("membership.metadata_updated"), OLD_MEMBER, .status = "active"},
    {OLD_BORN("v5", AUG(10, 9, 0, 0)), .valid = "true", CANCELS, MONTH,
     KIND("membership.cancel_at_period_end_changed"), OLD_MEMBER, .status = "active"},
    {OLD_BORN("v5", AUG(10, 9, 0, 0)), .valid = "true", STAYS, MONTH,
     KIND("membership.experience_claimed"), OLD_MEMBER, .status = "active"},
    {OLD("v5", AUG(10, 9, 0, 3)), REFUNDED("0"), KIND("payment.succeeded"), OLD_PAYMENT, PAID_AT,
     .status = "paid"},
    {OLD("v5", AUG(10, 9, 0, 2)), REFUNDED("0"), KIND("payment.failed"), OLD_PAYMENT,
     .status = "open"},
    {OLD("v5", AUG(10, 9, 0, 2)), REFUNDED("0"), KIND("payment.pending"), OLD_PAYMENT,
     .status = "pending"},
    {OLD("v5", AUG(10, 9, 0, 3)), REFUNDED("0"), KIND("payment.affiliate_reward_created"),
     OLD_PAYMENT, PAID_AT, .status = "paid"},
    {OLD("v5", AUG(10, 10, 0, 0)), KIND("refund.created"), .refund = "rf_T3stRefund001", PAYMENT,
     OLD_MEMBER, USD("20"), .status = "succeeded"},
    {OLD_BORN("v5", AUG(10, 10, 0, 0)), KIND("refund.updated"), .refund = "rf_T3stRefund001",
     PAYMENT, OLD_MEMBER, USD("20"), .status = "failed"},
    {OLD("v5", AUG(19, 9, 0, 0)), KIND("dispute.created"), .dispute = "dspt_T3stDispute01", PAYMENT,
     OLD_MEMBER, USD("49.99"), .status = "needs_response"},
    {OLD_BORN("v5", AUG(19, 9, 0, 0)), KIND("dispute.updated"), .dispute = "dspt_T3stDispute01",
     PAYMENT, OLD_MEMBER, USD("49.99"), .status = "won"},
    {OLD_BORN("v5", AUG(10, 9, 0, 0)), .valid = "true", STAYS, MONTH,
     .kind = "app_membership.activated", .type_raw = "app_membership.went_valid", MARISOL, MONTHLY,
     .membership = "mem_T3stAppSub0001", .status = "active"},
    {OLD_BORN("v5", AUG(10, 9, 0, 0)), .valid = "false", STAYS, MONTH,
     .kind = "app_membership.deactivated", .type_raw = "app_membership.went_invalid", MARISOL,
     MONTHLY, .membership = "mem_T3stAppSub0001", .status = "expired"},
    {OLD("v5", AUG(10, 9, 0, 3)), REFUNDED("0"), KIND("app_payment.succeeded"), OLD_MEMBER,
     USD("49.99"), PAID_AT, .payment = "pay_T3stAppPay0001", .status = "paid"},
    {OLD_BORN("v2", AUG(10, 9, 0, 0)), USERNAME, .valid = "true", STAYS, MONTH, MAIL,
     .kind = "membership.activated", .type_raw = "membership.went_valid", OLD_MEMBER,
     .status = "active"},
    {OLD_BORN("v2", AUG(10, 9, 0, 0)), USERNAME, .valid = "false", STAYS, MONTH, MAIL,
     .kind = "membership.deactivated", .type_raw = "membership.went_invalid", OLD_MEMBER,
     .status = "expired"},
    {OLD_BORN("v2", AUG(10, 9, 0, 0)), USERNAME, .valid = "true", STAYS, MONTH, MAIL,
     KIND("membership.metadata_updated"), OLD_MEMBER, .status = "active"},
    {OLD_BORN("v2", AUG(10, 9, 0, 0)), USERNAME, .valid = "true", CANCELS, MONTH, MAIL,
     KIND("membership.cancel_at_period_end_changed"), OLD_MEMBER, .status = "active"},
    {OLD("v2", AUG(10, 9, 0, 3)), USERNAME, MAIL, REFUNDED("0"), KIND("payment.succeeded"),
     OLD_PAYMENT, PAID_AT, .status = "paid"},
    {OLD("v2", AUG(10, 9, 0, 2)), USERNAME, MAIL, REFUNDED("0"), KIND("payment.failed"),
     OLD_PAYMENT, .status = "open"},
    {OLD("v2", AUG(10, 9, 0, 2)), USERNAME, MAIL, REFUNDED("0"), KIND("payment.pending"),
     OLD_PAYMENT, .status = "open"},
    {OLD_BORN("v2", AUG(10, 9, 0, 0)), USERNAME, .valid = "true", STAYS, MONTH, MAIL,
     .kind = "app_membership.activated", .type_raw = "app_membership.went_valid", MARISOL, MONTHLY,
     .membership = "mem_T3stAppSub0001", .status = "active"},
    {OLD_BORN("v2", AUG(10, 9, 0, 0)), USERNAME, .valid = "true", STAYS, MONTH, MAIL,
     .kind = "membership.activated", .type_raw = "membership.went_valid", OLD_MEMBER,
     .status = "active"},
};

static void compare_text(const char *name, const char *field, const char *got, const char *want)
{
    assert_non_null(got);
    if (strcmp(got, want != NULL ? want : "") != 0)
        fail_msg("%s: %s is \"%s\", expected \"%s\"", name, field, got, want != NULL ? want : "");
}

static void compare_integer(const char *name, const char *field, int64_t got, int64_t want)
{
    if (got != want)
        fail_msg("%s: %s is %lld, expected %lld", name, field, (long long)got, (long long)want);
}

static void compare_flag(const char *name, const char *field, bool got, bool want)
{
    if (got != want)
        fail_msg("%s: %s is %d", name, field, got);
}

static void compare(const char *name, const struct event *got, const struct event *want)
{
#define PAYLOAD(payload, version)
#define FIELD(payload, type, member) FIELD_OF_##payload(type, member)
#define FIELD_OF_event(type, member) compare_##type(name, #member, got->member, want->member);
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
}

struct fixture {
    struct arena arena;
    struct signature_check check;
    struct event_source source;
    struct event event;
};

/* A delivery to the default endpoint of Lantern, by the scheme that has a webhook-id or not. */
static void prepare(struct fixture *fixture, struct span body, const char *webhook_id)
{
    arena_init(&fixture->arena);
    fixture->check = (struct signature_check){.scheme = webhook_id != NULL ? SIGNATURE_STANDARD
                                                                           : SIGNATURE_LEGACY,
                                              .timestamp_s = SIGNED_S};
    memset(fixture->check.mac, 0xab, sizeof fixture->check.mac);
    fixture->source = (struct event_source){.endpoint = "default",
                                            .endpoint_company = LANTERN,
                                            .webhook_id = span_of(webhook_id),
                                            .check = &fixture->check,
                                            .received_ms = RECEIVED_MS,
                                            .body = body};
}

/* Normalises, from memory of exactly the body's size, and sees whether the result can travel. */
static const struct event *normalise(struct fixture *fixture)
{
    char *copy = mem_alloc(fixture->source.body.len);
    memcpy(copy, fixture->source.body.ptr, fixture->source.body.len);
    fixture->source.body.ptr = copy;
    event_normalise(&fixture->source, &fixture->arena, &fixture->event);
    free(copy);

    struct buf payload = {0};
    struct event again;
    struct err err = payload_encode(PAYLOAD_event, &fixture->event, &payload);
    assert_int_equal(err.code, ERR_OK);
    err = payload_decode(PAYLOAD_event, 1, buf_span(&payload), &fixture->arena, &again);
    assert_int_equal(err.code, ERR_OK);
    compare("decoded again", &again, &fixture->event);
    buf_close(&payload);
    return &fixture->event;
}

static void with_defaults(struct event *event)
{
    event->endpoint = "default";
    event->received_ms = RECEIVED_MS;
    event->company = event->company != NULL ? event->company : LANTERN;
}

/* Runs the function with every body of the vectors. */
static void each_body(void (*visit)(size_t index, yyjson_val *vector, struct fixture *fixture))
{
    yyjson_doc *doc = vectors_open("whop-events.json");
    size_t i;
    size_t max;
    size_t ran = 0;
    yyjson_val *vector;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, max, vector)
    {
        struct fixture fixture;
        size_t len = 0;
        char *body = yyjson_val_write(yyjson_obj_get(vector, "body"), 0, &len);
        assert_non_null(body);
        prepare(&fixture, (struct span){body, len},
                vectors_text(yyjson_obj_get(vector, "body"), "id"));
        visit(i, vector, &fixture);
        arena_close(&fixture.arena);
        free(body);
        ran++;
    }
    assert_int_equal(ran, BODY_COUNT);
    yyjson_doc_free(doc);
}

static void visit_vector(size_t index, yyjson_val *vector, struct fixture *fixture)
{
    char name[96];
    struct event want = expected[index];
    const char *generation = vectors_text(vector, "generation");
    const char *type = vectors_text(vector, "event");
    snprintf(name, sizeof name, "body %zu (%s %s)", index, generation != NULL ? generation : "-",
             type != NULL ? type : "-");
    /* The table must not have slipped: these two are in the file. */
    assert_string_equal(want.generation, generation);
    assert_string_equal(want.type_raw, type);
    with_defaults(&want);
    compare(name, normalise(fixture), &want);
}

static void test_vectors(void **state)
{
    (void)state;
    each_body(visit_vector);
}

/* At another company's endpoint, and at an app's: what names a company, and what does not. The
 * refunds and disputes of v5 name one in their payment only. */
static bool names_company(size_t index)
{
    return index <= 30 || (index >= 36 && index <= 43) || index == 46 || index == 54;
}

static void visit_other_company(size_t index, yyjson_val *vector, struct fixture *fixture)
{
    (void)vector;
    fixture->source.endpoint_company = "biz_other";
    const struct event *event = normalise(fixture);
    enum job_kind jobs[EVENT_JOBS_MAX];
    if (names_company(index))
        assert_int_equal(event_jobs(event, jobs), 0);
    if (strcmp(event->quarantine, names_company(index) ? "other_company" : "") != 0 ||
        strcmp(event->company, names_company(index) ? LANTERN : "biz_other") != 0)
        fail_msg("body %zu: %s, %s", index, event->company, event->quarantine);
}

static void visit_app(size_t index, yyjson_val *vector, struct fixture *fixture)
{
    (void)vector;
    fixture->source.endpoint_company = "";
    const struct event *event = normalise(fixture);
    if (strcmp(event->quarantine, names_company(index) ? "" : "no_company") != 0 ||
        strcmp(event->company, names_company(index) ? LANTERN : "") != 0)
        fail_msg("body %zu: %s, %s", index, event->company, event->quarantine);
}

static void test_companies(void **state)
{
    (void)state;
    each_body(visit_other_company);
    each_body(visit_app);
}

/* A body, and the event it becomes at the default endpoint, by hand. */
struct sample {
    const char *name;
    const char *webhook_id; /* NULL: the legacy scheme */
    struct span body;
    struct event event;
};

static void run(const struct sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct fixture fixture;
        struct event want = samples[i].event;
        with_defaults(&want);
        if (want.id == NULL)
            want.id = samples[i].webhook_id != NULL ? "default/m1" : "default/mac:" MAC_HEX;
        if (samples[i].webhook_id != NULL && want.webhook_id == NULL)
            want.webhook_id = samples[i].webhook_id;
        if (!want.occurred_known && want.occurred_ms == 0)
            want.occurred_ms = INT64_C(1000) * SIGNED_S;
        prepare(&fixture, samples[i].body, samples[i].webhook_id);
        compare(samples[i].name, normalise(&fixture), &want);
        arena_close(&fixture.arena);
    }
}

#define BODY(text)  {text, sizeof(text) - 1}
#define PAID        .generation = "v1", KIND("payment.succeeded")
#define TYPE        "\"type\":\"payment.succeeded\""
#define BAD(reason) .quarantine = (reason)

/* The two samples that came with the request for this pipeline. */
static void test_samples(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"went_valid",
         NULL,
         BODY("{\"action\":\"membership.went_valid\",\"data\":{\"user_id\":\"user_123456789\","
              "\"product_id\":\"prod_123456789\",\"membership_id\":\"memb_123456789\","
              "\"status\":\"active\",\"valid\":true}}"),
         {.generation = "v2",
          .kind = "membership.activated",
          .type_raw = "membership.went_valid",
          .user = "user_123456789",
          .product = "prod_123456789",
          .membership = "memb_123456789",
          .status = "active",
          .valid = "true"}},
        {"payment",
         NULL,
         BODY("{\n  \"action\": \"payment.succeeded\",\n  \"data\": {\n"
              "    \"id\": \"payment_123456789\",\n    \"user_id\": \"user_123456789\",\n"
              "    \"final_amount\": 1000,\n    \"currency\": \"usd\",\n    \"metadata\": {\n"
              "      \"type\": \"credit_pack\",\n      \"packId\": \"pack_123\",\n"
              "      \"credits\": 10\n    }\n  }\n}"),
         {.generation = "v2",
          KIND("payment.succeeded"),
          .payment = "payment_123456789",
          .user = "user_123456789",
          USD("1000"),
          .pack_id = "pack_123",
          .credits_claimed = "10"}},
    };
    run(samples, ARRAY_LEN(samples));
}

static void test_odd_bodies(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"nothing", "m1", BODY(""), {BAD("not_json")}},
        {"text", "m1", BODY("hello"), {BAD("not_json")}},
        {"cut off", "m1", BODY("{" TYPE ",\"data\":{\"id\":\"pay_1\""), {BAD("not_json")}},
        {"rubbish behind",
         "m1",
         BODY("{" TYPE ",\"data\":{\"id\":\"pay_1\"}}x"),
         {BAD("not_json")}},
        {"byte order mark", "m1", BODY("\xef\xbb\xbf{}"), {BAD("not_json")}},
        {"bad UTF-8", "m1", BODY("{" TYPE ",\"data\":{\"id\":\"pay_\xff\"}}"), {BAD("not_json")}},
        {"lone surrogate",
         "m1",
         BODY("{" TYPE ",\"data\":{\"id\":\"\\ud800\"}}"),
         {BAD("not_json")}},
        {"raw NUL", "m1", BODY("{" TYPE ",\"data\":{\"id\":\"a\0b\"}}"), {BAD("not_json")}},
        {"list", "m1", BODY("[{" TYPE "}]"), {BAD("not_an_object")}},
        {"string", NULL, BODY("\"x\""), {BAD("not_an_object")}},
        {"number", "m1", BODY("18446744073709551616"), {BAD("not_an_object")}},
        {"no type",
         "m1",
         BODY("{\"data\":{\"id\":\"pay_1\",\"status\":\"paid\"}}"),
         {BAD("no_type"), .status = "paid"}},
        {"empty object", "m1", BODY("{}"), {BAD("no_type")}},
        {"empty type",
         "m1",
         BODY("{\"type\":\"\",\"data\":null}"),
         {BAD("no_type"), .ignore = "test"}},
        {"no data", "m1", BODY("{" TYPE "}"), {PAID, BAD("no_data")}},
        {"data is a text", "m1", BODY("{" TYPE ",\"data\":\"pay_1\"}"), {PAID, BAD("no_data")}},
        {"v1 has no body",
         "m1",
         BODY("{" TYPE ",\"body\":{\"id\":\"pay_1\"}}"),
         {PAID, BAD("no_data")}},
        {"unknown type",
         "m1",
         BODY("{\"type\":\"card.frozen\",\"data\":{\"id\":\"x\"}}"),
         {.generation = "v1", KIND("card.frozen")}},
        {"type wins over action",
         "m1",
         BODY("{\"action\":\"a\"," TYPE ",\"api_version\":\"v5\",\"data\":{\"id\":\"pay_1\"}}"),
         {PAID, .payment = "pay_1"}},
        {"NUL in an id",
         "m1",
         BODY("{" TYPE ",\"data\":{\"id\":\"a\\u0000b\",\"status\":\"paid\"}}"),
         {PAID, BAD("nul_in_text"), .status = "paid"}},
        {"NUL in the type",
         "m1",
         BODY("{\"type\":\"a\\u0000\",\"data\":{\"id\":\"x\"}}"),
         {BAD("nul_in_text")}},
        {"NUL in what is not read",
         "m1",
         BODY("{" TYPE ",\"data\":{\"id\":\"pay_1\",\"note\":\"\\u0000\"}}"),
         {PAID, .payment = "pay_1"}},
        {"other id",
         "m1",
         BODY("{\"id\":\"m2\"," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAID, BAD("id_mismatch"), .payment = "pay_1"}},
        {"same id",
         "m1",
         BODY("{\"id\":\"m1\"," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAID, .payment = "pay_1"}},
        {"id without a header",
         NULL,
         BODY("{\"id\":\"m2\"," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAID, .payment = "pay_1"}},
        {"wrong types",
         "m1",
         BODY("{" TYPE ",\"data\":{\"id\":[],\"user\":7,\"plan\":[1],\"product\":true,"
              "\"metadata\":\"x\",\"total\":[],\"message\":\"hi\",\"payment\":3,\"paid_at\":{}}}"),
         {PAID, .user = "7", .product = "true", .payment = "3"}},
    };
    run(samples, ARRAY_LEN(samples));
}

static void test_tests(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"null", "m1", BODY("{" TYPE ",\"data\":null}"), {PAID, .ignore = "test"}},
        {"list", "m1", BODY("{" TYPE ",\"data\":[{\"id\":\"pay_1\"}]}"), {PAID, .ignore = "test"}},
        {"empty list", "m1", BODY("{" TYPE ",\"data\":[]}"), {PAID, .ignore = "test"}},
        {"empty object", "m1", BODY("{" TYPE ",\"data\":{}}"), {PAID, .ignore = "test"}},
        {"v5",
         NULL,
         BODY("{\"action\":\"payment.succeeded\",\"api_version\":\"v5\",\"data\":[]}"),
         {.generation = "v5", KIND("payment.succeeded"), .ignore = "test"}},
        {"body is empty",
         NULL,
         BODY("{\"action\":\"payment.succeeded\",\"body\":{}}"),
         {.generation = "v2", KIND("payment.succeeded"), .ignore = "test"}},
        {"of another company",
         "m1",
         BODY("{" TYPE ",\"company_id\":\"biz_x\",\"data\":null}"),
         {PAID, .ignore = "test", .company = "biz_x", BAD("other_company")}},
    };
    run(samples, ARRAY_LEN(samples));
}

#define DATA(members) BODY("{" TYPE ",\"data\":{\"id\":\"pay_1\"," members "}}")
#define PAY           PAID, .payment = "pay_1"

static void test_duplicate_keys(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"envelope",
         "m1",
         BODY("{" TYPE "," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAY, BAD("duplicate_key")}},
        {"escaped",
         "m1",
         BODY("{" TYPE ",\"\\u0074ype\":\"x\",\"data\":{\"id\":\"pay_1\"}}"),
         {PAY, BAD("duplicate_key")}},
        {"data",
         "m1",
         BODY("{" TYPE ",\"data\":{\"id\":\"pay_1\"},\"data\":{\"id\":\"pay_2\"}}"),
         {PAY, BAD("duplicate_key")}},
        {"member of data",
         "m1",
         DATA("\"status\":\"a\",\"status\":\"b\""),
         {PAY, BAD("duplicate_key"), .status = "a"}},
        {"user",
         "m1",
         DATA("\"user\":{\"id\":\"u1\",\"id\":\"u2\"}"),
         {PAY, BAD("duplicate_key"), .user = "u1"}},
        {"membership",
         "m1",
         DATA("\"membership\":{\"id\":\"mem_1\",\"id\":\"mem_1\"}"),
         {PAY, BAD("duplicate_key"), .membership = "mem_1"}},
        {"company",
         "m1",
         DATA("\"company\":{\"id\":\"" LANTERN "\",\"id\":\"x\"}"),
         {PAY, BAD("duplicate_key")}},
        {"money",
         "m1",
         DATA("\"total\":{\"amount\":\"1\",\"amount\":\"2\",\"currency\":\"eur\"}"),
         {PAY, BAD("duplicate_key"), .amount = "1", .currency = "eur"}},
        {"metadata",
         "m1",
         DATA("\"metadata\":{\"packId\":\"a\",\"packId\":\"b\"}"),
         {PAY, BAD("duplicate_key"), .pack_id = "a"}},
        {"message",
         "m1",
         DATA("\"message\":{\"id\":\"a\",\"id\":\"b\"}"),
         {PAY, BAD("duplicate_key"), .message = "a"}},
        {"user of a message",
         "m1",
         DATA("\"message\":{\"user\":{\"id\":\"a\",\"id\":\"b\"}}"),
         {PAY, BAD("duplicate_key"), .user = "a"}},
        {"payment",
         "m1",
         BODY("{\"type\":\"refund.created\",\"data\":{\"id\":\"rf_1\",\"payment\":{\"id\":\"p\","
              "\"user_id\":\"a\",\"user_id\":\"b\"}}}"),
         {.generation = "v1",
          KIND("refund.created"),
          .refund = "rf_1",
          .payment = "p",
          .user = "a",
          BAD("duplicate_key")}},
        {"what is not read", "m1", DATA("\"x\":1,\"x\":2,\"metadata\":{\"y\":1,\"y\":2}"), {PAY}},
        {"same key at two levels", "m1", DATA("\"user\":{\"id\":\"u1\"}"), {PAY, .user = "u1"}},
    };
    run(samples, ARRAY_LEN(samples));
}

static void test_shapes(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"bare texts",
         NULL,
         BODY("{\"action\":\"payment.succeeded\",\"data\":{\"id\":\"pay_1\",\"user\":\"u\","
              "\"plan\":\"p\",\"access_pass\":\"a\",\"membership\":\"mem_1\","
              "\"checkout_session\":\"ch_1\",\"company\":\"" LANTERN "\"}}"),
         {.generation = "v2",
          KIND("payment.succeeded"),
          .payment = "pay_1",
          .user = "u",
          .plan = "p",
          .product = "a",
          .membership = "mem_1",
          .checkout = "ch_1"}},
        {"nested before flat",
         "m1",
         DATA("\"user_id\":\"b\",\"user\":{\"id\":\"a\"},\"plan\":null,\"plan_id\":\"c\","
              "\"product\":{\"id\":null},\"product_id\":\"d\",\"access_pass\":{\"id\":\"e\"}"),
         {PAY, .user = "a", .plan = "c", .product = "d"}},
        {"id and membership_id",
         "m1",
         BODY("{\"type\":\"membership.activated\",\"data\":{\"id\":\"x_1\","
              "\"membership_id\":\"mem_2\"}}"),
         {.generation = "v1", KIND("membership.activated"), .membership = "mem_2"}},
        {"two membership ids",
         "m1",
         BODY("{\"type\":\"membership.activated\",\"data\":{\"id\":\"mem_1\","
              "\"membership_id\":\"mem_2\"}}"),
         {.generation = "v1", KIND("membership.activated"), .membership = "mem_1"}},
        {"amounts in order",
         "m1",
         DATA("\"amount\":3,\"final_amount\":2,\"total\":null,\"currency\":\"UsD\""),
         {PAY, USD("2")}},
        {"amount of 30 digits",
         "m1",
         DATA("\"total\":123456789012345678901234567890"),
         {PAY, .amount = "123456789012345678901234567890"}},
        {"amount with an exponent", "m1", DATA("\"total\":1e400"), {PAY, .amount = "1e400"}},
        {"amount with zeros", "m1", DATA("\"total\":10.500"), {PAY, .amount = "10.500"}},
        {"money has the currency",
         "m1",
         DATA("\"total\":{\"amount\":\"1.00\",\"currency\":\"EUR\"},\"currency\":\"usd\""),
         {PAY, .amount = "1.00", .currency = "eur"}},
        {"metadata",
         "m1",
         DATA("\"metadata\":{\"pack_id\":18446744073709551616,\"order_id\":\"o\\u00e9\","
              "\"credits\":\"10\"}"),
         {PAY, .pack_id = "18446744073709551616", .order_id = "o\xc3\xa9",
          .credits_claimed = "10"}},
        {"page_id is no company",
         NULL,
         BODY("{\"action\":\"x\",\"api_version\":\"v5\",\"data\":{\"page_id\":\"biz_x\"}}"),
         {.generation = "v5", KIND("x")}},
    };
    run(samples, ARRAY_LEN(samples));
}

static void test_places_of_companies(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"company.id",
         "m1",
         DATA("\"company\":{\"id\":\"biz_x\"}"),
         {PAY, BAD("other_company"), .company = "biz_x"}},
        {"account.id",
         "m1",
         DATA("\"account\":{\"id\":\"biz_x\"}"),
         {PAY, BAD("other_company"), .company = "biz_x"}},
        {"account_id",
         "m1",
         DATA("\"account_id\":\"biz_x\""),
         {PAY, BAD("other_company"), .company = "biz_x"}},
        {"company_id",
         "m1",
         DATA("\"company_id\":\"biz_x\""),
         {PAY, BAD("other_company"), .company = "biz_x"}},
        {"envelope company_id",
         "m1",
         BODY("{\"company_id\":\"biz_x\"," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAY, BAD("other_company"), .company = "biz_x"}},
        {"envelope account_id",
         "m1",
         BODY("{\"account_id\":\"biz_x\"," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAY, BAD("other_company"), .company = "biz_x"}},
        {"envelope company",
         "m1",
         BODY("{\"company\":\"biz_x\"," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAY, BAD("other_company"), .company = "biz_x"}},
        {"payment",
         "m1",
         BODY("{\"type\":\"refund.created\",\"data\":{\"id\":\"rf_1\",\"payment\":{\"id\":\"p\","
              "\"company_id\":\"biz_x\"}}}"),
         {.generation = "v1",
          KIND("refund.created"),
          .refund = "rf_1",
          .payment = "p",
          BAD("other_company"),
          .company = "biz_x"}},
        {"ours and another",
         "m1",
         BODY("{\"company_id\":\"biz_x\"," TYPE ",\"data\":{\"id\":\"pay_1\",\"company_id\":"
              "\"" LANTERN "\"}}"),
         {PAY, BAD("other_company"), .company = LANTERN}},
    };
    run(samples, ARRAY_LEN(samples));

    /* An app's endpoint: two companies in one body. */
    struct fixture fixture;
    prepare(&fixture, samples[8].body, "m1");
    fixture.source.endpoint_company = "";
    assert_string_equal(normalise(&fixture)->quarantine, "other_company");
    arena_close(&fixture.arena);
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms; /* -1: none */
    } times[] = {
        {"1786352403", 1786352403000},
        {"1786352403.25", 1786352403250},
        {"0", 0},
        {"2026-08-10T09:00:03Z", 1786352403000},
        {"2026-08-10T09:00:03.000Z", 1786352403000},
        {"2026-08-10T09:00:03.123456Z", 1786352403123},
        {"2026-08-10t09:00:03z", 1786352403000},
        {"2026-08-10 09:00:03+00:00", 1786352403000},
        {"2026-08-10T11:00:03+02:00", 1786352403000},
        {"2026-08-10T05:30:03-0330", 1786352403000},
        {"2024-02-29T00:00:00Z", 1709164800000},
        {"2016-12-31T23:59:60Z", 1483228800000},
        {"1970-01-01T00:00:00Z", 0},
        {"2000-02-29T23:59:59.999Z", 951868799999},
        {"2000-03-01T00:00:00Z", 951868800000},
        {"2100-02-28T00:00:00Z", 4107456000000},
        {"2026-12-31T23:59:59Z", 1798761599000},
        {"9999-12-31T23:59:59Z", 253402300799000},
        {"2100-02-29T00:00:00Z", -1},
        {"2026-04-31T00:00:00Z", -1},
        {"2026-04-00T00:00:00Z", -1},
        {"2026-00-01T00:00:00Z", -1},
        {"0000-01-01T00:00:00Z", -1},
        {"2026-02-29T00:00:00Z", -1},
        {"2026-13-01T00:00:00Z", -1},
        {"2026-08-10T24:00:00Z", -1},
        {"2026-08-10T09:00:03", -1},
        {"2026-08-10", -1},
        {"2026-08-10T09:00:03.Z", -1},
        {"2026-08-10T09:00:03Z ", -1},
        {"2026-08-10T09:00:03+99:00", -1},
        {"1786352403000", -1},
        {"-5", -1},
        {"1e9", -1},
        {"178635240x", -1},
        {"", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        int64_t ms = -1;
        bool known = event_parse_time(times[i].text, &ms);
        if (known != (times[i].ms >= 0) || (known && ms != times[i].ms))
            fail_msg("\"%s\": %lld", times[i].text, (long long)ms);
    }
    static const struct sample samples[] = {
        {"plans are no times",
         "m1",
         DATA("\"renewal_period_end\":1788944400,\"expires_at\":1788944400,"
              "\"next_payment_attempt\":1788944400,\"created_at\":1786352400"),
         {PAY, .occurred_ms = AUG(10, 9, 0, 0)}},
        {"newest of the data",
         "m1",
         DATA("\"created_at\":\"1786352400\",\"updated_at\":\"2026-08-10T09:00:05Z\","
              "\"refunded_at\":1786352404,\"paid_at\":\"1786352403\""),
         {PAY, PAID_AT, .occurred_known = true, .occurred_ms = AUG(10, 9, 0, 5)}},
        {"bad time of the envelope",
         "m1",
         BODY("{\"timestamp\":\"yesterday\"," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAY}},
        {"0 of the envelope",
         "m1",
         BODY("{\"timestamp\":0," TYPE ",\"data\":{\"id\":\"pay_1\"}}"),
         {PAY}},
        {"before 1970", "m1", DATA("\"paid_at\":\"1969-12-31T23:59:59Z\""), {PAY}},
        {"0 is no time", "m1", DATA("\"created_at\":0,\"paid_at\":0"), {PAY}},
    };
    run(samples, ARRAY_LEN(samples));
}

/* Bodies with one long or deep part, and what is left of it. */
static struct buf repeated(const char *before, const char *part, size_t count, const char *after)
{
    struct buf body = {0};
    buf_add_text(&body, before);
    for (size_t i = 0; i < count; i++)
        buf_add_text(&body, part);
    buf_add_text(&body, after);
    return body;
}

static void check_repeated(const char *before, const char *part, size_t count, const char *after,
                           const char *quarantine)
{
    struct fixture fixture;
    struct buf body = repeated(before, part, count, after);
    prepare(&fixture, buf_span(&body), "m1");
    const struct event *event = normalise(&fixture);
    if (strcmp(event->quarantine, quarantine) != 0)
        fail_msg("%s%s (%zu times): \"%s\", expected \"%s\"", before, part, count,
                 event->quarantine, quarantine);
    arena_close(&fixture.arena);
    buf_close(&body);
}

static void test_sizes(void **state)
{
    (void)state;
    const char *payment = "{" TYPE ",\"data\":{\"id\":\"";
    check_repeated(payment, "a", 512, "\"}}", "");
    check_repeated(payment, "a", 513, "\"}}", "too_long");
    check_repeated(payment, "a", 1000000, "\"}}", "too_long");
    check_repeated("{\"type\":\"", "a", 64, "\",\"data\":{\"id\":\"x\"}}", "");
    check_repeated("{\"type\":\"", "a", 65, "\",\"data\":{\"id\":\"x\"}}", "too_long");
    check_repeated("{\"type\":\"", "a", 100000, "\",\"data\":{\"id\":\"x\"}}", "too_long");
    check_repeated("{" TYPE ",\"data\":{\"id\":\"p\",\"total\":", "9", 600, "}}", "too_long");
    check_repeated("{" TYPE ",\"data\":{\"id\":\"p\",\"x\":\"", "a", 100000, "\"}}", "");
    /* The root and data are two levels of the 64. */
    struct buf close = repeated("", "]", 62, "}}");
    check_repeated("{" TYPE ",\"data\":{\"id\":\"p\",\"x\":", "[", 62, buf_text(&close), "");
    buf_close(&close);
    close = repeated("", "]", 63, "}}");
    check_repeated("{" TYPE ",\"data\":{\"id\":\"p\",\"x\":", "[", 63, buf_text(&close),
                   "not_json");
    buf_close(&close);
    check_repeated("", "[", 1000000, "", "not_json");
}

/* Every text as long as it may be still fits a payload. */
static void test_largest(void **state)
{
    (void)state;
    static const char *const members[] = {
        "user_id",     "member_id",  "membership_id",  "plan_id", "product_id",
        "checkout_id", "status",     "substatus",      "total",   "currency",
        "payment_id",  "account_id", "billing_reason",
    };
    char text[513];
    char id[SIGNATURE_ID_MAX + 1];
    memset(text, 'x', 512);
    text[512] = '\0';
    memset(id, 'i', SIGNATURE_ID_MAX);
    id[SIGNATURE_ID_MAX] = '\0';
    struct buf body = {0};
    buf_printf(&body, "{\"type\":\"refund.created\",\"data\":{\"id\":\"%s\"", text);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        buf_printf(&body, ",\"%s\":\"%s\"", members[i], text);
    buf_printf(&body, ",\"channel\":{\"id\":\"%s\"},\"message\":{\"id\":\"%s\"}", text, text);
    buf_printf(&body, ",\"metadata\":{\"packId\":\"%s\",\"order_id\":\"%s\",\"credits\":\"%s\"}}}",
               text, text, text);
    struct fixture fixture;
    prepare(&fixture, buf_span(&body), id);
    const struct event *event = normalise(&fixture); /* encodes it */
    assert_string_equal(event->refund, text);
    assert_string_equal(event->credits_claimed, text);
    assert_string_equal(event->currency, text);
    assert_int_equal(strlen(event->id), strlen("default/") + SIGNATURE_ID_MAX);
    arena_close(&fixture.arena);
    buf_close(&body);
}

/* An id that no MAC covers must not decide what is a repetition. */
static void test_unsigned_id(void **state)
{
    (void)state;
    struct fixture fixture;
    prepare(&fixture, SPAN("{" TYPE ",\"data\":null}"), "m1");
    fixture.check.scheme = SIGNATURE_LEGACY;
    const struct event *event = normalise(&fixture);
    assert_string_equal(event->id, "default/mac:" MAC_HEX);
    assert_string_equal(event->webhook_id, "");
    arena_close(&fixture.arena);

    prepare(&fixture, SPAN("{" TYPE ",\"data\":null}"), "m\xff");
    event = normalise(&fixture);
    assert_string_equal(event->id, "default/mac:" MAC_HEX);
    assert_string_equal(event->quarantine, "nul_in_text");
    arena_close(&fixture.arena);

    /* bare hex has no time either */
    prepare(&fixture, SPAN("{" TYPE ",\"data\":null}"), NULL);
    fixture.check.scheme = SIGNATURE_BARE_HEX;
    fixture.check.timestamp_s = 0;
    event = normalise(&fixture);
    assert_int_equal(event->occurred_ms, RECEIVED_MS);
    assert_false(event->occurred_known);
    arena_close(&fixture.arena);
}

static void test_kinds(void **state)
{
    (void)state;
    assert_string_equal(event_kind_of(SPAN("payment.succeeded")), "payment.succeeded");
    assert_string_equal(event_kind_of(SPAN("membership.went_valid")), "membership.activated");
    assert_null(event_kind_of(SPAN("payment.succeededx")));
    assert_null(event_kind_of(SPAN("payment_succeeded")));
    assert_null(event_kind_of(SPAN("")));

    enum job_kind jobs[EVENT_JOBS_MAX];
    struct event event;
    payload_init(PAYLOAD_event, &event);
    event.kind = "payment.succeeded";
    assert_int_equal(event_jobs(&event, jobs), 2);
    assert_int_equal(jobs[0], JOB_credits_payment_succeeded);
    assert_int_equal(jobs[1], JOB_members_bill);
    event.kind = "app_payment.succeeded";
    assert_int_equal(event_jobs(&event, jobs), 0);
    event.kind = "card.frozen";
    assert_int_equal(event_jobs(&event, jobs), 0);
    event.kind = "payment.succeeded";
    event.ignore = "test";
    assert_int_equal(event_jobs(&event, jobs), 0);
    event.ignore = "";
    event.quarantine = "other_company";
    assert_int_equal(event_jobs(&event, jobs), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_companies),
        cmocka_unit_test(test_samples), cmocka_unit_test(test_odd_bodies),
        cmocka_unit_test(test_tests),   cmocka_unit_test(test_duplicate_keys),
        cmocka_unit_test(test_shapes),  cmocka_unit_test(test_places_of_companies),
        cmocka_unit_test(test_times),   cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_largest), cmocka_unit_test(test_unsigned_id),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
