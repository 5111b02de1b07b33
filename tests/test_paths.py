"""Texts that become paths are checked for each system, on any system."""

import ntpath

import pytest
from detailers.utils.paths import expect_path, path_fault

FINE = ["a.png", "sub/a.png", "sub\\a.png", "latents/LatentSender", "ü 猫.png", "a.b.c", ".hidden",
        "..", "../a", "/abs", "", "console.png", "com", "com10", "nulls", "a (1).png"]  # fmt: skip


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("text", FINE)
def test_usual_names_are_fine(text, windows):
    assert path_fault(text, windows=windows) is None


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize(
    "text",
    ["//host/share/a.png", "\\\\host\\share\\a.png", "/\\host/share", "\\/host\\a", "\\\\?\\C:\\a",
     "\\\\.\\pipe\\a", "//./nul", "a\0b", "\0", "x" * 256, "ü" * 128, "a/" * 2000 + "a" * 100],
)  # fmt: skip
def test_these_are_refused_on_every_system(text, windows):
    assert path_fault(text, windows=windows)


@pytest.mark.parametrize(
    "text",
    ["C:", "C:a.png", "c:\\a.png", "C:/a.png", "a:b", "a.png:hidden", "a.png::$DATA", "dir/a:b",
     "CON", "con", "nul.png", "sub/NUL", "sub\\aux.txt", "COM1", "com9.txt", "LPT1", "COM\u00b9",
     "prn .txt", "conin$", "CONOUT$", "con.", "nul ", "a.", "a ", "a. .", "sub./a", "sub /a", "...",
     "a\nb", "a\x1f"],
)  # fmt: skip
def test_these_mean_something_else_on_windows_alone(text):
    assert path_fault(text, windows=True)
    assert path_fault(text, windows=False) is None


def test_nothing_that_is_let_through_leaves_the_drive_on_windows():
    for start in ("", "a", "/", "\\", "//", "\\\\", "C:", "\\\\?\\", "//?/", "/\\", "..\\"):
        for rest in ("host/share/a", "host\\share\\a", "UNC/host/share", "a.png", ""):
            text = start + rest
            if path_fault(text, windows=True) is None:
                assert ntpath.splitdrive(text)[0] == ""
                assert ntpath.splitdrive(ntpath.join("D:\\input", text))[0] == "D:"


def test_the_error_names_the_input_and_what_is_wrong():
    with pytest.raises(ValueError, match=r"'image' is '//host/a', which begins with two slashes"):
        expect_path("//host/a", "image")
    expect_path("a", "image")
