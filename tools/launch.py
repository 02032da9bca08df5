"""torchrun for ``dist_train.sh`` and ``dist_test.sh``, which ends with the sentence of its ranks.

    python tools/launch.py COMMAND [flags of torchrun] SCRIPT [arguments]

COMMAND is what the user typed. torchrun itself buries what a rank says under its own traceback.
"""

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":  # a Ctrl-C while the imports take their seconds needs no traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from normfix_mm.run.ending import COMMAND, INTERRUPTED, INTERRUPTION


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        logging.disable(logging.ERROR)  # what torchrun says of a failure is all in its table
        os.environ |= {COMMAND: sys.argv[1], INTERRUPTION: str(said)}
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            run.main(sys.argv[2:])
        except ChildFailedError as error:
            _, first = error.get_first_failure()
            ours = first.error_file_data.get("normfix_mm")
            print(first.message if ours else error, file=sys.stderr)
            return 1
        except (SignalException, KeyboardInterrupt):
            print(said.read_text() if said.is_file() else "interrupted", file=sys.stderr)
            return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
