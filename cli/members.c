/* whopline members: the register of who has access, and what applications may ask of it. */
#include "cli/members.h"
#include "cli/output.h"
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
    {"runs", "tenant= limit= json", "no words", 0, 0, members_cmd_runs},
    {"sync", "tenant= actor= kind= reason= json", "no words", 0, 0, members_cmd_sync},
    {"allow", "actor= revoke", "one role", 1, 1, allow},
};

static int run(struct cli *cli, int count, char **words)
{
    return verbs_run(cli, verbs, ARRAY_LEN(verbs), "runs, sync or allow", count, words);
}

const struct cli_command command_members = {
    .name = "members",
    .usage = "runs | sync | allow ROLE",
    .purpose = "the register of who has access, beside Whop's list",
    .help = "  runs               looks at Whop's list of memberships and what they found\n"
            "                     [--limit N] [20]\n"
            "  sync               begins one now: --kind full (all), open (what may still change)\n"
            "                     or recent (what is new) [full]; --reason R. Of those who joined\n"
            "                     more than WELCOME_MAX_AGE_MINUTES ago nobody is written to\n"
            "  allow ROLE         what an application may: ask who has access, count usage; "
            "--revoke\n\n"
            "  --tenant T         slug or company id, where there are several\n"
            "  --actor A          who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
            "  --json             for lists and for what became of it\n",
    .run = run,
};
