#include "base/metric.h"

enum metric_type { TYPE_GROUP, TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM, TYPE_LATENESS };

static const char *const type_names[] = {
    [TYPE_GROUP] = "",
    [TYPE_COUNTER] = "counter",
    [TYPE_GAUGE] = "gauge",
    [TYPE_HISTOGRAM] = "histogram",
    [TYPE_LATENESS] = "histogram",
};

struct declared {
    enum metric_type type;
    const char *name; /* a group's title */
    const char *labels;
    const char *help; /* a group's where */
};

static const struct declared metrics[METRIC_COUNT] = {
#define GROUP(title, where)
#define COUNTER(name, labels, help)   {TYPE_COUNTER, "whopline_" #name, labels, help},
#define GAUGE(name, labels, help)     {TYPE_GAUGE, "whopline_" #name, labels, help},
#define HISTOGRAM(name, labels, help) {TYPE_HISTOGRAM, "whopline_" #name, labels, help},
#define LATENESS(name, labels, help)  {TYPE_LATENESS, "whopline_" #name, labels, help},
#include "metrics.def"
#undef GROUP
};

/* As above, with the groups between. */
static const struct declared lines[] = {
#define GROUP(title, where) {TYPE_GROUP, title, "", where},
#include "metrics.def"
#undef GROUP
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
#undef LATENESS
};

struct bound {
    int64_t us;
    const char *seconds;
};

/* From a statement in PostgreSQL to a job that waited for an hour. */
static const struct bound bounds_of_times[METRIC_BOUNDS] = {
    {1000, "0.001"},    {2500, "0.0025"},     {5000, "0.005"},  {10000, "0.01"},
    {25000, "0.025"},   {50000, "0.05"},      {100000, "0.1"},  {250000, "0.25"},
    {500000, "0.5"},    {1000000, "1"},       {2500000, "2.5"}, {5000000, "5"},
    {10000000, "10"},   {30000000, "30"},     {60000000, "60"}, {300000000, "300"},
    {900000000, "900"}, {3600000000, "3600"},
};

/* From what came at once to what was found a day later. */
static const struct bound bounds_of_lateness[METRIC_BOUNDS] = {
    {500000, "0.5"},        {1000000, "1"},         {2000000, "2"},       {5000000, "5"},
    {10000000, "10"},       {20000000, "20"},       {30000000, "30"},     {60000000, "60"},
    {120000000, "120"},     {300000000, "300"},     {600000000, "600"},   {900000000, "900"},
    {1800000000, "1800"},   {3600000000, "3600"},   {7200000000, "7200"}, {21600000000, "21600"},
    {43200000000, "43200"}, {86400000000, "86400"},
};

/* --- samples --------------------------------------------------------------------------------- */

void metric_begin(struct metric_page *page, enum metric metric)
{
    const struct declared *it = &metrics[metric];
    if (page->begun[metric]) {
        REQUIRE(page->current == metric); /* Prometheus wants a metric's samples together */
        return;
    }
    page->begun[metric] = true;
    page->current = metric;
    buf_printf(page->out, "# HELP %s %s\n# TYPE %s %s\n", it->name, it->help, it->name,
               type_names[it->type]);
}

static void put_escaped(struct buf *out, const char *value)
{
    for (size_t plain; *value != '\0'; value += plain) {
        plain = strcspn(value, "\\\"\n");
        buf_add(out, value, plain);
        if (value[plain] == '\0')
            continue;
        buf_printf(out, "\\%c", value[plain] == '\n' ? 'n' : value[plain]);
        plain++;
    }
}

/* name{label="a",...,le="..."} and a blank. */
static void put_name(struct buf *out, const struct declared *it, const char *suffix, const char *a,
                     const char *b, const char *le)
{
    const char *const values[] = {a, b};
    const char *label = it->labels;
    const char *separator = "{";
    buf_printf(out, "%s%s", it->name, suffix);
    for (size_t i = 0; *label != '\0'; i++) {
        size_t len = strcspn(label, ",");
        REQUIRE(i < ARRAY_LEN(values) && values[i] != NULL);
        buf_printf(out, "%s%.*s=\"", separator, (int)len, label);
        put_escaped(out, values[i]);
        buf_add(out, "\"", 1);
        separator = ",";
        label += len + (label[len] == ',' ? 1 : 0);
    }
    if (le != NULL) {
        buf_printf(out, "%sle=\"%s\"", separator, le);
        separator = ",";
    }
    buf_add_text(out, *separator == ',' ? "} " : " ");
}

