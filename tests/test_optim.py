"""Optimisers and their groups, freezing, schedules and the moving average."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from backbones import build_backbone
from detection.errors import MobileSSDError
from detection.ssd.network import build
from detection.train.config import EMAConfig, InitialConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from detection.train.learn.ema import EMA, decay_at
from detection.train.learn.freeze import freeze, stages, train_mode
from detection.train.learn.optimizer import RMSpropTF, build_optimizer, parameter_groups, set_learning_rate
from detection.train.learn.schedule import Schedule, learning_rate, resolve
from detection.train.weight_init import initialise_network
from detection.weights.names import spec_for


@pytest.fixture(scope="module")
def small():
    """A small SSDLite, copied by whoever changes it."""
    torch.manual_seed(0)
    return build(spec_for("ssdlite_mobilenet_v2", alpha=0.35, input_size=96, num_classes=3))


class TestRMSpropTF:
    def test_it_follows_the_sequence_worked_out_by_hand(self):
        p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        optimizer = RMSpropTF([p], decay=0.9, momentum=0.9, epsilon=1.0)
        # mean square 1 -> .9 + .1 = 1, root of 1 + 1; then .9 + .4 = 1.3; then 1.17 + .1 = 1.27
        expected = (0.9292893, 0.7337736, 0.5644467)
        for gradient, rate, value in zip((1.0, 2.0, -1.0), (0.1, 0.1, 0.01), expected, strict=True):
            p.grad = torch.tensor([gradient], dtype=torch.float64)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            assert p.item() == pytest.approx(value, abs=1e-6)

    def test_the_buffer_keeps_the_rates_of_the_past(self):
        p = nn.Parameter(torch.tensor([0.0]))
        optimizer = RMSpropTF([p], lr=0.1, decay=0.9, momentum=0.5, epsilon=0.0)
        p.grad = torch.tensor([1.0])
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.0
        optimizer.step()  # half of the first update again, whatever the rate is now
        assert p.item() == pytest.approx(-0.15)

    def test_weight_decay_is_added_to_the_gradient(self):
        decayed, plain = (nn.Parameter(torch.tensor([2.0])) for _ in range(2))
        decayed.grad, plain.grad = torch.tensor([0.5]), torch.tensor([0.5 + 0.1 * 2])
        RMSpropTF([decayed], lr=0.1, weight_decay=0.1).step()
        RMSpropTF([plain], lr=0.1).step()
        assert torch.equal(decayed, plain)

    def test_it_goes_on_from_its_state_to_the_bit(self):
        def run(steps, p, optimizer):
            for i in steps:
                p.grad = torch.full_like(p, math.sin(i))
                optimizer.step()

        p = nn.Parameter(torch.ones(3))
        optimizer = RMSpropTF([p], lr=0.1)
        run(range(4), p, optimizer)
        q = nn.Parameter(p.detach().clone())
        other = RMSpropTF([q], lr=0.1)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(range(4, 9), p, optimizer)
        run(range(4, 9), q, other)
        assert torch.equal(p, q)


class TestGroups:
    def groups(self, network, **options):
        """Names of the network's parameters by (factor of the rate, weight decay)."""
        names = {id(p): name for name, p in network.named_parameters()}
        found = parameter_groups(network, OptimizerConfig(weight_decay=0.1, **options))
        return {(g["lr_scale"], g["weight_decay"]): {names[id(p)] for p in g["params"]} for g in found}

    def test_norms_and_biases_do_not_decay(self, small):
        groups = self.groups(small)
        norms = {
            f"{n}.{k}" for n, m in small.named_modules() if isinstance(m, nn.BatchNorm2d) for k in ("weight", "bias")
        }
        biases = {n for n, _ in small.named_parameters() if n.endswith(".bias")}
        assert groups[(1.0, 0.0)] == norms | biases
        assert groups[(1.0, 0.1)] == {n for n, p in small.named_parameters() if p.ndim == 4}

    def test_torchvision_and_mmdet_decay_everything(self, small):
        assert list(self.groups(small, decay_on="all")) == [(1.0, 0.1)]

    def test_slim_spares_the_depthwise_weights_of_the_body_but_not_of_extras_and_heads(self, small):
        spared = self.groups(small, decay_on="slim")[(1.0, 0.0)] - self.groups(small)[(1.0, 0.0)]
        assert spared and all(n.startswith("backbone.") and "depthwise" in n for n in spared)
        assert len(spared) == len(
            [n for n, _ in small.backbone.named_parameters() if n.endswith("depthwise.conv.weight")]
        )

    def test_factors_of_the_rate(self, small):
        groups = self.groups(small, backbone_lr=0.1, bias_lr=2.0)
        assert {scale for scale, _ in groups} == {0.1, 1.0, 2.0}  # the body's convolutions have no biases
        assert all(
            name.startswith("backbone.") == (scale == 0.1) for (scale, _), names in groups.items() for name in names
        )
        assert all(n.endswith(".bias") and "norm" not in n for n in groups[(2.0, 0.0)])

    @pytest.mark.parametrize("kind", ["sgd", "adamw", "rmsprop"])
    def test_every_optimiser_learns_and_leaves_alone_what_is_frozen(self, small, kind):
        network = copy.deepcopy(small)
        config = TrainConfig(optimizer=OptimizerConfig(kind=kind, backbone_lr=0.5), freeze=2)
        optimizer = build_optimizer(config, network)
        set_learning_rate(optimizer, 0.01)
        assert {g["lr"] for g in optimizer.param_groups} == {0.01, 0.005}
        train_mode(network, config)
        before = copy.deepcopy(network.state_dict())
        encodings, logits = network(torch.randn(2, 3, 96, 96))
        (encodings.square().mean() + logits.square().mean()).backward()
        optimizer.step()
        after = network.state_dict()
        frozen = [f"backbone.{unit}." for stage in stages(network.backbone)[:2] for unit in stage]
        for name, value in before.items():
            same = torch.equal(value, after[name])
            if any(name.startswith(prefix) for prefix in frozen):
                assert same, name
            elif name.endswith("conv.weight"):
                assert not same, name


