"""Recipes: what the published training says, which table wins, and one line for every mistake in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fan_fer.attention.network import VARIANTS
from fan_fer.base.errors import TrainingError
from fan_fer.training.recipe import RECIPES, TrainingSettings, load_recipe
from fan_fer.training.schedule import lr_factor


@pytest.mark.parametrize(
    ("layout", "variant", "lr", "epochs", "step", "score_dropout", "dropout"),
    [
        ("ckplus", "fan", 0.01, 60, 30, 0.5, 0.6),
        ("ckplus", "self", 0.01, 60, 30, 0.5, 0.5),
        ("ckplus", "score-fusion", 0.1, 60, 30, 0.0, 0.0),
        ("afew", "fan", 0.004, 180, 60, 0.5, 0.6),
        ("afew", "self", 0.004, 180, 60, 0.5, 0.5),
        ("afew", "score-fusion", 4e-6, 180, 60, 0.0, 0.0),
    ],
)
def test_published_hyper_parameters(layout, variant, lr, epochs, step, score_dropout, dropout) -> None:
    settings = load_recipe("paper").settings(layout, variant)
    assert (settings.lr, settings.epochs, settings.step) == (lr, epochs, step)
    assert (settings.score_dropout, settings.dropout) == (score_dropout, dropout)
    assert (settings.frames, settings.batch_size, settings.mirror) == (3, 48, True)
    assert (settings.optimizer, settings.momentum, settings.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (settings.schedule, settings.gamma) == ("step", 0.2)
    assert (settings.size, settings.grayscale, settings.mean, settings.std) == (224, False, (0, 0, 0), (1, 1, 1))
    assert not settings.freeze_backbone


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", ["ckplus", "afew", "folders", "csv"])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_serves_every_set(name: str, layout: str, variant: str) -> None:
    assert load_recipe(name).settings(layout, variant).epochs > 0


def test_the_more_specific_table_wins(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        "epochs = 1\nlr = 1\n"
        "[layout.afew]\nlr = 2\nepochs = 2\n"
        "[variant.fan]\nlr = 3\n"
        "[layout.afew.variant.fan]\nlr = 4\n"
    )
    recipe = load_recipe(str(path))
    assert recipe.name == "own"
    found = {(s, v): recipe.settings(s, v) for s in ("ckplus", "afew") for v in ("self", "fan")}
    assert {key: (settings.lr, settings.epochs) for key, settings in found.items()} == {
        ("ckplus", "self"): (1, 1),
        ("ckplus", "fan"): (3, 1),
        ("afew", "self"): (2, 2),
        ("afew", "fan"): (4, 2),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 5", "without lr"),
        ("epochs = 5\nlr = 0", "lr is 0; a number above 0"),
        ("epochs = 0\nlr = 1", "epochs is 0; 1 or more"),
        ("epochs = 1.5\nlr = 1", "epochs is 1.5; a whole number"),
        ("epochs = 5\nlr = 1\nlearning_rate = 3", "key 'learning_rate' is unknown; known are epochs, lr"),
        ("epochs = 5\nlr = true", "lr is True; a number"),
        ('epochs = 5\nlr = 1\noptimizer = "adam"', 'optimizer is \'adam\'; "sgd" or "adamw"'),
        (
            'epochs = 5\nlr = 1\nbackbone = "vgg"',
            'backbone is \'vgg\'; "auto" or .* or "timm:NAME" is',
        ),
        ('epochs = 5\nlr = 1\nsampling = "some"', 'sampling is \'some\'; "all" or "balanced" is'),
        ("epochs = 5\nlr = 1\nsoft_labels = 1", "soft_labels is 1; the name of a file is"),
        ("epochs = 5\nlr = 1\nclass_weights = true", 'class_weights is True; "none" or "balanced" is'),
        ("epochs = 5\nlr = 1\ndropout = 1.0", "dropout is 1.0; a number from 0 up to, not including, 1"),
        ("epochs = 5\nlr = 1\nfreeze_backbone = 1", "freeze_backbone is 1; true or false"),
        ("epochs = 5\nlr = 1\nmean = [0.5]", "mean is \\[0.5\\]; a list of three numbers"),
        ("epochs = 5\nlr = 1\nstd = [0, 1, 1]", "std is \\[0, 1, 1\\]; a list of three numbers above 0"),
        ("epochs = 5\nlr = 1\nframes = -1", "frames is -1; 0 or more"),
        ("epochs = ", "not a TOML file"),
        ("epochs = 5\nlr = nan", "lr is nan; a number"),
        ("epochs = 5\nlr = -inf", "lr is -inf; a number"),
        ("epochs = 5\nlr = 1e400", "lr is inf; a number"),
        ("epochs = 5\nlr = 1e300", r"lr is 1e\+300; a number"),
        pytest.param(f"epochs = 5\nlr = 1{'0' * 400}", "lr is 10+; a number", id="a long lr"),
        pytest.param(f"epochs = 5\nlr = 1{'0' * 5000}", "not a TOML file", id="a very long lr"),
        ("epochs = 5\nlr = 1\nmean = [0.5, nan, 0.5]", "mean is .*nan.*; a list of three numbers"),
        ("epochs = 5\nlr = 1\nstd = [1, inf, 1]", "std is .*inf.*; a list of three numbers"),
        ("epochs = 5\nlr = 1\nbatch_size = 10000000", "batch_size is 10000000; at most 1000000"),
        ("epochs = 5\nlr = 1\ngamma = 2", "gamma is 2; at most 1"),
        pytest.param(f"x = {'[' * 100_000}", "not a TOML file", id="nested"),
        ('epochs = 5\nlr = 1\nlayout = "afew"', r"layout is no table that is known; \[layout.crema-d\], "),
        ("epochs = 5\nlr = 1\nvariant.fan = 3", r"variant fan is no table that is known; \[variant.fan\], "),
        ("epochs = 5\nlr = 1\n[variant.FAN]\nlr = 2", r"\[variant.FAN\] is no table that is known; \[variant.fan\], "),
        ("epochs = 5\nlr = 1\n[layout.avew]\nlr = 2", r"\[layout.avew\] is no table that is known"),
        ("epochs = 5\nlr = 1\n[variant.fan.layout.afew]\nlr = 2", "key 'layout' is unknown"),
        # What another variant, or a set of another layout, would be trained with.
        ("epochs = 5\nlr = 1\n[variant.self]\nlearning_rate = 2", "key 'learning_rate' is unknown"),
        ("epochs = 5\nlr = 1\n[layout.ckplus.variant.self]\nlr = 0", "lr is 0; a number above 0"),
    ],
)
def test_mistakes_in_a_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message) as error:
        load_recipe(str(path)).settings("afew", "fan")
    assert "own.toml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("table", ["", "[layout.afew]\n", "[variant.fan]\n", "[layout.afew.variant.fan]\n"])
def test_a_file_that_a_recipe_names_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "own.toml"
    monkeypatch.chdir(tmp_path)
    for written, wanted in (("votes.csv", "recipes/votes.csv"), ("/data/votes.csv", "/data/votes.csv")):
        path.write_text(f'epochs = 5\nlr = 1\n{table}soft_labels = "{written}"\n')
        assert Path(load_recipe("recipes/own.toml").settings("afew", "fan").soft_labels) == Path(wanted)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_recipe_is_read_whatever_wrote_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes("# für uns\r\nepochs = 5\r\nlr = 0.1\r\n".encode(encoding))
    assert load_recipe(str(path)).settings("afew", "fan").epochs == 5
    path.write_bytes("epochs = 5 # für uns".encode("latin-1"))
    with pytest.raises(TrainingError, match=r"own\.toml: not a TOML file \('utf-8' codec can't decode"):
        load_recipe(str(path))


def test_unknown_recipe() -> None:
    with pytest.raises(TrainingError, match=r"recipe 'slow': no such file, .* fast, light, paper, strong"):
        load_recipe("slow")


def test_learning_rate_over_a_run() -> None:
    stepped = TrainingSettings(epochs=60, lr=1, schedule="step", step=30, gamma=0.2)
    assert [lr_factor(stepped, epoch) for epoch in (0, 29.9, 30, 59.9)] == pytest.approx([1, 1, 0.2, 0.2])
    cosine = TrainingSettings(epochs=10, lr=1, schedule="cosine")
    assert [lr_factor(cosine, epoch) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    warm = TrainingSettings(epochs=10, lr=1, schedule="cosine", warmup=2)
    factors = [lr_factor(warm, epoch / 4) for epoch in range(41)]
    assert 0 < factors[0] < factors[7] < 1
    assert max(factors) == factors[8] == 1
    assert factors[8:] == sorted(factors[8:], reverse=True)
