/* The ring on real files: what is written is read, what is torn or spoilt is left out, what is old
 * or too much goes, and what an ended process left is found. */
#include "base/crc32c.h"
#include "base/random.h"
#include "service/ring.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define KEEP_MS INT64_C(60000)

enum { ROOM = 262144 };

struct folder {
    char path[64];
};

static int make_folder(void **state)
{
    struct folder *folder = mem_zalloc(sizeof *folder);
    snprintf(folder->path, sizeof folder->path, "/tmp/wl-ring-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    *state = folder;
    return 0;
}

static DIR *open_folder(const char *path)
{
    DIR *listing = opendir(path);
    REQUIRE(listing != NULL);
    return listing;
}

/* The path of a file in the folder, the only one; NULL if there is none. */
static const char *only_file(const char *folder, char out[512])
{
    DIR *listing = open_folder(folder);
    bool found = false;
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        assert_false(found);
        found = true;
        snprintf(out, 512, "%s/%s", folder, entry->d_name);
    }
    closedir(listing);
    return found ? out : NULL;
}

static int remove_folder(void **state)
{
    struct folder *folder = *state;
    char path[512];
    DIR *listing = open_folder(folder->path);
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", folder->path, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    closedir(listing);
    int status = rmdir(folder->path);
    free(folder);
    return status;
}

static struct ring *open_ring(const char *folder, const char *owner)
{
    const struct ring_options options = {
        .folder = folder, .max_bytes = ROOM, .keep_ms = KEEP_MS, .owner = owner};
    struct ring *ring;
    struct err err = ring_open(&options, &ring);
    assert_string_equal(err_text(&err), err_text(&ERR_NONE));
    return ring;
}

/* An event that can be told by its number; its body has so many bytes. */
static bool append(struct ring *ring, int number, size_t body_bytes)
{
    char id[32];
    snprintf(id, sizeof id, "default/msg_%d", number);
    char *body = mem_alloc(body_bytes + 1);
    memset(body, 'a' + number % 26, body_bytes);
    const struct accept_record record = {
        .id = span_of(id),
        .payload = SPAN("\x81packed"),
        .body = {body, body_bytes},
        .version = 1,
        .occurred_ms = 1000 + number,
        .received_ms = 2000 + number,
    };
    bool soon = ring_append(ring, &record);
    free(body);
    return soon;
}

static void flush(struct ring *ring, int64_t now_ms)
{
    struct err err = ring_flush(ring, now_ms);
    assert_int_equal(err.code, ERR_OK);
}

static void keep(struct ring *ring, int number, size_t body_bytes, int64_t now_ms)
{
    append(ring, number, body_bytes);
    flush(ring, now_ms);
}

static int number_of(const struct accept_record *record)
{
    char id[32];
    int number = (int)(record->received_ms - 2000);
    snprintf(id, sizeof id, "default/msg_%d", number);
    assert_true(span_equal(record->id, span_of(id)));
    assert_true(span_equal(record->payload, SPAN("\x81packed")));
    assert_int_equal(record->occurred_ms, 1000 + number);
    assert_int_equal(record->version, 1);
    for (size_t i = 0; i < record->body.len; i++)
        assert_int_equal(record->body.ptr[i], 'a' + number % 26);
    return number;
}

/* The numbers of all stale records, as "1 2 3 ". */
static const char *stale(struct ring *ring)
{
    static char text[4096];
    struct ring_position at = {0};
    struct accept_record record;
    size_t len = 0;
    text[0] = '\0';
    while (ring_next(ring, &at, &record) && len < sizeof text - 16)
        len += (size_t)snprintf(text + len, sizeof text - len, "%d ", number_of(&record));
    return text;
}

/* --- crc ---------------------------------------------------------------------------------------
 */

static void test_crc32c_is_the_standard_one(void **state)
{
    (void)state;
    char bytes[4096];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 131 + i / 7);
    for (size_t len = 0; len < sizeof bytes; len += 1 + len / 9) {
        uint32_t whole = crc32c(7, bytes, len);
        assert_int_equal(whole, crc32c_portable(7, bytes, len));
        assert_int_equal(whole, crc32c(crc32c(7, bytes, len / 3), bytes + len / 3, len - len / 3));
    }
}

