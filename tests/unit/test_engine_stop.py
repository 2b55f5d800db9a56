"""A worker that cannot leave its group ends all the same."""

import subprocess
import sys

HANGING = """
import asyncio, logging, faust
from streams.engine import batching

logging.basicConfig()
batching.STOP_LIMIT_S = 0.2

async def hang(self):
    await asyncio.sleep(60)

faust.App.stop = hang
app = batching.BatchApp("x", positions=None, prepare=None, health=None, store="memory://")
asyncio.run(app.stop())
"""


def test_a_stop_that_hangs_ends_the_process_and_says_that_nothing_is_lost() -> None:
    run = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    assert "Nothing is lost" in run.stderr
