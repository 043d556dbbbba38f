#ifndef WHOPLINE_CLI_CREDITS_H
#define WHOPLINE_CLI_CREDITS_H
/* `whopline credits`: its verbs, in the files that are named. The database is open. */
#include "cli/verbs.h"

/* credits_show.c */
MUST_CHECK struct err credits_cmd_show(struct cli *cli, const struct given *given);
/* credits_stats.c */
MUST_CHECK struct err credits_cmd_stats(struct cli *cli, const struct given *given);
/* credits_change.c */
MUST_CHECK struct err credits_cmd_adjust(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_spend(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_hold(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_capture(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_release(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_expire(struct cli *cli, const struct given *given);
/* credits_review.c */
MUST_CHECK struct err credits_cmd_review_list(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_review_assign(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_review_dismiss(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_review_reopen(struct cli *cli, const struct given *given);
/* credits_plans.c */
MUST_CHECK struct err credits_cmd_plans_list(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_plans_add(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_plans_update(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_plans_retire(struct cli *cli, const struct given *given);
/* credits_plans_file.c */
MUST_CHECK struct err credits_cmd_plans_import_file(struct cli *cli, const struct given *given);
/* credits_plans_whop.c */
MUST_CHECK struct err credits_cmd_plans_create(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_plans_requests(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_plans_drop(struct cli *cli, const struct given *given);
/* credits_plans_import.c */
MUST_CHECK struct err credits_cmd_plans_import(struct cli *cli, const struct given *given);
/* credits_settings.c */
MUST_CHECK struct err credits_cmd_settings(struct cli *cli, const struct given *given);
MUST_CHECK struct err credits_cmd_allow(struct cli *cli, const struct given *given);
/* credits_import.c */
MUST_CHECK struct err credits_cmd_import(struct cli *cli, const struct given *given);

#endif
