"""No #include upwards: a folder sees itself and what is to its left.

    schema <- base <- codec <- io <- service <- runtime <- ingest | workers | report | cli
"""
import re
import sys

import lint

LAYERS = ["base", "codec", "io", "service", "runtime"]
PROGRAMS = ["ingest", "workers", "report", "cli"]
# Made by the build (cmake/embed.cmake), and from which layer on they may be seen.
GENERATED = {"embedded_file.h": 3, "redis_scripts.h": 3, "sql_migrations.h": 3, "mail_pages.h": 3, "mail_plain.h": 3,
             "samples.h": 5}

PLANTED = {
    "common/base/a.c": '#include "codec/json.h"\n',
    "common/codec/b.h": '#include "io/redis.h"\n',
    "common/io/c.c": '#  include "service/queue.h"\n',
    "common/service/d.c": '#include "runtime/worker.h"\n',
    "common/runtime/e.c": '#include "ingest/conn.h"\n',
    "workers/f.c": '#include "cli/cli.h"\n',
    "cli/g.c": '#include "ingest/conn.h"\n',
    "ingest/h.c": '#include "workers/x.h"\n',
    "common/base/i.c": '#include "redis_scripts.h"\n',
    "common/base/j.c": '#include "../codec/json.h"\n',
    "common/base/k.c": '#include "json.h"\n',
    "common/io/l.c": '#include "hiredis/hiredis.h"\n',
}
GOOD = {
    "common/io/a.c": '#include "base/err.h"\n#include "io/redis.h"\n#include "errors.def"\n',
    "ingest/b.c": '#include "ingest/conn.h"\n#include "runtime/process.h"\n',
    "common/codec/c.c": '/* #include "io/redis.h" */\n',
}


def rank(path):
    parts = path.split("/")
    if parts[0] == "common" and len(parts) > 2 and parts[1] in LAYERS:
        return LAYERS.index(parts[1]), parts[1]
    if parts[0] in PROGRAMS:
        return len(LAYERS), parts[0]
    return None, parts[0]


def check(root):
    for path in lint.files(root, lint.PRODUCT, (".c", ".h")):
        text = lint.without_comments(lint.read(root, path))
        own, name = rank(path)
        if own is None:
            yield f"{path}:1: not in a layer's folder"
            continue
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', text, re.M):
            where = f"{path}:{lint.line_of(text, match.start())}"
            target = match.group(1)
            folder = target.split("/")[0]
            if target.endswith(".def") and "/" not in target:
                continue
            if target in GENERATED:
                if own < GENERATED[target]:
                    yield f"{where}: {name} may not see {target}"
            elif folder in LAYERS and "/" in target:
                if LAYERS.index(folder) > own:
                    yield f"{where}: {name} includes {target}, which is above it"
            elif folder in PROGRAMS and "/" in target:
                if folder != name:
                    yield f"{where}: {name} includes {target} of another program"
            else:
                yield f'{where}: "{target}": write it as "layer/file.h"'


if __name__ == "__main__":
    lint.main(sys.modules[__name__])
