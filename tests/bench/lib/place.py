"""Where a benchmark works: a folder, a database and stores of its own, all gone when it ends."""
import contextlib
import shutil
import signal
import tempfile

from lib.stores import Database, Redis


class Place:
    def __init__(self, folder, database):
        self.folder, self.database = folder, database

    @contextlib.contextmanager
    def redis(self, durable=True):
        redis = Redis(self.folder, durable)
        try:
            yield redis
        finally:
            redis.stop()


@contextlib.contextmanager
def open_folder():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it is left in order
    folder = tempfile.mkdtemp(prefix="wl-bench-", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def open_place():
    with open_folder() as folder:
        database = Database()
        try:
            yield Place(folder, database)
        finally:
            database.close()
