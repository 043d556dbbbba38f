/* whopline members: what applications may ask. */
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "service/access.h"

#include <stdio.h>

static struct err allow(struct cli *cli, const struct given *given)
{
    const char *role = given->plain[0];
    bool revoke = given_flag(given, "revoke");
    struct buf who = {0};
    TRY(access_allow(cli->pg, role, revoke, given_actor(cli, given)));
    output_add_clean(&who, role);
    if (revoke)
        printf("%s may neither ask who has access nor count usage any more\n", buf_text(&who));
    else
        printf("%s may call member_access, usage_reserve, usage_commit, usage_release, usage_add\n"
               "and usage_show; and nothing else of the register\n",
               buf_text(&who));
    buf_close(&who);
    return ERR_NONE;
}

static const struct verb verbs[] = {
    {"allow", "actor= revoke", "one role", 1, 1, allow},
};

static int run(struct cli *cli, int count, char **words)
{
    return verbs_run(cli, verbs, ARRAY_LEN(verbs), "allow", count, words);
}

const struct cli_command command_members = {
    .name = "members",
    .usage = "allow ROLE",
    .purpose = "who has access, and who may ask for it",
    .help =
        "  allow ROLE [--revoke]    what an application may: ask who has access, count usage\n\n"
        "  --actor A                who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n",
    .run = run,
};
