"""A named pipe in a file's place: whoever reads it hangs, until the process dies."""

import os
import select
import time


def block_one_reader(path):
    """Keep the first reader of the pipe waiting until it dies; whoever comes next finds no file."""
    while True:
        try:
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # fails while nobody reads
            break
        except OSError:
            time.sleep(0.05)
    path.unlink()
    reader = select.poll()
    reader.register(writer, 0)
    while not reader.poll(1000):  # an error: nobody reads any more
        pass
    os.close(writer)
