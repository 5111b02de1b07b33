"""Install the pack into a ComfyUI, or remove it again: `python run.py install --help`.

Needs only the standard library. The hashes of copied files are stored beside them, so that no file
of the user is ever removed or overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import options as options_of
from .packed import ROOT, packed_files

RECORD = ".copied.json"  # in a copy: {path: SHA-256 of its content as it was copied}
OLDEST = (0, 16, 3)  # the oldest ComfyUI that the pack is tested with
OLDEST_PYTHON = (3, 10)
FACES = "facenet-pytorch"  # of use for the weights in it; it asks for an old torch itself
MODULES = {"numpy": "numpy", "opencv-python-headless": "cv2", "pillow": "PIL", "scipy": "scipy",
           FACES: "facenet_pytorch"}  # fmt: skip
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python",
          "opencv-contrib-python-headless")  # fmt: skip

# Asks a Python what it has. All kinds of OpenCV bring the one module cv2.
PROBE = """
import importlib.metadata, importlib.util, json, sys
modules, packages = json.loads(sys.argv[1])
def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "python": sys.version_info[:2],
    "found": [name for name in modules if importlib.util.find_spec(name) is not None],
    "opencv": {name: version(name) for name in packages if version(name)},
}))
"""


class Problem(Exception):
    """Ends the program with a text that says what is wrong, and what to do."""


def main(arguments: list[str] | None = None) -> None:
    options = options_of.install().parse_args(arguments)
    here = Path(os.environ.get("DETAILERS_STARTED_IN", "."))
    comfyui = (here / options.comfyui).expanduser().resolve()
    custom_nodes = find_custom_nodes(comfyui)
    target = custom_nodes / pack_name(ROOT)
    if options.uninstall:
        uninstall(target)
        return
    warn_of_old(comfyui)
    install(target, options.copy)
    python = find_python(comfyui, options.python)
    provide_packages(python, look_into(python), options.with_packages)
    print("Start ComfyUI again to load it.")


# The folder


def find_custom_nodes(comfyui: Path) -> Path:
    """The folder for packs of a ComfyUI, or of a base directory."""
    folder = comfyui / "custom_nodes"
    if folder.is_dir() or (comfyui / "main.py").is_file():
        return folder
    raise Problem(
        f"{comfyui} is no ComfyUI: it has neither main.py nor custom_nodes. Name the folder that "
        "has custom_nodes in it with --comfyui."
    )


def pack_name(folder: Path) -> str | None:
    """The name that a pack has in the registry; None where there is none."""
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'^\[project\][^\[]*?^name\s*=\s*["\']([^"\']+)', text, re.MULTILINE)
    return found[1] if found else None


def warn_of_old(comfyui: Path) -> None:
    with contextlib.suppress(OSError):
        text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
        numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
        if numbers and tuple(map(int, numbers.groups())) < OLDEST:
            needed = ".".join(map(str, OLDEST))
            print(f"This ComfyUI is {numbers[0]}; the pack needs {needed} or newer. Update it.")


def others_of_the_name(target: Path) -> Iterator[Path]:
    """The other places of this pack among the installed packs."""
    if target.parent.is_dir():
        for folder in target.parent.iterdir():
            if folder != target and pack_name(folder) == target.name:
                yield folder


def install(target: Path, as_copy: bool) -> None:
    for folder in others_of_the_name(target):
        if folder.resolve() == ROOT and not is_link(folder):
            print(f"The pack is in ComfyUI already: {folder}")
            return
        raise Problem(
            f"{folder} holds this pack already. ComfyUI can have it only once: take that one away, "
            "or update it instead."
        )
    if target.resolve() == ROOT and not as_copy:
        print(f"The pack is in ComfyUI already: {target}")
        return
    if is_link(target):
        if target.exists() and pack_name(target) != target.name:
            raise Problem(f"{target} is a link to another pack, {target.resolve()}. Remove it.")
        remove_link(target)
    elif target.exists() and not (target / RECORD).is_file():
        raise Problem(
            f"{target} is there already and was not put there by this command. Remove or rename it."
        )
    else:
        uncopy(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    copy(target) if as_copy else link(target)


def uninstall(target: Path) -> None:
    """Remove the files that `install` has made, and nothing else."""
    if is_link(target):
        remove_link(target)
    elif (target / RECORD).is_file():
        uncopy(target)
    elif target.exists():
        raise Problem(
            f"{target} was not put there by this command. If you want it gone, remove the folder."
        )
    else:
        print(f"Nothing to do: {target} is not there.")
        return
    print("The pack is out of ComfyUI. Packages stay, since other packs may use them.")


# As a link


def link(target: Path) -> None:
    """Link to this folder; on Windows, where links may need more rights, by a junction."""
    try:
        target.symlink_to(ROOT, target_is_directory=True)
    except OSError as error:
        if os.name != "nt":
            raise Problem(f"{target} cannot be made ({error}). Use --copy.") from error
        import _winapi

        try:
            _winapi.CreateJunction(str(ROOT), str(target))
        except OSError as junction:
            raise Problem(f"{target} cannot be made a link ({junction}). Use --copy.") from junction
    print(f"Linked {target} to {ROOT}")


def is_link(path: Path) -> bool:
    """Whether a path is a link or a junction."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    reparse = getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_REPARSE_POINT
    return stat.S_ISLNK(status.st_mode) or bool(reparse)


