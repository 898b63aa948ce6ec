"""
The end of a process that trained together with others.

A thread of Gloo, the backend for CPUs, may still hold tensors of the last collective when the interpreter goes down.
Releasing them then aborts the process, after everything went well, and a launcher would report a failed run. So a
process of several runs its exit handlers and leaves without taking the interpreter down.
"""

import atexit
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """
    End the process; use it instead of `sys.exit` in a script that may run in several processes.

    Args:
        code (`int`):
            Exit code.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