/* --- what is kept ------------------------------------------------------------------------------
 */

static void walk_of(const char *folder)
{
    struct ring *ring = open_ring(folder, "wl");
    ring_set_mark(ring, "one");
    assert_string_equal(stale(ring), "");
    append(ring, 1, 10);
    append(ring, 2, 0);
    flush(ring, 0);
    keep(ring, 3, 100000, 1);
    assert_string_equal(stale(ring), "");
    ring_set_mark(ring, "two");
    assert_string_equal(stale(ring), "1 2 3 ");
    /* What comes now is with the new one. */
    keep(ring, 4, 10, 2);
    assert_string_equal(stale(ring), "1 2 3 ");
    ring_set_mark(ring, "three");
    assert_string_equal(stale(ring), "1 2 3 4 ");
    assert_int_equal(ring_stats(ring)->kept, 4);
    assert_int_equal(ring_stats(ring)->damaged, 0);
    ring_close(ring);
}

static void test_walk_in_a_folder_and_in_memory(void **state)
{
    const struct folder *folder = *state;
    walk_of(folder->path);
    walk_of("");
}

static void test_settled_files_are_not_walked_again_until_the_next_change(void **state)
{
    (void)state;
    struct ring *ring = open_ring("", "wl");
    struct ring_position at = {0};
    struct accept_record record;
    ring_set_mark(ring, "one");
    keep(ring, 1, 10, 0);
    keep(ring, 2, 10, KEEP_MS / 4); /* a second file */
    ring_set_mark(ring, "two");
    assert_true(ring_next(ring, &at, &record));
    ring_settle(ring, &at, 100);
    assert_string_equal(stale(ring), "1 2 "); /* the first file may have more */
    assert_true(ring_next(ring, &at, &record));
    assert_int_equal(number_of(&record), 2);
    ring_settle(ring, &at, 100);
    assert_string_equal(stale(ring), "2 ");
    assert_false(ring_next(ring, &at, &record));
    ring_settle(ring, &at, 100);
    assert_string_equal(stale(ring), "");
    assert_int_equal(ring_stale_bytes(ring), 0);
    ring_set_mark(ring, "three");
    assert_string_equal(stale(ring), "1 2 ");
    ring_close(ring);
}

static void test_time_runs_only_while_redis_is_confirmed(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    struct ring *ring = open_ring(folder->path, "wl");
    struct ring_position at = {0};
    struct accept_record record;
    ring_set_mark(ring, "one");
    keep(ring, 1, 10, 0);
    ring_expire(ring, KEEP_MS - 1);
    assert_non_null(only_file(folder->path, path));
    ring_set_mark(ring, "two");
    ring_expire(ring, KEEP_MS * 100); /* stale: nothing goes */
    assert_string_equal(stale(ring), "1 ");
    while (ring_next(ring, &at, &record))
        continue;
    ring_settle(ring, &at, KEEP_MS * 100);
    ring_expire(ring, KEEP_MS * 101 - 1);
    assert_non_null(only_file(folder->path, path));
    ring_expire(ring, KEEP_MS * 101);
    assert_null(only_file(folder->path, path));
    assert_int_equal(ring_stats(ring)->bytes, 0);
    assert_int_equal(ring_stats(ring)->crowded_bytes, 0);
    ring_close(ring);
}

static void test_the_oldest_go_when_there_is_no_room(void **state)
{
    (void)state;
    struct ring *ring = open_ring("", "wl");
    int last = 0;
    ring_set_mark(ring, "one");
    for (int i = 1; i <= 1000; i++) {
        keep(ring, i, 1000, 0);
        assert_true(ring_stats(ring)->bytes <= ROOM);
    }
    assert_true(ring_stats(ring)->crowded_bytes > 0);
    ring_set_mark(ring, "two");
    struct ring_position at = {0};
    struct accept_record record;
    size_t count = 0;
    while (ring_next(ring, &at, &record)) {
        int number = number_of(&record);
        assert_true(last == 0 || number == last + 1);
        last = number;
        count++;
    }
    assert_int_equal(last, 1000);
    /* No more than a file's worth is missing from a full ring. */
    assert_true(count * 1000 > ROOM * 3 / 4);
    /* One that would drive out all others is not kept; nor does it harm. */
    append(ring, 1001, ROOM / 2);
    assert_int_equal(ring_stats(ring)->not_kept, 1);
    keep(ring, 1002, 10, 0);
    ring_close(ring);
}

