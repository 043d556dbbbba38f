/* whopline credits: balances, the plans that sell credits, payments waiting for a person. */
#include "cli/credits.h"

#define WHO "tenant= actor= json"

static const struct verb verbs[] = {
    {"show", "tenant= json", "one user", 1, 1, credits_cmd_show},
    {"stats", "tenant= since= json", "no words", 0, 0, credits_cmd_stats},
    {"adjust", WHO " reason= request= new-account", "a user and a number (USER -50)", 2, 2,
     credits_cmd_adjust},
    {"spend", WHO " reason= request=", "a user and a number", 2, 2, credits_cmd_spend},
    {"hold", WHO " reason= request= for=", "a user and a number", 2, 2, credits_cmd_hold},
    {"capture", WHO, "the hold's request and a number", 2, 2, credits_cmd_capture},
    {"release", WHO, "the hold's request", 1, 1, credits_cmd_release},
    {"expire", "json", "no words", 0, 0, credits_cmd_expire},
    {"review", "tenant= state= json", "list, assign, dismiss or reopen", 0, 0,
     credits_cmd_review_list},
    {"review list", "tenant= state= json", "no words", 0, 0, credits_cmd_review_list},
    {"review assign", WHO " user= credits= reason=", "one payment", 1, 1,
     credits_cmd_review_assign},
    {"review dismiss", WHO " reason=", "one payment", 1, 1, credits_cmd_review_dismiss},
    {"review reopen", WHO " reason=", "one payment", 1, 1, credits_cmd_review_reopen},
    {"plans", "tenant= json",
     "list, create, add, update, retire, requests, drop, import or import-file", 0, 0,
     credits_cmd_plans_list},
    {"plans list", "tenant= json", "no words", 0, 0, credits_cmd_plans_list},
    {"plans create",
     WHO " product= name= price= currency= credits= pack-id= period= trial= visibility= proration="
         " free-too request= wait= reason=",
     "no words", 0, 0, credits_cmd_plans_create},
    {"plans add",
     "tenant= actor= plan= name= credits= pack-id= price= currency= proration= free-too reason=",
     "no words", 0, 0, credits_cmd_plans_add},
    {"plans update",
     WHO " plan= name= credits= pack-id= price= currency= proration= free-too not-free reason="
         " at-whop request= wait=",
     "no words", 0, 0, credits_cmd_plans_update},
    {"plans retire", WHO " plan= reason= at-whop request= wait=", "no words", 0, 0,
     credits_cmd_plans_retire},
    {"plans requests", "tenant= json", "no words", 0, 0, credits_cmd_plans_requests},
    {"plans drop", "tenant= actor= reason=", "one request", 1, 1, credits_cmd_plans_drop},
    {"plans import", WHO " product= reason= yes", "plans' ids, or none for all", 0, VERBS_PLAIN_MAX,
     credits_cmd_plans_import},
    {"plans import-file", "tenant= actor= reason= yes json", "one file", 1, 1,
     credits_cmd_plans_import_file},
    {"settings", WHO " enabled= negative= email-match= whop= user= no-user= order-ttl= reason=",
     "no words", 0, 0, credits_cmd_settings},
    {"import", "tenant= actor= reason= yes json", "one or more files", 1, VERBS_PLAIN_MAX,
     credits_cmd_import},
    {"allow", "actor= revoke", "one role", 1, 1, credits_cmd_allow},
};

static int run(struct cli *cli, int count, char **words)
{
    return verbs_run(cli, verbs, ARRAY_LEN(verbs),
                     "show, stats, adjust, spend, hold, capture, release, expire, review, plans, "
                     "settings, import or allow",
                     count, words);
}

const struct cli_command command_credits = {
    .name = "credits",
    .usage = "show USER | adjust USER ±N --reason R | review | plans | settings | import | ...",
    .purpose = "balances, the plans that sell credits, payments in review",
    .help =
        "  show USER          balance and ledger, newest first\n"
        "  stats [--since T]  orders, time from payment to ledger, what waits [30d]\n\n"
        "  adjust USER ±N     --reason R [--request ID] [--new-account]\n"
        "                     by hand; the same request ID again does nothing\n"
        "  spend USER N, hold USER N [--for S]      --reason R [--request ID]\n"
        "  capture REQUEST N, release REQUEST       end a hold: take N of it, or none\n"
        "  expire             gives back what is held for too long\n\n"
        "  review [list]      payments nobody could be credited for [--state all]\n"
        "  review assign PAY  --user U [--credits N] [--reason R]\n"
        "  review dismiss PAY --reason R; review reopen PAY --reason R takes that back\n\n"
        "  plans [list]       what each plan sells, since when and until when\n"
        "  plans create       --product prod_x --name Starter --price 7.50 --currency usd\n"
        "                     --credits 5000 [--period DAYS [--trial DAYS]] [--visibility V]\n"
        "                     and what plans add takes: makes the plan at Whop, and enters it;\n"
        "                     [--request ID]: the same request again does nothing more; V is\n"
        "                     visible, hidden or quick_link [--wait S] for what comes of it\n"
        "  plans add          --plan plan_x --name Starter --credits 5000 [--pack-id PACK]\n"
        "                     [--price 7.50 --currency usd] [--free-too] [--proration RULE]\n"
        "                     --pack-id also finds it by metadata.packId; --free-too grants for\n"
        "                     a payment of 0 as well; RULE (for a change of plan in mid-period)\n"
        "                     is none, difference, full or ask\n"
        "  plans update       --plan plan_x and what changes; --not-free; holds from now on;\n"
        "                     --at-whop changes name and price there first, [--request ID]\n"
        "  plans retire       --plan plan_x; earlier payments keep its terms; --at-whop archives\n"
        "                     it there first\n"
        "  plans requests     what was asked of Whop, and what it waits for; drop REQUEST\n"
        "                     --reason R forgets one that Whop was never asked for\n"
        "  plans import [PLAN...] [--product P] [--yes]   Whop's own list: new plans sell 0\n"
        "                     credits until plans update says otherwise\n"
        "  plans import-file FILE [--yes]   CSV: plan,name,credits[,pack_id,price,currency,\n"
        "                     free_too,proration]; what is there with other terms is updated\n\n"
        "  settings           [--enabled on|off] [--negative allow|clamp] [--email-match on|off]\n"
        "                     [--whop off|listed|on] [--user U] [--no-user U] [--order-ttl HOURS]\n"
        "  import FILE... [--yes]   orders, transactions, balances: see docs/operations.md\n"
        "  allow ROLE [--revoke]    what an application may: read balances, spend, hold\n\n"
        "  --tenant T         slug or company id, where there are several\n"
        "  --actor A          who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
        "  --json             for lists and for what became of it\n",
    .run = run,
};
