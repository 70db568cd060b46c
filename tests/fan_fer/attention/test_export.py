"""Exported networks: what onnxruntime, and the compiled package, compute is what torch computes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch._inductor.config
from drawn_faces import EXPRESSIONS, DrawnFaces, draw_face
from torch import Tensor, nn

import fan_fer
from fan_fer.attention import export
from fan_fer.attention.network import VARIANTS, FrameAttentionNetwork, NetworkOutput
from fan_fer.attention.weights import ModelCard, load_weights, save_weights
from fan_fer.base import extras
from fan_fer.base.errors import ExportError, LibraryError
from fan_fer.cli import export as command
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE
from fan_fer.faces.align import align_face
from fan_fer.faces.clip_faces import find_faces
from fan_fer.faces.mtcnn import MTCNN
from fan_fer.faces.subject import subject_crops
from fan_fer.video.decoding import Video
from fan_fer.video.images import Stream

from ..fakes import PREPROCESSING, SquareDetector, every_nth, names, picture

SIZE = PREPROCESSING.size


def make_network(variant: str, small: bool = True) -> FrameAttentionNetwork:
    """A network of random weights whose attention tells frames apart; small: with less than a ResNet, for speed."""
    torch.manual_seed(0)
    network = FrameAttentionNetwork(variant)
    if small:
        norm = nn.BatchNorm2d(16)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        layers = nn.Conv2d(3, 16, 5, stride=2), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        network.backbone = nn.Sequential(*layers, nn.Linear(64, network.feature_size))
    for parameter in network.attention.parameters() if network.attention else ():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def make_card(variant: str, backbone: str = "resnet18", size: int = SIZE) -> ModelCard:
    preprocessing = replace(PREPROCESSING, size=size)
    return ModelCard(variant, preprocessing, backbone, trained_on="nothing", license="MIT", temperature=0.8)


def save_random(path: Path, variant: str = "fan") -> Path:
    save_weights(path, make_network(variant, small=False), make_card(variant))
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every variant as ONNX."""
    folder = tmp_path_factory.mktemp("onnx")
    for variant in VARIANTS:
        export.export_onnx(folder / f"{variant}.onnx", make_network(variant), make_card(variant))
    return {variant: folder / f"{variant}.onnx" for variant in VARIANTS}


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Aligned faces, uint8 RGB (3 clips, 5 frames, S, S, 3)."""
    expressions = list(EXPRESSIONS)
    return np.stack([
        np.stack([crop(draw_face(expressions[clip + frame], frame / 4, clip)) for frame in range(5)])
        for clip in range(3)
    ])  # fmt: skip


def crop(picture: np.ndarray) -> np.ndarray:
    (face,) = DrawnFaces().detect(picture)
    return align_face(picture, face.landmarks, SIZE)


def run_onnx(path: Path, frames: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, weights = session.run(["logits", "weights"], {"frames": frames, "mask": mask})
    return logits, weights


@torch.inference_mode()
def run_torch(network: FrameAttentionNetwork, card: ModelCard, frames: np.ndarray, mask: np.ndarray) -> NetworkOutput:
    images = card.preprocessing(frames.reshape(-1, *frames.shape[2:]))
    return network(images.unflatten(0, mask.shape), torch.from_numpy(mask))


def assert_same(got: tuple[Any, Any], wanted: NetworkOutput) -> None:
    for own, tensor in zip(got, (wanted.logits, wanted.weights.final), strict=True):
        np.testing.assert_allclose(own, tensor.numpy(), rtol=1e-4, atol=1e-5)


# ONNX


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2), (3, 5)])
def test_onnxruntime_computes_what_torch_does(
    exported: dict[str, Path], drawn: np.ndarray, variant: str, shape: tuple[int, int]
) -> None:
    batch, count = shape
    frames = drawn[:batch, :count]
    mask = np.random.default_rng(count).random(shape) < 0.6
    mask[0, 0] = True
    got = run_onnx(exported[variant], frames, mask)
    assert_same(got, run_torch(make_network(variant), make_card(variant), frames, mask))
    assert got[0].shape == (batch, 7)
    np.testing.assert_allclose(got[1].sum(1), mask.any(1), atol=1e-5)
    assert (got[1][~mask] == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_absent_frames_hold_does_not_matter(exported: dict[str, Path], drawn: np.ndarray, variant: str) -> None:
    mask = np.array([[True, False, True, False, False]])
    logits, weights = run_onnx(exported[variant], drawn[:1], mask)
    others = drawn[:1].copy()
    others[~mask] = 255 - others[~mask]
    for got, wanted in zip(run_onnx(exported[variant], others, mask), (logits, weights), strict=True):
        np.testing.assert_array_equal(got, wanted)
    alone, _ = run_onnx(exported[variant], drawn[:1, [0, 2]], np.ones((1, 2), bool))
    np.testing.assert_allclose(alone, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clip_without_a_frame(exported: dict[str, Path], drawn: np.ndarray, variant: str) -> None:
    mask = np.array([[False] * 5, [True] * 5])
    logits, weights = run_onnx(exported[variant], drawn[:2], mask)
    assert (weights[0] == 0).all()
    if variant == "score-fusion":
        assert np.ptp(logits[0]) == 0
    else:  # zeros are pooled: what is left is the classifier's bias
        np.testing.assert_allclose(logits[0], make_network(variant).classifier.bias.detach(), atol=1e-6)
    assert_same((logits, weights), run_torch(make_network(variant), make_card(variant), drawn[:2], mask))


def test_attention_does_not_underflow(tmp_path: Path, drawn: np.ndarray) -> None:
    network, card, mask = make_network("fan"), make_card("fan"), np.ones((3, 5), bool)
    with torch.no_grad():
        network.attention.self_bias.fill_(-1e4)
        network.attention.relation_bias.fill_(-300)
    export.export_onnx(tmp_path / "a.onnx", network, card)
    got = run_onnx(tmp_path / "a.onnx", drawn, mask)
    wanted = run_torch(network, card, drawn, mask)
    assert np.isfinite(got[0]).all()
    # Logits near -1e4 have three digits behind the point in float32.
    np.testing.assert_allclose(got[1], wanted.weights.final, rtol=5e-3)
    np.testing.assert_allclose(got[0], wanted.logits, rtol=5e-3, atol=5e-3)


def test_preprocessed_frames(tmp_path: Path, drawn: np.ndarray) -> None:
    network, card = make_network("fan"), make_card("fan")
    path = tmp_path / "float.onnx"
    difference = export.export_onnx(path, network, card, frames="float32")
    assert difference is not None
    assert difference < 1e-3
    mask = np.array([[True, True, False, True, False]])
    images = card.preprocessing(drawn[0])[None].numpy()
    images[~mask] = np.nan
    assert_same(run_onnx(path, images, mask), run_torch(network, card, drawn[:1], mask))
    with pytest.raises(ValueError, match="frames: got 'int8'; wanted one of uint8, float32"):
        export.export_onnx(path, network, card, frames="int8")


def test_the_file_describes_itself(exported: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(exported["fan"], providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["card"])
    assert ModelCard.from_dict(card) == make_card("fan")
    frames, mask = session.get_inputs()
    assert (frames.name, frames.type, frames.shape) == ("frames", "tensor(uint8)", ["batch", "frames", SIZE, SIZE, 3])
    assert (mask.name, mask.type, mask.shape) == ("mask", "tensor(bool)", ["batch", "frames"])
    assert [(out.name, out.shape) for out in session.get_outputs()] == [
        ("logits", ["batch", 7]),
        ("weights", ["batch", "frames"]),
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_standard_operators_of_one_opset(exported: dict[str, Path], variant: str) -> None:
    check_operators(exported[variant])


def check_operators(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", export.OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions


def test_a_network_over_face29(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, size = FrameAttentionNetwork("fan", backbone="face29"), 80
    with torch.no_grad():
        network.backbone.train()(torch.randn(4, 3, size, size))  # its batch norms have seen something
    network.eval()
    card, path = make_card("fan", "face29", size), tmp_path / "face29.onnx"
    difference = export.export_onnx(path, network, card)
    assert difference is not None
    assert difference < 1e-3
    check_operators(path)
    assert path.stat().st_size < 25e6
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, size, size, 3), np.uint8)
    mask = np.array([[True, True, False], [True, True, True]])
    assert_same(run_onnx(path, frames, mask), run_torch(network, card, frames, mask))


@pytest.mark.parametrize("write", [export.export_onnx, export.export_aot])
def test_a_card_of_another_network_is_refused(tmp_path: Path, write: Callable[..., object]) -> None:
    network = FrameAttentionNetwork("fan", backbone="face29")
    message = r'x: not written: the card says backbone "resnet18", the network is "face29"$'
    with pytest.raises(ExportError, match=message):
        write(tmp_path / "x", network, make_card("fan"))
    with pytest.raises(ValueError, match=r"^size: got 70; faces of 71 pixels or more are wanted for face29$"):
        make_card("fan", "face29", 70)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [export.export_onnx, export.export_aot])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, write: Callable[..., object]) -> None:
    network = make_network("fan")
    network.classifier.bias.data[0] = float("nan")
    with pytest.raises(ExportError, match=r"x\.onnx: not written, as classifier\.bias is not finite$"):
        write(tmp_path / "x.onnx", network, make_card("fan"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_from_torch_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def equal_weights(features: Tensor, *_: Any, mask: Tensor, **__: Any) -> tuple[Tensor, Any]:
        share = mask / mask.sum(1, keepdim=True).clamp_min(1)
        pooled = torch.einsum("bn,bnd->bd", share, features)
        return torch.cat([pooled, pooled], 1), export.reference.FrameWeights(share, share, share)

    path = tmp_path / "a.onnx"
    path.write_bytes(b"older")
    monkeypatch.setattr(export.reference, "frame_attention", equal_weights)
    with pytest.raises(
        ExportError, match=r"a\.onnx: not written, as its logits for 2 clips of 5 random frames are not"
    ):
        export.export_onnx(path, make_network("fan"), make_card("fan"))
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == ["a.onnx"]


def test_a_real_clip_end_to_end(clips: Path, tmp_path: Path) -> None:
    """Faces found, aligned, through onnxruntime: what `Recognizer.predict` says."""
    video = every_nth(clips / "WolfgangLanger_Pexels.mp4", tmp_path / "clip.avi", 40)
    network, card = load_weights()
    path = tmp_path / "fan.onnx"
    export.export_onnx(path, network, card)

    recognizer = fan_fer.load_recognizer(precision="float32")
    wanted = recognizer.predict(video)
    settings = card.preprocessing
    found = subject_crops(Video(video), recognizer.detector, settings.size, settings.template)
    crops = [found.get(index) for index in range(wanted.frames_total)]
    mask = np.array([[face is not None for face in crops]])
    empty = np.zeros((card.preprocessing.size, card.preprocessing.size, 3), np.uint8)
    logits, weights = run_onnx(path, np.stack([empty if face is None else face for face in crops])[None], mask)
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert len(crops) >= 10
    np.testing.assert_allclose(probabilities, list(wanted.probabilities.values()), atol=1e-4)
    np.testing.assert_allclose(weights[0], [frame.weight or 0 for frame in wanted.frames], atol=1e-4)
    assert card.classes[probabilities.argmax()] == wanted.label


def test_twenty_real_clips_read_the_same(clips: Path, tmp_path: Path) -> None:
    """Pieces of four videos of people: every second frame, as float32, in torch and in the file."""
    network, card = load_weights()
    path = tmp_path / "fan.onnx"
    export.export_onnx(path, network, card)
    settings, detector, pieces = card.preprocessing, MTCNN(), []
    for name, share in (
        ("WolfgangLanger_Pexels.mp4", 14),
        ("single_face.mp4", 2),
        ("face_noface.mov", 2),
        ("noface_face.mov", 2),
    ):
        frames = Stream([frame.image for frame in Video(clips / name)][::2])
        crops = [*subject_crops(frames, detector, settings.size, settings.template).values()]
        pieces += [np.stack(part) for part in np.array_split(np.stack(crops), share)]
    assert len(pieces) == 20
    labels = set()
    for faces in pieces:
        mask = np.ones((1, len(faces)), bool)
        wanted = run_torch(network, card, faces[None], mask)
        logits, weights = run_onnx(path, faces[None], mask)
        probabilities = torch.from_numpy(logits).softmax(-1)
        assert (probabilities - wanted.logits.softmax(-1)).abs().max() < 1e-5
        assert np.abs(weights - wanted.weights.final.numpy()).max() < 1e-5
        assert probabilities.argmax() == wanted.logits.argmax()
        labels.add(int(probabilities.argmax()))
    assert len(labels) > 1


# int8


def test_int8_reads_faces_alike(clips: Path, tmp_path: Path) -> None:
    """Fitted to five people of a picture, on a clip of another."""
    network, card = load_weights()
    files = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    settings, detector = card.preprocessing, MTCNN()
    (group,) = find_faces(Video(clips / "multi_face.jpg"), detector, settings.size, settings.template)
    export.export_onnx(files[0], network, card)
    same, apart = export.export_int8(files[1], network, card, group.crops)
    assert 0.8 <= same <= 1
    assert 0 < apart < 0.05
    assert files[1].stat().st_size < 0.3 * files[0].stat().st_size
    check_operators(files[1])
    session = onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])
    stored = json.loads(session.get_modelmeta().custom_metadata_map["card"])
    assert ModelCard.from_dict(stored) == card

    video = every_nth(clips / "WolfgangLanger_Pexels.mp4", tmp_path / "clip.avi", 12)
    crops = np.stack([*subject_crops(Video(video), detector, settings.size, settings.template).values()])
    for faces in (crops[None], crops[:, None], np.stack([crops[:8], crops[-8:]])):  # clips and faces on their own
        mask = np.ones(faces.shape[:2], bool)
        (logits, weights), (whole, whole_weights) = (run_onnx(file, faces, mask) for file in files[::-1])
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
        assert np.abs(weights - whole_weights).max() < 0.05
        got, wanted = (torch.from_numpy(each).softmax(-1) for each in (logits, whole))
        assert (got.argmax(-1) == wanted.argmax(-1)).float().mean() > 0.9
        assert (got - wanted).abs().amax(-1).mean() < 0.02


def test_int8_of_a_network_over_face29(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, size = FrameAttentionNetwork("self", backbone="face29").eval(), 80
    faces = np.random.default_rng(0).integers(0, 256, (9, size, size, 3), np.uint8)
    path = tmp_path / "int8.onnx"
    export.export_int8(path, network, make_card("self", "face29", size), list(faces))
    check_operators(path)
    assert path.stat().st_size < 7e6  # of 22 in float32
    assert names(tmp_path) == ["int8.onnx"]


def test_int8_for_other_backbones_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BACKBONES", {"face29": None})
    with pytest.raises(ExportError, match=r"x: int8 is for face29; the network's backbone is resnet18$"):
        export.export_int8(tmp_path / "x", make_network("fan"), make_card("fan"), [np.zeros((SIZE, SIZE, 3), np.uint8)])
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(LibraryError, match=r"^int8 needs onnxruntime: pip install 'fan_ext\[export\]'$"):
        export.export_int8(tmp_path / "x", make_network("fan"), make_card("fan"), [])
    assert names(tmp_path) == []


# AOTInductor

LOAD = """\
import sys, json
import numpy as np
import torch
import fan_ext.functional

