"""The house keeps its own rules: layers, one clock, one set of commands, pins that install, deployments that load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
ROOMS = ("strategy", "tasks", "flows", "deployments", "simulator")


def sources(*rooms):
    return [path for room in rooms for path in sorted((PROJECT / room).rglob("*.py"))]


def clock_reads(path):
    """Names of clock functions that the file calls or imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in {
                ("time", "time"),
                ("time", "time_ns"),
                ("time", "monotonic"),
                ("time", "perf_counter"),
                ("time", "sleep"),
                ("datetime", "now"),
                ("datetime", "utcnow"),
                ("datetime", "today"),
                ("date", "today"),
            }:
                found.append(f"{owner}.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"from time import {alias.name}" for alias in node.names]
    return found


def test_one_file_of_the_bot_reads_the_clock():
    readers = {
        path.relative_to(PROJECT).as_posix(): reads
        for path in sources("strategy", "tasks", "flows", "deployments")
        if (reads := clock_reads(path))
    }
    assert set(readers) == {"tasks/clock.py"}, readers


def test_strategy_is_pure():
    forbidden = {
        "time",
        "os",
        "random",
        "logging",
        "threading",
        "socket",
        "subprocess",
        "requests",
        "prefect",
        "sqlmodel",
    }
    for path in sources("strategy"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            )
            bad = {name.split(".")[0] for name in names} & forbidden
            assert not bad, f"{path.name} imports {bad}"


def test_broad_excepts_are_where_they_are_allowed():
    """Swallowing everything is right in the feed thread and the notifier, nowhere else."""
    allowed = ("tasks/feed/", "tasks/notify/")
    for path in sources("strategy", "tasks", "flows", "deployments"):
        name = path.relative_to(PROJECT).as_posix()
        if name.startswith(allowed):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and not any(isinstance(s, ast.Raise) for s in node.body):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in {"Exception", "BaseException", "everything"}, (
                    f"{name}:{node.lineno} swallows {caught}"
                )


def test_the_server_of_the_pinned_prefect_imports():
    """A newer fastapi breaks this import; the pins must not let it in."""
    done = subprocess.run(
        [sys.executable, "-c", "import prefect.server.api.server"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_constraints_pin_exact_versions_and_name_no_host():
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[a-z0-9._-]+==[^ ;]+( ; .+)?", line), line
    pinned = {line.split("==")[0] for line in lines}
    wanted = (PROJECT / "pyproject.toml").read_text()
    for package in re.findall(r'^    "([a-zA-Z0-9_-]+)', wanted, flags=re.MULTILINE):
        if package not in {"D107", "COM812"} and package.lower() == package and "-" not in package[:1]:
            name = package.replace("_", "-")
            if name in {"error", "slow"}:
                continue
            assert name in pinned, f"{name} has no pin"


def test_ci_runs_the_commands_of_the_readme():
    readme = (PROJECT / "README.md").read_text()
    ci = (PROJECT / ".ci" / "run").read_text()
    for command in ("make demo", "make test", "make check"):
        assert f"\n{command}" in readme or f"`{command}`" in readme, f"README does not show {command}"
        assert f"\n{command}" in ci, f".ci/run does not call {command}"
    for target in re.findall(r"^make ([a-z]+)", ci, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE)


def test_yaml_reads_no_key_as_a_boolean():
    def keys(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                yield from keys(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from keys(inner)

    assert all(isinstance(key, str) for key in keys(yaml.safe_load((PROJECT / "prefect.yaml").read_text())))


def test_every_guarantee_names_a_test_that_exists():
    named = set(re.findall(r"`(test_\w+)`", (PROJECT / "docs" / "guarantees.md").read_text()))
    assert len(named) > 20
    there = {
        name
        for path in (PROJECT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), flags=re.MULTILINE)
    }
    assert named <= there, f"no such test: {sorted(named - there)}"
