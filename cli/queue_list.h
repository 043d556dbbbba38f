#ifndef WHOPLINE_QUEUE_LIST_H
#define WHOPLINE_QUEUE_LIST_H
/* `whopline queue ls`. */
#include "cli/ask.h"
#include "cli/cli.h"

/* Prints what can be found out. Returns the exit status: CLI_FAILED if a store cannot be asked. */
int queue_list(struct cli *cli, bool json);

#endif
