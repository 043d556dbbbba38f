#include "codec/event.h"

#include "codec/encoding.h"
#include "codec/event_fields.h"

/* Every name of an event, its own first, then those of older generations. */
enum event_name {
#define QUEUE(name)
#define EVENT(name, kind) EVENT_##name,
#define ALSO(name, other)
#define ROUTE(name, job)
#include "routes.def"
#undef EVENT
#undef ALSO
#undef ROUTE
    EVENT_COUNT
};

static const char *const kinds[EVENT_COUNT] = {
#define EVENT(name, kind) kind,
#define ALSO(name, other)
#define ROUTE(name, job)
#include "routes.def"
#undef EVENT
#undef ALSO
#undef ROUTE
};

static const struct {
    const char *text;
    size_t len;
    enum event_name event;
} names[] = {
#define EVENT(name, kind) {kind, sizeof(kind) - 1, EVENT_##name},
#define ALSO(name, other) {other, sizeof(other) - 1, EVENT_##name},
#define ROUTE(name, job)
#include "routes.def"
#undef EVENT
#undef ALSO
#undef ROUTE
};

static const struct {
    enum event_name event;
    enum job_kind job;
} routes[] = {
#define EVENT(name, kind)
#define ALSO(name, other)
#define ROUTE(name, job) {EVENT_##name, JOB_##job},
#include "routes.def"
#undef QUEUE
#undef EVENT
#undef ALSO
#undef ROUTE
};

const char *event_kind_of(struct span type_raw)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].len == type_raw.len && memcmp(names[i].text, type_raw.ptr, type_raw.len) == 0)
            return kinds[names[i].event];
    return NULL;
}

size_t event_jobs(const struct event *event, enum job_kind out[EVENT_JOBS_MAX])
{
    size_t count = 0;
    if (!text_is_empty(event->quarantine) || !text_is_empty(event->ignore))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(routes) && count < EVENT_JOBS_MAX; i++)
        if (strcmp(event->kind, kinds[routes[i].event]) == 0)
            out[count++] = routes[i].job;
    return count;
}

/* What an event is about, by the first part of its kind. */
enum family { FAMILY_OTHER, FAMILY_MEMBERSHIP, FAMILY_PAYMENT, FAMILY_REFUND, FAMILY_DISPUTE };

static enum family family_of(const char *kind)
{
    static const struct {
        const char *prefix;
        enum family family;
    } prefixes[] = {
        {"membership.", FAMILY_MEMBERSHIP}, {"app_membership.", FAMILY_MEMBERSHIP},
        {"payment.", FAMILY_PAYMENT},       {"app_payment.", FAMILY_PAYMENT},
        {"refund.", FAMILY_REFUND},         {"dispute.", FAMILY_DISPUTE},
        {"dispute_alert.", FAMILY_DISPUTE},
    };
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (strncmp(kind, prefixes[i].prefix, strlen(prefixes[i].prefix)) == 0)
            return prefixes[i].family;
    return FAMILY_OTHER;
}

static const char *join(struct arena *arena, const char *a, const char *b, const char *c)
{
    const char *const parts[] = {a, b, c};
    char *text = arena_alloc(arena, strlen(a) + strlen(b) + strlen(c) + 1);
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (const char *at = parts[i]; *at != '\0'; at++)
            text[len++] = *at;
    text[len] = '\0';
    return text;
}

/* What the request itself says, before the body is looked at. A webhook-id counts only where the
 * MAC covers it. */
static void read_source(const struct reading *reading)
{
    const struct event_source *source = reading->source;
    struct event *event = reading->event;
    struct span id = source->webhook_id;
    event->endpoint = source->endpoint;
    event->company = source->endpoint_company;
    event->received_ms = source->received_ms;
    event->occurred_ms =
        source->check->timestamp_s > 0 ? source->check->timestamp_s * 1000 : source->received_ms;
    if (source->check->scheme != SIGNATURE_STANDARD)
        id.len = 0;
    if (id.len > SIGNATURE_ID_MAX || !encoding_is_text(id)) {
        event_quarantine(event, id.len > SIGNATURE_ID_MAX ? "too_long" : "nul_in_text");
        id.len = 0;
    }
    if (id.len > 0) {
        event->webhook_id = arena_copy(reading->arena, id.ptr, id.len);
        event->id = join(reading->arena, event->endpoint, "/", event->webhook_id);
    } else {
        char hex[2 * SIGNATURE_MAC_BYTES + 1];
        encoding_hex(source->check->mac, SIGNATURE_MAC_BYTES, hex);
        event->id = join(reading->arena, event->endpoint, "/mac:", hex);
    }
}

