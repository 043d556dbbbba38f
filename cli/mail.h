#ifndef WHOPLINE_CLI_MAIL_H
#define WHOPLINE_CLI_MAIL_H
/* `whopline mail`: what its verbs share. */
#include "cli/verbs.h"

/* In mail_change.c. The database is open. */
MUST_CHECK struct err mail_cmd_retry(struct cli *cli, const struct given *given);
MUST_CHECK struct err mail_cmd_suppress(struct cli *cli, const struct given *given);
MUST_CHECK struct err mail_cmd_unsuppress(struct cli *cli, const struct given *given);
MUST_CHECK struct err mail_cmd_settings(struct cli *cli, const struct given *given);
/* In mail_test.c. */
MUST_CHECK struct err mail_cmd_test(struct cli *cli, const struct given *given);
MUST_CHECK struct err mail_check_templates(const struct config *config);

#endif
