#include "service/tenant.h"

struct err tenant_bootstrap(struct pg *pg, const char *company_id, bool *created)
{
    TRY(PG_EXEC(pg,
                "INSERT INTO tenants (slug, whop_company_id) VALUES ($1::text, $1::text)"
                " ON CONFLICT (whop_company_id) DO NOTHING",
                pg_text(company_id)));
    if (created != NULL)
        *created = pg_affected(pg) == 1;
    return ERR_NONE;
}
