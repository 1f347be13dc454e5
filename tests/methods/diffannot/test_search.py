import math

import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from methods.diffannot import search
from methods.diffannot.denoiser import ReleasedDenoiser, ResidualDenoiser
from methods.diffannot.diffusion import GaussianDiffusion, clip_mask, schedule_betas
from methods.diffannot.search import denoise_from, keyed_noise, reverse_step
from noise2pose import keyed_random
from scripts.benchmarks.diffannot import select_best_result
from tests.parity.diffannot import denoiser, fixture, noise, pa_mpjpe_mm
from tests.parity.tolerances import assert_close

INF, NAN = math.inf, math.nan
DIFFUSION = GaussianDiffusion(schedule_betas("linear"))


def printed(losses, patience):
    """Algorithm 1, lines 1 to 21, for one row of losses; NaN is an infinite loss that always rises."""
    last = best = INF
    chosen, counter = 0, 0
    for i, loss in enumerate(losses):
        counter = counter + 1 if loss > last or math.isnan(loss) else 0
        if counter > patience:
            return chosen, i
        if loss < best:
            chosen, best = i, loss
        last = INF if math.isnan(loss) else loss
    return chosen, len(losses)


@pytest.mark.parametrize("patience", [0, 1, 3, 10])
def test_stop_rule_is_the_printed_one(patience):
    tensors, _, _ = fixture("algorithm1_paper")
    best, stop = search.scan(tensors["input/scan_losses"], patience)
    assert best.tolist() == tensors[f"output/scan_best_K{patience}"].tolist()
    assert stop.tolist() == tensors[f"output/scan_stop_K{patience}"].tolist()


@pytest.mark.parametrize(
    "losses, patience, best, stop",
    [
        ([5, 6, 7, 8], 1, 0, 2),
        ([5, 6, 6, 7, 8], 1, 0, 4),  # the tie resets the count
        ([5, 4, 4, 4], 0, 1, 4),  # the first of equals
        ([5, NAN, NAN, 1], 1, 0, 2),
        ([5, NAN, 4, 6], 1, 2, 4),
        ([5, NAN, INF, 6], 5, 0, 4),
        ([NAN, NAN, NAN], 5, 0, 3),
        ([NAN, NAN, NAN], 1, 0, 1),
        ([INF, INF, INF], 0, 0, 3),
        ([-INF, 0], 1, 0, 2),
        ([3], 0, 0, 1),
    ],
)
def test_edges_of_the_stop_rule(losses, patience, best, stop):
    found = search.scan(torch.tensor([losses], dtype=torch.float32), patience)
    assert [int(value) for value in found] == [best, stop] == list(printed(losses, patience))


@settings(max_examples=200)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN, INF]), min_size=12, max_size=12), min_size=1, max_size=4
    ),
    st.integers(0, 6),
)
def test_stop_rule_equals_the_loop(rows, patience):
    best, stop = search.scan(torch.tensor(rows), patience)
    assert list(zip(best.tolist(), stop.tolist(), strict=True)) == [printed(row, patience) for row in rows]


def test_shapes_are_as_annotated():
    scan = jaxtyped(typechecker=beartype)(search.scan)
    scan(torch.zeros(2, 3), 1)
    with pytest.raises(Exception, match="losses"):
        scan(torch.zeros(3), 1)


@pytest.mark.parametrize("patience", [0, 1, 2, 3, 5, 10])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_search_is_the_papers(sampler, patience):
    tensors, _, _ = fixture("algorithm1_paper")
    theta1, target = tensors["input/theta1"], tensors["input/gt_j14_mm"]

    def recorded(sample, start, t):
        return torch.stack([noise(f"a1/i{i}/t{t}")[b] for b, i in zip(sample.tolist(), start.tolist(), strict=True)])

    def score(state, sample):
        return pa_mpjpe_mm(state, target[sample])

    found = search.search_wavefront(
        reverse_step(DIFFUSION, denoiser(), deterministic=sampler == "ddim"),
        theta1,
        score,
        s_max=40,
        patience=patience,
        noise=recorded if sampler == "ddpm" else None,
        chunk=16,
    )
    assert found.step.tolist() == tensors[f"output/{sampler}_best_i_K{patience}"].tolist()
    assert found.stop.tolist() == tensors[f"output/{sampler}_stop_i_K{patience}"].tolist()
    tried = torch.arange(41) <= found.stop[:, None]
    assert torch.equal(found.losses.isfinite(), tried)
    assert_close(found.losses[tried], tensors[f"output/{sampler}_losses"][tried], 1e-5)
    if patience == 2:
        assert_close(found.state, tensors[f"output/{sampler}_x_best_K2"], 1e-5)


