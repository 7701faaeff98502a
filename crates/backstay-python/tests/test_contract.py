"""Every class, signature, default, property and exception of docs/python-api.txt is there (PY-1, PY-2, PY-3)."""

import ast
import dataclasses
import enum
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import backstay

CONTRACT = (Path(__file__).parents[3] / "docs" / "python-api.txt").read_text()
NAMES = {name: getattr(backstay, name) for name in backstay.__all__} | {"Enum": enum.Enum, "RuntimeError": RuntimeError}


def sections():
    """The heads of the contract, each with its members."""
    found = []
    for line in CONTRACT.splitlines():
        line = line.split("   #")[0]
        if line.startswith(("class ", "def ")):
            found.append((line, []))
        elif line.startswith("   ") and found:
            found[-1][1].append(line.strip())
    return found


CLASSES = {re.match(r"class (\w+)", head)[1]: (head, members) for head, members in sections() if head.startswith("class")}
FUNCTIONS = [head.removeprefix("def ") for head, _ in sections() if head.startswith("def")]


def holds(wanted, actual):
    """What the contract lists is there as it says; what is there beyond must not be in anybody's way."""
    arguments = ast.parse(f"def {wanted.replace('= <factory>', '= ...')}: ...").body[0].args
    positional = arguments.posonlyargs + arguments.args
    defaults = [inspect.Parameter.empty] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    listed = {name.arg: (True, default) for name, default in zip(positional, defaults)}
    for name, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        listed[name.arg] = (False, inspect.Parameter.empty if default is None else default)
    real = inspect.signature(actual).parameters
    for name, (is_positional, default) in listed.items():
        assert name in real, f"{wanted}: no {name}"
        kind = real[name].kind
        # PY-4: what is called may have an argument `func` of its own.
        kinds = {kind.POSITIONAL_OR_KEYWORD} | ({kind.POSITIONAL_ONLY} if name in ("func", "self") else set())
        assert kind in kinds if is_positional else kind is kind.KEYWORD_ONLY, f"{wanted}: {name} is {kind}"
        if isinstance(default, ast.AST) and (default := ast.literal_eval(default)) is ...:
            assert real[name].default is not inspect.Parameter.empty
        else:
            assert real[name].default == default, f"{wanted}: {name} is {real[name].default!r} by default"
    order = [name for name in real if name in listed]
    assert order == list(listed), wanted
    for name, parameter in real.items():
        if name not in listed and parameter.kind is not parameter.VAR_POSITIONAL:
            assert parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD), f"{wanted}: {name} is in the way"
            assert parameter.kind is parameter.VAR_KEYWORD or parameter.default is not parameter.empty


@pytest.mark.parametrize("name", CLASSES)
def test_class(name):
    head, members = CLASSES[name]
    cls = NAMES[name]
    for base in filter(None, re.match(r"class \w+\((.*)\)", head)[1].split(", ")):
        assert issubclass(cls, NAMES[base]), base
    for member in members:
        if member.startswith("dataclass"):
            frozen, slots = ("frozen=True" in member), ("slots=True" in member)
            assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen is frozen
            assert ("__slots__" in vars(cls)) is slots
        elif member.startswith("."):
            assert inspect.isdatadescriptor(inspect.getattr_static(cls, member[1:].split(" ")[0])), member
        elif member.startswith("{"):
            assert {state.name: state.value for state in cls} == ast.literal_eval(member)
        elif "(...)" in member or member == "__repr__(self)":
            assert callable(getattr(cls, re.search(r"(\w+)\(", member)[1]))
        elif member.startswith("__init__(self"):
            # That of a native class has no signature; its class has.
            holds(re.sub(r"\(self(, )?", "(", member), cls)
        else:
            kind, wanted = re.match(r"(async |staticmethod |classmethod |)(.*)", member).groups()
            method = wanted.split("(")[0]
            actual = inspect.getattr_static(cls, method)
            assert inspect.iscoroutinefunction(getattr(cls, method)) is (kind == "async "), member
            unbound = actual.__func__ if isinstance(actual, staticmethod | classmethod) else actual
            holds(wanted, unbound)


@pytest.mark.parametrize("wanted", FUNCTIONS)
def test_function(wanted):
    holds(wanted, NAMES[wanted.split("(")[0]])


def test_what_the_modules_offer():
    for module, names in re.findall(r"(\w+)\.__all__ \[(.*?)\]", CONTRACT):
        assert sorted(getattr(backstay, module).__all__) == sorted(names.split(", ")) or module == "watchdog"
        assert set(names.split(", ")) <= set(getattr(backstay, module).__all__)


# CF-1: what is given comes before what is configured, also where it equals the default.
def test_the_exit_code_can_be_configured(tmp_path):
    code = """
import sys, threading, signal, os
from backstay import GracefulShutdown
shutdown = GracefulShutdown(timeout=5, **eval(sys.argv[1]))
shutdown.register("hangs", lambda: threading.Event().wait(), timeout=0.1)
shutdown.install()
os.kill(os.getpid(), signal.SIGTERM)
threading.Event().wait(60)
"""
    environment = os.environ | {"BACKSTAY_SHUTDOWN__FORCE_EXIT_CODE": "7"}
    for given, expected in (({}, 7), ({"force_exit_code": 1}, 1), ({"force_exit_code": 9}, 9)):
        done = subprocess.run([sys.executable, "-c", code, repr(given)], timeout=60, env=environment)
        assert done.returncode == expected, given
    assert inspect.signature(backstay.GracefulShutdown).parameters["force_exit_code"].default == 1
    with pytest.raises(ValueError, match="force_exit_code"):
        backstay.GracefulShutdown(force_exit_code=256)
    assert backstay.GracefulShutdown(signals=(signal.SIGTERM,), drain_delay=0).timeout == 30


# CF-1: a configuration file that every user can write is refused by root, and warned about for others.
@pytest.mark.skipif(sys.platform == "win32", reason="modes of Unix")
def test_a_file_that_others_can_write_is_not_trusted(tmp_path):
    code = """
import logging
logging.basicConfig(format="%(message)s")
import backstay
try:
    backstay.Heartbeat()
except backstay.ConfigError as error:
    logging.error(error)
"""
    file = tmp_path / "kstlib.conf.yml"
    file.write_text("resilience: {heartbeat: {interval: 7}}")
    file.chmod(0o666)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "kstlib.conf.yml: can be written by every user" in done.stderr
    assert ("root does not use it" in done.stderr) == (os.geteuid() == 0)
