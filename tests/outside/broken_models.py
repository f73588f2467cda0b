"""Models as people have them on a bad day, by import name."""

import os
import signal
import time

import numpy as np
import pandas as pd


def fine(inputs):
    return inputs["text"][:, 0] + inputs["visual"][:, 0]


def wrong_shape(inputs):
    return np.zeros((len(inputs["text"]), 2))


def too_few(inputs):
    return np.zeros(len(inputs["text"]) - 1)


def words(inputs):
    return ["good"] * len(inputs["text"])


def not_finite(inputs):
    scores = inputs["text"][:, 0].copy()
    scores[3] = np.nan
    return scores


def raises(inputs):
    raise KeyError("no such weight")


def nothing(inputs):
    return None


def a_frame(inputs):
    return pd.DataFrame({"item": "a", "score": inputs["text"][:, 0]})


def a_pair(inputs):
    return inputs["text"][:, 0], None


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")


def a_silent_error(inputs):
    raise Silent


def hangs(inputs):
    time.sleep(600)


def dies(inputs):
    print("out of luck", flush=True)
    os._exit(7)


def is_killed(inputs):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_and_leaves_a_fork(inputs):
    if os.fork() == 0:
        time.sleep(600)
    os._exit(7)


def normalises_in_place(inputs):
    for x in inputs.values():
        x -= x.mean()
    return inputs["text"][..., 0] + inputs["visual"][..., 0]


def reads_threads(inputs):
    raise ValueError(os.environ["OMP_NUM_THREADS"])