class TestFreezing:
    @pytest.mark.parametrize(
        "name",
        ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "vgg16"]
        + ["mobilenet_v4_conv_small", "mobilenet_v4_conv_medium"],
    )
    def test_every_body_has_five_stages(self, name):
        found = stages(build_backbone(name))
        assert len(found) == 5 and sum(map(len, found)) == len(set(sum(found, [])))

    def test_the_first_stage_of_vgg_is_what_torchvision_freezes(self):
        assert stages(build_backbone("vgg16"))[0] == ["conv1_1", "conv1_2"]

    def test_prefixes_end_at_a_name(self, small):
        network = copy.deepcopy(small)
        frozen = freeze(network, ("backbone.blocks.1",))
        assert frozen and all(name.startswith("backbone.blocks.1.") for name in frozen)

    def test_too_much_and_unknown_parts_are_one_clear_line(self, small):
        with pytest.raises(MobileSSDError, match="6 stages, but the backbone has 5"):
            freeze(copy.deepcopy(small), 6)
        with pytest.raises(MobileSSDError, match="nothing in the network is named 'neck'"):
            freeze(copy.deepcopy(small), ("neck",))

    def test_frozen_norms_keep_their_statistics(self, small):
        network = copy.deepcopy(small)
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        train_mode(network, TrainConfig(norms="frozen"))
        assert network.training and not any(m.training for m in norms)
        train_mode(network, TrainConfig())
        assert all(m.training for m in norms)


