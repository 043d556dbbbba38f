/* Secrets of tenants: from files into sealed rows, and from there to ingest's file. */
#include "cli/tenants.h"
#include "codec/seal.h"
#include "service/credentials.h"
#include "service/endpoint_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct err read_all(int fd, const char *path, struct buf *out)
{
    buf_reserve(out, SEAL_SECRET_MAX + 2); /* growing would leave copies behind */
    for (;;) {
        ssize_t len = read(fd, out->ptr + out->len, SEAL_SECRET_MAX + 1 - out->len);
        if (len < 0 && errno != EINTR)
            return err_make(ERR_SYSTEM, "cannot read %s: %s", path, strerror(errno));
        if (len == 0)
            return ERR_NONE;
        out->len += len > 0 ? (size_t)len : 0;
        if (out->len > SEAL_SECRET_MAX)
            return err_make(ERR_TOO_LARGE, "%s: a secret has at most %d bytes", path,
                            SEAL_SECRET_MAX);
    }
}

struct err tenants_read_secret(const char *path, struct buf *out)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_make(ERR_SYSTEM, "cannot read %s: %s", path, strerror(errno));
    struct err err = read_all(fd, is_stdin ? "stdin" : path, out);
    if (!is_stdin)
        close(fd);
    if (err_failed(&err))
        return err;
    size_t skip = 0;
    while (skip < out->len && is_blank(out->ptr[skip]))
        skip++;
    buf_consume(out, skip);
    while (out->len > 0 && is_blank(out->ptr[out->len - 1]))
        out->len--;
    if (out->len == 0)
        return err_make(ERR_USAGE, "%s is empty: it should hold the secret",
                        is_stdin ? "stdin" : path);
    return ERR_NONE;
}

static struct err store_tokens(struct cli *cli, int64_t tenant, struct span text)
{
    struct credential_tokens tokens;
    TRY(credential_parse_tokens(text, (int64_t)time(NULL), &tokens));
    struct err err = credential_store_tokens(cli->pg, &cli->config, tenant, &tokens);
    credential_close_tokens(&tokens);
    return err;
}

struct err tenants_store_credential(struct cli *cli, int64_t tenant,
                                    const struct tenants_options *options, const char **what)
{
    struct buf secret = {0};
    bool tokens = options->token_file != NULL;
    *what = "";
    if (tokens && options->api_key_file != NULL)
        return err_make(ERR_USAGE, "either --token-file or --api-key-file");
    if (!tokens && options->api_key_file == NULL)
        return ERR_NONE;
    if (tokens && text_is_empty(cli->config.whop_client_id))
        return err_make(ERR_CONFIG,
                        "tokens are refreshed in the app's name: set WHOP_CLIENT_ID (app_...)");
    *what = tokens ? "whop_oauth" : "whop_api_key";
    struct err err =
        tenants_read_secret(tokens ? options->token_file : options->api_key_file, &secret);
    if (!err_failed(&err))
        err = tokens ? store_tokens(cli, tenant, buf_span(&secret))
                     : credential_store_key(cli->pg, &cli->config, tenant, buf_span(&secret));
    seal_wipe(&secret);
    return err;
}

struct err tenants_write_file(struct cli *cli, bool *whole)
{
    struct endpoint_store_written written;
    struct err err = endpoint_store_write_file(cli->pg, &cli->config, &written);
    if (err_failed(&err))
        return err_make(err.code,
                        "%.150s; the database has it all: whopline tenants endpoints "
                        "writes the file again",
                        err_text(&err));
    printf("%s holds %zu endpoint%s; ", cli->config.endpoints_file, written.count,
           written.count == 1 ? "" : "s");
    printf("ingest reads it within a second (ENDPOINTS_WATCH_MS), or at once when it is sent "
           "SIGHUP\n");
    *whole = !err_failed(&written.why);
    if (!*whole)
        fprintf(stderr, "%s\n%zu stay as the file had them, %zu are left out\n",
                err_text(&written.why), written.kept, written.left_out);
    return ERR_NONE;
}