/* The members of the body itself. */
enum envelope_member {
    ENVELOPE_ID,
    ENVELOPE_TYPE,
    ENVELOPE_ACTION,
    ENVELOPE_API_VERSION,
    ENVELOPE_TIMESTAMP,
    ENVELOPE_DATA,
    ENVELOPE_BODY,
    ENVELOPE_COMPANY_ID,
    ENVELOPE_ACCOUNT_ID,
    ENVELOPE_COMPANY,
    ENVELOPE_COUNT
};

static const char *const envelope_names[ENVELOPE_COUNT] = {
    "id",   "type", "action",     "api_version", "timestamp",
    "data", "body", "company_id", "account_id",  "company",
};

/* v1 has type; v5 and v2 have action, and only v5 says which it is. */
static void read_kind(const struct reading *reading, const struct json_value *const *envelope)
{
    struct event *event = reading->event;
    const char *type = event_text(reading, envelope[ENVELOPE_TYPE]);
    const char *version = event_text(reading, envelope[ENVELOPE_API_VERSION]);
    if (!text_is_empty(type))
        event->generation = "v1";
    else
        event->generation = strcmp(version, "v5") == 0 ? "v5" : "v2";
    event->type_raw = event_either(type, event_text(reading, envelope[ENVELOPE_ACTION]));
    if (text_is_empty(event->type_raw)) {
        event->generation = "";
        event_quarantine(event, "no_type");
        return;
    }
    const char *kind = event_kind_of(span_of(event->type_raw));
    event->kind = kind != NULL ? kind : event->type_raw;
    if (strlen(event->kind) > JOB_KIND_MAX) {
        event->kind = "";
        event_quarantine(event, "too_long");
    }
}

static void check_id(const struct reading *reading, const struct json_value *value)
{
    const char *id = event_text(reading, value);
    const char *header = reading->event->webhook_id;
    if (!text_is_empty(id) && !text_is_empty(header) && strcmp(id, header) != 0)
        event_quarantine(reading->event, "id_mismatch");
}

/* The object the event is about, or NULL. A test from the dashboard has none: null, a list or {}.
 */
static const struct json_value *find_data(const struct reading *reading,
                                          const struct json_value *const *envelope)
{
    const struct json_value *data = envelope[ENVELOPE_DATA];
    if (data == NULL && strcmp(reading->event->generation, "v1") != 0)
        data = envelope[ENVELOPE_BODY]; /* as one page on v2 has it */
    if (data == NULL) {
        event_quarantine(reading->event, "no_data");
        return NULL;
    }
    if (json_is_null(data) || json_is_array(data) || json_is_empty(data)) {
        reading->event->ignore = "test";
        return NULL;
    }
    if (!json_is_object(data)) {
        event_quarantine(reading->event, "no_data");
        return NULL;
    }
    return data;
}

/* Every company the body names must be the endpoint's; an app's endpoint has none of its own, there
 * they must be one and the same. */
static void read_company(const struct reading *reading, const struct json_value *const *envelope,
                         const struct data *data, const struct data *payment)
{
    const struct json_value *const places[] = {
        data->at[DATA_company],       data->at[DATA_account],        data->at[DATA_account_id],
        data->at[DATA_company_id],    envelope[ENVELOPE_COMPANY_ID], envelope[ENVELOPE_ACCOUNT_ID],
        envelope[ENVELOPE_COMPANY],   payment->at[DATA_company],     payment->at[DATA_account],
        payment->at[DATA_account_id], payment->at[DATA_company_id],
    };
    struct event *event = reading->event;
    const char *found = "";
    const char *expected = reading->source->endpoint_company;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const char *company = event_id(reading, places[i]);
        if (text_is_empty(company))
            continue;
        found = event_either(found, company);
        expected = event_either(expected, company);
        if (strcmp(company, expected) != 0)
            event_quarantine(event, "other_company");
    }
    event->company = event_either(found, expected);
    if (text_is_empty(event->company))
        event_quarantine(event, "no_company");
}

/* created_at is when the thing began: the time of an event that says so, and of no other. */
static bool is_creation(const char *kind)
{
    const char *dot = strrchr(kind, '.');
    return dot != NULL && strcmp(dot, ".created") == 0;
}

/* v1 says when the event was; of older generations the newest time in the data is the best there
 * is. Times that are plans (period ends, next attempts) are none of the event's. */