network = torch._inductor.aoti_load_package(sys.argv[1])
print(json.loads(network.get_metadata()["card"])["license"])
data = np.load(sys.argv[2])
for count in (1, 4, 5):
    frames, mask = (torch.from_numpy(data[name][:, :count].copy()) for name in ("frames", "mask"))
    logits, weights = network(frames, mask)
    np.savez(f"{sys.argv[3]}/{count}.npz", logits=logits.numpy(), weights=weights.numpy())
try:
    network(frames.transpose(0, 1).contiguous().transpose(0, 1), mask)
except RuntimeError:
    print("refused")
"""


def test_the_compiled_package_in_another_process(tmp_path: Path, drawn: np.ndarray) -> None:
    network, card = make_network("fan", small=False), make_card("fan")
    assert export.export_aot(tmp_path / "fan.pt2", network, card) < 1e-3
    mask = np.array([[True, False, True, True, False], [True] * 5, [False] * 5])
    np.savez(tmp_path / "clips.npz", frames=drawn, mask=mask)
    arguments = [str(tmp_path / "fan.pt2"), str(tmp_path / "clips.npz"), str(tmp_path)]
    command = [sys.executable, "-c", LOAD, *arguments]
    environment = os.environ | {"AOTI_RUNTIME_CHECK_INPUTS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "MIT\nrefused\n"), done.stderr
    for count in (1, 4, 5):
        with np.load(tmp_path / f"{count}.npz") as got:
            wanted = run_torch(network, card, drawn[:, :count], mask[:, :count])
            assert_same((got["logits"], got["weights"]), wanted)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_program_that_is_compiled(drawn: np.ndarray, variant: str) -> None:
    network, card = make_network(variant), make_card(variant)
    program = export._program(export._ClipModule(network, card.preprocessing, "uint8"))
    operators = [str(node.target) for node in program.graph.nodes]
    assert ("fan_ext.frame_attention_forward.default" in operators) == (variant != "score-fusion")
    mask = np.array([[True, False, True, True, False]])
    got = program.module()(torch.from_numpy(drawn[:1]), torch.from_numpy(mask))
    assert_same(got, run_torch(network, card, drawn[:1], mask))


def test_without_a_compiler(tmp_path: Path) -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(ExportError, match=r"fan\.pt2: no C\+\+ compiler found; g\+\+ or clang\+\+ is wanted"),
    ):
        export.export_aot(tmp_path / "fan.pt2", make_network("fan"), make_card("fan"))
    assert names(tmp_path) == []


# The command


def test_int8_on_the_command_line(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = save_random(tmp_path / "w.safetensors"), tmp_path / "a.onnx"
    group = str(clips / "multi_face.jpg")
    assert main(["export", "--onnx", str(out), "--weights", str(weights), "--int8", group, group]) == DONE
    got, err = capsys.readouterr()
    assert err == ""
    line = r": 11\.\d MB; of the 10 faces \d+\.\d% get the label that they get in float32; probabilities differ by 0\."
    assert re.match(re.escape(str(out)) + line, got)
    assert got.count("\n") == 1
    for name in ("a", "b"):  # a folder of folders of pictures, which is two clips
        (tmp_path / "faces" / name).mkdir(parents=True)
        shutil.copy(group, tmp_path / "faces" / name / "1.jpg")
    assert main(["export", "--onnx", str(out), "--weights", str(weights), "--int8", str(tmp_path / "faces")]) == DONE
    assert "of the 10 faces" in capsys.readouterr().out
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((60, 80, 3), 120, np.uint8))
    for given, message in (
        ([str(tmp_path / "grey.png")], "grey.png: no face in it; --int8 wants clips that show some hundred"),
        ([str(tmp_path / "gone.mp4")], "gone.mp4: no such file"),
    ):
        assert main(["export", "--onnx", str(out), "--weights", str(weights), "--int8", *given]) == BAD_INPUT
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    for options in (["--aot", "a.pt2"], ["--onnx", "a.onnx", "--frames", "float32"]):
        with pytest.raises(SystemExit) as caught:
            main(["export", *options, "--int8", group])
        assert caught.value.code == BAD_INPUT
        assert "--int8 goes with --onnx FILE and --frames uint8" in capsys.readouterr().err


def test_the_faces_of_long_clips_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fan_fer.faces.detectors.load_detector", lambda name: SquareDetector())
    images = [picture([(10, 10, 20 + index % 30)]) for index in range(90)]
    monkeypatch.setattr("fan_fer.video.sources.open_clip", lambda clip: Stream(images[: int(clip)]))
    for clips, limit, expected in ((["90"], 100, 90), (["90"], 20, 12), (["90", "3"], 20, 9), (["90", "1"], 2, 2)):
        monkeypatch.setattr(command, "FACES", limit)
        assert len(command._faces(clips, make_card("fan").preprocessing)) == expected


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save_random(tmp_path / "w.safetensors", "self")
    assert main(["export", "--onnx", str(tmp_path / "a.onnx"), "--weights", str(weights)]) == DONE
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{tmp_path / 'a.onnx'}: 44.8 MB; onnxruntime's logits for random frames differ")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    card = session.get_modelmeta().custom_metadata_map["card"]
    assert json.loads(card) == json.loads(json.dumps(asdict(make_card("self"))))
    assert names(tmp_path) == ["a.onnx", "w.safetensors"]
    operators = {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    assert "Conv" in operators
    assert "BatchNormalization" not in operators


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "a.pb"], "a.pb: the name of such a file ends in .onnx"),
        (["--aot", "a.so"], "a.so: the name of such a file ends in .pt2"),
        (["--onnx", "no/a.onnx"], "no/a.onnx: there is no folder"),
        (["--onnx", "a.onnx", "--weights", "no.safetensors"], "no.safetensors: no such file"),
    ],
)
def test_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fan-fer: error: {message}")
    assert err.count("\n") == 1
    assert names(tmp_path) == []


def test_neither_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["export"])
    assert caught.value.code == BAD_INPUT
    assert "--onnx FILE or --aot FILE is wanted" in capsys.readouterr().err


def test_missing_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save_random(tmp_path / "w.safetensors")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert main(["export", "--onnx", str(tmp_path / "a.onnx"), "--weights", str(weights)]) == BAD_INPUT
    assert capsys.readouterr().err == "fan-fer: error: writing ONNX needs onnx: pip install 'fan_ext[export]'\n"
    assert names(tmp_path) == ["w.safetensors"]


def test_without_onnxruntime_it_is_written_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = export.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    assert export.export_onnx(tmp_path / "a.onnx", make_network("self"), make_card("self")) is None
    onnx.checker.check_model(tmp_path / "a.onnx")
