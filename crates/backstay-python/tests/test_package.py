import subprocess
import sys

import pytest

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


HUGE = 10**400


# ALL-1, RL-12: a ValueError or a TypeError that names the argument; and what is merely large is brought into its bounds.
@pytest.mark.parametrize(
    "call, name",
    [
        (lambda bad: backstay.RateLimiter(bad), "rate"),
        (lambda bad: backstay.RateLimiter(1, bad), "per"),
        (lambda bad: backstay.RateLimiter(1, burst=bad), "burst"),
        (lambda bad: backstay.RateLimiter(1).set_rate(bad), "rate"),
        (lambda bad: backstay.RateLimiter(1).acquire(timeout=bad), "timeout"),
        (lambda bad: backstay.RateLimiter(1).acquire(tokens=bad), "tokens"),
        (lambda bad: backstay.KeyedRateLimiter(bad), "rate"),
        (lambda bad: backstay.CircuitBreaker(max_failures=bad), "max_failures"),
        (lambda bad: backstay.CircuitBreaker(reset_timeout=bad), "reset_timeout"),
        (lambda bad: backstay.GracefulShutdown(timeout=bad), "timeout"),
        (lambda bad: backstay.GracefulShutdown(force_exit_code=bad), "force_exit_code"),
        (lambda bad: backstay.GracefulShutdown(drain_delay=bad), "drain_delay"),
        (lambda bad: backstay.GracefulShutdown().register("x", print, priority=bad), "priority"),
        (lambda bad: backstay.GracefulShutdown().register("x", print, timeout=bad), "timeout"),
        (lambda bad: backstay.GracefulShutdown().wait(bad if bad != HUGE else 0), "timeout"),
        (lambda bad: backstay.Heartbeat(interval=bad), "interval"),
        (lambda bad: backstay.Heartbeat.is_alive("none", bad), "max_age_seconds"),
        (lambda bad: backstay.Watchdog(timeout=bad), "timeout"),
        (lambda bad: backstay.Watchdog.from_state_file("none", max_age=bad), "max_age"),
        (lambda bad: backstay.Watchdog.from_state_file("none", check_interval=bad), "check_interval"),
    ],
)
def test_bad_numbers(call, name):
    for wrong in ("3", b"3", [], object()):
        with pytest.raises(TypeError, match=f"{name} is a "):
            call(wrong)
    for large in (HUGE, -HUGE):
        try:
            call(large)
        except (ValueError, backstay.RateLimitExceededError) as error:
            assert len(str(error)) < 200 and (name in str(error) or isinstance(error, RuntimeError))

    class Raises:
        def __float__(self):
            raise OSError("from within")

        def __index__(self):
            raise OSError("from within")

    with pytest.raises(OSError, match="from within"):
        call(Raises())


# ALL-1
def test_bad_texts_and_paths():
    for make in (
        lambda bad: backstay.CircuitBreaker(name=bad),
        lambda bad: backstay.RateLimiter(1, name=bad),
        lambda bad: backstay.KeyedRateLimiter(1, name=bad),
        lambda bad: backstay.Watchdog(name=bad),
        lambda bad: backstay.GracefulShutdown().register(bad, print),
    ):
        with pytest.raises(TypeError, match="name is a int, allowed is a str"):
            make(3)
        with pytest.raises(ValueError):
            make("\ud800")
    for make in (backstay.Heartbeat, backstay.Heartbeat.read_state, backstay.Heartbeat.is_alive, backstay.Watchdog.from_state_file):
        with pytest.raises(TypeError, match="state_file is a bytes, allowed is a str or a path"):
            make(b"beat")


# PY-1: the native constructors have the signature that is documented, and a subclass may have one of its own.
@pytest.mark.parametrize("component", [backstay.CircuitBreaker, backstay.RateLimiter])
def test_a_subclass_has_arguments_of_its_own(component):
    import inspect

    class Own(component):
        def __init__(self, host, *hosts, **options):
            super().__init__(name=host, **options)
            self.hosts = hosts

    class Plain(component):
        pass

    own = Own("a", "b", "c")
    assert own.name == "a" and own.hosts == ("b", "c")
    assert Plain(name="a").name == "a"
    assert inspect.signature(Plain) == inspect.signature(component)
    documented = inspect.signature(component).parameters
    with pytest.raises(TypeError, match="unknown"):
        Own("a", unknown=1)
    for name, parameter in documented.items():
        assert parameter.default == (() if name == "excluded_exceptions" else None)
        component(**{name: parameter.default})
    with pytest.raises(RuntimeError, match="twice"):
        own.__init__("a")