static void read_times(const struct reading *reading, const struct json_value *timestamp,
                       const struct data *data)
{
    static const enum data_member members[] = {
        DATA_created_at,
        DATA_updated_at,
        DATA_joined_at,
        DATA_canceled_at,
        DATA_paid_at,
        DATA_refunded_at,
        DATA_last_payment_attempt,
        DATA_last_payment_attempt_at,
        DATA_provider_created_at,
    };
    struct event *event = reading->event;
    event_time(reading, data->at[DATA_paid_at], &event->paid_ms);
    event->occurred_known = event_time(reading, timestamp, &event->occurred_ms);
    if (event->occurred_known)
        return;
    int64_t newest = 0;
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        int64_t ms = 0;
        if (event_time(reading, data->at[members[i]], &ms) && ms > newest)
            newest = ms;
    }
    int64_t created = 0;
    event_time(reading, data->at[DATA_created_at], &created);
    event->occurred_known = newest > created || (newest > 0 && is_creation(event->kind));
    if (newest > 0)
        event->occurred_ms = newest;
}

/* An entity that is nested in one generation and an id of its own in another. */
static const char *entity(const struct reading *reading, const struct data *data,
                          enum data_member nested, enum data_member flat)
{
    const char *id = event_id(reading, data->at[nested]);
    return text_is_empty(id) ? event_text(reading, data->at[flat]) : id;
}

static const char *product_of(const struct reading *reading, const struct data *data)
{
    const char *product = entity(reading, data, DATA_product, DATA_product_id);
    return text_is_empty(product) ? event_id(reading, data->at[DATA_access_pass]) : product;
}

static bool is_membership_id(const char *id)
{
    return strncmp(id, "mem", 3) == 0;
}

/* The data's own id, whose meaning depends on the event. */
static void read_own_id(const struct reading *reading, const struct data *data, enum family family)
{
    struct event *event = reading->event;
    const char *id = event_text(reading, data->at[DATA_id]);
    switch (family) {
    case FAMILY_MEMBERSHIP:
        /* Samples exist that have only membership_id, or an id of something else beside it. */
        if (is_membership_id(id) || !is_membership_id(event->membership))
            event->membership = event_either(id, event->membership);
        break;
    case FAMILY_PAYMENT: event->payment = event_either(id, event->payment); break;
    case FAMILY_REFUND: event->refund = id; break;
    case FAMILY_DISPUTE: event->dispute = id; break;
    case FAMILY_OTHER: break;
    }
}

static void read_entities(const struct reading *reading, const struct data *data,
                          const struct data *payment, enum family family)
{
    struct event *event = reading->event;
    event->user = entity(reading, data, DATA_user, DATA_user_id);
    event->member = entity(reading, data, DATA_member, DATA_member_id);
    event->membership = entity(reading, data, DATA_membership, DATA_membership_id);
    event->plan = entity(reading, data, DATA_plan, DATA_plan_id);
    event->product = product_of(reading, data);
    event->payment = entity(reading, data, DATA_payment, DATA_payment_id);
    read_own_id(reading, data, family);
    if (family != FAMILY_REFUND && family != FAMILY_DISPUTE)
        return;
    if (text_is_empty(event->user))
        event->user = entity(reading, payment, DATA_user, DATA_user_id);
    if (text_is_empty(event->member))
        event->member = entity(reading, payment, DATA_member, DATA_member_id);
    if (text_is_empty(event->membership))
        event->membership = entity(reading, payment, DATA_membership, DATA_membership_id);
    if (text_is_empty(event->plan))
        event->plan = entity(reading, payment, DATA_plan, DATA_plan_id);
    if (text_is_empty(event->product))
        event->product = product_of(reading, payment);
}

static void read_chat(const struct reading *reading, const struct data *data)
{
    static const char *const members[] = {"id", "user"};
    const struct json_value *message[ARRAY_LEN(members)];
    struct event *event = reading->event;
    if (json_is_object(data->at[DATA_channel]))
        event->channel = event_id(reading, data->at[DATA_channel]);
    if (!json_is_object(data->at[DATA_message]))
        return;
    event_pick(reading, data->at[DATA_message], members, ARRAY_LEN(members), message);
    event->message = event_text(reading, message[0]);
    if (text_is_empty(event->user))
        event->user = event_id(reading, message[1]);
}

