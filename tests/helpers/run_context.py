"""A run as its steps are given it, in a folder of a test's own."""

import io

from rich.console import Console

from search.pipeline.context import Run
from search.pipeline.store import RunStore
from search.pipeline.trainer import Trainer
from search.run_store.journal import open_journal


def run_in(folder, options, phase, data):
    """What a step of `phase` takes; what it prints is `run.console.file.getvalue()`."""
    store, console = (
        RunStore(folder=folder, journal=open_journal(folder.journal)),
        Console(file=io.StringIO(), width=300),
    )
    trainer = Trainer(store, phase, data, options, console)
    return Run(options=options, phase=phase, data=data, store=store, trainer=trainer, console=console)
