"""Signals that arrive while a process forks, and what an installed shutdown means in the child."""

import ctypes
import sys

import pytest
from test_processes import run


def has(name):
    return hasattr(ctypes.CDLL(None), name)


# In the child, libc calls `pause` inside of fork(), before CPython does anything: a signal that arrives there has a
# handler of Python's that is not ready. The parent sends SIGTERM, and then SIGUSR1 until `pause` has returned.
IN_THE_WINDOW = """
import ctypes, os, signal, time
from backstay import GracefulShutdown

libc = ctypes.CDLL(None)
assert libc.__register_atfork(None, None, libc.pause, None) == 0
signal.signal(signal.SIGUSR1, lambda *_: None)
shutdown = GracefulShutdown()
shutdown.register("callback", lambda: print("ran in", os.getpid() == parent, flush=True))
parent = os.getpid()

def fork(ending=lambda: os._exit(3)):
    pid = os.fork()
    if pid == 0:
        ending()
    os.kill(pid, signal.SIGTERM)
    while True:
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.001)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
"""


# PY-10, GS-2
@pytest.mark.skipif(not (sys.platform == "linux" and has("__register_atfork")), reason="hooks of glibc")
@pytest.mark.parametrize(
    "code, printed",
    [
        # A worker dies of the SIGTERM that its pool sends it, although it has only just been forked.
        ("shutdown.install(); print(fork())", "-15"),
        ("shutdown.install(); other = GracefulShutdown(); other.install(); print(fork())", "-15"),
        ("shutdown.install(); other = GracefulShutdown(); other.install(); shutdown.uninstall(); print(fork())", "-15"),
        # A handler that was there before `install` hears it.
        ("signal.signal(15, lambda *_: os._exit(7)); shutdown.install(); print(fork())", "7"),
        ("signal.signal(15, signal.SIG_IGN); shutdown.install(); print(fork())", "3"),
        # One that came after `install` stays.
        ("shutdown.install(); signal.signal(15, lambda *_: os._exit(8)); print(fork())", "8"),
        # What the thread had blocked stays blocked, in the parent, too.
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, [15]); shutdown.install(); print(fork())\n"
            "print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))",
            "3\n[<Signals.SIGTERM: 15>]",
        ),
        ("shutdown.install(); fork(); print(signal.pthread_sigmask(signal.SIG_BLOCK, []))", "set()"),
    ],
)
def test_a_signal_that_arrives_in_the_middle_of_a_fork_is_heard(code, printed):
    code, out, err = run(IN_THE_WINDOW + code, timeout=60)
    assert (code, out) == (0, printed + "\n"), (code, out, err)


# PY-10: in the child nothing is installed and nothing has begun; what is registered can be installed and triggered.
def test_a_shutdown_in_a_forked_child_starts_anew():
    code, out, err = run(
        """
        import os, signal, sys, threading
        from backstay import GracefulShutdown

        def put(text):
            os.write(1, text.encode())

        mine = lambda *_: put("mine ")
        signal.signal(signal.SIGTERM, mine)
        shutdown, other = GracefulShutdown(), GracefulShutdown()
        shutdown.register("callback", lambda: put("callback "))
        shutdown.install()
        other.install()

        def child():
            assert signal.getsignal(signal.SIGTERM) is mine
            assert not shutdown.is_installed and not shutdown.is_shutting_down
            os.kill(os.getpid(), signal.SIGTERM)  # mine
            shutdown.uninstall()  # changes nothing
            os.kill(os.getpid(), signal.SIGTERM)  # mine
            shutdown.install()
            os.kill(os.getpid(), signal.SIGTERM)  # mine, callback
            shutdown.trigger()
            shutdown.uninstall()
            os.kill(os.getpid(), signal.SIGTERM)  # mine

        def fork():
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    child()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0

        fork()
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        assert shutdown.is_installed and not shutdown.is_shutting_down
        os.kill(os.getpid(), signal.SIGTERM)  # mine, callback
        shutdown.trigger()
        """,
        timeout=60,
    )
    for words in (out.split()[:5], out.split()[5:10], out.split()[10:]):
        assert sorted(words) == ["callback"] + ["mine"] * (len(words) - 1), (out, err)
    assert (code, len(out.split())) == (0, 12), (code, out, err)