def test_the_single_step_search_is_the_released_one():
    tensors, _, meta = fixture("algorithm1_release")
    theta1, target = tensors["input/theta1"], tensors["input/gt_j14_mm"]
    diffusion, network = GaussianDiffusion(schedule_betas("linear"), clip=clip_mask("all")), denoiser()

    def estimate(state, t, sample):
        return diffusion.reverse(state, t, network(state, t)).start

    def score(state, sample):
        return pa_mpjpe_mm(state, target[sample])

    assert_close(score(theta1, torch.arange(4)), tensors["output/original_loss"], 1e-5)
    steps = meta["config"]["max_j"]
    for chunk in (64, 7):
        found = search.search_single_step(estimate, theta1, score, steps, chunk=chunk)
        assert found.step.tolist() == tensors["output/best_j"].tolist()
        assert found.stop.tolist() == [stop if stop >= 0 else steps for stop in tensors["output/stop_j"].tolist()]
        tried = tensors["output/losses"] >= 0
        assert torch.equal(found.losses.isfinite(), tried)
        assert_close(found.losses[tried], tensors["output/losses"][tried], 1e-5)
        expected = torch.cat([estimate(theta1[b : b + 1], found.step[b : b + 1], None) for b in range(4)])
        assert torch.allclose(found.state, expected, atol=1e-5)


def test_without_any_loss_below_the_released_limit_the_first_answer_stays():
    theta1 = torch.randn(3, 4)
    found = search.search_single_step(
        lambda state, t, sample: state + t[:, None], theta1, lambda state, sample: 1100.0 + state[:, 0] * 0, 30
    )
    assert found.step.tolist() == [-1] * 3 and torch.equal(found.state, theta1) and found.stop.tolist() == [30] * 3


