#include "service/scripts.h"

#include "redis_scripts.h"

#include <pthread.h>

static struct redis_script scripts[SCRIPT_COUNT];

static void fill(void)
{
    static const char *const names[SCRIPT_COUNT] = {
        [SCRIPT_ACCEPT] = "accept",
        [SCRIPT_ACCESS_HIDE] = "access_hide",
        [SCRIPT_ACCESS_SHOW] = "access_show",
        [SCRIPT_BEAT] = "beat",
        [SCRIPT_BURY] = "bury",
        [SCRIPT_DONE] = "done",
        [SCRIPT_ENQUEUE] = "enqueue",
        [SCRIPT_FREEZE] = "freeze",
        [SCRIPT_MEND] = "mend",
        [SCRIPT_PASS] = "pass",
        [SCRIPT_PROMOTE] = "promote",
        [SCRIPT_REAP] = "reap",
        [SCRIPT_RELEASE] = "release",
        [SCRIPT_REGISTER] = "register",
        [SCRIPT_RESERVE] = "reserve",
        [SCRIPT_RETRY] = "retry",
        [SCRIPT_REVIVE] = "revive",
        [SCRIPT_START] = "start",
        [SCRIPT_STATS] = "stats",
    };
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        for (size_t f = 0; f < redis_scripts_count; f++)
            if (strcmp(redis_scripts[f].name, names[i]) == 0)
                scripts[i] = (struct redis_script){redis_scripts[f].name, redis_scripts[f].bytes,
                                                   redis_scripts[f].size};
        REQUIRE(scripts[i].source != NULL);
    }
}

const struct redis_script *scripts_all(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    return scripts;
}
