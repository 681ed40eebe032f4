"""A training keeps the memory that it frees."""

import platform
import subprocess
import sys

import pytest

from latentcot.utils import memory

USE = """
import resource
import torch
from latentcot.utils.memory import keep_freed_memory
if {keeps}:
    keep_freed_memory()
for number in range(20):
    if number == 10:
        start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_pages_are_not_handed_out_again():
    faults = {
        keeps: int(
            subprocess.run(
                [sys.executable, "-c", USE.format(keeps=keeps)],
                capture_output=True, check=True, text=True,
            ).stdout
        )
        for keeps in (False, True)
    }  # fmt: skip
    assert faults[True] < faults[False] / 10, faults


@pytest.fixture
def asked(monkeypatch):
    """What the library of C is asked for."""
    asked = []

    class Library:
        def __init__(self, name):
            assert name is None

        def mallopt(self, *numbers):
            asked.append(numbers)
            return len(asked) > 1

    monkeypatch.setattr(memory.ctypes, "CDLL", Library)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    for name in (*memory._ALLOCATORS, memory._KERNELS):
        monkeypatch.delenv(name, raising=False)
    return asked


def test_an_older_glibc_is_asked_for_less(asked):
    memory.keep_freed_memory()
    assert asked == [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]
    assert memory.os.environ[memory._KERNELS] == "128"


@pytest.mark.parametrize("name", memory._ALLOCATORS)
def test_who_has_chosen_keeps_the_choice(name, asked, monkeypatch):
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv(memory._KERNELS, "7")
    memory.keep_freed_memory()
    assert asked == []
    assert memory.os.environ[memory._KERNELS] == "7"


def test_another_library_of_c_is_left_alone(asked, monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.keep_freed_memory()
    monkeypatch.setattr(memory.sys, "platform", "win32")
    memory.keep_freed_memory()
    assert asked == []
