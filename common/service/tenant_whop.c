#include "service/tenant_whop.h"

#include "service/token_refresh.h"

enum { REPLACED_AFTER_MS = 1000 };

/* Whop's client takes texts: the token's buffer has its NUL. */
static void use_credential(struct tenant_whop *client)
{
    client->whop.credential = client->credential.name;
    client->whop.token = buf_text(&client->credential.token);
    client->whop.company = client->credential.company;
}

/* An API key cannot be renewed, but may have been replaced meanwhile. */
static struct err replaced(struct tenant_whop *client)
{
    struct credential fresh;
    struct credential *old = &client->credential;
    struct err err = credential_load(client->pg, client->whop.outside->config, old->tenant,
                                     CREDENTIAL_FOR_CHECK, &fresh);
    if (!err_failed(&err) && fresh.id != old->id) {
        credential_close(old);
        *old = fresh;
        return ERR_NONE;
    }
    credential_close(&fresh);
    return err_failed(&err) ? err : err_make(ERR_UNAUTHORISED, "the key is not accepted");
}

static struct err renew(void *data, struct whop *whop)
{
    struct tenant_whop *client = data;
    struct err err = client->credential.is_oauth ? token_refresh(client->pg, whop->outside,
                                                                 whop->arena, &client->credential)
                                                 : replaced(client);
    use_credential(client);
    return err;
}

struct err tenant_whop_open(struct tenant_whop *client, struct pg *pg, struct outside *outside,
                            struct arena *arena, int64_t tenant, enum credential_use use)
{
    REQUIRE(!pg_in_transaction(pg));
    *client = (struct tenant_whop){
        .pg = pg, .whop = {.outside = outside, .arena = arena, .renew = renew, .data = client}};
    struct err err = credential_load(pg, outside->config, tenant, use, &client->credential);
    if (!err_failed(&err) && client->credential.is_expiring)
        err = token_refresh(pg, outside, arena, &client->credential);
    if (err_failed(&err)) {
        credential_close(&client->credential);
        return err;
    }
    use_credential(client);
    return ERR_NONE;
}

struct err tenant_whop_close(struct tenant_whop *client, struct err err)
{
    if (err.code == ERR_UNAUTHORISED) {
        struct err refused = token_refused(client->pg, &client->credential, err_text(&err));
        err = err_failed(&refused) ? refused
                                   : err_make(ERR_BUSY, "the credential was replaced meanwhile");
        if (err.code == ERR_BUSY)
            err.after_ms = REPLACED_AFTER_MS;
    }
    credential_close(&client->credential);
    return err;
}
