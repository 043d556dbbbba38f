"""Third-party headers stay where they are wrapped.

Each library's headers are in exactly one .c file (OpenSSL's in up to three: signature, TLS,
sealing), never in a header. libuv is the exception: its handles are embedded in structs, so the
folders that own handles may include it in both. What is not the C library's must be listed here.
"""
import re
import sys

import lint

LIBRARIES = {  # name: (pattern of its headers, .c files that may include them)
    "llhttp": (r"llhttp\.h", 1),
    "yyjson": (r"yyjson\.h", 1),
    "hiredis": (r"hiredis/.*|hiredis\.h", 1),
    "libpq": (r"libpq-fe\.h|postgresql/.*|libpq/.*", 1),
    "openssl": (r"openssl/.*", 3),
    "msgpack": (r"msgpack\.h|msgpack/.*", 1),
    "curl": (r"curl/.*", 3),  # https_post, http_client, http_call
}
LIBUV = re.compile(r"uv\.h|uv/.*")
LIBUV_FOLDERS = ("common/io/", "common/runtime/", "ingest/")
C_LIBRARY = re.compile(
    r"(assert|ctype|endian|errno|fcntl|float|getopt|grp|inttypes|limits|locale|math|netdb|poll|pthread|pwd"
    r"|sched|semaphore|setjmp|signal|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib"
    r"|stdnoreturn|string|strings|syslog|termios|threads|time|uchar|unistd|wchar|dirent|fnmatch|glob"
    r"|ifaddrs|libgen|malloc|regex|spawn|tgmath|wordexp)\.h"
    r"|(sys|netinet|arpa|net|linux|sanitizer)/.*\.h")

PLANTED = {
    "common/codec/a.h": "#include <yyjson.h>\n",
    "common/codec/b.c": {"common/codec/b.c": "#include <llhttp.h>\n",
                         "common/io/b.c": "#include <llhttp.h>\n"},
    "common/service/c.c": "#include <uv.h>\n",
    "cli/d.h": "#include <uv.h>\n",
    "common/io/e.c": "#include <zlib.h>\n",
    "common/io/f.c": "#include <liburing/io_uring.h>\n",
    "common/io/g.c": {f"common/io/g{i}.c": "#include <openssl/evp.h>\n" for i in range(4)},
}
GOOD = {
    "ingest/a.h": "#include <uv.h>\n#include <sys/socket.h>\n",
    "common/io/b.c": "#include <hiredis/hiredis.h>\n#include <hiredis/read.h>\n",
    "common/io/c.c": {f"common/io/c{i}.c": "#include <openssl/evp.h>\n" for i in range(3)},
}


def check(root):
    users = {name: set() for name in LIBRARIES}
    for path in lint.files(root, lint.PRODUCT, (".c", ".h")):
        text = lint.without_comments(lint.read(root, path))
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, re.M):
            where = f"{path}:{lint.line_of(text, match.start())}"
            header = match.group(2)
            if LIBUV.fullmatch(header):
                if not path.startswith(LIBUV_FOLDERS):
                    yield f"{where}: <{header}> is only for {', '.join(LIBUV_FOLDERS)}"
                continue
            name = next((n for n, (p, _) in LIBRARIES.items() if re.fullmatch(p, header)), None)
            if name is None:
                if match.group(1) == "<" and not C_LIBRARY.fullmatch(header):
                    yield f"{where}: <{header}>: a library that tests/lint/lint_libraries.py lacks"
            elif path.endswith(".h"):
                yield f"{where}: <{header}> in a header: wrap it in a .c file"
            else:
                users[name].add(path)
    for name, paths in users.items():
        if len(paths) > LIBRARIES[name][1]:
            yield f"{min(paths)}:1: {name} is included by {', '.join(sorted(paths))}"


if __name__ == "__main__":
    lint.main(sys.modules[__name__])
