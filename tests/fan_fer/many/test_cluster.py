"""Ray Data on a cluster of two workers on this machine: the same rows as one process, whatever dies."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import DrawnFaces

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError
from fan_fer.many.cluster import predict_manifest
from fan_fer.many.predict import predict_many
from fan_fer.many.ray_workers import _ClusterWorker
from fan_fer.many.work import make_work

from ..drawn_lists import WHITE, draw_list, draw_white, random_weights, read_rows

ray = pytest.importorskip("ray", reason="Ray is not installed (make installs it)")
TESTS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # workers have to find the detector
    monkeypatch.setenv("RAY_worker_niceness", "0")  # what else this machine does need not come first
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)


def test_the_rows_of_one_process_whatever_dies(tmp_path: Path) -> None:
    listing = draw_list(tmp_path / "videos")
    weights = random_weights(tmp_path / "random.safetensors")
    predict_many(listing, tmp_path / "one.csv", workers=0, weights=weights, detector=DrawnFaces())

    draw_white(listing.parent / WHITE)
    with listing.open("a") as file:
        file.write(f"{WHITE},,\n")
    died = tmp_path / "died"
    detector = DrawnFaces(dies=died, deadly=True)
    summary = predict_manifest(listing, tmp_path / "ray.csv", workers=2, weights=weights, detector=detector)

    assert died.exists()  # a worker was killed at a video that is done all the same
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert summary.counts()["failed"] == 4
    *rows, last = read_rows(tmp_path / "ray.csv")
    assert last["error"] == "its worker died, hung or was lost, 3 times; perhaps memory ran out"
    for row, expected in zip(rows, read_rows(tmp_path / "one.csv"), strict=True):
        for name in (f"p_{emotion}" for emotion in EMOTIONS):  # the number of threads may show in the last digits
            assert float(row.pop(name) or 0) == pytest.approx(float(expected.pop(name) or 0), abs=1e-5)
        assert row == expected


def test_a_machine_with_other_weights_ends_the_work_with_one_line(tmp_path: Path) -> None:
    weights = random_weights(tmp_path / "random.safetensors")
    own = make_work(tmp_path / "list.csv", weights, DrawnFaces(), "cpu")
    worker = _ClusterWorker(replace(own, fingerprint="of another file"), attempts=None, time_limit=60)
    batch = worker({"video": np.array(["a.avi"], object)})
    assert batch["video"] == ["a.avi"]
    assert re.fullmatch(r'".+: .+random\.safetensors: is not the same file for all workers; .+"', batch["result"][0])


def test_a_cluster_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, **options: object) -> None:
        raise ConnectionError(f"no cluster at {address}\nmore about it")

    listing = draw_list(tmp_path / "videos")
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(FanFerError, match=r"^Ray cluster head:6379: cannot be reached \(no cluster at head:6379\)$"):
        predict_many(listing, tmp_path / "out.csv", address="head:6379", detector=DrawnFaces())
    with pytest.raises(FanFerError, match=r"^0 workers: at least 1 is wanted$"):
        predict_many(listing, tmp_path / "out.csv", address="auto", workers=0)