static void test_much_at_once_asks_to_be_flushed(void **state)
{
    (void)state;
    struct ring *ring = open_ring("", "wl");
    ring_set_mark(ring, "one");
    bool soon = false;
    int number = 0;
    while (!soon) {
        soon = append(ring, ++number, 1000);
        assert_true(number < 100);
    }
    flush(ring, 0);
    ring_set_mark(ring, "two");
    assert_int_equal(ring_stats(ring)->kept, number);
    ring_close(ring);
}

/* --- other processes ---------------------------------------------------------------------------
 */

static void test_files_of_an_ended_process_are_adopted(void **state)
{
    const struct folder *folder = *state;
    struct ring *first = open_ring(folder->path, "wl");
    struct ring *other = open_ring(folder->path, "wl");
    ring_set_mark(first, "one");
    ring_set_mark(other, "one");
    keep(first, 1, 10, 0);
    keep(other, 2, 10, 0);
    assert_int_equal(ring_adopt(other, 0), 0); /* its process lives */
    ring_close(first);
    assert_int_equal(ring_adopt(other, 0), 1);
    assert_int_equal(ring_adopt(other, 0), 0);
    assert_string_equal(stale(other), "");
    ring_set_mark(other, "two");
    assert_string_equal(stale(other), "2 1 ");
    ring_close(other);

    struct ring *third = open_ring(folder->path, "wl");
    assert_int_equal(ring_adopt(third, 0), 2);
    ring_set_mark(third, "one");
    assert_string_equal(stale(third), "");
    ring_expire(third, KEEP_MS);
    assert_int_equal(ring_stats(third)->bytes, 0);
    ring_close(third);
}

static void test_settling_is_remembered_by_the_file(void **state)
{
    const struct folder *folder = *state;
    struct ring_position at = {0};
    struct accept_record record;
    struct ring *ring = open_ring(folder->path, "wl");
    ring_set_mark(ring, "one");
    keep(ring, 1, 10, 0);
    ring_set_mark(ring, "two");
    while (ring_next(ring, &at, &record))
        continue;
    ring_settle(ring, &at, 0);
    ring_close(ring);
    ring = open_ring(folder->path, "wl");
    assert_int_equal(ring_adopt(ring, 0), 1);
    ring_set_mark(ring, "two");
    assert_string_equal(stale(ring), "");
    ring_set_mark(ring, "three");
    assert_string_equal(stale(ring), "1 ");
    ring_close(ring);
}

static void write_file(const char *folder, const char *name, struct span bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    assert_int_equal(fwrite(bytes.ptr, 1, bytes.len, file), bytes.len);
    fclose(file);
}

static void test_what_is_not_ours_is_left_alone(void **state)
{
    const struct folder *folder = *state;
    char big[600];
    char path[512];
    struct ring *ring = open_ring(folder->path, "wl");
    memset(big, 'x', sizeof big);
    write_file(folder->path, "ring-1.events", (struct span){big, sizeof big});
    assert_int_equal(ring_adopt(ring, 0), 0);
    assert_int_equal(ring_stats(ring)->foreign, 1);
    unlink(only_file(folder->path, path));
    write_file(folder->path, "notes.txt", SPAN("x"));
    snprintf(path, sizeof path, "%s/ring-2.events", folder->path);
    assert_int_equal(symlink("notes.txt", path), 0);
    assert_int_equal(ring_adopt(ring, 0), 0);
    assert_int_equal(ring_stats(ring)->foreign, 1);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/ring-3.events", folder->path);
    assert_int_equal(mkfifo(path, 0600), 0); /* opening it must not wait */
    assert_int_equal(ring_adopt(ring, 0), 0);
    assert_int_equal(ring_stats(ring)->foreign, 1);
    assert_int_equal(unlink(path), 0);

    struct ring *other = open_ring(folder->path, "other\nbiz_1");
    keep(other, 1, 10, 0);
    ring_close(other);
    assert_int_equal(ring_adopt(ring, 0), 0);
    assert_int_equal(ring_stats(ring)->foreign, 1);
    ring_close(ring);
}

