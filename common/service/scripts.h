#ifndef WHOPLINE_SCRIPTS_H
#define WHOPLINE_SCRIPTS_H
/* The Lua files of schema/redis, embedded. Indexes for redis_eval. */
#include "io/redis.h"

enum script {
    SCRIPT_ACCEPT,
    SCRIPT_ACCESS_HIDE,
    SCRIPT_ACCESS_SHOW,
    SCRIPT_BEAT,
    SCRIPT_BURY,
    SCRIPT_DONE,
    SCRIPT_ENQUEUE,
    SCRIPT_FREEZE,
    SCRIPT_MEND,
    SCRIPT_PASS,
    SCRIPT_PROMOTE,
    SCRIPT_REAP,
    SCRIPT_RELEASE,
    SCRIPT_REGISTER,
    SCRIPT_RESERVE,
    SCRIPT_RETRY,
    SCRIPT_REVIVE,
    SCRIPT_START,
    SCRIPT_STATS,
    SCRIPT_COUNT,
};

/* All of them, in the order above; valid for the process' life. */
const struct redis_script *scripts_all(void);

#endif