# PY-10, GS-7: the parent's block is not the child's to end; one that the child enters itself is.
@pytest.mark.parametrize(
    "child, printed",
    [
        ("", "parent\n"),
        ("asyncio.run(shutdown.__aexit__(None, None, None))", "parent\n"),
        ("shutdown.__enter__()", "child\nparent\n"),
    ],
)
def test_a_forked_child_leaves_its_parents_block(child, printed):
    code, out, err = run(
        f"""
        import asyncio, os
        from backstay import GracefulShutdown

        parent = os.getpid()
        shutdown = GracefulShutdown()
        shutdown.register("callback", lambda: os.write(1, b"parent\\n" if os.getpid() == parent else b"child\\n"))
        try:
            with shutdown:
                pid = os.fork()
                if pid == 0:
                    {child or "pass"}
                    raise KeyError
                assert os.waitpid(pid, 0)[1] == 0
        except KeyError:
            os._exit(0)
        """,
        timeout=60,
    )
    assert (code, out) == (0, printed), (code, out, err)


# PY-10, GS-7: a fork in C, of which Python is told nothing; also in a new pid namespace, where parent and child are both
# process 1.
@pytest.mark.skipif(not (sys.platform == "linux" and has("unshare")), reason="namespaces of Linux")
@pytest.mark.parametrize("where", ["here", "in a new pid namespace"])
def test_a_child_that_c_forked_is_not_its_parent(where):
    code, out, err = run(
        f"""
        import ctypes, os, signal, sys
        from backstay import GracefulShutdown

        c = ctypes.PyDLL(None, use_errno=True)

        def in_a_child(run):
            pid = c.fork()
            if pid == 0:
                signal.alarm(60)
                os._exit(run())
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        def is_allowed():
            # 0x2000_0000: CLONE_NEWPID, for the children to come.
            return {where == "here"} or c.unshare(0x2000_0000) == 0

        def parent():
            shutdown = GracefulShutdown()
            shutdown.register("callback", lambda: os.write(1, b"callback\\n"))
            with shutdown:
                if not is_allowed():
                    return 77

                def child():
                    code = 0 if {where == "here"} or (os.getpid(), parent_id) == (1, 1) else 1
                    code += 2 * shutdown.is_installed
                    shutdown.__exit__(None, None, None)
                    os.kill(os.getpid(), signal.SIGTERM if {where == "here"} else 0)
                    return code

                parent_id = os.getpid()
                assert shutdown.is_installed
                code = in_a_child(child)
                os.write(1, f"child {{code}}\\n".encode())
            return 0

        sys.exit(in_a_child(parent) if is_allowed() else 77)
        """,
        timeout=60,
    )
    if code == 77:
        pytest.skip("this system gives us no pid namespace")
    # SIGTERM has its default effect in the child; process 1 of a namespace has none.
    child = -15 if where == "here" else 0
    assert (code, out) == (0, f"child {child}\ncallback\n"), (code, out, err)


# GS-2: installed again below another one, it does not forget who was there before both.
def test_installed_again_below_another_one_the_chain_stays_whole():
    code, out, err = run(
        """
        import os, signal, time
        from backstay import GracefulShutdown

        heard = []
        mine = lambda *_: heard.append("mine")
        signal.signal(signal.SIGTERM, mine)
        a, b = GracefulShutdown(), GracefulShutdown()
        a.install(), b.install(), a.uninstall(), a.install()
        os.kill(os.getpid(), signal.SIGTERM)
        assert a.wait(60) and b.wait(60)
        b.uninstall(), a.uninstall()
        print(heard, signal.getsignal(signal.SIGTERM) is mine)
        """
    )
    assert (code, out) == (0, "['mine'] True\n"), (code, out, err)
