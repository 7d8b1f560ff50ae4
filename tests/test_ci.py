""".ci/run installs a missing browser, or says why it cannot; apt-get and make are stand-ins."""

import shutil
import subprocess

import pytest

from tests.test_scripts import TOP

LOG = 'echo "$(basename "$0") $* $DEBIAN_FRONTEND" >> log\n'
PUT = "for name in chromium chromedriver; do printf '#!/bin/sh\\n' > bin/$name; chmod +x bin/$name; done\n"
INSTALLS = f'case "$*" in *install*) {PUT};; esac\n'
MAKE = 'echo "make $1 $REQUIRE_BROWSER $REQUIRE_ENCODER" >> log\n'
APT = "apt-get -qq -o DPkg::Lock::Timeout=300"
UPDATE = f"{APT} update noninteractive"
INSTALL = f"{APT} install --yes --no-install-recommends chromium chromium-driver noninteractive"
MADE = ["make test 1 1", "make test-long 1 1"]


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs .ci/run with only these commands, and returns exit status, log and stderr."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(TOP / ".ci/run", tmp_path / ".ci/run")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sh", "env", "dirname", "basename", "chmod"):
        (folder / name).symlink_to(shutil.which(name))

    def with_commands(user=0, **commands):
        for name, text in {"make": MAKE, "id": f"echo {user}\n", **commands}.items():
            path = folder / name.replace("_", "-")
            path.write_text(f"#!{shutil.which('sh')}\n{text}")
            path.chmod(0o755)
        command = [shutil.which("bash"), str(tmp_path / ".ci/run")]
        done = subprocess.run(command, cwd="/", env={"PATH": str(folder)}, capture_output=True, text=True)
        log = tmp_path / "log"
        return done.returncode, log.read_text().splitlines() if log.exists() else [], done.stderr

    return with_commands


def test_an_installed_browser_is_used(run):
    assert run(chromium="", chromedriver="", apt_get=LOG) == (0, MADE, "")


@pytest.mark.parametrize("installed", [{}, {"chromium": ""}, {"chromedriver": ""}])
def test_a_missing_browser_is_installed(run, installed):
    assert run(apt_get=LOG + INSTALLS, **installed) == (0, [UPDATE, INSTALL, *MADE], "")


def test_a_failed_update_does_not_stop_the_installation(run):
    status, log, stderr = run(apt_get=f'{LOG}case "$*" in *update*) exit 1;; esac\n{INSTALLS}')
    assert (status, log) == (0, [UPDATE, INSTALL, *MADE])
    assert "apt-get update failed" in stderr


def test_sudo_is_used_where_it_asks_for_no_password(run):
    status, log, _ = run(user=1000, apt_get=LOG + INSTALLS, sudo='[ "$1" = -n ] && shift && exec "$@"\n', true="")
    assert (status, log) == (0, [UPDATE, INSTALL, *MADE])


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ({}, "this system has no apt-get"),
        ({"user": 1000, "apt_get": LOG}, "only root may install packages (apt-get install chromium chromium-driver)"),
        ({"user": 1000, "apt_get": LOG, "sudo": "exit 1\n"}, "only root may install packages"),
        ({"apt_get": 'case "$*" in *install*) exit 100;; esac\n'}, "apt-get could not install it"),
        ({"apt_get": ""}, "the commands are not on PATH"),
        ({"apt_get": "", "chromium": ""}, "the commands are not on PATH"),
    ],
)
def test_no_tests_run_if_the_browser_cannot_be_installed(run, commands, expected):
    status, log, stderr = run(**commands)
    assert status == 1
    assert not [line for line in log if "make" in line]
    assert stderr.splitlines()[-1].startswith("error: chromium or chromedriver is missing: ")
    assert expected in stderr
    assert "Install both and put them on PATH, or run make test" in stderr
