"""Networks trained on one class: they learn, they are repeatable, and their known failures would be seen."""

import numpy as np
import pytest
import torch

from anomaly_transfer.benchmarks.reference import photograph_of, photographs
from anomaly_transfer.data.annotations import Annotations
from anomaly_transfer.data.images import ImageArray
from anomaly_transfer.errors import LabelLeakError
from anomaly_transfer.networks.lenet import CODE, SIDE, lenet
from anomaly_transfer.training import loop, one_class, simclr
from anomaly_transfer.training.one_class import COLLAPSED, OneClassRecipe, prepare

OBJECTIVES = ("svdd", "pseudo-negatives", "compactness")


@pytest.fixture(scope="module")
def normal():
    return photographs(24)


@pytest.fixture(scope="module")
def held_out():
    return photographs(10, seed=1)


@pytest.fixture(scope="module")
def start(normal):
    return simclr.calibrated(lenet(), normal, SIDE)


def made(folder, normal, held_out, start, seed=0, **settings):
    common = {"epochs": 3, "batch_size": 8, "learning_rate": 3e-4, "batch_norm": "trained"}
    recipe = OneClassRecipe(**{**common, **settings})
    reference = photographs(14, seed=2), photograph_of(14)
    return prepare(normal, held_out, start, SIDE, recipe, folder, seed, reference, "cpu")


