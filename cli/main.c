/* whopline: the operator's command. A table of commands; each is a file. */
#include "base/fault.h"
#include "base/log.h"
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#ifndef WHOPLINE_VERSION
#define WHOPLINE_VERSION "development"
#endif

static const struct cli_command *const commands[] = {
    &command_status,  &command_events,    &command_trace,   &command_credits,  &command_orders,
    &command_members, &command_mail,      &command_tenants, &command_jobs,     &command_queue,
    &command_workers, &command_schedules, &command_limits,  &command_outbound, &command_fsck,
    &command_rebuild, &command_audit,     &command_send,    &command_migrate,  &command_sample,
    &command_config,
};

static const struct cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static void print_help(void)
{
    printf("whopline: Whop's webhooks in, effects that happen once out.\n\n"
           "Usage: whopline COMMAND [options]\n"
           "e.g.   whopline trace pay_xyz    \"he paid, where are his credits?\"\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->purpose);
    printf("\n  whopline help COMMAND   what it does and its options\n"
           "  whopline help settings  the environment it reads\n"
           "  whopline --version\n\n"
           "Lists are for people; most commands have --json for programs. Exit status: 0 fine,\n"
           "1 failed or needs attention, 2 wrong usage.\n");
}

static void print_settings(void)
{
    struct buf text = {0};
    config_write_help(CONFIG_CLI, &text);
    fputs(buf_text(&text), stdout);
    buf_close(&text);
}

static void print_command_help(const struct cli_command *command)
{
    printf("whopline %s: %s\n\nUsage: whopline %s %s\n%s%s", command->name, command->purpose,
           command->name, command->usage, command->help[0] != '\0' ? "\n" : "", command->help);
}

static int unknown(const char *name)
{
    const char *names[ARRAY_LEN(commands)];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i]->name;
    const char *nearest = cli_nearest(name, names, ARRAY_LEN(commands));
    fprintf(stderr, "whopline: there is no command \"%s\"", name);
    if (nearest != NULL)
        fprintf(stderr, "; did you mean \"%s\"?\n", nearest);
    else
        fprintf(stderr, "; see whopline --help\n");
    return CLI_USAGE;
}

static int help(const char *about)
{
    if (about == NULL) {
        print_help();
        return CLI_OK;
    }
    if (strcmp(about, "settings") == 0) {
        print_settings();
        return CLI_OK;
    }
    const struct cli_command *command = find_command(about);
    if (command == NULL)
        return unknown(about);
    print_command_help(command);
    return CLI_OK;
}

static bool asks_for_help(int count, char **words)
{
    for (int i = 1; i < count && strcmp(words[i], "--") != 0; i++)
        if (strcmp(words[i], "--help") == 0 || strcmp(words[i], "-h") == 0)
            return true;
    return false;
}

/* Only what an operator should see comes as a log line; LOG_LEVEL=debug shows all. */
static void start_log(const struct config *config)
{
    bool debug = strcasecmp(config->log_level, "debug") == 0;
    bool json = strcasecmp(config->log_format, "json") == 0;
    log_init("whopline", debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
             json ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT);
}

static int run_command(const struct cli_command *command, int count, char **words)
{
    struct cli cli = {0};
    struct buf notes = {0};
    struct buf name = {0};
    int status = CLI_USAGE;
    config_load(&cli.config, CONFIG_CLI, config_getenv, NULL, &cli.problems, &notes);
    if (command != &command_config) /* which reads them as each program would */
        config_wipe_environment();
    start_log(&cli.config);
    buf_printf(&name, "whopline %s", command->name);
    words[0] = (char *)(uintptr_t)buf_text(&name);
    if (cli.problems.len > 0 && command != &command_config)
        fprintf(stderr, "whopline: wrong settings:\n%s", buf_text(&cli.problems));
    else
        status = command->run(&cli, count, words);
    cli_close_redis(&cli);
    pg_free(cli.pg);
    config_close(&cli.config);
    buf_close(&cli.problems);
    buf_close(&notes);
    buf_close(&name);
    return status;
}

int main(int argc, char **argv)
{
#ifdef WHOPLINE_FAULTS
    fault_load(getenv("FAULT"));
#endif
    const char *first = argc > 1 ? argv[1] : "help";
    if (strcmp(first, "help") == 0 || strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0)
        return help(argc > 2 ? argv[2] : NULL);
    if (strcmp(first, "--version") == 0) {
        printf("whopline %s\n", WHOPLINE_VERSION);
        return CLI_OK;
    }
    const struct cli_command *command = find_command(first);
    if (command == NULL)
        return unknown(first);
    if (asks_for_help(argc - 1, argv + 1)) {
        print_command_help(command);
        return CLI_OK;
    }
    int status = run_command(command, argc - 1, argv + 1);
    if (fflush(stdout) != 0)
        status = status == CLI_OK ? CLI_FAILED : status;
    return status;
}
