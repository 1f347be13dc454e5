"""The W&B run of a training or a test."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from methods.callbacks.wandb_record import Job

_PATIENCE = 5  # seconds to reach the server
_INIT_PATIENCE = 20  # seconds until the server has made the run; wandb needs about three times as long to give up


class RunWandbLogger(WandbLogger):
    """Lightning's logger, whose run begins with the training and goes on offline where W&B cannot be used.

    A run that is refused before its training leaves nothing behind. Arguments are those of `WandbLogger`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._wandb_init["anonymous"] is None:  # which wandb warns about, also where it is None
            del self._wandb_init["anonymous"]
        self._begun = False
        self._hyperparameters: Any = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        return super().experiment if self._begun else _DummyExperiment()  # Lightning asks for it before `setup`

    @rank_zero_only
    def begin(self, job: "Job | None" = None) -> None:
        """Makes the run: offline, after a line that says why, if there is no login or no network.

        Args:
            job: what the command does. Of another command than `fit`, the run is one of its own, `NAME-KIND`: two runs
                of one id could not be uploaded later, and a dashboard could not tell them apart.
        """
        import wandb

        if self._begun:
            return
        self._begun = True
        if job is not None:
            given = self._wandb_init
            self._wandb_init = {"group": job.group, "job_type": job.kind, **{k: v for k, v in given.items() if v}}
            self._wandb_init |= {key: value for key, value in given.items() if key not in self._wandb_init}
            self._wandb_init["tags"] = list(dict.fromkeys([*(given.get("tags") or ()), *job.tags]))
            if job.kind != "fit" and self._id:
                self._id = self._wandb_init["id"] = f"{self._id}-{job.kind}"
        reason = None
        mode = "offline" if self._offline else self._wandb_init.get("mode") or wandb.setup().settings.mode
        if mode in ("online", "shared", "run"):
            reason = self._make_online()
        if reason is not None or mode in ("offline", "dryrun"):
            self._wandb_init.update(mode="offline", resume=None)  # offline, wandb warns that it cannot resume
        folder = self.experiment.settings.sync_dir
        if reason is not None:
            print(f"W&B: {reason}. The run is kept on this machine; to upload it later: wandb sync {folder}")
        if self._hyperparameters is not None:
            super().log_hyperparams(self._hyperparameters)

    def _make_online(self) -> str | None:
        """Makes the run on the server; returns why that is impossible, or None."""
        import requests
        import wandb

        server = wandb.setup().settings.base_url
        try:
            if not wandb.login(prompt=False, verify=False):
                return "you are not logged in (wandb login)"
            with suppress(requests.exceptions.SSLError):  # wandb may know other certificates
                requests.head(server, timeout=_PATIENCE)
            self._wandb_init.setdefault("settings", {"init_timeout": _INIT_PATIENCE})
            _ = self.experiment
        except requests.RequestException as error:
            return f"{server} cannot be reached ({type(error).__name__})"
        except wandb.Error as error:
            return str(error).splitlines()[0].rstrip(".")
        return None

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        if self._begun:
            super().log_hyperparams(params)
        else:
            self._hyperparameters = params

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.begin()
        super().log_metrics(metrics, step)
