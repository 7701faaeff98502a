import subprocess
import sys

import backstay


# PY-1
def test_submodules_offer_the_same_names():
    for module in ("circuit_breaker", "rate_limiter", "shutdown", "heartbeat", "watchdog", "exceptions"):
        namespace: dict = {}
        exec(f"from backstay.{module} import *", namespace)
        for name in set(namespace) & set(backstay.__all__):
            assert getattr(backstay, name) is namespace[name] or name in ("circuit_breaker", "rate_limiter"), name
    for name in backstay.__all__:
        assert getattr(backstay, name) is not None
    assert callable(backstay.circuit_breaker) and callable(backstay.rate_limiter)


# PY-8
def test_importing_brings_nothing_slow():
    slow = "asyncio dataclasses inspect logging threading json pathlib".split()
    code = f"import sys, backstay; print([name for name in {slow} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert out.stdout == "[]\n", out


# PY-9
def test_types_are_shipped():
    from pathlib import Path

    folder = Path(backstay.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_native.pyi").exists()
