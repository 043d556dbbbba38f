/* whopline config: the generated texts about settings, and a check of all programs' settings. */
#include "base/metric.h"
#include "cli/cli.h"

#include <stdio.h>

static const struct {
    enum config_program program;
    const char *name;
} programs[] = {
    {CONFIG_INGEST, "whopline-ingest"},
    {CONFIG_WORKER, "the workers"},
    {CONFIG_CLI, "whopline"},
};

static int print_generated(void (*write)(struct buf *out))
{
    struct buf out = {0};
    write(&out);
    fputs(buf_text(&out), stdout);
    buf_close(&out);
    return CLI_OK;
}

static int check(void)
{
    int status = CLI_OK;
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        struct config config;
        struct buf problems = {0};
        struct buf notes = {0};
        config_load(&config, programs[i].program, config_getenv, NULL, &problems, &notes);
        printf("%s: %s\n", programs[i].name, problems.len > 0 ? "cannot start" : "complete");
        char *save = NULL;
        for (char *line = strtok_r((char *)(uintptr_t)buf_text(&problems), "\n", &save);
             line != NULL; line = strtok_r(NULL, "\n", &save)) {
            printf("  %s\n", line);
            status = CLI_FAILED;
        }
        /* What is set without effect is the same for all. */
        if (programs[i].program == CONFIG_CLI)
            fputs(buf_text(&notes), stdout);
        buf_close(&problems);
        buf_close(&notes);
        config_close(&config);
    }
    return status;
}

static int run(struct cli *cli, int count, char **words)
{
    (void)cli;
    if (count != 2)
        return cli_usage(words[0], "it needs one of example, reference, metrics, check");
    if (strcmp(words[1], "example") == 0)
        return print_generated(config_write_example);
    if (strcmp(words[1], "reference") == 0)
        return print_generated(config_write_reference);
    if (strcmp(words[1], "metrics") == 0)
        return print_generated(metric_write_reference);
    if (strcmp(words[1], "check") == 0)
        return check();
    return cli_usage(words[0], "\"%s\" is none of example, reference, metrics, check", words[1]);
}

const struct cli_command command_config = {
    .name = "config",
    .usage = "example | reference | metrics | check",
    .purpose = "print all settings, or check those in force",
    .help = "  example    a file of all settings with their defaults (deploy/env.example)\n"
            "  reference  a page about them (docs/settings.md)\n"
            "  metrics    a page about what is measured (docs/metrics.md)\n"
            "  check      what would keep each program from starting; exit 1 if anything would\n",
    .run = run,
};
