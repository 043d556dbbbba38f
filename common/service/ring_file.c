#include "service/ring_file.h"

#include "base/crc32c.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The digit is the format's version: files of another are left alone. */
#define MAGIC       "WLRING1\n"
#define NAME_PREFIX "ring-"
#define NAME_SUFFIX ".events"

struct head {
    char magic[8];
    uint32_t crc; /* of what follows */
    uint32_t seed;
    uint32_t owner;
    uint32_t reserved;
    char mark[RING_MARK_SIZE];
};

_Static_assert(sizeof(struct head) <= RING_FILE_HEAD, "the head has a place of its own");

static struct err failed(const char *what)
{
    return err_make(ERR_SYSTEM, "%s: %s", what, strerror(errno));
}

static bool is_memory(const struct ring_file *file)
{
    return text_is_empty(file->folder);
}

/* --- names ----------------------------------------------------------------------------------- */

bool ring_file_is_name(const char *name)
{
    const size_t prefix = sizeof NAME_PREFIX - 1;
    const size_t suffix = sizeof NAME_SUFFIX - 1;
    size_t len = strlen(name);
    return len > prefix + suffix && len < RING_FILE_NAME_SIZE &&
           memcmp(name, NAME_PREFIX, prefix) == 0 && strcmp(name + len - suffix, NAME_SUFFIX) == 0;
}

static void add_path(struct buf *out, const struct ring_file *file)
{
    buf_printf(out, "%s/%s", file->folder, file->name);
}

/* --- head ------------------------------------------------------------------------------------ */

static uint32_t head_checksum(const struct head *head)
{
    size_t skipped = offsetof(struct head, seed);
    return crc32c(0, (const char *)head + skipped, sizeof *head - skipped);
}

static bool write_whole(int fd, struct span bytes, uint64_t offset)
{
    while (bytes.len > 0) {
        ssize_t written = pwrite(fd, bytes.ptr, bytes.len, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes = (struct span){bytes.ptr + written, bytes.len - (size_t)written};
        offset += (uint64_t)written;
    }
    return true;
}

static bool write_head(const struct ring_file *file)
{
    union {
        struct head head;
        char bytes[RING_FILE_HEAD];
    } page = {.bytes = {0}};
    memcpy(page.head.magic, MAGIC, sizeof page.head.magic);
    page.head.seed = file->seed;
    page.head.owner = file->owner;
    memcpy(page.head.mark, file->mark, sizeof page.head.mark);
    page.head.crc = head_checksum(&page.head);
    return write_whole(file->fd, (struct span){page.bytes, sizeof page.bytes}, 0);
}

/* All of it, or less at the end of the file. */
static size_t read_at(int fd, uint64_t offset, void *out, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t more = pread(fd, (char *)out + got, len - got, (off_t)(offset + got));
        if (more < 0 && errno == EINTR)
            continue;
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    return got;
}

/* --- making and finding ---------------------------------------------------------------------- */

/* Locked and still there under its name: what another has removed meanwhile is no file. */
static bool is_ours_now(int fd, struct stat *out)
{
    return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, out) == 0 && out->st_nlink > 0;
}

