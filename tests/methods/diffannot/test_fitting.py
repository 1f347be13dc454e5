"""Bodies that are fitted to keypoints: guidance and the SMPLify-style baseline."""

import pytest
import roma
import torch

from methods.diffannot.diffusion import GaussianDiffusion, schedule_betas
from methods.diffannot.fitting import Guidance, PosePrior, fit_to_keypoints, guided, if_it_fits
from methods.diffannot.reprojection import Keypoints
from methods.diffannot.states import PosedBody, to_state
from noise2pose.bodies import BodyModel
from noise2pose.metrics.functional import pa_mpjpe
from tests.tiny import TinyPeople

POSED = PosedBody(BodyModel.load("free"), "h36m_17", project=True)
DIFFUSION = GaussianDiffusion(schedule_betas("linear"))


@pytest.fixture(scope="module")
def people():
    """True states, states that are off by about ten degrees a joint, and keypoints of the true ones."""
    batch = TinyPeople().load("val")
    smpl = batch["smpl"]
    error = roma.rotvec_to_rotmat(0.1 * torch.randn(32, 23, 3, generator=torch.Generator().manual_seed(5)))
    off = to_state({**smpl, "body_pose": smpl["body_pose"] @ error})
    return to_state(smpl), off, Keypoints.of(batch)


def towards(mean):
    """The exact noise of a state whose x_0 is known to be `mean`."""

    def denoise(state, time):
        level = DIFFUSION.alphas_cumprod[time].float()
        return (state - level.sqrt() * mean) / (1 - level).sqrt()

    return denoise


def error(states, truth):
    return pa_mpjpe(POSED.joints(states), POSED.joints(truth)).mean()


def test_guidance_moves_bodies_to_their_keypoints_and_closer_to_the_truth(people):
    truth, off, keypoints = people
    refined = guided(DIFFUSION, None, off, POSED, keypoints, Guidance(rounds=1, strength=10.0))
    before, after = (keypoints.distance(keypoints.project(POSED.joints(state))).mean() for state in (off, refined))
    assert after < 0.5 * before and error(refined, truth) < 0.9 * error(off, truth)


def test_a_prior_that_knows_the_truth_wins_over_no_prior(people):
    truth, off, keypoints = people
    guidance = Guidance(rounds=1, strength=10.0)
    blind = guided(DIFFUSION, None, off, POSED, keypoints, guidance)
    knowing = guided(DIFFUSION, towards(truth), off, POSED, keypoints, guidance)
    assert error(knowing, truth) < 0.3 * error(blind, truth)


def test_what_fits_no_better_is_the_front_ends_answer(people):
    truth, off, keypoints = people
    some = torch.arange(len(off)) % 2 == 0
    refined = torch.where(some[:, None], truth, off.roll(1, dims=0))  # the others are somebody else
    kept, fits = if_it_fits(refined, off, POSED, keypoints)
    assert fits[some].all() and torch.equal(kept[some], truth[some])
    assert not fits[~some].any() and torch.equal(kept[~some], off[~some])
    nothing = keypoints._replace(confidence=torch.zeros_like(keypoints.confidence))
    assert torch.equal(if_it_fits(refined, off, POSED, nothing)[0], off)  # no evidence for the refined one


def test_hidden_joints_do_not_pull(people):
    truth, off, keypoints = people
    nothing = keypoints._replace(confidence=torch.zeros_like(keypoints.confidence))
    refined = guided(DIFFUSION, None, off, POSED, nothing, Guidance(rounds=1))
    assert torch.allclose(refined, off, atol=1e-6)
    hidden = keypoints.confidence.clone()
    hidden[:, [3, 16]] = 0.0
    wild = keypoints.points.clone()
    wild[:, [3, 16]] += 500.0
    with_wild = guided(DIFFUSION, None, off, POSED, keypoints._replace(confidence=hidden, points=wild), Guidance())
    without = guided(DIFFUSION, None, off, POSED, keypoints._replace(confidence=hidden), Guidance())
    assert torch.allclose(with_wild, without, atol=1e-5)


def test_the_comparator_fits_keypoints_and_stays_near_its_prior(people):
    truth, off, keypoints = people
    prior = PosePrior.fit(truth)
    fitted = fit_to_keypoints(off, POSED, keypoints, prior)
    assert error(fitted, truth) < error(off, truth)
    before, after = (keypoints.distance(keypoints.project(POSED.joints(state))).mean() for state in (off, fitted))
    assert after < before
    blind = keypoints._replace(confidence=torch.zeros_like(keypoints.confidence))
    rested = fit_to_keypoints(off, POSED, blind, prior)
    assert rested[:, -10:].square().sum() < off[:, -10:].square().sum()  # without evidence the shape goes to the mean


def test_predictions_in_inference_mode_are_the_same(people):
    truth, off, keypoints = people
    guidance = Guidance(rounds=1)
    expected = guided(DIFFUSION, towards(truth), off, POSED, keypoints, guidance)
    prior = PosePrior.fit(truth)
    fitted = fit_to_keypoints(off, POSED, keypoints, prior)
    with torch.inference_mode():
        made = keypoints.rows(torch.arange(32))
        assert torch.equal(guided(DIFFUSION, towards(truth), off + 0.0, POSED, made, guidance), expected)
        assert torch.equal(fit_to_keypoints(off + 0.0, POSED, made, prior), fitted)
