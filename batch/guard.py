"""Runs a command, and ends it when the driver is gone: `python guard.py FOLDER COMMAND...`.

The driver holds the other end of this process's standard input. When the driver ends, however it
does, the input ends, and so do the command and all that it has started; FOLDER is then removed.
Needs the standard library alone, and is run as a file.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
GRACE = 10  # seconds from asking the command to end to ending it


def main() -> int:
    folder, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent())

    is_alone = threading.Event()

    def watch() -> None:
        while os.read(0, 1024):
            pass
        is_alone.set()
        end(child)

    threading.Thread(target=watch, daemon=True).start()
    if os.name == "posix":
        # In a thread, as the wait below is not done while a handler runs.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end, args=[child]).start())
    status = child.wait()
    if is_alone.is_set():  # otherwise the driver still reads the log in it
        shutil.rmtree(folder, ignore_errors=True)
    return status if status >= 0 else 128 - status


def die_with_parent():
    """On Linux, what has the system end a process when this one is killed; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl  # loaded here, as little may be done after the fork
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end(child: subprocess.Popen) -> None:
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    status = main()
    if os.name == "posix":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)  # what the command has started and left behind
    sys.exit(status)