class TestSchedule:
    def test_tensorflows_cosine_begins_behind_the_warm_up_and_is_zero_past_the_end(self):
        s = Schedule("cosine", 0.9, 20_000, 1_000, 0.3)
        assert learning_rate(s, 0) == 0.3 and learning_rate(s, 500) == pytest.approx(0.6)
        assert learning_rate(s, 1_000) == 0.9 and learning_rate(s, 10_500) == pytest.approx(0.45)
        assert learning_rate(s, 20_000) == pytest.approx(0, abs=1e-12) and learning_rate(s, 20_001) == 0

    def test_a_cosine_may_end_above_zero(self):
        s = Schedule("cosine", 1.0, 100, final=0.1)
        assert learning_rate(s, 100) == pytest.approx(0.1) == learning_rate(s, 500)

    def test_an_overlaid_warm_up_multiplies_and_equals_torchs_schedulers(self):
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=0.4)
        main = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60], 0.1)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.001, total_iters=20)
        s = Schedule("multistep", 0.4, 100, 20, 0.0004, "over", milestones=(30, 60))
        for step in range(100):
            assert learning_rate(s, step) == pytest.approx(optimizer.param_groups[0]["lr"]), step
            optimizer.step()
            warm.step()
            main.step()

    def test_exponential_falls_in_stairs(self):
        s = Schedule("exponential", 1.0, 100, gamma=0.5, decay_every=10)
        assert [learning_rate(s, step) for step in (0, 9, 10, 19, 20)] == [1, 1, 0.5, 0.5, 0.25]

    def test_a_held_rate_changes_once_an_epoch(self):
        s = Schedule("cosine", 1.0, 100, hold=12.5)
        assert len({learning_rate(s, step) for step in range(100)}) == 8
        assert learning_rate(s, 12) == 1 and learning_rate(s, 13) == pytest.approx((1 + math.cos(math.pi / 8)) / 2)

    @pytest.mark.parametrize("length", [{"steps": 1000}, {"epochs": 8}, {"samples": 16_000}])
    def test_every_unit_gives_the_same_steps(self, length):
        half = next(iter(length.values())) / 2
        config = TrainConfig(batch=16, schedule=ScheduleConfig("multistep", milestones=(half,)), **length)
        s = resolve(config, images=2000)
        assert s.total == 1000 and s.milestones == pytest.approx((500,))

    def test_another_batch_sees_the_same_images_at_a_rate_in_proportion(self):
        config = TrainConfig(batch=8, recipe_batch=32, steps=100, schedule=ScheduleConfig(warmup=10, warmup_lr=4e-4))
        s = resolve(config, 1000)
        assert (s.total, s.warmup) == (100, 40)
        assert (s.lr, s.warmup_lr) == pytest.approx((config.optimizer.lr / 4, 1e-4))
        kept = resolve(replace(config, rescale_lr=False), 1000)
        assert (kept.total, kept.warmup, kept.lr) == (100, 10, config.optimizer.lr)

    def test_a_time_budget_moves_everything_along(self):
        config = TrainConfig(batch=1, steps=1000, schedule=ScheduleConfig("multistep", 100, milestones=(500,)))
        short, long = resolve(config, 10, total=100), resolve(config, 10, total=5000)
        assert (short.total, short.warmup, short.milestones) == (100, 10, (50,))
        assert (long.total, long.warmup, long.milestones) == (5000, 100, (2500,))


class TestEMA:
    def network(self):
        return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))

    def test_weights_and_statistics_are_averaged_and_counts_copied(self):
        torch.manual_seed(0)
        network = self.network()
        ema = EMA(network, EMAConfig(decay=0.9, ramp=False))
        start = copy.deepcopy(network.state_dict())
        expected = start
        for step in range(3):
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter += 1
            network(torch.randn(4, 1, 3, 3))
            ema.update(network, step)
            now = network.state_dict()
            expected = {k: 0.9 * expected[k] + 0.1 * now[k] if v.is_floating_point() else v for k, v in now.items()}
        for name, value in ema.module.state_dict().items():
            assert torch.allclose(value.double(), expected[name].double(), atol=1e-6), name
        assert not ema.module.training and not any(p.requires_grad for p in ema.module.parameters())
        assert all(p.requires_grad for p in network.parameters())

    def test_the_ramp_forgets_the_beginning(self):
        config = EMAConfig(decay=0.99)
        assert decay_at(config, 0) == 0.1 and decay_at(config, 8) == 0.5 and decay_at(config, 10_000) == 0.99

    def test_it_goes_on_from_its_state(self):
        network = self.network()
        ema, other = EMA(network, EMAConfig()), EMA(self.network(), EMAConfig())
        other.load_state_dict(copy.deepcopy(ema.state_dict()))
        with torch.no_grad():
            network[0].weight += 1
        for average in (ema, other):
            average.update(network, 5)
        assert all(
            torch.equal(a, b) for a, b in zip(ema.state_dict().values(), other.state_dict().values(), strict=True)
        )

    def test_without_decay_it_is_the_network_itself(self):
        network = self.network()
        ema = EMA(network, EMAConfig(decay=0))
        ema.update(network, 0)
        assert ema.module is network and ema.state_dict() == {}


class TestFirstWeights:
    def test_each_part_is_drawn_as_asked(self, small):
        network = copy.deepcopy(small)
        stem = network.backbone.stem.conv.weight.clone()
        initialise_network(network, InitialConfig(heads="normal", heads_std=0.001, extras="xavier", class_bias=-4.6))
        assert torch.equal(network.backbone.stem.conv.weight, stem)
        heads = torch.cat([m.weight.detach().flatten() for m in network.heads.modules() if isinstance(m, nn.Conv2d)])
        assert float(heads.std()) == pytest.approx(0.001, rel=0.1)
        _, logits = network.eval()(torch.zeros(1, 3, 96, 96))
        assert float(logits.detach().sigmoid().mean()) == pytest.approx(0.01, rel=0.05)

    def test_the_default_changes_nothing(self, small):
        network = copy.deepcopy(small)
        initialise_network(network, InitialConfig())
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), small.parameters(), strict=True))
