import errno
import os
import re
from pathlib import Path

import pytest

from rlseq2seq.errors import UserError
from stages.common import run, write_text_whole, written_whole

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_stage_is_run(project: Path) -> None:
    run((project / "done").touch)
    assert (project / "done").exists()


def test_what_the_user_can_mend_is_told_in_a_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stage() -> None:
        raise UserError("the sky is green: paint it")

    with pytest.raises(SystemExit) as caught:
        run(stage)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: the sky is green: paint it\n")


def test_a_bad_key_of_any_section_is_told_before_any_work(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = project / "params.yaml"
    params.write_text(re.sub("(?m)^    beam_size: .*", "    beam_size: 0", params.read_text()))
    with pytest.raises(SystemExit) as caught:
        run((project / "done").touch)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error == "error: evaluate.decoding.beam_size is 0: must be greater than or equal to 1\n"
    assert not (project / "done").exists()


def test_a_folder_that_may_not_be_written_is_told_in_a_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:  # root, as tests may run, may write everywhere
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SystemExit) as caught:
        run((project / "downloads").mkdir)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.endswith(
        "downloads cannot be opened or written (Permission denied): see to its permissions and run again\n"
    )


def test_a_full_disk_is_told_in_a_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stage() -> None:
        with (
            written_whole(project / "raw") as part,
            (part / "file").open("w") as _,
            Path("/dev/full").open("w") as full,
        ):
            full.write("more than there is room for")

    with pytest.raises(SystemExit) as caught:
        run(stage)
    assert caught.value.code == 2
    told = "error: a file cannot be written (No space left on device): make room and run again\n"
    assert capsys.readouterr() == ("", told)
    assert not list(project.glob("*raw*"))


def test_faults_of_the_program_keep_their_traceback(project: Path) -> None:
    for fault in (ZeroDivisionError, FileNotFoundError):

        def stage(fault: type[Exception] = fault) -> None:
            raise fault

        with pytest.raises(fault):
            run(stage)


def test_a_folder_appears_when_all_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "raw"
    for content in ("old", "new"):
        before = folder.exists() and (folder / "file").read_text()
        with written_whole(folder) as part:
            assert list(part.iterdir()) == []
            (part / "file").write_text(content)
            assert (folder.exists() and (folder / "file").read_text()) == before
            written = part.stat().st_ino
        assert folder.stat().st_ino == written  # renamed, not copied: a kill leaves no half of it
        assert (folder / "file").read_text() == content
    assert [path.name for path in folder.parent.iterdir()] == ["raw"]


def test_what_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    with written_whole(folder) as part:
        (part / "file").write_text("old")
    with pytest.raises(UserError), written_whole(folder) as part:
        (part / "file").write_text("new")
        raise UserError
    assert (folder / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_text_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "corpus.json"
    for text in ("old", "new ±"):
        write_text_whole(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [file.name for file in path.parent.iterdir()] == ["corpus.json"]
