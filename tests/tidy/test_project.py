"""What the repository promises about itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PASSWORDS = (
    "KAFKA_ADMIN_PASSWORD",
    "KAFKA_WORKER_PASSWORD",
    "KAFKA_SINK_PASSWORD",
    "KAFKA_AUDIT_PASSWORD",
    "KAFKA_WEBHOOKS_PASSWORD",
    "KAFKA_GATEWAY_PASSWORD",
    "KAFKA_PRODUCER_PASSWORD",
    "KAFKA_API_PASSWORD",
    "KAFKA_OPERATOR_PASSWORD",
    "KAFKA_READER_PASSWORD",
    "CLICKHOUSE_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
)


def _python_files() -> list[Path]:
    folders = ("sluicegate", "schemas", "streams", "clickhouse", "webhooks", "api", "stack", "examples", "tests")
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("name", ["dev.lock", "runtime.lock"])
def test_a_lock_pins_each_package_exactly_with_hashes_and_holds_no_address(name: str) -> None:
    text = (ROOT / "locks" / name).read_text("utf-8")
    assert "://" not in text
    blocks = [block for block in re.split(r"\n(?=\S)", text) if block.strip()]
    assert len(blocks) > 20
    for block in blocks:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", block), block[:80]
        assert "--hash=sha256:" in block


def test_the_runtime_lock_is_a_part_of_the_development_lock() -> None:
    pins = {
        name: set(re.findall(r"^([a-z0-9._-]+==[^\s;]+)", (ROOT / "locks" / name).read_text("utf-8"), re.M))
        for name in ("dev.lock", "runtime.lock")
    }
    assert pins["runtime.lock"] <= pins["dev.lock"]


def test_no_python_file_passes_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in _python_files()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_link_between_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    broken = []
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                broken += [f"{document.relative_to(ROOT)} → {target}"]
    assert broken == []


def test_the_composition_publishes_nothing_but_loopback_and_knows_no_password() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    services = yaml.safe_load(text)["services"]
    processes = {"kafka", "clickhouse", "worker", "sink", "audit", "webhooks", "api", "api-operators"}
    processes |= {"prometheus", "grafana"}
    assert set(services) == processes | {"access", "migrate"}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for variable, value in service["environment"].items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), (name, variable)
    for name in processes:
        assert services[name]["healthcheck"]["test"], name
    assert [name for name, service in services.items() if "profiles" in service] == ["api-operators"]
    assert set(re.findall(r"\$\{([A-Z_]+):\?", text)) == set(PASSWORDS)
    assert set(re.findall(r"^([A-Z_]+)=$", (ROOT / ".env.example").read_text("utf-8"), re.M)) == set(PASSWORDS)


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="docker compose is not installed here",
)
def test_docker_compose_accepts_the_composition() -> None:
    environment = os.environ | dict.fromkeys(PASSWORDS, "for-this-check")
    run = subprocess.run(
        ["docker", "compose", "config", "--quiet"], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()


def test_the_wheel_from_the_sdist_lives_beside_a_service_that_owns_schemas(tmp_path: Path) -> None:
    """Build as a publisher of the package would, install into an empty folder, import beside a foreign ``schemas``."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {
        "bin",
        "sluicegate",
        "sluicegate_schemas",
    }
    assert [path.name for path in (site / "bin").iterdir()] == ["sluicegate"]
    service = tmp_path / "service"
    (service / "schemas").mkdir(parents=True)
    (service / "schemas/__init__.py").write_text("OWN = True\n", "utf-8")
    check = (
        f"import sys; sys.path[:0] = [{str(service)!r}, {str(site)!r}]\n"
        "import schemas, sluicegate, sluicegate_schemas\n"
        "assert schemas.OWN\n"
        f"assert sluicegate.__file__.startswith({str(site)!r}), sluicegate.__file__\n"
        "assert sluicegate.Publisher and sluicegate.Gate\n"
        "assert not {'faust', 'streams', 'clickhouse', 'webhooks', 'stack'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
