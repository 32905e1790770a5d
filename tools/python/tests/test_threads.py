"""Several threads and processes at once."""

import multiprocessing
import os
import sys
import threading
import time

import numpy as np

from cliptext_encoder import Encoder, Plan

PROMPTS = [f"a dog and {number} cats" for number in range(200)]


def test_the_interpreter_goes_on_while_a_prompt_is_encoded(one_tower):
    """While one thread encodes without a pause, another one runs Python. Were the lock held during a call, it would run between two calls
    only, once each."""
    encoder = Encoder(one_tower, threads=1, kernel="scalar")
    text = ["a dog"] * 2
    calls, done = 0, threading.Event()

    def encode():
        nonlocal calls
        until = time.monotonic() + 1
        try:
            while time.monotonic() < until:
                encoder.encode(text)
                calls += 1
        finally:
            done.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)  # so that nobody gives the lock up unless it waits
    try:
        worker = threading.Thread(target=encode)
        worker.start()
        turns = 0
        while not done.is_set():
            turns += 1
            time.sleep(0)
        worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert calls > 0 and turns > 20 * calls, f"{turns} turns beside {calls} calls"


def in_threads(work, count):
    results = [None] * count

    def run(index):
        results[index] = work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_encoders_on_one_plan_work_at_the_same_time(one_tower):
    plan = Plan(one_tower)
    want = Encoder(plan).encode(PROMPTS).prompt_embeds
    for result in in_threads(lambda _: Encoder(plan, threads=2).encode(PROMPTS).prompt_embeds, 3):
        assert (result == want).all()


def test_threads_take_turns_with_one_encoder(one_tower):
    encoder = Encoder(one_tower, threads=2)
    want = encoder.encode(PROMPTS).prompt_embeds
    parts = in_threads(lambda index: [encoder.encode(text).prompt_embeds for text in PROMPTS[index::4]], 4)
    for index, part in enumerate(parts):
        assert (np.concatenate(part) == want[index::4]).all()


def test_a_forked_child_goes_on_with_threads_of_its_own(one_tower):
    encoder = Encoder(one_tower, threads=3)
    want = encoder.encode("a dog").prompt_embeds
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            encoder.encode(PROMPTS[:10])

    # The fork happens while another thread has the encoder.
    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    status = int(not (encoder.encode("a dog").prompt_embeds == want).all() or encoder.threads != 3)
                    # The parent's threads are waited for by nobody.
                    del encoder, keep_busy
                finally:
                    os._exit(status)
            deadline = time.monotonic() + 60
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
                assert time.monotonic() < deadline, "the child hangs"
                time.sleep(0.01)
            assert ended == (child, 0)
    finally:
        stop.set()
        busy.join()
    assert (encoder.encode("a dog").prompt_embeds == want).all()


def _width(path):
    return Encoder(path).encode("a dog").prompt_embeds.sum()


def test_processes_share_a_plan_by_its_path(one_tower):
    want = _width(one_tower)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_width, [one_tower] * 4) == [want] * 4
