"""When the configuration is read, and what an error in it affects (CF-1, CF-4)."""

import os
import subprocess
import sys

import pytest

PRELUDE = """
import logging, pathlib, sys
logging.basicConfig(format="%(message)s", stream=sys.stdout)
import backstay
from backstay import *

def attempt(build):
    try:
        return build()
    except backstay.ConfigError as error:
        return str(error).splitlines()[0]
"""


@pytest.fixture
def run(tmp_path):
    """Runs code in a process that has only the configuration in `tmp_path`; returns the lines that it prints."""

    def run(code, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKSTAY_")}
        environment |= {"HOME": str(tmp_path / "home")} | variables
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + code],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


# CF-1: the package loads by itself; in a folder `backstay.yml` precedes `kstlib.conf.yml`, key by key.
def test_files_and_variables_are_read_and_merged(run, tmp_path):
    (tmp_path / "kstlib.conf.yml").write_text("resilience: {heartbeat: {interval: 20}, watchdog: {timeout: 20}}")
    (tmp_path / "backstay.yml").write_text(
        "resilience: {watchdog: {timeout: 15, instances: {worker: {timeout: 5}}}, rate_limiter: {default_per: 60}}"
    )
    code = """
print(Heartbeat().interval, Watchdog().timeout, Watchdog(timeout=9).timeout, Watchdog.named("worker").timeout)
print(RateLimiter().rate, RateLimiter().per, RateLimiter(3).per, RateLimiter.named("search").per)
"""
    assert run(code) == ["20.0 15.0 9.0 5.0", "10.0 60.0 1.0 60.0"]
    assert run(code, BACKSTAY_WATCHDOG__TIMEOUT="7")[0] == "20.0 7.0 9.0 5.0"


# CF-4: what is given every value reads no file; an error affects its own section, and is gone with its cause.
def test_an_error_affects_its_component_until_it_is_corrected(run, tmp_path):
    (tmp_path / "kstlib.conf.yml").write_text("resilience: {heartbeat: {interval: soon}, watchdog: {timeout: 0}}")
    wrong = (
        "./kstlib.conf.yml:1:36: `resilience.heartbeat.interval` is the text \"soon\", but must be seconds from 1 to 300, "
        'or a text such as "1m 30s"'
    )
    clamped = "./kstlib.conf.yml:1:63: `resilience.watchdog.timeout` is 0, outside 1 to 3600; 1 is used"
    code = """
print(Heartbeat(interval=5).interval)
for _ in range(2):
    print(attempt(Heartbeat))
    print(attempt(lambda: Watchdog.named("worker").timeout))
    print(attempt(lambda: Watchdog().timeout))
pathlib.Path("kstlib.conf.yml").write_text("resilience: {heartbeat: {interval: 7}}")
print(Heartbeat().interval)
pathlib.Path("kstlib.conf.yml").write_text("resilience: {heartbeat: {interval: 8}}")
print(Heartbeat().interval, "kept")
"""
    assert run(code) == ["5.0", wrong, clamped, "1.0", "1.0", wrong, "1.0", "1.0", "7.0", "7.0 kept"]


# CF-4: a file that is not YAML affects every component that needs a value from it, and no other.
def test_objects_that_are_given_every_value_read_no_file(run, tmp_path):
    (tmp_path / "broken.yml").write_text("resilience: [")
    complete = """
CircuitBreaker(max_failures=3, reset_timeout=30, half_open_max_calls=1), RateLimiter(3), KeyedRateLimiter(3), Heartbeat(interval=5)
RateLimiter(3, burst=2, name="a"), KeyedRateLimiter(3, burst=2, name="a"), Watchdog(timeout=5)
GracefulShutdown(timeout=5, force_exit_code=1, drain_delay=0)
print("built")
"""
    incomplete = """
for build in (
    CircuitBreaker, lambda: CircuitBreaker(max_failures=3, reset_timeout=30), RateLimiter, lambda: RateLimiter(3, name="a"), GracefulShutdown,
    lambda: KeyedRateLimiter(3, name="a"), lambda: GracefulShutdown(timeout=5), Heartbeat, Watchdog,
    lambda: CircuitBreaker.named("a"), lambda: RateLimiter.named("a"), lambda: Watchdog.named("a"),
):
    print(attempt(build))
"""
    assert run(complete, BACKSTAY_CONFIG="broken.yml") == ["built"]
    errors = run(incomplete, BACKSTAY_CONFIG="broken.yml")
    assert len(errors) == 12
    assert set(errors) == {"broken.yml:1:13: unclosed bracket '['"}
