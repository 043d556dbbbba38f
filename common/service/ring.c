#include "service/ring.h"

#include "base/crc32c.h"
#include "base/fault.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILES_OF_ROOM = 8, /* a file is full at this part of max_bytes ... */
    FILES_OF_TIME = 4, /* ... or when it is this part of keep_ms old */
    COLLECT_MAX_BYTES = 1 << 20,
    MEMORY_KEEP_BYTES = 4 << 20, /* a larger buffer is given back */
};

struct file {
    struct ring_file inner;
    struct file *next;
    uint64_t number;  /* ascending in the list */
    int64_t began_ms; /* the first record */
    int64_t newest_ms;
};

struct ring {
    struct ring_options options;
    uint32_t owner;
    uint32_t seed;
    char mark[RING_MARK_SIZE];
    struct file *first; /* oldest first */
    struct file
        *active; /* the one that takes what comes, in the list; NULL: the next is to be made */
    uint64_t numbers;
    struct buf collected; /* frames not written yet */
    uint64_t collected_count;
    struct buf content; /* of the record last read */
    struct buf spare;   /* of the last file dropped from memory: its pages are there already */
    struct ring_stats stats;
};

/* --- the list -------------------------------------------------------------------------------- */

static void list_add(struct ring *ring, struct file *file, int64_t now_ms)
{
    struct file **end = &ring->first;
    while (*end != NULL)
        end = &(*end)->next;
    file->number = ++ring->numbers;
    file->next = NULL;
    file->began_ms = file->newest_ms = now_ms;
    ring->stats.bytes += file->inner.end;
    *end = file;
}

static void list_drop(struct ring *ring, struct file *file)
{
    struct file **link = &ring->first;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    ring->stats.bytes -= file->inner.end;
    if (ring->active == file)
        ring->active = NULL;
    if (file->inner.memory.cap > ring->spare.cap) {
        buf_close(&ring->spare);
        ring->spare = file->inner.memory;
        file->inner.memory = (struct buf){0};
        buf_clear(&ring->spare);
    }
    ring_file_remove(&file->inner);
    free(file);
}

static bool is_stale(const struct ring *ring, const struct file *file)
{
    return file->inner.end > 0 && strcmp(file->inner.mark, ring->mark) != 0;
}

/* The oldest go until there is room for so many bytes more. */
static void make_room(struct ring *ring, size_t more)
{
    while (ring->first != NULL && ring->stats.bytes + more > ring->options.max_bytes) {
        ring->stats.crowded_bytes += ring->first->inner.end;
        list_drop(ring, ring->first);
    }
}

/* --- writing --------------------------------------------------------------------------------- */

bool ring_append(struct ring *ring, const struct accept_record *record)
{
    size_t max_bytes = ring->options.max_bytes;
    /* One that takes half of the room would drive out all others. */
    if (record->body.len + record->payload.len > max_bytes / 2 ||
        !ring_record_add(&ring->collected, ring->seed, record)) {
        ring->stats.not_kept++;
        return false;
    }
    ring->collected_count++;
    return ring->collected.len >= COLLECT_MAX_BYTES ||
           ring->collected.len >= max_bytes / FILES_OF_ROOM;
}

/* A file that is full or old enough gets no more. */
static struct err choose_file(struct ring *ring, int64_t now_ms)
{
    const struct file *active = ring->active;
    if (active != NULL && (active->inner.end >= ring->options.max_bytes / FILES_OF_ROOM ||
                           now_ms - active->began_ms >= ring->options.keep_ms / FILES_OF_TIME))
        ring->active = NULL;
    if (ring->active != NULL)
        return ERR_NONE;
    struct file *file = mem_zalloc(sizeof *file);
    struct err err =
        ring_file_create(&file->inner, ring->options.folder, ring->owner, ring->seed, ring->mark);
    if (err_failed(&err)) {
        free(file);
        return err;
    }
    list_add(ring, file, now_ms);
    ring->active = file;
    return ERR_NONE;
}

static struct err write_collected(struct ring *ring, int64_t now_ms)
{
    if (FAULT(ring_write))
        return err_make(ERR_SYSTEM, "fault: ring_write");
    make_room(ring, ring->collected.len + RING_FILE_HEAD);
    TRY(choose_file(ring, now_ms));
    struct file *file = ring->active;
    size_t before = file->inner.end;
    TRY(ring_file_append(&file->inner, buf_span(&ring->collected)));
    ring->stats.bytes += file->inner.end - before;
    file->newest_ms = now_ms;
    return ERR_NONE;
}

struct err ring_flush(struct ring *ring, int64_t now_ms)
{
    if (ring->collected.len == 0)
        return ERR_NONE;
    struct err err = write_collected(ring, now_ms);
    if (err_failed(&err))
        ring->stats.not_kept += ring->collected_count;
    else
        ring->stats.kept += ring->collected_count;
    ring->collected_count = 0;
    buf_clear(&ring->collected);
    if (ring->collected.cap > MEMORY_KEEP_BYTES)
        buf_close(&ring->collected);
    return err;
}

/* --- whose, and how old ---------------------------------------------------------------------- */

void ring_set_mark(struct ring *ring, const char *mark)
{
    REQUIRE(strlen(mark) < RING_MARK_SIZE);
    if (strcmp(mark, ring->mark) == 0)
        return;
    memcpy(ring->mark, mark, strlen(mark) + 1);
    ring->active = NULL;
}

