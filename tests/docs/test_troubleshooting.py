"""Each message that the page on troubleshooting quotes is one that the program has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import DEFAULT_WEIGHTS
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT

from .pages import PAGES, ROOT

QUOTED = re.findall(r"^`(.+)`\n\n: ", PAGES["docs/troubleshooting.md"].read_text(), re.MULTILINE)
OF_TORCH = "Could not find schema for fan_ext::frame_attention_forward"
SHORTEST = 12  # characters that a message has to have in common with the program


def patterns() -> list[re.Pattern[str]]:
    """The program's texts; what it fills in may be anything."""
    texts = []
    for path in [*ROOT.glob("fan_ext/**/*.py"), *ROOT.glob("python/fan_fer/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append([part.value if isinstance(part, ast.Constant) else None for part in node.values])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append([node.value])
    for path in [ROOT / "CMakeLists.txt", *ROOT.glob("cmake/*.cmake")]:
        for message in re.findall(r'message\(FATAL_ERROR((?:\s+"[^"]*")+)', path.read_text()):
            text = "".join(re.findall(r'"([^"]*)"', message))
            parts = re.split(r"(\$\{\w+\})", text)
            texts.append([None if part.startswith("${") else part for part in parts])
    return [
        re.compile("".join(".+" if part is None else re.escape(part) for part in text))
        for text in texts
        if sum(len(part or "") for part in text) >= SHORTEST
    ]


def test_quoted_messages_are_in_the_source() -> None:
    program = patterns()
    unknown = [line for line in QUOTED if line != OF_TORCH and not any(known.fullmatch(line) for known in program)]
    # CMake's message goes on with what to do, which the page says in its own words.
    unknown = [line for line in unknown if not any(known.pattern.startswith(re.escape(line)) for known in program)]
    assert unknown == []
    assert len(QUOTED) >= 25


def test_each_message_has_its_cure() -> None:
    entries = re.findall(r"^`.+`$", PAGES["docs/troubleshooting.md"].read_text(), re.MULTILINE)
    assert [entry.strip("`") for entry in entries] == QUOTED


def test_a_message_that_the_program_lacks_is_noticed() -> None:
    assert not any(known.fullmatch("clip.mp4: no person in this video") for known in patterns())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page speaks of, in the working folder."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (96, 64))
    for _ in range(3):
        writer.write(np.full((64, 96, 3), 128, np.uint8))
    writer.release()
    (tmp_path / "notes.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet18.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "checkpoint.pth")
    (tmp_path / "broken.safetensors").write_bytes(DEFAULT_WEIGHTS.read_bytes()[:-1000])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "predict clip.mp4",
        "predict notes.mp4",
        "predict gone.mp4",
        "predict empty.mp4",
        "predict clip.mp4 --plot missing/weights.png",
        "predict clip.mp4 --plot weights.bmp",
        "predict clip.mp4 --json clip.mp4",
        "predict clip.mp4 --weights fan.safetensors",
        "predict clip.mp4 --weights resnet18.safetensors",
        "predict clip.mp4 --weights checkpoint.pth",
        "predict clip.mp4 --weights broken.safetensors",
        "predict clip.mp4 --detector yunet:yunet.onnx",
        "predict clip.mp4 --device cuda:99",
    ],
)
def test_what_is_printed_is_what_the_page_quotes(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == BAD_INPUT
    printed = capsys.readouterr().err.removeprefix("fan-fer: error: ").rstrip("\n")

    def general(line: str) -> str:
        """Without what differs from machine to machine: numbers, and folders before a name."""
        line = re.sub(r"/\S*/", "/", line.replace("broken.safetensors", "fan.safetensors").replace("cuda:99", "cuda"))
        return re.sub(r"\d+(\.\d+)*(\+\w+)?", "0", line)

    assert general(printed) in [general(line) for line in QUOTED]


def test_an_incomplete_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = FrameAttentionNetwork()
    tensors = {name: value for name, value in network.state_dict().items() if not name.startswith("classifier.")}
    from safetensors import safe_open

    with safe_open(DEFAULT_WEIGHTS, framework="pt") as file:
        save_file(tensors, folder / "half.safetensors", metadata=file.metadata())
    assert main(["predict", "clip.mp4", "--weights", "half.safetensors"]) == BAD_INPUT
    assert capsys.readouterr().err.removeprefix("fan-fer: error: ").rstrip("\n") in QUOTED
