"""Lines that C code prints are found on both channels, the others reach the user."""

import ctypes
import os
import re

from unetrpp.io.readers.native_output import native_output


def test_lines_of_the_pattern_are_found_and_others_passed_on(capfd):
    with native_output(re.compile(rb"^Corrupt[^\n]*\n?", re.MULTILINE)) as found:
        os.write(2, b"a line of another thread\nCorrupt data: 3\n")
        print("Python's own")
        ctypes.CDLL(None).puts(b"Corrupt data: 4")
        assert found == []
    assert sorted(found) == ["Corrupt data: 3", "Corrupt data: 4"]
    assert capfd.readouterr() == ("Python's own\n", "a line of another thread\n")
