/* whopline members: the register of who has access. */
#include "cli/members.h"

static const struct verb verbs[] = {
    {"runs", "tenant= limit= json", "no words", 0, 0, members_cmd_runs},
    {"sync", "tenant= actor= kind= reason= json", "no words", 0, 0, members_cmd_sync},
};

static int run(struct cli *cli, int count, char **words)
{
    return verbs_run(cli, verbs, ARRAY_LEN(verbs), "runs or sync", count, words);
}

const struct cli_command command_members = {
    .name = "members",
    .usage = "runs | sync",
    .purpose = "the register of who has access, beside Whop's list",
    .help = "  runs               looks at Whop's list of memberships and what they found\n"
            "                     [--limit N] [20]\n"
            "  sync               begins one now: --kind full (all), open (what may still change)\n"
            "                     or recent (what is new) [full]; --reason R. Of those who joined\n"
            "                     more than WELCOME_MAX_AGE_MINUTES ago nobody is written to\n\n"
            "  --tenant T         slug or company id, where there are several\n"
            "  --actor A          who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
            "  --json             for lists and for what became of it\n",
    .run = run,
};