def parameters(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_falls_the_network_moves_and_scores_are_not_constant(
    tmp_path, normal, held_out, start, objective
):
    before = parameters(start.network).clone()
    run = made(tmp_path, normal, held_out, start, objective=objective, epochs=6)
    first = run.score(held_out)
    tuning = run.run()
    assert tuning.epochs == 6
    assert tuning.losses()[-1] < 0.8 * tuning.losses()[1]
    # A loop without a backward pass leaves all parameters where they were.
    assert torch.equal(parameters(start.network), before)
    assert (parameters(run.backbone.network) - before).abs().max() > 0
    last = run.score(held_out)
    assert len(np.unique(last)) == len(held_out)
    assert not np.allclose(first, last)
    assert run.variance() > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_same_seed_gives_the_same_run(tmp_path, normal, held_out, start, objective):
    runs = [
        made(tmp_path / name, normal, held_out, start, seed, objective=objective)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, again, other = (run.run() for run in runs)
    assert first.history == again.history
    assert np.array_equal(runs[0].score(held_out), runs[1].score(held_out))
    assert first.losses() != other.losses()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_goes_on_where_it_was_broken_off(tmp_path, normal, held_out, start, objective, monkeypatch):
    """Heads, drawn noise and drawn reference pictures included."""
    whole = made(tmp_path / "whole", normal, held_out, start, objective=objective)
    history = whole.run().history
    note = loop.Run._note

    def breaks(self, loss):
        if self.epoch == 2:
            raise KeyboardInterrupt
        note(self, loss)

    monkeypatch.setattr(loop.Run, "_note", breaks)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "broken", normal, held_out, start, objective=objective).run()
    monkeypatch.setattr(loop.Run, "_note", note)
    again = made(tmp_path / "broken", normal, held_out, start, objective=objective)
    assert again.run().history == history
    assert np.array_equal(again.score(held_out), whole.score(held_out))


def test_every_epoch_can_be_gone_back_to(tmp_path, normal, held_out, start):
    run = made(tmp_path, normal, held_out, start, objective="pseudo-negatives")
    scores = [run.score(held_out)]
    run.run()
    scores.append(run.score(held_out))
    run.load(0)
    assert np.array_equal(run.score(held_out), scores[0])
    run.load(3)
    assert np.array_equal(run.score(held_out), scores[1])


def test_no_coordinate_of_the_centre_is_near_zero_and_no_bias_is_trained(tmp_path, normal, held_out):
    start = simclr.calibrated(lenet(bias=True), normal, SIDE)
    run = made(tmp_path, normal, held_out, start)
    mean = run.codes(normal).mean(dim=0)
    least = one_class.FROM_ZERO * mean.square().mean().sqrt()
    assert run.centre.abs().min() >= 0.999 * least
    far = mean.abs() >= least
    assert torch.allclose(run.centre[far], mean[far])
    biases = {n: p.clone() for n, p in run.backbone.network.named_parameters() if n.endswith("bias")}
    assert biases
    run.run()
    assert all(torch.equal(p, biases[n]) for n, p in run.backbone.network.named_parameters() if n in biases)


def test_without_guards_there_is_a_network_that_has_won_and_sees_nothing(tmp_path, normal, held_out, start):
    """All weights zero: no loss at the origin as centre, but a loss wherever the guarded centre is."""
    losses = {}
    for guarded in (True, False):
        run = made(tmp_path / str(guarded), normal, held_out, start, guarded=guarded)
        with torch.no_grad():
            for parameter in run.backbone.network.parameters():
                parameter.zero_()
        losses[guarded] = run._loss_without_training()
        assert len(np.unique(run.score(held_out))) == 1, "a collapsed network gives one score to all"
        assert run.variance() == 0
    assert losses[False] == 0
    assert losses[True] > 0
    assert losses[True] == pytest.approx(float(made(tmp_path, normal, held_out, start).centre.square().sum()), rel=1e-4)


def test_compactness_alone_shrinks_everything_and_descriptiveness_holds_against_it(tmp_path, normal, held_out, lite0):
    """The trivial solution of the transfer paper, from ImageNet: features of variance zero."""
    variance = {}
    for descriptive in (True, False):
        settings = {"objective": "compactness", "descriptive": descriptive, "epochs": 12, "learning_rate": 1e-3}
        run = made(tmp_path / str(descriptive), normal, held_out, lite0, batch_norm="frozen", **settings)
        before = run.variance()
        run.run()
        variance[descriptive] = run.variance() / before
    assert variance[False] < COLLAPSED
    assert variance[True] > 10 * variance[False]


def bare(kind, **attributes):
    """An objective whose features are the pixels it is given."""
    run = kind.__new__(kind)
    run.__dict__ |= {"code": lambda batch: batch, "device": "cpu", "scale": torch.tensor(1.0), **attributes}
    return run


def test_deep_svdd_is_the_mean_squared_distance_to_its_centre():
    x, centre = torch.randn(7, 3), torch.randn(3)
    run = bare(one_class.DeepSVDD, centre=centre)
    squares = [sum(float(x[i, j] - centre[j]) ** 2 for j in range(3)) for i in range(7)]
    assert run.anomaly(x).tolist() == pytest.approx(squares, rel=1e-5)
    assert run.loss(x, None).item() == pytest.approx(np.mean(squares), rel=1e-5)


def test_coordinates_near_zero_keep_their_sign(tmp_path, normal, held_out, start, monkeypatch):
    mean = torch.tensor([2.0, -2.0, 0.05, -0.05, 0.0, 0.3])
    monkeypatch.setattr(one_class.DeepSVDD, "codes", lambda self, images: mean[None] + torch.tensor([[1.0], [-1.0]]))
    least = one_class.FROM_ZERO * float(mean.square().mean().sqrt())
    run = made(tmp_path, normal, held_out, start)
    assert run.centre.tolist() == pytest.approx([2, -2, least, -least, least, 0.3])
    assert made(tmp_path, normal, held_out, start, guarded=False).centre.tolist() == [0] * 6


def test_pseudo_negatives_are_as_many_draws_of_noise_of_the_said_width():
    given = []

    def head(x):
        given.append(x)
        return x[:, :1]

    x = torch.randn(400, 5)
    run = bare(one_class.PseudoNegatives, scale=torch.tensor(4.0), recipe=OneClassRecipe(spread=0.3), head=head)
    run.drawn = torch.Generator().manual_seed(0)
    loss = run.loss(x, None).item()
    (seen,) = given
    assert torch.allclose(seen[:400], x / 4)
    noise = seen[400:]
    assert noise.shape == x.shape
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    # Normal is 0 and noise is 1.
    logits = seen[:, 0].double()
    wanted = torch.cat([torch.log1p(logits[:400].exp()), torch.log1p((-logits[400:]).exp())]).mean().item()
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert torch.equal(run.anomaly(x), x[:, 0] / 4)


def test_compactness_is_the_mean_square_of_each_from_the_mean_of_the_others():
    x, scale = torch.randn(6, 4), 3.0
    run = bare(one_class.Compactness, scale=torch.tensor(scale), reference=None)
    others = [(x[i] - (x.sum(dim=0) - x[i]) / 5) / scale for i in range(6)]
    wanted = torch.stack(others).square().mean().item()
    assert run.loss(x, None).item() == pytest.approx(wanted, rel=1e-5)
    assert run.loss(x[:1], None).item() == 0
    # Beside it, the cross-entropy of as many reference pictures as a batch has.
    pixels, classes = torch.randn(9, 4), torch.arange(9) % 3
    given = []

    def head(code):
        given.append(code)
        return code[:, :3]

    run = bare(one_class.Compactness, scale=torch.tensor(scale), reference=(pixels, classes), head=head)
    run.recipe, run.drawn = OneClassRecipe(batch_size=5), torch.Generator().manual_seed(0)
    loss = run.loss(x, None).item()
    rows = [int((pixels == code).all(dim=1).nonzero()) for code in given[0]]
    assert len(set(rows)) == 5
    entropy = -torch.stack([pixels[r, :3].log_softmax(0)[classes[r]] for r in rows]).mean().item()
    assert loss == pytest.approx(entropy + one_class.COMPACTNESS * wanted, rel=1e-5)


def test_the_score_of_compactness_is_the_mean_distance_to_the_two_nearest_normal_images():
    templates, x = torch.randn(9, 3), torch.randn(4, 3)
    for n in (9, 1):
        run = bare(one_class.Compactness, images=None, codes=lambda _, n=n: templates[:n])
        run.refit()
        nearest = torch.cdist(x, templates[:n]).sort(dim=1).values[:, :2]
        assert run.anomaly(x).tolist() == pytest.approx(nearest.mean(dim=1).tolist(), rel=1e-4)


def test_variance_is_that_of_held_out_features():
    x = torch.randn(8, 5)
    assert bare(one_class.DeepSVDD, held_out=None, codes=lambda _: x).variance() == pytest.approx(
        x.numpy().var(axis=0, ddof=1).mean(), rel=1e-5
    )


def test_descriptiveness_needs_a_reference(tmp_path, normal, held_out, start):
    with pytest.raises(ValueError, match="reference pictures"):
        prepare(normal, held_out, start, SIDE, OneClassRecipe(objective="compactness"), tmp_path)


def test_no_label_can_be_read_on_the_way(tmp_path, normal, held_out, start):
    import pandas as pd

    rows = {"id": ["a"], "group": ["a"], "anomaly_class": ["normal"], "grade": [np.nan]}
    annotations = Annotations(pd.DataFrame(rows))

    class Cheat(ImageArray):
        def __getitem__(self, row):
            annotations.open()
            return super().__getitem__(row)

    run = made(tmp_path, normal, held_out, start)
    run.images = Cheat(normal.pixels)
    with pytest.raises(LabelLeakError):
        run.run()


def test_the_small_network_has_named_levels_and_no_bias_unless_asked_for():
    network = lenet(seed=3)
    maps = network.level_maps(torch.zeros(2, SIDE, SIDE, 3))
    assert [m.shape[1] for m in maps] == [32, 64, 128, CODE]
    assert maps[-1].shape[2:] == (1, 1)
    assert network.levels == ("conv1", "conv2", "conv3", "code")
    assert not [name for name, _ in network.network.named_parameters() if name.endswith("bias")]
    assert [name for name, _ in lenet(bias=True).network.named_parameters() if name.endswith("bias")]
    assert lenet(seed=3).fingerprint() == network.fingerprint() != lenet(seed=4).fingerprint()
    assert [len(part) for part in loop.stages(network)] == [1, 1, 1, 1]


def test_the_variance_weighs_a_tenth_as_in_the_paper():
    """Perera and Patel (2019) weigh the variance by a tenth."""
    assert pytest.approx(0.1) == one_class.COMPACTNESS