static const char *lower(const char *text, struct arena *arena)
{
    char *copy = arena_strdup(arena, text);
    for (char *c = copy; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return copy;
}

/* An amount is a number, or an object with its own currency, which then is the amount's. */
static const char *read_money(const struct reading *reading, const struct json_value *value,
                              const char **currency)
{
    static const char *const members[] = {"amount", "currency"};
    const struct json_value *money[ARRAY_LEN(members)] = {value, NULL};
    if (json_is_object(value))
        event_pick(reading, value, members, ARRAY_LEN(members), money);
    *currency = event_text(reading, money[1]);
    return event_text(reading, money[0]);
}

static void read_amounts(const struct reading *reading, const struct data *data)
{
    static const enum data_member amounts[] = {DATA_total, DATA_final_amount, DATA_amount};
    struct event *event = reading->event;
    const char *currency = "";
    const char *same;
    for (size_t i = 0; i < ARRAY_LEN(amounts) && text_is_empty(event->amount); i++)
        event->amount = read_money(reading, data->at[amounts[i]], &currency);
    if (text_is_empty(currency))
        currency = event_text(reading, data->at[DATA_currency]);
    event->currency = lower(currency, reading->arena);
    event->refunded = read_money(reading, data->at[DATA_refunded_amount], &same);
}

static void read_person(const struct reading *reading, const struct data *data)
{
    static const char *const members[] = {"email", "username", "name"};
    const struct json_value *values[ARRAY_LEN(members)] = {NULL};
    struct event *event = reading->event;
    if (json_is_object(data->at[DATA_user]))
        event_pick(reading, data->at[DATA_user], members, ARRAY_LEN(members), values);
    event->email = event_hint(reading, values[0]);
    event->username = event_hint(reading, values[1]);
    event->name = event_hint(reading, values[2]);
    event->email = event_either(event->email, event_hint(reading, data->at[DATA_customer_email]));
    event->email = event_either(event->email, event_hint(reading, data->at[DATA_email]));
}

static void read_metadata(const struct reading *reading, const struct json_value *metadata)
{
    static const char *const members[] = {"packId", "pack_id", "order_id", "credits"};
    const struct json_value *values[ARRAY_LEN(members)];
    struct event *event = reading->event;
    event_pick(reading, metadata, members, ARRAY_LEN(members), values);
    event->pack_id = event_either(event_hint(reading, values[0]), event_hint(reading, values[1]));
    event->order_id = event_hint(reading, values[2]);
    event->credits_claimed = event_hint(reading, values[3]);
}

/* A membership's period; expires_at is how older generations call its end. */
static void read_period(const struct reading *reading, const struct data *data)
{
    static const enum data_member ends[] = {DATA_renewal_period_end, DATA_current_period_end,
                                            DATA_expires_at};
    struct event *event = reading->event;
    event->valid = event_text(reading, data->at[DATA_valid]);
    event->cancels = event_text(reading, data->at[DATA_cancel_at_period_end]);
    event_time(reading, data->at[DATA_renewal_period_start], &event->period_start_ms);
    for (size_t i = 0; i < ARRAY_LEN(ends) && event->period_end_ms == 0; i++)
        event_time(reading, data->at[ends[i]], &event->period_end_ms);
}

static void read_details(const struct reading *reading, const struct data *data)
{
    struct event *event = reading->event;
    const char *checkout = entity(reading, data, DATA_checkout_configuration_id, DATA_checkout_id);
    if (text_is_empty(checkout))
        checkout = event_id(reading, data->at[DATA_checkout_configuration]);
    if (text_is_empty(checkout))
        checkout = event_id(reading, data->at[DATA_checkout_session]);
    event->checkout = checkout;
    event->status = event_either(event_text(reading, data->at[DATA_status]),
                                 event_text(reading, data->at[DATA_alert_type]));
    event->substatus = event_text(reading, data->at[DATA_substatus]);
    event->billing_reason = event_text(reading, data->at[DATA_billing_reason]);
    read_amounts(reading, data);
    read_person(reading, data);
    read_metadata(reading, data->at[DATA_metadata]);
}

static void read_body(const struct reading *reading, const struct json_value *root)
{
    const struct json_value *envelope[ENVELOPE_COUNT];
    struct data data;
    struct data payment;
    event_pick(reading, root, envelope_names, ENVELOPE_COUNT, envelope);
    read_kind(reading, envelope);
    check_id(reading, envelope[ENVELOPE_ID]);
    /* Without an object every member is absent, and what follows finds nothing. */
    event_read_data(reading, find_data(reading, envelope), &data);
    event_read_data(reading, data.at[DATA_payment], &payment);
    read_company(reading, envelope, &data, &payment);
    read_times(reading, envelope[ENVELOPE_TIMESTAMP], &data);
    read_entities(reading, &data, &payment, family_of(reading->event->kind));
    read_chat(reading, &data);
    read_details(reading, &data);
    if (family_of(reading->event->kind) == FAMILY_MEMBERSHIP)
        read_period(reading, &data);
}

void event_normalise(const struct event_source *source, struct arena *arena, struct event *out)
{
    struct reading reading = {source, arena, out};
    payload_init(PAYLOAD_event, out);
    read_source(&reading);
    struct json_doc *doc = json_parse(source->body);
    if (doc == NULL)
        event_quarantine(out, "not_json");
    else if (!json_is_object(json_root(doc)))
        event_quarantine(out, "not_an_object");
    else
        read_body(&reading, json_root(doc));
    json_free(doc);
}