void metric_put(struct metric_page *page, enum metric metric, int64_t value, const char *a,
                const char *b)
{
    metric_begin(page, metric);
    put_name(page->out, &metrics[metric], "", a, b, NULL);
    buf_printf(page->out, "%lld\n", (long long)value);
}

void metric_put_ms(struct metric_page *page, enum metric metric, int64_t ms, const char *a)
{
    if (ms < 0)
        ms = 0;
    metric_begin(page, metric);
    put_name(page->out, &metrics[metric], "", a, NULL, NULL);
    buf_printf(page->out, "%lld.%03d\n", (long long)(ms / 1000), (int)(ms % 1000));
}

/* --- histograms ------------------------------------------------------------------------------ */

bool metric_is_histogram(enum metric metric)
{
    return metrics[metric].type == TYPE_HISTOGRAM || metrics[metric].type == TYPE_LATENESS;
}

static const struct bound *bounds_of(enum metric metric)
{
    return metrics[metric].type == TYPE_LATENESS ? bounds_of_lateness : bounds_of_times;
}

void metric_observe(enum metric metric, struct metric_histogram *histogram, int64_t us)
{
    const struct bound *bounds = bounds_of(metric);
    size_t i = 0;
    if (us < 0)
        us = 0;
    while (i < METRIC_BOUNDS && us > bounds[i].us)
        i++;
    histogram->counts[i]++;
    histogram->sum_us += (uint64_t)us;
}

void metric_put_histogram(struct metric_page *page, enum metric metric,
                          const struct metric_histogram *histogram, const char *a)
{
    const struct declared *it = &metrics[metric];
    const struct bound *bounds = bounds_of(metric);
    unsigned long long total = 0;
    REQUIRE(metric_is_histogram(metric));
    metric_begin(page, metric);
    for (size_t i = 0; i <= METRIC_BOUNDS; i++) {
        total += histogram->counts[i];
        put_name(page->out, it, "_bucket", a, NULL, i < METRIC_BOUNDS ? bounds[i].seconds : "+Inf");
        buf_printf(page->out, "%llu\n", total);
    }
    put_name(page->out, it, "_sum", a, NULL, NULL);
    buf_printf(page->out, "%llu.%06u\n", (unsigned long long)(histogram->sum_us / 1000000),
               (unsigned)(histogram->sum_us % 1000000));
    put_name(page->out, it, "_count", a, NULL, NULL);
    buf_printf(page->out, "%llu\n", total);
}

/* --- docs/metrics.md ------------------------------------------------------------------------- */

static const char introduction[] =
    "# Metrics\n\n"
    "In Prometheus' text format at `/metrics`; beside it `/livez` (200, or 503 with a sentence "
    "that\n"
    "says what is wrong: restart it) and `/readyz` (200 while it does its work). Generated by\n"
    "`whopline config metrics` from `schema/metrics.def`; alerts on them are in\n"
    "`deploy/prometheus/rules.yml`.\n\n"
    "Ingest listens on `PRIVATE_LISTEN`, workers and the scheduler on `WORKER_LISTEN`. That is "
    "port 0\n"
    "at first: the kernel chooses a free one, so that many processes fit on one machine, and the\n"
    "address is in the log (`listening`) and in Redis. To be scraped at a known place, give each\n"
    "line of the `Procfile` its port (two processes of a line need two):\n\n"
    "```\n"
    "journal: env WORKER_LISTEN=127.0.0.1:9101 whopline-journal\n"
    "credits: env WORKER_LISTEN=127.0.0.1:9102 whopline-credits\n"
    "scheduler: env WORKER_LISTEN=127.0.0.1:9103 whopline-scheduler\n"
    "```\n";

void metric_write_reference(struct buf *out)
{
    buf_add_text(out, introduction);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        const struct declared *it = &lines[i];
        if (it->type == TYPE_GROUP) {
            buf_printf(out,
                       "\n## %s\n\nShown by %s.\n\n| metric | type | labels | meaning |\n"
                       "|---|---|---|---|\n",
                       it->name, it->help);
            continue;
        }
        buf_printf(out, "| `%s` | %s | %s | %s |\n", it->name, type_names[it->type], it->labels,
                   it->help);
    }
}