static void test_an_empty_file_of_a_dead_process_goes(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    write_file(folder->path, "ring-1.events", SPAN(""));
    struct ring *ring = open_ring(folder->path, "wl");
    assert_int_equal(ring_adopt(ring, 0), 0);
    assert_null(only_file(folder->path, path));
    ring_close(ring);
}

/* --- damage ------------------------------------------------------------------------------------
 */

/* Leaves three records in one file; returns its size. */
static long leave_three(const char *folder, char path[512])
{
    struct stat status;
    struct ring *ring = open_ring(folder, "wl");
    ring_set_mark(ring, "one");
    for (int i = 1; i <= 3; i++)
        keep(ring, i, 100, 0);
    ring_close(ring);
    assert_int_equal(stat(only_file(folder, path), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    return (long)status.st_size;
}

static void test_a_torn_end_is_left_out_wherever_it_is_torn(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    long size = leave_three(folder->path, path);
    long record = (size - RING_FILE_HEAD) / 3;
    unlink(path);
    for (long cut = 1; cut < size; cut += 7) {
        leave_three(folder->path, path);
        assert_int_equal(truncate(path, size - cut), 0);
        struct ring *ring = open_ring(folder->path, "wl");
        ring_adopt(ring, 0);
        ring_set_mark(ring, "two");
        long whole = size - cut >= RING_FILE_HEAD ? (size - cut - RING_FILE_HEAD) / record : 0;
        const char *expected[] = {"", "1 ", "1 2 "};
        assert_string_equal(stale(ring), expected[whole]);
        ring_close(ring);
        unlink(path);
    }
}

/* Spoils each byte in turn: never more than was there, never anything else. */
static void test_any_spoilt_byte_costs_at_most_what_follows(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    long size = leave_three(folder->path, path);
    int fd = open(path, O_RDWR);
    for (long at = 0; at < size; at++) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        unsigned char spoilt = (unsigned char)~byte;
        assert_int_equal(pwrite(fd, &spoilt, 1, at), 1);
        struct ring *ring = open_ring(folder->path, "wl");
        size_t adopted = ring_adopt(ring, 0);
        ring_set_mark(ring, "two");
        const char *found = stale(ring); /* number_of checks each */
        assert_true(strcmp(found, "1 2 3 ") != 0 || at < RING_FILE_HEAD);
        if (at >= RING_FILE_HEAD) {
            assert_int_equal(adopted, 1);
            assert_true(ring_stats(ring)->damaged > 0);
        }
        ring_close(ring);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
    /* One spoilt body costs that record only. */
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, RING_FILE_HEAD + (size - RING_FILE_HEAD) / 3 + 90), 1);
    close(fd);
    struct ring *ring = open_ring(folder->path, "wl");
    ring_adopt(ring, 0);
    ring_set_mark(ring, "two");
    assert_string_equal(stale(ring), "1 3 ");
    ring_close(ring);
}

/* --- folders -----------------------------------------------------------------------------------
 */

static void test_the_folder_is_checked_and_made(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    struct buf problems = {0};
    struct stat status;
    ring_check("", &problems);
    ring_check(folder->path, &problems);
    snprintf(path, sizeof path, "%s/below", folder->path);
    ring_check(path, &problems);
    assert_string_equal(buf_text(&problems), "");
    struct ring *ring = open_ring(path, "wl");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    ring_close(ring);
    assert_int_equal(rmdir(path), 0);

    ring_check("/dev/null", &problems);
    assert_non_null(strstr(buf_text(&problems), "RING_DIR: /dev/null is not a folder"));
    buf_clear(&problems);
    ring_check("/dev/null/ring", &problems);
    assert_non_null(strstr(buf_text(&problems), "RING_DIR: /dev/null/ring"));
    buf_clear(&problems);
    ring_check("/no/such/parent/ring", &problems);
    assert_non_null(strstr(buf_text(&problems), "cannot be made"));
    buf_close(&problems);
    const struct ring_options options = {
        .folder = "/dev/null/ring", .max_bytes = ROOM, .keep_ms = KEEP_MS, .owner = ""};
    struct err err = ring_open(&options, &ring);
    assert_int_equal(err.code, ERR_SYSTEM);
}