def problem(seed, samples=3, size=4, broken=0.0):
    """A tiny random search: step, first answers, a score that is NaN for a share of the states, and keyed noise."""
    generator = torch.Generator().manual_seed(seed)
    network = ResidualDenoiser(DIFFUSION.alphas_cumprod, size, 8, 1, condition_size=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    condition = torch.randn(samples, 2, generator=generator)
    theta1, target = torch.randn(2, samples, size, generator=generator)
    keys = keyed_random.keys_of([f"{seed}-{number}" for number in range(samples)])

    def score(state, sample):
        loss = (state - target[sample]).abs().sum(-1)
        return torch.where((state * 37).sum(-1).remainder(1) < broken, NAN, loss)

    return network, condition, theta1, score, keyed_noise(keys, size)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    samples=st.integers(1, 4),
    s_max=st.integers(0, 14),
    patience=st.integers(0, 4),
    chunk=st.integers(1, 16),
    max_rows=st.sampled_from([1, 7, 65_536]),
    deterministic=st.booleans(),
    broken=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_wavefront_equals_the_candidates_one_by_one(
    seed, samples, s_max, patience, chunk, max_rows, deterministic, broken
):
    # In double precision, so that rounding decides neither a tie nor which states have no loss.
    network, condition, theta1, score, drawn = problem(seed, samples, broken=broken)
    step, theta1 = reverse_step(DIFFUSION, network.double(), deterministic, condition.double()), theta1.double()
    fresh = None if deterministic else drawn
    found = search.search_wavefront(step, theta1, score, s_max, patience, fresh, chunk, max_rows)
    for number, first_answer in enumerate(theta1.split(1)):
        sample, candidates = torch.tensor([number]), []

        def one_step(state, t, start, sample=sample):
            t = int(t)
            noise = fresh(sample, torch.tensor([start]), t) if fresh is not None and t else None
            return step(state, t, sample, noise).state

        def loss(state, sample=sample, candidates=candidates):
            candidates.append(state)
            return float(score(state, sample))

        tried = select_best_result(one_step, first_answer, loss, s_max, patience=s_max + 1)  # never stops early
        best, stop = printed(tried.losses, patience)  # the textbook's own rule knows no NaN
        assert (int(found.step[number]), int(found.stop[number])) == (best, stop)
        assert torch.allclose(found.state[number], candidates[best][0], rtol=1e-5, atol=1e-6)
        losses = torch.tensor(tried.losses, dtype=torch.float64)
        losses[stop + 1 :] = NAN
        assert torch.allclose(found.losses[number], losses, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_a_result_depends_on_nothing_but_its_sample():
    network, condition, theta1, score, drawn = problem(3, samples=9)
    step = reverse_step(DIFFUSION, network, False, condition)
    whole = search.search_wavefront(step, theta1, score, 20, 3, drawn)
    assert len(set(whole.stop.tolist())) > 1
    for number in (0, 4, 8):
        alone = search.search_wavefront(
            lambda state, t, sample, fresh, number=number: step(state, t, sample + number, fresh),
            theta1[number : number + 1],
            lambda state, sample, number=number: score(state, sample + number),
            20,
            3,
            lambda sample, start, t, number=number: drawn(sample + number, start, t),
            chunk=6,
        )
        assert alone.step[0] == whole.step[number] and alone.stop[0] == whole.stop[number]
        assert torch.allclose(alone.state[0], whole.state[number], rtol=1e-6, atol=1e-6)


def test_no_call_has_more_rows_than_allowed_and_stopped_samples_are_left_out():
    network, condition, theta1, score, _ = problem(3, samples=9)
    step, rows = reverse_step(DIFFUSION, network, True, condition), []

    def counted(state, t, sample, fresh):
        rows.append(len(state))
        return step(state, t, sample, fresh)

    search.search_wavefront(counted, theta1, score, 40, 10**6, chunk=8, max_rows=32)
    assert max(rows) == 32 and sum(rows) == 9 * 40 * 41 // 2
    rows.clear()

    def rising(state, sample):
        return torch.arange(len(state)).flip(0).float()  # the furthest start is the first row

    search.search_wavefront(counted, theta1, rising, 40, 0, chunk=8)
    assert sum(rows) == 9 * 8 * 9 // 2


def test_the_first_answer_is_never_beaten_by_something_worse():
    network, condition, theta1, score, _ = problem(5, samples=6)
    found = search.search_wavefront(reverse_step(DIFFUSION, network, True, condition), theta1, score, 10, 2)
    samples = torch.arange(6)
    assert (score(found.state, samples) <= score(theta1, samples)).all()
    assert torch.equal(found.state[found.step == 0], theta1[found.step == 0])


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_fixed_number_of_steps_is_the_same_candidate(deterministic):
    network, condition, theta1, score, drawn = problem(7)
    step, fresh = reverse_step(DIFFUSION, network, deterministic, condition), None if deterministic else drawn

    found = search.search_wavefront(step, theta1, score, 9, 100, fresh)
    for number, chosen in enumerate(found.step.tolist()):
        assert torch.allclose(denoise_from(step, theta1, chosen, fresh)[number], found.state[number], atol=1e-6)
    assert torch.equal(denoise_from(step, theta1, 0, fresh), theta1)


def found_order(state, theta1):
    """Scores by the order in which a trajectory's candidates are tried."""
    return torch.arange(len(state)).div(len(theta1), rounding_mode="floor").float()


def test_a_trajectory_ends_where_its_chain_does():
    network, condition, theta1, score, drawn = problem(7)
    step = reverse_step(DIFFUSION, network, False, condition)
    last = search.search_trajectory(step, theta1, lambda state, _: -found_order(state, theta1), 9, 100, drawn)
    assert last.step.tolist() == [9] * 3
    assert torch.allclose(last.state, denoise_from(step, theta1, 9, drawn), atol=1e-5)
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return step(*arguments)

    found = search.search_trajectory(counted, theta1, score, 9, 100, drawn)
    assert len(calls) == 9
    assert torch.equal(found.losses[:, 0], score(theta1, torch.arange(3)))
    assert torch.allclose(score(found.state, torch.arange(3)), found.losses.amin(dim=1))
    alone = search.search_trajectory(counted, theta1, score, 9, 100, drawn, max_rows=1)
    assert torch.allclose(alone.state, found.state, atol=1e-6)


def test_keyed_noise_differs_between_samples_starts_and_times():
    draw = keyed_noise(keyed_random.keys_of(["a", "b"]), 226)
    first = draw(torch.tensor([0, 0, 1]), torch.tensor([3, 4, 3]), 2)
    assert torch.equal(first[1], draw(torch.tensor([0]), torch.tensor([4]), 2)[0])
    rows = torch.cat((first, draw(torch.tensor([0]), torch.tensor([3]), 1)))
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 0.3


def test_a_released_denoiser_searches_without_condition():
    torch.manual_seed(0)
    step = reverse_step(DIFFUSION, ReleasedDenoiser(5, 8))
    found = search.search_wavefront(step, torch.randn(2, 5), lambda state, _: state.square().sum(-1), 6, 2)
    assert found.state.shape == (2, 5) and not found.state.requires_grad
