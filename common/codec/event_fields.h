#ifndef WHOPLINE_EVENT_FIELDS_H
#define WHOPLINE_EVENT_FIELDS_H
/* Reading a webhook body member by member, for event.c: whatever is odd becomes the event's
 * quarantine reason (the first one stands) and leaves its text empty. Private to codec/event*.c. */
#include "codec/event.h"
#include "codec/json.h"

enum { EVENT_TEXT_MAX = 512 }; /* bytes of a text that is kept; Whop's ids have about 20 */

struct reading {
    const struct event_source *source;
    struct arena *arena;
    struct event *event;
};

/* The members of a body's data (or of the payment inside it) that are read, in any generation. */
#define DATA_MEMBERS(X)                                                                            \
    X(id)                                                                                          \
    X(user)                                                                                        \
    X(user_id)                                                                                     \
    X(member)                                                                                      \
    X(member_id)                                                                                   \
    X(membership)                                                                                  \
    X(membership_id)                                                                               \
    X(plan)                                                                                        \
    X(plan_id)                                                                                     \
    X(product)                                                                                     \
    X(product_id)                                                                                  \
    X(access_pass)                                                                                 \
    X(company)                                                                                     \
    X(company_id)                                                                                  \
    X(account)                                                                                     \
    X(account_id)                                                                                  \
    X(payment)                                                                                     \
    X(payment_id)                                                                                  \
    X(channel)                                                                                     \
    X(message)                                                                                     \
    X(checkout_configuration)                                                                      \
    X(checkout_configuration_id)                                                                   \
    X(checkout_id)                                                                                 \
    X(checkout_session)                                                                            \
    X(status)                                                                                      \
    X(alert_type)                                                                                  \
    X(substatus)                                                                                   \
    X(billing_reason)                                                                              \
    X(total)                                                                                       \
    X(final_amount)                                                                                \
    X(amount)                                                                                      \
    X(currency)                                                                                    \
    X(refunded_amount)                                                                             \
    X(email)                                                                                       \
    X(customer_email)                                                                              \
    X(metadata)                                                                                    \
    X(created_at)                                                                                  \
    X(updated_at)                                                                                  \
    X(joined_at)                                                                                   \
    X(canceled_at)                                                                                 \
    X(paid_at)                                                                                     \
    X(refunded_at)                                                                                 \
    X(last_payment_attempt)                                                                        \
    X(last_payment_attempt_at)                                                                     \
    X(provider_created_at)                                                                         \
    X(valid)                                                                                       \
    X(cancel_at_period_end)                                                                        \
    X(renewal_period_start)                                                                        \
    X(renewal_period_end)                                                                          \
    X(current_period_end)                                                                          \
    X(expires_at)

enum data_member {
#define X(name) DATA_##name,
    DATA_MEMBERS(X)
#undef X
        DATA_COUNT
};

struct data {
    const struct json_value *at[DATA_COUNT]; /* NULL where absent */
};

/* The first reason stands. */
void event_quarantine(struct event *event, const char *reason);

/* json_pick that quarantines duplicates. */
void event_pick(const struct reading *reading, const struct json_value *object,
                const char *const *names, size_t count, const struct json_value **out);
void event_read_data(const struct reading *reading, const struct json_value *object,
                     struct data *out);
const struct json_value *event_member(const struct reading *reading,
                                      const struct json_value *object, const char *name);

/* A text or number that is kept; "" where absent, of another type, or odd. */
const char *event_text(const struct reading *reading, const struct json_value *value);
/* The same for what the seller may have put there freely: if it is odd or too long it is left out,
 * and that keeps nobody from the credits they paid for. */
const char *event_hint(const struct reading *reading, const struct json_value *value);
/* An entity: an object's id, or the id itself. */
const char *event_id(const struct reading *reading, const struct json_value *value);
const char *event_either(const char *first, const char *second);

/* Unix ms from ISO 8601 or Unix seconds, as number or text, with or without a fraction. */
bool event_time(const struct reading *reading, const struct json_value *value, int64_t *out_ms);
bool event_parse_time(const char *text, int64_t *out_ms);

#endif