static struct err open_named(struct ring_file *file)
{
    char id[UUID_TEXT_SIZE];
    struct stat status;
    struct buf path = {0};
    struct err err = ERR_NONE;
    random_uuid(id);
    snprintf(file->name, sizeof file->name, NAME_PREFIX "%s" NAME_SUFFIX, id);
    add_path(&path, file);
    file->fd = open(buf_text(&path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->fd < 0) {
        err = failed(buf_text(&path));
    } else if (!is_ours_now(file->fd, &status)) {
        /* An adopter came between the two calls and cleared the empty file away. */
        err = err_make(ERR_SYSTEM, "%s was taken by another process", buf_text(&path));
        ring_file_close(file);
    }
    buf_close(&path);
    return err;
}

static struct err open_new(struct ring_file *file)
{
    enum { TRIES = 3 };
    struct err err = ERR_NONE;
    for (int i = 0; i < TRIES && file->fd < 0; i++)
        err = open_named(file);
    return file->fd >= 0 ? ERR_NONE : err;
}

struct err ring_file_create(struct ring_file *file, const char *folder, uint32_t owner,
                            uint32_t seed, const char *mark)
{
    *file = (struct ring_file){
        .fd = -1, .memory = file->memory, .folder = folder, .owner = owner, .seed = seed};
    snprintf(file->mark, sizeof file->mark, "%s", mark);
    return is_memory(file) ? ERR_NONE : open_new(file);
}

static enum ring_adoption judge(struct ring_file *file, const struct stat *status, uint32_t owner)
{
    struct head head;
    if (!S_ISREG(status->st_mode) || status->st_uid != geteuid())
        return RING_FOREIGN;
    /* Without a whole head it has no record either: its maker died early. */
    if (read_at(file->fd, 0, &head, sizeof head) < sizeof head) {
        ring_file_remove(file);
        return RING_IN_USE;
    }
    if (memcmp(head.magic, MAGIC, sizeof head.magic) != 0)
        return RING_FOREIGN;
    /* A damaged head: without the seed nothing can be told from damage. */
    if (head.crc != head_checksum(&head) || head.owner != owner)
        return RING_FOREIGN;
    file->seed = head.seed;
    file->owner = head.owner;
    file->end = (size_t)status->st_size;
    memcpy(file->mark, head.mark, sizeof file->mark);
    file->mark[sizeof file->mark - 1] = '\0';
    return RING_ADOPTED;
}

enum ring_adoption ring_file_adopt(struct ring_file *file, const char *folder, const char *name,
                                   uint32_t owner)
{
    struct stat status;
    struct buf path = {0};
    *file = (struct ring_file){.fd = -1, .folder = folder};
    snprintf(file->name, sizeof file->name, "%s", name);
    add_path(&path, file);
    file->fd = open(buf_text(&path), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    buf_close(&path);
    if (file->fd < 0)
        return errno == ENOENT ? RING_IN_USE : RING_FOREIGN;
    enum ring_adoption adoption =
        is_ours_now(file->fd, &status) ? judge(file, &status, owner) : RING_IN_USE;
    if (adoption != RING_ADOPTED)
        ring_file_close(file);
    return adoption;
}

void ring_file_close(struct ring_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    buf_close(&file->memory);
}

void ring_file_remove(struct ring_file *file)
{
    if (!text_is_empty(file->name)) {
        struct buf path = {0};
        add_path(&path, file);
        unlink(buf_text(&path));
        buf_close(&path);
    }
    ring_file_close(file);
}

/* --- writing --------------------------------------------------------------------------------- */

struct err ring_file_append(struct ring_file *file, struct span frames)
{
    size_t at = file->end > 0 ? file->end : RING_FILE_HEAD;
    if (is_memory(file)) {
        buf_add(&file->memory, frames.ptr, frames.len);
        file->end = at + frames.len;
        return ERR_NONE;
    }
    if ((file->end > 0 || write_head(file)) && write_whole(file->fd, frames, at)) {
        file->end = at + frames.len;
        return ERR_NONE;
    }
    struct err err = failed(file->folder);
    /* Best effort: for a reader half a frame ends the file just as well. */
    (void)!ftruncate(file->fd, (off_t)file->end);
    return err;
}

void ring_file_set_mark(struct ring_file *file, const char *mark)
{
    snprintf(file->mark, sizeof file->mark, "%s", mark);
    if (file->end > 0 && !is_memory(file))
        (void)!write_head(file);
}

/* --- reading --------------------------------------------------------------------------------- */

static size_t read_frames(const struct ring_file *file, uint64_t offset, void *out, size_t len)
{
    if (!is_memory(file))
        return read_at(file->fd, offset, out, len);
    memcpy(out, file->memory.ptr + (offset - RING_FILE_HEAD), len); /* len: below end */
    return len;
}

enum ring_read ring_file_read(const struct ring_file *file, uint64_t *offset, struct buf *content,
                              struct accept_record *out)
{
    char bytes[RING_FRAME_HEAD];
    struct ring_frame frame;
    uint64_t at = *offset > RING_FILE_HEAD ? *offset : RING_FILE_HEAD;
    *offset = file->end;
    if (at >= file->end)
        return RING_END;
    if (file->end - at < RING_FRAME_HEAD ||
        read_frames(file, at, bytes, sizeof bytes) < sizeof bytes ||
        !ring_frame_read(bytes, &frame) || frame.len > file->end - at - RING_FRAME_HEAD)
        return RING_CUT;
    buf_clear(content);
    buf_reserve(content, frame.len);
    content->len = read_frames(file, at + RING_FRAME_HEAD, content->ptr, frame.len);
    *offset = at + RING_FRAME_HEAD + frame.len;
    if (!ring_frame_is_whole(&frame, file->seed, buf_span(content)) ||
        !ring_record_read(buf_span(content), out))
        return RING_DAMAGED;
    return RING_READ;
}
