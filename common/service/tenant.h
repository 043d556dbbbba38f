#ifndef WHOPLINE_TENANT_H
#define WHOPLINE_TENANT_H
/* Tenants: the Whop companies an installation serves. The caller's thread; pg is borrowed. */
#include "io/pg.h"

/* Makes the company a tenant unless it is one; its slug is the company's id.
 * created (may be NULL) tells which. */
MUST_CHECK struct err tenant_bootstrap(struct pg *pg, const char *company_id, bool *created);

#endif
