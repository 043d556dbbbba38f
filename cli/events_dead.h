#ifndef WHOPLINE_EVENTS_DEAD_H
#define WHOPLINE_EVENTS_DEAD_H
/* `whopline events dead`: the one list of dead letters that is in Redis alone. */
#include "cli/cli.h"

/* words[0] is the command's name; the verb, if any, follows. Returns the exit status. */
int events_dead(struct cli *cli, int count, char **words);

#endif
