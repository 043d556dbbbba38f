/* `whopline tenants list`. */
#include "cli/output.h"
#include "cli/tenants.h"

#include <stdio.h>

#define LIST_FROM                                                                                  \
    " FROM tenants t"                                                                              \
    " LEFT JOIN tenant_credentials c ON c.tenant_id = t.id AND c.revoked_at IS NULL"               \
    "  AND c.kind IN ('whop_api_key', 'whop_oauth')"                                               \
    " LEFT JOIN LATERAL (SELECT string_agg(name, ', ' ORDER BY name) AS names,"                    \
    "  coalesce(json_agg(json_build_object('name', name, 'schemes', schemes, 'secrets',"           \
    "   (SELECT count(*) FROM webhook_endpoint_secrets s WHERE s.endpoint_id = e.id"               \
    "    AND (s.valid_until IS NULL OR s.valid_until > whopline_now()))) ORDER BY name), '[]')"    \
    "   AS list FROM webhook_endpoints e WHERE e.tenant_id = t.id AND disabled_at IS NULL)"        \
    "  AS endpoints ON true"                                                                       \
    " WHERE ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"

#define LIST_JSON                                                                                  \
    "SELECT t.slug, t.whop_company_id AS company, t.title, t.status, t.pause_reason AS reason,"    \
    " t.status_changed_at, t.missing_permissions, t.checked_at, c.kind AS credential,"             \
    " 'c' || c.id AS budget, c.version AS credential_version, c.access_expires_at, c.key_id,"      \
    " endpoints.list AS endpoints,"                                                                \
    " (SELECT count(*) FROM jobs j WHERE j.tenant_id = t.id AND j.state = 'parked') AS "           \
    "parked" LIST_FROM " ORDER BY t.slug"

#define LIST_PEOPLE                                                                                \
    "SELECT t.slug, t.whop_company_id, t.status,"                                                  \
    " extract(epoch FROM whopline_now() - t.status_changed_at)::bigint,"                           \
    " coalesce(c.kind, CASE WHEN $2::boolean THEN '(WHOP_API_KEY)' END),"                          \
    " endpoints.names,"                                                                            \
    " (SELECT count(*) FROM jobs j WHERE j.tenant_id = t.id AND j.state = 'parked'),"              \
    " concat_ws(': ', t.pause_reason, nullif(array_to_string(t.missing_permissions, ', '), "       \
    "''))" LIST_FROM " ORDER BY t.slug"

static const char *const heads[] = {"TENANT",     "COMPANY",   "STATUS",  "SINCE",
                                    "CREDENTIAL", "ENDPOINTS", ">PARKED", "WHY"};

static const struct output_list list = {
    .json = LIST_JSON,
    .people = LIST_PEOPLE,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .age = 4,
    .none = "no tenant yet: whopline tenants add, or set WHOP_COMPANY_ID",
};

struct err tenants_list(struct cli *cli, const char *name, const struct tenants_options *options)
{
    const struct pg_param params[] = {pg_text(name),
                                      pg_flag(!text_is_empty(cli->config.whop_api_key))};
    /* As JSON it is not asked which credential they have. */
    return output_list(cli, &list, options->json, params, options->json ? 1 : 2, 0);
}
