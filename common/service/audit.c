#include "service/audit.h"

struct err audit_add(struct pg *pg, const struct audit *audit)
{
    return PG_EXEC(pg,
                   "INSERT INTO audit_log (actor, action, target, reason, detail)"
                   " VALUES ($1, $2, $3, $4, coalesce($5::jsonb, '{}'))",
                   pg_text(audit->actor), pg_text(audit->action), pg_text(audit->target),
                   pg_text(audit->reason), pg_text(audit->detail));
}
