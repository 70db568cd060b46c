"""The network's three variants, over either backbone: what they pool, and that absent frames do not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fan_fer.attention.network import VARIANTS, FrameAttentionNetwork
from fan_fer.features.backbones import BACKBONES

SIZES = {"resnet18": 512, "face29": 256}


@pytest.fixture(params=[(variant, backbone) for variant in VARIANTS for backbone in BACKBONES], ids="-".join)
def network(request: pytest.FixtureRequest) -> FrameAttentionNetwork:
    torch.manual_seed(0)
    variant, backbone = request.param
    return FrameAttentionNetwork(variant, backbone=backbone).eval()


@pytest.fixture
def frames() -> Tensor:
    return torch.randn(2, 3, 3, 72, 72, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_shapes_and_weights(network: FrameAttentionNetwork, frames: Tensor) -> None:
    logits, weights = network(frames)
    assert logits.shape == (2, 7)
    assert weights.final.shape == (2, 3)
    assert torch.allclose(weights.final.sum(1), torch.ones(2))
    assert (weights.alpha is None) == (network.variant == "score-fusion")
    assert (weights.beta is None) == (network.variant != "fan")


@torch.inference_mode()
def test_forward_is_embed_then_classify(network: FrameAttentionNetwork, frames: Tensor) -> None:
    features = network.embed(frames)
    assert features.shape == (2, 3, SIZES[network.backbone_name])
    assert torch.allclose(network.embed(frames[0, 0]), features[0, 0], atol=1e-5)
    assert torch.allclose(network.classify(features).logits, network(frames).logits)


@torch.inference_mode()
def test_the_pooled_clip_is_what_the_variant_says(frames: Tensor) -> None:
    for variant in VARIANTS:
        network = FrameAttentionNetwork(variant).eval()
        features = network.embed(frames)
        logits, weights = network.classify(features)
        final = weights.final.unsqueeze(-1)
        if variant == "score-fusion":
            expected = (network.classifier(features).softmax(-1)).mean(1).log()
        elif variant == "self":
            assert torch.allclose(final, weights.alpha.unsqueeze(-1) / weights.alpha.sum(1).view(2, 1, 1))
            expected = network.classifier((final * features).sum(1))
        else:
            alpha = weights.alpha.unsqueeze(-1)
            overall = (alpha * features).sum(1) / alpha.sum(1)
            expected = network.classifier(torch.cat([(final * features).sum(1), overall], dim=1))
        assert torch.allclose(logits, expected, atol=1e-5)


@torch.inference_mode()
def test_masked_frames_do_not_matter(network: FrameAttentionNetwork, frames: Tensor) -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    broken = frames.clone()
    broken[0, 2] = float("nan")
    logits, weights = network(broken, mask)
    assert torch.allclose(logits[0], network(frames[:1, :2]).logits[0], atol=1e-5)
    assert torch.allclose(logits[1], network(frames).logits[1], atol=1e-5)
    assert weights.final[0, 2] == 0


@torch.inference_mode()
def test_packed_clips_give_what_clips_alone_give(network: FrameAttentionNetwork) -> None:
    features = torch.randn(5, network.feature_size)
    logits, weights = network.classify(features, offsets=torch.tensor([0, 1, 5]))
    alone = torch.cat([network.classify(clip.unsqueeze(0)).logits for clip in features.split([1, 4])])
    assert torch.allclose(logits, alone, atol=1e-5)
    assert weights.final.shape == (5,)
    assert torch.allclose(weights.final[1:].sum(), torch.tensor(1.0))


@torch.inference_mode()
def test_a_clip_without_frames_is_undecided(network: FrameAttentionNetwork) -> None:
    mask = torch.tensor([[False, False]])
    logits, weights = network.classify(torch.full((1, 2, network.feature_size), float("nan")), mask)
    assert logits.isfinite().all()
    assert (weights.final == 0).all()


def test_every_parameter_learns(network: FrameAttentionNetwork, frames: Tensor) -> None:
    network(frames, torch.tensor([[True, False, True], [True, True, True]])).logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="variant: got 'both'; wanted one of fan, self, score-fusion"):
        FrameAttentionNetwork("both")
    with pytest.raises(ValueError, match="backbone: got 'vgg'; wanted one of resnet18, face29"):
        FrameAttentionNetwork(backbone="vgg")


@pytest.mark.parametrize("variant", ["fan", "self"])
def test_score_dropout_that_drops_almost_nothing_is_the_operator(variant: str) -> None:
    torch.manual_seed(0)
    network = FrameAttentionNetwork(variant, score_dropout=1e-9).train()
    features, mask = torch.randn(3, 5, 512), torch.rand(3, 5) < 0.7
    mask[:, 0] = True
    features[~mask] = float("nan")
    with_dropout = network.classify(features, mask)
    network.score_dropout = 0.0
    fused = network.classify(features, mask)
    assert torch.allclose(with_dropout.logits, fused.logits, atol=1e-5)
    for own, wanted in zip(with_dropout.weights, fused.weights, strict=True):
        assert (own is None) == (wanted is None)
        assert own is None or torch.allclose(own, wanted, atol=1e-5)
    gradients = [
        torch.autograd.grad(output.logits.square().sum(), list(network.attention.parameters()))
        for output in (with_dropout, fused)
    ]
    for own, wanted in zip(*gradients, strict=True):
        assert torch.allclose(own, wanted, atol=1e-5 * float(wanted.abs().max()))


def test_score_dropout_spares_the_pooled_features_and_evaluation() -> None:
    torch.manual_seed(0)
    network = FrameAttentionNetwork("fan", score_dropout=0.5).train()
    features = torch.randn(1, 1, 512)
    # Of a single frame, whatever its weight is, the clip is that frame, whole.
    first, second = (network.classify(features) for _ in range(2))
    assert torch.allclose(first.logits, network.classifier(features[0].repeat(1, 2)), atol=1e-5)
    assert not torch.equal(first.weights.alpha, second.weights.alpha)
    network.eval()
    assert torch.equal(network.classify(features).weights.alpha, network.classify(features).weights.alpha)


def test_dropout_before_the_classifier_only_in_training() -> None:
    network = FrameAttentionNetwork("self", dropout=0.5).train()
    features = torch.randn(1, 4, 512)
    assert not torch.equal(network.classify(features).logits, network.classify(features).logits)
    network.eval()
    assert torch.equal(network.classify(features).logits, network.classify(features).logits)


@torch.inference_mode()
@pytest.mark.parametrize("packed", [False, True])
def test_published_evaluation_leaves_beta_out_of_the_numerator(packed: bool) -> None:
    torch.manual_seed(0)
    network = FrameAttentionNetwork("fan").eval()
    features = torch.randn(2, 4, 512)
    layout = {"offsets": torch.tensor([0, 4, 8])} if packed else {}
    logits, weights = network.classify(
        features.flatten(0, 1) if packed else features, formula="official_eval", **layout
    )
    alpha, beta = (w.view(2, 4, 1) for w in weights[:2])
    g = (alpha * features).sum(1, keepdim=True) / alpha.sum(1, keepdim=True)
    pairs = torch.cat([features, g.expand_as(features)], dim=-1)
    wanted = (alpha * pairs).sum(1) / (alpha * beta).sum(1)
    assert torch.allclose(logits, network.classifier(wanted), atol=1e-4)
    paper = (alpha * beta * pairs).sum(1) / (alpha * beta).sum(1)
    assert torch.allclose(network.classify(features).logits, network.classifier(paper), atol=1e-4)
    assert not torch.allclose(wanted, paper, atol=1e-2)


def test_unknown_formula() -> None:
    with pytest.raises(ValueError, match="formula: got 'other'; wanted one of paper, official_eval"):
        FrameAttentionNetwork("fan").classify(torch.randn(1, 2, 512), formula="other")
