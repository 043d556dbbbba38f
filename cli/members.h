#ifndef WHOPLINE_CLI_MEMBERS_H
#define WHOPLINE_CLI_MEMBERS_H
/* `whopline members`: its verbs, in the files that are named. The database is open. */
#include "cli/verbs.h"

/* members_runs.c */
MUST_CHECK struct err members_cmd_runs(struct cli *cli, const struct given *given);
MUST_CHECK struct err members_cmd_sync(struct cli *cli, const struct given *given);

#endif
