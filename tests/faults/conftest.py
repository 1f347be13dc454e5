from tests.scripts.train.conftest import folder, train

__all__ = ["folder", "train"]
