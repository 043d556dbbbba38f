#include "io/pg_prepared.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* FNV-1a, 64 bits (draft-eastlake-fnv). */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3U;
    return hash;
}

static void note(struct pg_prepared *prepared, const char *sql, uint64_t hash)
{
    if (prepared->count == PG_PREPARED_MAX)
        return;
    struct pg_statement *statement = &prepared->statements[prepared->count++];
    *statement = (struct pg_statement){.hash = hash, .sql = mem_strdup(sql)};
    snprintf(statement->name, sizeof statement->name, "wl_%016" PRIx64, hash);
}

struct pg_statement *pg_prepared_use(struct pg_prepared *prepared, const char *sql)
{
    uint64_t hash = hash_of(sql);
    for (size_t i = 0; i < prepared->count; i++)
        if (prepared->statements[i].hash == hash)
            return strcmp(prepared->statements[i].sql, sql) == 0 ? &prepared->statements[i] : NULL;
    note(prepared, sql, hash);
    return NULL;
}

void pg_prepared_clear(struct pg_prepared *prepared)
{
    for (size_t i = 0; i < prepared->count; i++)
        free(prepared->statements[i].sql);
    prepared->count = 0;
}
