"""Reading a file or pipe line by line, whatever pieces it comes in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crank.cli.lines import lines


async def _lines(*chunks: bytes, most: int = 100) -> list[tuple[int, bytes | None, int]]:
    reading, writing = os.pipe()
    for chunk in chunks:
        os.write(writing, chunk)
    os.close(writing)
    found = [tuple(line) async for line in lines(reading, most)]
    os.close(reading)
    return found


async def test_lines_are_numbered_and_say_where_they_end() -> None:
    """Empty ones too; the last needs no end, and some editors' first three bytes are none of it."""
    assert await _lines(b"a\n\nbc\r\n", b"d") == [(1, b"a", 2), (2, b"", 3), (3, b"bc\r", 7), (4, b"d", 8)]
    assert await _lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb") == [(1, b"a", 5), (2, b"\xef\xbb\xbfb", 9)]
    assert await _lines(b"") == []


@pytest.mark.parametrize("chunk", [1, 3, 7, 10_000])
async def test_a_line_that_is_too_long_is_passed_over_and_the_next_is_read(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pieces it comes in, and at the end too."""
    monkeypatch.setattr("crank.cli.lines._CHUNK_BYTES", chunk)
    found = await _lines(b"ab\n" + b"x" * 11 + b"\n" + b"y" * 10 + b"\n" + b"z" * 50, most=10)
    assert found == [(1, b"ab", 3), (2, None, 15), (3, b"y" * 10, 26), (4, None, 76)]


async def test_a_source_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """As a folder cannot."""
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        [line async for line in lines(folder, 10)]
    os.close(folder)
