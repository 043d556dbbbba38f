#ifndef WHOPLINE_CLI_TENANTS_H
#define WHOPLINE_CLI_TENANTS_H
/* whopline tenants: its words, and what each verb is given. Secrets come from files or from stdin,
 * never as words, which every user of the machine can read. */
#include "cli/cli.h"

struct tenants_options {
    const char *company;
    const char *title;
    const char *endpoint;
    const char *schemes;
    const char *api_key_file; /* "-": stdin, as with the other two */
    const char *token_file;
    const char *secret_file;
    const char *reason;
    const char *actor;
    int64_t overlap_s;
    bool app;
    bool yes;
    bool json;
};

/* A tenant as it is named on the command line. */
struct tenants_subject {
    int64_t id;
    char slug[64];
    char company[64];
    char status[32];
};
MUST_CHECK struct err tenants_find(struct cli *cli, const char *name, struct tenants_subject *out);

/* Each with the database open. name: as typed; NULL where there is none. */
MUST_CHECK struct err tenants_list(struct cli *cli, const char *name,
                                   const struct tenants_options *options);
MUST_CHECK struct err tenants_add(struct cli *cli, const char *name,
                                  const struct tenants_options *options);
MUST_CHECK struct err tenants_pause(struct cli *cli, const char *name,
                                    const struct tenants_options *options);
MUST_CHECK struct err tenants_resume(struct cli *cli, const char *name,
                                     const struct tenants_options *options);
MUST_CHECK struct err tenants_disconnect(struct cli *cli, const char *name,
                                         const struct tenants_options *options);
MUST_CHECK struct err tenants_rotate_secret(struct cli *cli, const char *name,
                                            const struct tenants_options *options);
MUST_CHECK struct err tenants_reauth(struct cli *cli, const char *name,
                                     const struct tenants_options *options);
MUST_CHECK struct err tenants_check(struct cli *cli, const char *name,
                                    const struct tenants_options *options);
MUST_CHECK struct err tenants_rekey(struct cli *cli, const char *name,
                                    const struct tenants_options *options);
MUST_CHECK struct err tenants_endpoints(struct cli *cli, const char *name,
                                        const struct tenants_options *options);

/* tenants_secret.c: of a file or stdin, without the white space around it; the caller wipes it. */
MUST_CHECK struct err tenants_read_secret(const char *path, struct buf *out);
/* Stores the credential that the options name, if any, in the transaction in progress; *what says
 * which, "" for none. */
MUST_CHECK struct err tenants_store_credential(struct cli *cli, int64_t tenant,
                                               const struct tenants_options *options,
                                               const char **what);
/* Says what was written, and that ingest reads it by itself. *whole: false if a secret does not
 * open, which is said too. */
MUST_CHECK struct err tenants_write_file(struct cli *cli, bool *whole);
/* Puts what is parked for the tenant's sake in again, and what was quarantined for want of it; says
 * how much that was. */
MUST_CHECK struct err tenants_release(struct cli *cli, const struct tenants_subject *subject,
                                      const char *actor);

#endif
