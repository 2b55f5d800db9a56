"""``python -m tests.fuzz.api --for 600``: requests made of the OpenAPI document, one by one and in sequences that
follow its links, for so many seconds in all; ``make fuzz`` calls it.

A failure prints the request that shows it; ``--seed`` repeats a run.
"""

import argparse
import sys
import time
from random import SystemRandom

from tests.api_app import ApiApp
from tests.fuzz.api_cases import explore, operations, schema_of
from tests.fuzz.api_sequences import explore_sequences

EXAMPLES = 50
SEQUENCES = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.api", description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, default=600, help="seconds in all")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**32), help="repeats a run")
    parser.add_argument("--only", default="", help="operations whose method and path hold this")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    end = time.monotonic() + options.seconds
    number, sent, broken = options.seed, 0, 0
    while time.monotonic() < end and not broken:
        if not options.only:
            try:
                followed = explore_sequences(SEQUENCES, number)
                print(f"{followed.total():,} links followed, {len(followed)} of them different", flush=True)
            except (Exception, BaseExceptionGroup) as error:  # schemathesis groups its failures
                broken += 1
                print(f"a sequence:\n{error}")
        api = ApiApp()
        for operation in operations(schema_of(api)):
            if options.only in operation.label and time.monotonic() < end:
                try:
                    sent += explore(api, operation, EXAMPLES, number)
                except (Exception, BaseExceptionGroup) as error:  # schemathesis groups its failures
                    broken += 1
                    print(f"{operation.label}:\n{error}")
        number += 1
        print(f"{sent:,} requests, {broken} operations that break a promise", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