static bool adopt_file(struct ring *ring, const char *name, int64_t now_ms)
{
    struct file *file = mem_zalloc(sizeof *file);
    enum ring_adoption adoption =
        ring_file_adopt(&file->inner, ring->options.folder, name, ring->owner);
    ring->stats.foreign += adoption == RING_FOREIGN;
    if (adoption != RING_ADOPTED) {
        free(file);
        return false;
    }
    /* How old it is nobody knows, as clocks may step: so it gets its whole time. */
    list_add(ring, file, now_ms);
    ring->stats.adopted++;
    return true;
}

size_t ring_adopt(struct ring *ring, int64_t now_ms)
{
    size_t adopted = 0;
    DIR *folder = text_is_empty(ring->options.folder) ? NULL : opendir(ring->options.folder);
    if (folder == NULL)
        return 0;
    ring->stats.foreign = 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (ring_file_is_name(entry->d_name))
            adopted += adopt_file(ring, entry->d_name, now_ms);
    closedir(folder);
    make_room(ring, 0);
    return adopted;
}

void ring_expire(struct ring *ring, int64_t confirmed_ms)
{
    struct file *next;
    for (struct file *file = ring->first; file != NULL; file = next) {
        next = file->next;
        if (!is_stale(ring, file) && confirmed_ms - file->newest_ms >= ring->options.keep_ms)
            list_drop(ring, file);
    }
}

/* --- the walk over stale files --------------------------------------------------------------- */

size_t ring_stale_bytes(const struct ring *ring)
{
    size_t bytes = 0;
    for (const struct file *file = ring->first; file != NULL; file = file->next)
        bytes += is_stale(ring, file) ? file->inner.end : 0;
    return bytes;
}

bool ring_next(struct ring *ring, struct ring_position *at, struct accept_record *out)
{
    for (const struct file *file = ring->first; file != NULL; file = file->next) {
        if (file->number < at->file || !is_stale(ring, file))
            continue;
        if (file->number > at->file)
            *at = (struct ring_position){.file = file->number};
        for (;;) {
            enum ring_read read = ring_file_read(&file->inner, &at->offset, &ring->content, out);
            if (read == RING_READ)
                return true;
            ring->stats.damaged += read != RING_END;
            if (read != RING_DAMAGED)
                break;
        }
        at->file++;
        at->offset = 0;
    }
    at->file = ring->numbers + 1;
    return false;
}

void ring_settle(struct ring *ring, const struct ring_position *at, int64_t now_ms)
{
    for (struct file *file = ring->first; file != NULL; file = file->next) {
        if (file->number >= at->file || !is_stale(ring, file))
            continue;
        ring_file_set_mark(&file->inner, ring->mark);
        file->newest_ms = now_ms;
    }
    if (ring->content.cap > MEMORY_KEEP_BYTES)
        buf_close(&ring->content);
}

const struct ring_stats *ring_stats(const struct ring *ring)
{
    return &ring->stats;
}

/* --- life ------------------------------------------------------------------------------------ */

void ring_check(const char *folder, struct buf *problems)
{
    struct stat status;
    if (text_is_empty(folder))
        return;
    if (stat(folder, &status) == 0) {
        if (!S_ISDIR(status.st_mode))
            buf_printf(problems, "RING_DIR: %s is not a folder\n", folder);
        else if (access(folder, R_OK | W_OK | X_OK) != 0)
            buf_printf(problems, "RING_DIR: %s: %s: give this user the right to make files there\n",
                       folder, strerror(errno));
        return;
    }
    if (errno != ENOENT) {
        buf_printf(problems, "RING_DIR: %s: %s\n", folder, strerror(errno));
        return;
    }
    struct buf parent = {0};
    buf_add_text(&parent, folder);
    while (parent.len > 1 && parent.ptr[parent.len - 1] == '/')
        parent.len--;
    while (parent.len > 0 && parent.ptr[parent.len - 1] != '/')
        parent.len--;
    if (access(parent.len > 0 ? buf_text(&parent) : ".", W_OK | X_OK) != 0)
        buf_printf(problems, "RING_DIR: %s cannot be made: %s: make it yourself, for this user\n",
                   folder, strerror(errno));
    buf_close(&parent);
}

struct err ring_open(const struct ring_options *options, struct ring **out)
{
    *out = NULL;
    if (!text_is_empty(options->folder) && mkdir(options->folder, 0700) != 0 && errno != EEXIST)
        return err_make(ERR_SYSTEM, "RING_DIR: %s: %s", options->folder, strerror(errno));
    struct ring *ring = mem_zalloc(sizeof *ring);
    ring->options = *options;
    ring->owner = crc32c(0, options->owner, strlen(options->owner));
    ring->seed = random_below(UINT32_MAX);
    *out = ring;
    return ERR_NONE;
}

void ring_close(struct ring *ring)
{
    if (ring == NULL)
        return;
    while (ring->first != NULL) {
        struct file *file = ring->first;
        ring->first = file->next;
        /* One without a record is nothing to find. */
        if (file->inner.end == 0)
            ring_file_remove(&file->inner);
        else
            ring_file_close(&file->inner);
        free(file);
    }
    buf_close(&ring->collected);
    buf_close(&ring->content);
    buf_close(&ring->spare);
    free(ring);
}
