"""What the tests share: plans, and the board's program to compare with."""

import os
import subprocess
from pathlib import Path

import pytest

from cliptext_encoder import Encoder

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def one_tower() -> Path:
    return ROOT / "tests/fixtures/one-tower.plan"


@pytest.fixture(scope="session")
def two_towers() -> Path:
    return ROOT / "tests/fixtures/two-towers.plan"


@pytest.fixture
def encoder(one_tower: Path) -> Encoder:
    return Encoder(one_tower)


@pytest.fixture(scope="session")
def cliptext_run():
    """Runs the board's program; its name is in CLIPTEXT_RUN, or it is built."""
    program = os.environ.get("CLIPTEXT_RUN")
    if program is None:
        subprocess.run(["cargo", "build", "--release", "-p", "cliptext-run"], cwd=ROOT, check=True)
        program = ROOT / "target/release/cliptext-run"

    def run(*arguments):
        subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

    return run