static void test_a_folder_that_goes_away_is_an_error_and_comes_back(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    snprintf(path, sizeof path, "%s/below", folder->path);
    struct ring *ring = open_ring(path, "wl");
    assert_int_equal(rmdir(path), 0);
    append(ring, 1, 10);
    struct err err = ring_flush(ring, 0);
    assert_int_equal(err.code, ERR_SYSTEM);
    assert_int_equal(ring_stats(ring)->not_kept, 1);
    assert_int_equal(mkdir(path, 0700), 0);
    keep(ring, 2, 10, 0);
    ring_set_mark(ring, "two");
    assert_string_equal(stale(ring), "2 ");
    ring_expire(ring, 0);
    struct ring_position at = {0};
    struct accept_record record;
    while (ring_next(ring, &at, &record))
        continue;
    ring_settle(ring, &at, 0);
    ring_expire(ring, KEEP_MS);
    ring_close(ring);
    assert_int_equal(rmdir(path), 0);
}

/* The kernel refuses in the middle of a write: half a frame is there, and is cut off. */
static void test_a_write_that_fails_half_way_leaves_the_file_good(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    struct rlimit usual;
    struct stat status;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    struct ring *ring = open_ring(folder->path, "wl");
    ring_set_mark(ring, "one");
    keep(ring, 1, 1000, 0);
    assert_int_equal(stat(only_file(folder->path, path), &status), 0);
    struct rlimit tight = {.rlim_cur = (rlim_t)status.st_size + 100, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    append(ring, 2, 1000);
    struct err err = ring_flush(ring, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &usual), 0);
    signal(SIGXFSZ, before);
    assert_int_equal(err.code, ERR_SYSTEM);
    off_t size = status.st_size;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, size);
    assert_int_equal(ring_stats(ring)->bytes, size);
    keep(ring, 3, 10, 0);
    ring_set_mark(ring, "two");
    assert_string_equal(stale(ring), "1 3 ");
    ring_close(ring);
}

/* Even its head could not be written: it has nothing for anybody and goes with time. */
static void test_a_file_without_a_record_goes(void **state)
{
    const struct folder *folder = *state;
    char path[512];
    struct rlimit usual;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    struct ring *ring = open_ring(folder->path, "wl");
    ring_set_mark(ring, "one");
    struct rlimit tight = {.rlim_cur = 100, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    append(ring, 1, 10);
    struct err err = ring_flush(ring, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &usual), 0);
    signal(SIGXFSZ, before);
    assert_int_equal(err.code, ERR_SYSTEM);
    assert_non_null(only_file(folder->path, path));
    ring_set_mark(ring, "two");
    assert_string_equal(stale(ring), "");
    ring_expire(ring, KEEP_MS);
    assert_null(only_file(folder->path, path));
    ring_close(ring);
}

#define WITH_FOLDER(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_is_the_standard_one),
        WITH_FOLDER(test_walk_in_a_folder_and_in_memory),
        cmocka_unit_test(test_settled_files_are_not_walked_again_until_the_next_change),
        WITH_FOLDER(test_time_runs_only_while_redis_is_confirmed),
        cmocka_unit_test(test_the_oldest_go_when_there_is_no_room),
        cmocka_unit_test(test_much_at_once_asks_to_be_flushed),
        WITH_FOLDER(test_files_of_an_ended_process_are_adopted),
        WITH_FOLDER(test_settling_is_remembered_by_the_file),
        WITH_FOLDER(test_what_is_not_ours_is_left_alone),
        WITH_FOLDER(test_an_empty_file_of_a_dead_process_goes),
        WITH_FOLDER(test_a_torn_end_is_left_out_wherever_it_is_torn),
        WITH_FOLDER(test_any_spoilt_byte_costs_at_most_what_follows),
        WITH_FOLDER(test_a_write_that_fails_half_way_leaves_the_file_good),
        WITH_FOLDER(test_a_file_without_a_record_goes),
        WITH_FOLDER(test_the_folder_is_checked_and_made),
        WITH_FOLDER(test_a_folder_that_goes_away_is_an_error_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
