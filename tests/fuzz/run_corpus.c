/* Runs a fuzz target once over every file of a folder, so that the suite keeps what fuzzing found.
 * A folder that is missing or empty is an error: it would test nothing. */
#include "base/buf.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PIECE = 4096 };

static bool run_file(const char *folder, const char *name)
{
    struct buf path = {0};
    struct buf content = {0};
    buf_printf(&path, "%s/%s", folder, name);
    FILE *file = fopen(buf_text(&path), "rb");
    if (file == NULL) {
        perror(buf_text(&path));
        buf_close(&path);
        return false;
    }
    for (size_t got = PIECE; got == PIECE; content.len += got) {
        buf_reserve(&content, PIECE);
        got = fread(content.ptr + content.len, 1, PIECE, file);
    }
    bool read = ferror(file) == 0;
    fclose(file);
    /* Of exactly this size, so that ASan sees a read beyond it. */
    uint8_t *data = mem_alloc(content.len);
    if (content.len > 0)
        memcpy(data, content.ptr, content.len);
    if (read)
        LLVMFuzzerTestOneInput(data, content.len);
    free(data);
    buf_close(&content);
    buf_close(&path);
    return read;
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    size_t ran = 0;
    bool good = true;
    if (folder == NULL) {
        fprintf(stderr, "usage: %s FOLDER (that exists)\n", argv[0]);
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        good = run_file(argv[1], entry->d_name) && good;
        ran++;
    }
    closedir(folder);
    printf("%zu inputs\n", ran);
    return good && ran > 0 ? 0 : 1;
}
