"""The scripts of docs/examples run as they stand, and are as short as they promise."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short(script):
    assert len(script.read_text().splitlines()) <= 30


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs(script, tmp_path):
    root = str(EXAMPLES.parent.parent)
    environ = {**os.environ, "PYTHONPATH": root, "HOME": str(tmp_path), "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, str(script), "2"], capture_output=True, text=True, env=environ, cwd=tmp_path,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout.splitlines()[-1]


def test_the_cluster_is_one_that_ray_would_start():
    package = importlib.util.find_spec("ray")
    assert package is not None
    assert package.origin is not None
    schema = json.loads((Path(package.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((EXAMPLES / "cluster.yaml").read_text()), schema)
