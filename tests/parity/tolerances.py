"""How a result is compared with a recorded one, so that a test passes on every processor.

Kernels chosen by processor (SSE, AVX2, AVX-512, with or without oneDNN and MKL) add in different orders, so float32
results differ in the last digits. A tolerance is five to ten times the largest difference seen between them.
"""

from torch import Tensor


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 2e-5) -> None:
    """Largest difference at most `tolerance` of the largest value; for tensors whose values are of one size."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def assert_rows_close(ours: Tensor, theirs: Tensor, sizes: Tensor, tolerance: float = 1e-5) -> None:
    """Each row within `tolerance` of a size of its own, for rows whose rounding errors differ in size.

    Args:
        ours: (B, D).
        theirs: (B, D).
        sizes: (B,) size of the terms that a row is the sum of, times what the sum is multiplied with. Where the terms
            cancel, this is larger than the row, and so is its rounding error.
        tolerance: relative error of the terms.
    """
    assert ours.shape == theirs.shape
    errors = (ours - theirs).abs().amax(dim=1)
    assert (errors <= tolerance * sizes).all(), f"errors over what rounding explains: {(errors / sizes).tolist()}"
