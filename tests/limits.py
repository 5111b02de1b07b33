"""A pytest plugin with time limits: a test that hangs fails, and says where it hangs.

The setup has its own limit, because a server that several tests share starts with the first one.
`@pytest.mark.limit(seconds)` gives a test another limit.
"""

import ctypes
import signal
import threading
from contextlib import contextmanager

import pytest

UNIT = {"setup": 120, "call": 120, "teardown": 120}  # seconds
SERVED = {"setup": 600, "call": 400, "teardown": 120}  # with a real server or editor


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): the longest that each part may take")


def limit_of(item, part):
    """The seconds that setting up, calling or tearing down a test may take."""
    own = item.get_closest_marker("limit")
    if own is not None:
        return own.args[0]
    served = any(item.get_closest_marker(name) for name in ("host", "editor"))
    return (SERVED if served else UNIT)[part]


@contextmanager
def time_limit(seconds, what):
    """Fail the test with its stack, wherever it is, if what runs inside takes longer."""
    message = f"{what} took longer than {seconds:g} s"
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        end = _alarm(seconds, message)
    else:
        end = _exception_from_a_thread(seconds, message)
    try:
        yield
    finally:
        end()


def _alarm(seconds, message):
    """Interrupts whatever Python waits for, too."""

    def stop(*_):
        pytest.fail(message)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)

    def end():
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    return end


def _exception_from_a_thread(seconds, message):
    """Where there are no alarms: raised as soon as the test's thread is back in Python's code."""
    target = ctypes.c_ulong(threading.get_ident())

    class TimeLimit(pytest.fail.Exception):
        def __init__(self):
            super().__init__(message)

    def stop():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(target, ctypes.py_object(TimeLimit))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    return timer.cancel


def _limited(part):
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def hook(item):
        with time_limit(limit_of(item, part), f"{part} of {item.name}"):
            return (yield)

    return hook


pytest_runtest_setup, pytest_runtest_call, pytest_runtest_teardown = map(
    _limited, ("setup", "call", "teardown")
)