def remove_link(path: Path) -> None:
    """Remove a link or junction; its target is kept."""
    try:
        path.unlink()
    except OSError:
        path.rmdir()  # what Windows asks for where the link is a folder


# As a copy


def copy(target: Path) -> None:
    """Copy the files of a published pack. A file of the user with the same name is renamed."""
    record = {}
    for name in packed_files(ROOT):
        file = target / name
        if file.exists():
            kept = file.replace(spare(file))
            print(f"{file} was changed or added by you; it is kept as {kept.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, file)
        record[name] = fingerprint(file)
    (target / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(f"Copied {len(record)} files to {target}")


def spare(file: Path) -> Path:
    """A free name beside a file."""
    names = (file.with_name(f"{file.name}.yours{i or ''}") for i in range(10_000))
    return next(name for name in names if not name.exists())


def uncopy(target: Path) -> None:
    """Remove copied files that nobody has changed, and folders that are empty then."""
    if not (target / RECORD).is_file():
        return
    record = json.loads((target / RECORD).read_text(encoding="utf-8"))
    for name, content in record.items():
        if (target / name).is_file() and fingerprint(target / name) == content:
            (target / name).unlink()
    (target / RECORD).unlink()
    for folder in {(target / name).parent for name in record}:
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    remove_empty(target)
    kept = [file for file in target.rglob("*") if file.is_file()] if target.exists() else []
    if kept:
        print(f"Kept, as they are yours or you have changed them: {', '.join(map(str, kept))}")


def remove_empty(folder: Path) -> None:
    for inner in [path for path in folder.iterdir() if path.is_dir() and not is_link(path)]:
        remove_empty(inner)
    if not any(folder.iterdir()):
        folder.rmdir()


def fingerprint(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# Packages


@dataclass(frozen=True)
class Python:
    """The packages in ComfyUI's Python.

    Attributes:
        found: the modules of `MODULES` that are there.
        opencv: {name: version} of the packages that bring OpenCV.
    """

    found: frozenset[str]
    opencv: dict[str, str]

    def missing(self) -> list[str]:
        """The needed packages that are not there. Any OpenCV will do."""
        needed = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
        there = {name for name in needed if MODULES[name] in self.found}
        there |= set(OPENCV) if self.opencv else set()
        return [name for name in needed if name not in there]


def find_python(comfyui: Path, wanted: str | None) -> str:
    """ComfyUI's Python: the named one, that of an environment in or beside it, or this one."""
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise Problem(f"--python {wanted}: there is no such program.")
        return os.path.abspath(found)
    inner = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    places = [comfyui / name / inner for name in (".venv", "venv", "env")]
    places += [comfyui.parent / name / inner for name in (".venv", "venv")]
    places += [base / "python_embeded" / "python.exe" for base in (comfyui.parent, comfyui)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        print(f"Taking {sys.executable} for ComfyUI's Python; --python names another.")
    return str(found or sys.executable)


def look_into(python: str) -> Python:
    asked = json.dumps([list(MODULES.values()), OPENCV])
    try:
        done = subprocess.run([python, "-c", PROBE, asked], capture_output=True, text=True)
        answer = json.loads(done.stdout)
    except (OSError, ValueError) as error:
        raise Problem(f"{python} does not work as a Python: {error}") from error
    if tuple(answer["python"]) < OLDEST_PYTHON:
        raise Problem(
            f"{python} is Python {'.'.join(map(str, answer['python']))}; the pack needs "
            f"{'.'.join(map(str, OLDEST_PYTHON))} or newer."
        )
    return Python(frozenset(answer["found"]), answer["opencv"])


def provide_packages(python: str, has: Python, wanted: bool) -> None:
    """Print the missing packages, or install them."""
    warn_of_opencv(has)
    missing = has.missing()
    faces = [] if MODULES[FACES] in has.found else [FACES]
    if not missing:
        print(f"{python} has all packages that the pack needs.")
    if wanted:
        for packages, options in ((missing, ()), (faces, ("--no-deps",))):
            if packages:
                pip_install(python, packages, options)
        return
    if missing:
        print(f"It lacks {', '.join(missing)}. To install them, add --with-packages, or run:\n"
              f"    {python} -m pip install {' '.join(missing)}")  # fmt: skip
    if faces:
        print(f"For the built-in face detector, which is optional, run:\n"
              f"    {python} -m pip install --no-deps {FACES}")  # fmt: skip


def warn_of_opencv(has: Python) -> None:
    if has.opencv and "cv2" not in has.found:
        names = ", ".join(has.opencv)
        print(f"{names} is installed, but its module cv2 is not there. Install {names} anew.")
    elif len(has.opencv) > 1:
        names = " and ".join(f"{name} {version}" for name, version in has.opencv.items())
        print(
            f"{names} are installed, which write into one folder: the last one wins. That works as "
            "long as it does; if OpenCV ever fails to load, remove all of them and install one."
        )


def pip_install(python: str, packages: list[str], options: tuple[str, ...]) -> None:
    command = [python, "-m", "pip"]
    uv = shutil.which("uv")
    if uv and subprocess.run([*command, "--version"], capture_output=True).returncode:
        command = [uv, "pip"]  # its environments have no pip of their own
        options = (*options, "--python", python)
    print(f"Installing {', '.join(packages)}", flush=True)
    if subprocess.run([*command, "install", *options, *packages]).returncode:
        raise Problem(f"Installing {', '.join(packages)} failed, see above.")


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"run.py install: {problem}")
    except OSError as error:
        sys.exit(f"run.py install: {error}")
