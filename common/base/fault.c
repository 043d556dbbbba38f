#include "base/fault.h"

#ifdef WHOPLINE_FAULTS
#include "base/base.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const points[] = {
#define FAULT_POINT(name, meaning) #name,
#include "faults.def"
#undef FAULT_POINT
};

enum action { ACTION_NONE, ACTION_KILL, ACTION_STOP, ACTION_FAIL };

static struct {
    enum action action;
    unsigned long nth; /* 0 = every time */
    atomic_ulong seen;
} plans[ARRAY_LEN(points)];

static size_t find(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(points); i++)
        if (strlen(points[i]) == len && memcmp(points[i], name, len) == 0)
            return i;
    fprintf(stderr, "FAULT: no such point: %.*s\n", (int)len, name);
    exit(2);
}

static void load_one(const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    if (colon == NULL) {
        fprintf(stderr, "FAULT: expected point:action, got %.*s\n", (int)len, text);
        exit(2);
    }
    size_t i = find(text, (size_t)(colon - text));
    const char *action = colon + 1;
    if (strncmp(action, "kill", 4) == 0)
        plans[i].action = ACTION_KILL;
    else if (strncmp(action, "stop", 4) == 0)
        plans[i].action = ACTION_STOP;
    else if (strncmp(action, "fail", 4) == 0)
        plans[i].action = ACTION_FAIL;
    else
        exit(2);
    plans[i].nth = action[4] == '@' ? strtoul(action + 5, NULL, 10) : 0;
}

void fault_load(const char *specification)
{
    if (specification == NULL)
        return;
    while (*specification != '\0') {
        size_t len = strcspn(specification, ",");
        if (len > 0)
            load_one(specification, len);
        specification += len;
        specification += *specification == ',';
    }
}

bool fault_hit(const char *point)
{
    size_t i = find(point, strlen(point));
    if (plans[i].action == ACTION_NONE)
        return false;
    unsigned long count = atomic_fetch_add(&plans[i].seen, 1) + 1;
    if (plans[i].nth != 0 && plans[i].nth != count)
        return false;
    fprintf(stderr, "FAULT: forced %s\n", point); /* so that a test knows it has had its way */
    if (plans[i].action == ACTION_KILL) {
        kill(getpid(), SIGKILL);
        pause();
    }
    if (plans[i].action == ACTION_STOP) {
        raise(SIGSTOP); /* to this thread, which goes no further */
        return false;
    }
    return true;
}
#else
typedef int fault_not_in_release_builds; /* an empty translation unit is not C11 */
#endif
