"""The process that calls math-verify. It is started as a script of its own, and imports nothing of this package.

It speaks JSON, one line each: in `{"id", "gold", "answer", "cpu", "wall"}`, out `{"id", "taken"}` and then `{"id",
"same"}` or `{"id", "failed"}` with why, or `{"failed"}` where the process that works was ended. The first line out is
`{"ready": true}`, or `{"error": ...}`.

The process that imports stays idle and forks one that works. Formulas that never end are ended by the kernel: a timer
of CPU time, which a busy machine does not shorten, and which no library can catch or cancel; the idle process then
forks the next one within milliseconds. When the pipe is closed, because the owner is gone, both end.
"""

import json
import os
import resource
import signal
import sys


REASONS: dict[int, str] = {signal.SIGPROF: "cpu", signal.SIGALRM: "wall"}


class Lines:
    """Whole lines from a file descriptor, without reading ahead more than the kernel gives."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self.rest = b""

    def next(self) -> bytes | None:
        while b"\n" not in self.rest:
            data = os.read(self.descriptor, 65536)
            if not data:
                return None
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line


def write(descriptor: int, message: dict) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def same(gold: str, answer: str) -> bool:
    """math-verify's verdict on two answers without frames, both read as LaTeX."""
    from math_verify import LatexExtractionConfig, parse, verify

    # Only the box is looked for: other ways to find an answer are not those of this package.
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    gold_parsed, answer_parsed = (
        parse(f"\\boxed{{{text}}}", config, extraction_mode="first_match", parsing_timeout=None)
        for text in (gold, answer)
    )
    return verify(gold_parsed, answer_parsed, allow_set_relation_comp=True, timeout_seconds=None)


def warm_up() -> None:
    # The parser's tables and SymPy's modules are filled once, before the fork.
    for gold, answer in (
        ("\\frac{x^2+1}{2}", "\\frac{1}{2}x^2+\\frac{1}{2}"),
        ("[1,2)\\cup(3,\\infty)", "1 \\le x < 2"),
        ("\\{1,2\\sqrt{3}\\}", "1,\\sqrt{12}"),
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}"),
    ):
        same(gold, answer)


def limit_time(cpu: float, wall: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, cpu)
    signal.setitimer(signal.ITIMER_REAL, wall)


def serve(out: int, memory: int) -> int:
    """Answer until the pipe is closed (0), or until this process should be replaced by a fresh one (1)."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    lines = Lines(0)
    while line := lines.next():
        request = json.loads(line)
        write(out, {"id": request["id"], "taken": True})
        limit_time(request["cpu"], request["wall"])
        try:
            reply: dict[str, bool | str] = {"same": bool(same(request["gold"], request["answer"]))}
        except MemoryError:
            reply = {"failed": "memory"}
        # A formula that math-verify cannot handle is not the right one, whatever it raises.
        except Exception:
            reply = {"same": False}
        limit_time(0, 0)
        write(out, {"id": request["id"], **reply})
        if "failed" in reply:
            return 1
    return 0


def main() -> int:
    memory = int(sys.argv[1])
    # Libraries print; only this file may write to the pipe.
    out, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        import logging

        warm_up()
        logging.disable(logging.CRITICAL)
    except Exception as error:
        write(out, {"error": f"{type(error).__name__}: {error}"})
        return 1
    write(out, {"ready": True})
    while True:
        child = os.fork()
        if child == 0:
            os._exit(serve(out, memory))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            write(out, {"failed": REASONS.get(os.WTERMSIG(status), "killed")})
        elif os.WEXITSTATUS(status) == 0:
            return 0


if __name__ == "__main__":
    sys.exit(main())
