"""Files: whole or absent, and what cannot be written is told before the work."""

import json
from pathlib import Path

import pytest

from latentcot import RunError
from latentcot.utils.files import refuse_unwritable, write_json


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder where root may not write")
def test_a_folder_that_takes_no_file_is_told_before_the_work() -> None:
    with pytest.raises(RunError, match=r"/proc/self/result\.json: cannot be written: "):
        refuse_unwritable(Path("/proc/self/result.json"))


def test_what_is_no_text_comes_back(tmp_path: Path) -> None:
    """Names of files that are not UTF-8 have lone surrogates."""
    write_json(tmp_path / "x.json", {"data": "caf\udce9 é"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"data": "caf\udce9 é"} and "é" in text
